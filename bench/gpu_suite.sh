#!/usr/bin/env bash
# All that needs a GPU, in one command: builds, runs the native tests, afa_throughput and a training
# step, and leaves logs, tables and JSON in OUT_DIR.
#
#     bench/gpu_suite.sh OUT_DIR
#
# Under 9 minutes and without a network. Needs torch, triton, numpy, pytest, ninja and a C++
# compiler; PYTHON names the interpreter. The status is 1 if any part failed or ran out of time.
set -uo pipefail
out=$(mkdir -p "${1:?usage: bench/gpu_suite.sh OUT_DIR}" && cd "$1" && pwd)
python=${PYTHON:-python3}
cd "$(dirname "$0")/.."
unset TRITON_INTERPRET
failed=0

# part NAME SECONDS COMMAND...: the output goes to the screen and to OUT_DIR/NAME.log.
part() {
  local name=$1 seconds=$2 start=$SECONDS
  shift 2
  echo "== $name: $*"
  timeout "$seconds" "$@" 2>&1 | tee "$out/$name.log"
  local status=${PIPESTATUS[0]}
  [ "$status" -eq 124 ] && echo "$name: stopped after $seconds s" | tee -a "$out/$name.log"
  [ "$status" -eq 0 ] || failed=1
  echo "== $name: status $status after $((SECONDS - start)) s" | tee -a "$out/summary.txt"
}

: >"$out/summary.txt"
"$python" -c 'import torch; assert torch.cuda.is_available(), "torch sees no GPU here"' || exit 1
part build 200 "$python" -m pip install -q --no-deps --no-build-isolation -e .
# Without conftest.py, which needs what only the trainer does; the compile report needs no GPU.
part tests 130 "$python" -m pytest -q --noconftest -p no:cacheprovider \
  tests/afa/test_fused.py tests/kernels/test_kernels.py -k "not architectures and not tenth_of_eager"
part afa_throughput 120 "$python" bench/afa_throughput.py --work augment --rounds 20 \
  --out "$out" --json "$out/afa_throughput.json"
part train_step 60 "$python" bench/afa_throughput.py --train-step --dtype bf16 --rounds 20 \
  --out "$out" --json "$out/train_step.json"
exit $failed
