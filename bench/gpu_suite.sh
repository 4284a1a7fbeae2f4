#!/usr/bin/env bash
# All that is wanted from a GPU, in one command of at most nine minutes, the most important first.
#
#     bench/gpu_suite.sh OUT_DIR              on a machine with an NVIDIA GPU
#     bench/gpu_suite.sh OUT_DIR --untimed    tests, checkers of memory and trainings alone
#     bench/gpu_suite.sh OUT_DIR --rehearse   without a GPU: finds what would fail there
#
# Needs torch, triton, numpy, pytest, ninja and a C++ compiler, and no network; PYTHON names the
# interpreter. OUT_DIR gets, as soon as they are known: summary.txt, gpu_rows.jsonl (the timings),
# train_step.jsonl, counters.csv, and logs.tar.gz with the output of every part. What is not built is
# built, and a build that fails ends it; any other part that fails or runs out of its time is noted,
# and the next one runs. The status is 1 if there was one. SUITE_SECONDS gives it less time than nine
# minutes.
#
# The rehearsal compiles all kernels for sm_90, and runs every row and every part with small tensors
# under Triton's interpreter, on the CPU: its times mean nothing.
set -uo pipefail
out=$(mkdir -p "${1:?usage: bench/gpu_suite.sh OUT_DIR [--untimed | --rehearse]}" && cd "$1" && pwd)
rehearse=
case ${2:-} in
"" | --untimed) only=${2:-} ;;
--rehearse) only= rehearse=1 ;;
*)
  echo "bench/gpu_suite.sh: unknown option $2; there are --untimed and --rehearse" >&2
  exit 2
  ;;
esac
python=${PYTHON:-python3}
cd "$(dirname "$0")/.."
unset TRITON_INTERPRET
end=$((SECONDS + ${SUITE_SECONDS:-530}))
logs=$(mktemp -d) runs=$(mktemp -d)
trap 'rm -rf "$logs" "$runs"' EXIT
export out python
# Time; memory, second and first cache, instruction issue, exponentials, matrix unit, warps in percent
# of what there is; and what warps wait for.
export metrics=gpu__time_duration.sum,gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed
for metric in lts__throughput.avg.pct_of_peak_sustained_elapsed \
  l1tex__throughput.avg.pct_of_peak_sustained_active \
  sm__issue_active.avg.pct_of_peak_sustained_elapsed \
  sm__inst_executed_pipe_xu.avg.pct_of_peak_sustained_active \
  sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active \
  sm__warps_active.avg.pct_of_peak_sustained_active launch__registers_per_thread; do
  metrics+=,$metric
done
for stall in barrier long_scoreboard mio_throttle short_scoreboard wait; do
  metrics+=,smsp__average_warps_issue_stalled_${stall}_per_issue_active.ratio
done
export shapes="1024x1024x2x2 512x1024x4x4 256x1024x8x8 128x1024x14x14 32x1024x2x2"

# part NAME SECONDS COMMAND...: runs for so long at most, and not beyond the end of all.
part() {
  local name=$1 seconds=$2 start=$SECONDS status
  shift 2
  local left=$((end - SECONDS))
  [ -n "$rehearse" ] && left=100000 seconds=$((10 * seconds))
  if [ "$left" -lt 5 ]; then
    echo "== $name: no time left" | tee -a "$out/summary.txt" "$logs/failed"
    return 1
  fi
  echo "== $name: $*"
  timeout -k 5 "$((seconds < left ? seconds : left))" "$@" >"$logs/$name.log" 2>&1
  status=$?
  tail -n 12 "$logs/$name.log"
  echo "== $name: status $status after $((SECONDS - start)) s, at $SECONDS s" | tee -a "$out/summary.txt"
  [ "$status" -eq 0 ] || echo "$name" >>"$logs/failed"
  return "$status"
}

keep() {
  tar -czf "$out/logs.tar.gz" -C "$logs" .
}

