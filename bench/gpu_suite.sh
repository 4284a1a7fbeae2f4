#!/usr/bin/env bash
# All that is wanted from a GPU, in one command of at most nine minutes, the most important first.
#
#     bench/gpu_suite.sh OUT_DIR              on a machine with an NVIDIA GPU
#     bench/gpu_suite.sh OUT_DIR --rehearse   without one: finds what would fail there
#
# Needs torch, triton, numpy, pytest, ninja and a C++ compiler, and no network; PYTHON names the
# interpreter. OUT_DIR gets, as soon as they are known: summary.txt, gpu_rows.jsonl (the timings),
# kernel_report.json, train_step.jsonl, and logs.tar.gz with the output of every part. A build that
# fails ends it; any other part that fails or runs out of its time is noted, and the next one runs.
# The status is 1 if there was one.
#
# The rehearsal compiles all kernels for sm_90, and runs every row and every part with small tensors
# under Triton's interpreter, on the CPU: its times mean nothing.
set -uo pipefail
out=$(mkdir -p "${1:?usage: bench/gpu_suite.sh OUT_DIR [--rehearse]}" && cd "$1" && pwd)
rehearse=${2:-}
python=${PYTHON:-python3}
cd "$(dirname "$0")/.."
unset TRITON_INTERPRET
end=$((SECONDS + 530))
failed=0
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# part NAME SECONDS COMMAND...: runs for so long at most, and not beyond the end of the nine minutes.
part() {
  local name=$1 seconds=$2 start=$SECONDS status
  shift 2
  local left=$((end - SECONDS))
  [ -n "$rehearse" ] && left=100000 seconds=$((10 * seconds))
  if [ "$left" -lt 5 ]; then
    echo "== $name: no time left" | tee -a "$out/summary.txt"
    failed=1
    return 1
  fi
  echo "== $name: $*"
  timeout -k 5 "$((seconds < left ? seconds : left))" "$@" 2>&1 | tee "$logs/$name.log"
  status=${PIPESTATUS[0]}
  [ "$status" -eq 0 ] || failed=1
  echo "== $name: status $status after $((SECONDS - start)) s" | tee -a "$out/summary.txt"
  tar -czf "$out/logs.tar.gz" -C "$logs" .
  return "$status"
}

# Clocks, power and what slows the GPU down: read, never set.
state() {
  nvidia-smi --format=csv --query-gpu=name,driver_version,compute_cap,clocks.sm,clocks.mem,clocks.max.sm,power.draw,power.limit,temperature.gpu,clocks_event_reasons.active
}

: >"$out/summary.txt"
git log -1 --format='%h %s' >>"$out/summary.txt" 2>/dev/null
if [ "$rehearse" = --rehearse ]; then
  arch=90 interpret=(env TRITON_INTERPRET=1) rows=(--once)
elif [ -n "$rehearse" ]; then
  echo "bench/gpu_suite.sh: unknown option $rehearse; there is --rehearse" >&2
  exit 2
else
  arch=$("$python" -c 'import torch; print(*torch.cuda.get_device_capability(), sep="")') || {
    echo "torch sees no GPU here; --rehearse needs none" >&2
    exit 1
  }
  interpret=() rows=(--seconds 200)
fi

part build 150 "$python" -m pip install -q --no-deps --no-build-isolation -e . || exit 1
[ -n "$rehearse" ] || part state_before 5 state
# Fills Triton's cache from many processes, so that what follows does not wait for the compiler.
part compile 60 "$python" bench/kernel_report.py --arch "$arch" --dtype bf16 --json "$out/kernel_report.json"
part rows 215 "${interpret[@]}" "$python" bench/gpu_rows.py "$out/gpu_rows.jsonl" "${rows[@]}"
[ -n "$rehearse" ] || part state_after 5 state
# Without conftest.py, which needs what only the trainer does; the compile report needs no GPU.
parallel=()
"$python" -c 'import xdist' 2>/dev/null && parallel=(-n auto)
part tests 90 "${interpret[@]}" "$python" -m pytest -q --noconftest -p no:cacheprovider "${parallel[@]}" \
  tests/afa/test_fused.py tests/kernels/test_kernels.py -k "not step and not tiles_for"
if [ -z "$rehearse" ]; then
  part train_step 45 "$python" bench/afa_throughput.py --train-step --dtype bf16 --rounds 10 --out "$out"
  for tool in memcheck racecheck; do
    part "$tool" 30 compute-sanitizer --tool "$tool" --error-exitcode 1 \
      "$python" bench/gpu_rows.py "$logs/$tool.jsonl" --once
  done
fi
exit $failed