# Clocks, power and what slows the GPU down: read, never set.
state() {
  nvidia-smi --format=csv --query-gpu=name,driver_version,compute_cap,clocks.sm,clocks.mem,clocks.max.sm,power.draw,power.limit,temperature.gpu,clocks_event_reasons.active >>"$out/summary.txt"
}

# What compiles is compiled from many processes at a time, so that no timing waits for it.
warm() {
  local shape
  for shape in $shapes; do
    for only in augment "check attention" tile; do
      # shellcheck disable=SC2086
      "$python" bench/gpu_rows.py /dev/null --once --shape "$shape" --only $only &
    done
  done
  wait
}

# The pipes of the GPU while our kernels run, by its own counters.
counters() {
  local shape
  : >"$out/counters.csv"
  for shape in 1024x1024x2x2 256x1024x8x8 128x1024x14x14; do
    echo "# $shape" >>"$out/counters.csv"
    ncu --clock-control none --kernel-name 'regex:^_' --launch-count 16 --kill yes --csv --page raw \
      --metrics "$metrics" \
      "$python" bench/gpu_rows.py /dev/null --once --shape "$shape" --only augment |
      grep '^"' >>"$out/counters.csv"
  done
}

export -f warm counters

# train NAME COMMAND...: the main job on the embedded data set.
train() {
  local name=$1
  shift
  part "train_$name" 200 "$@" --preset digits --out "$runs/$name"
}

: >"$out/summary.txt"
git log -1 --format='%h %s' >>"$out/summary.txt" 2>/dev/null
built() {
  "$python" -c 'from ltvr.afa import ops; ops.require_extension(); import ltvr.kernels' 2>"$logs/built.log"
}
built || part build 150 "$python" -m pip install -q --no-deps --no-build-isolation -e .
built || { # the installation goes on without what did not compile
  cat "$logs/built.log" >&2
  keep
  exit 1
}
if [ -n "$rehearse" ]; then
  part compile 60 "$python" bench/kernel_report.py --arch 90 --dtype bf16
  part rows 215 env TRITON_INTERPRET=1 "$python" bench/gpu_rows.py "$out/gpu_rows.jsonl" --once
else
  "$python" -c 'import torch; torch.cuda.get_device_capability()' || {
    echo "torch sees no GPU here; --rehearse needs none" >&2
    keep
    exit 1
  }
  state
fi
if [ -z "$rehearse$only" ]; then
  part warm 110 bash -c warm
  part rows 135 "$python" bench/gpu_rows.py "$out/gpu_rows.jsonl" --seconds 125
  keep
  part train_step 50 "$python" bench/afa_throughput.py --train-step --dtype bf16 --rounds 10 --out "$out"
  state
  part counters 60 bash -c counters
fi
keep
# What is not timed, at the same time. Without conftest.py, which needs what only the trainer does;
# the compile report needs no GPU.
parallel=()
"$python" -c 'import xdist' 2>/dev/null && parallel=(-n 8)
interpret=()
[ -n "$rehearse" ] && interpret=(env TRITON_INTERPRET=1)
part tests 180 "${interpret[@]}" "$python" -m pytest -q --noconftest -p no:cacheprovider "${parallel[@]}" \
  tests/afa/test_fused.py tests/afa/test_fused_module.py tests/kernels/test_kernels.py -k "not step and not tiles_for" &
train baseline "$python" -m ltvr.train --method baseline &
train fused "$python" -m ltvr.train --fused &
train ranks "$python" -m torch.distributed.run --standalone --nproc-per-node 1 -m ltvr.train --fused --sync-bn &
if [ -z "$rehearse" ]; then
  train graph env TORCHINDUCTOR_CUDAGRAPHS=1 "$python" -m ltvr.train --fused --compile --fixed-size &
  for tool in memcheck racecheck; do
    part "$tool" 200 compute-sanitizer --tool "$tool" --error-exitcode 1 \
      "$python" bench/gpu_rows.py "$logs/$tool.jsonl" --once --only check &
  done
fi
wait
keep
[ ! -e "$logs/failed" ]
