#!/usr/bin/env bash
# Proves and measures temper on this machine's GPU; README.md says how.
#
#   bash run.sh              every part that has no result yet
#   bash run.sh bench info   these parts, again
#
# DEVICE is the device (cuda:0), PYTHON the interpreter with torch (python3),
# SECONDS_A_CASE how long each case is measured (10).
set -uo pipefail
cd "$(dirname "$0")"

DEVICE=${DEVICE:-cuda:0}
PYTHON=${PYTHON:-python3}
SECONDS_A_CASE=${SECONDS_A_CASE:-10}
PARTS="info parity sanitizer repeat bench train"
out=results/$DEVICE
mkdir -p "$out"
export TEMPER_CACHE=${TEMPER_CACHE:-$PWD/cache}
export TEMPER_TEST_DEVICE=$DEVICE
tiny=; [ "$DEVICE" = emulator ] && tiny=1

for program in temper cuda.test; do
  [ $program -nt $program.gz ] && continue
  gzip -dc $program.gz >$program.new && chmod +x $program.new && mv $program.new $program || exit 1
done

# PyTorch brings NVRTC along, where only PyTorch looks for it.
if [ -z "${TEMPER_NVRTC:-}" ]; then
  found=$("$PYTHON" -c 'import glob, site
for d in site.getsitepackages() + [site.getusersitepackages()]:
    for f in sorted(glob.glob(d + "/nvidia/*/lib/libnvrtc.so.1?"), reverse=True):
        print(f)' 2>/dev/null | head -n 1)
  [ -n "$found" ] && export TEMPER_NVRTC=$found
fi

# result PART OK TEXT writes what the table and the JSON have of a part.
result() {
  "$PYTHON" - "$@" >"$out/$1.json.new" <<'END' && mv "$out/$1.json.new" "$out/$1.json"
import json, sys
part, ok, text = sys.argv[1:4]
print(json.dumps({"part": part, "ok": ok == "yes", "result": text}))
END
}

tests() { # part, pattern: runs tests of the kernels, and counts
  local log=$out/$1.log
  "${@:3}" ./cuda.test -test.v -test.run "$2" >"$log" 2>&1
  local code=$? passed failed skipped
  passed=$(grep -c -- '--- PASS' "$log") failed=$(grep -c -- '--- FAIL' "$log") skipped=$(grep -c -- '--- SKIP' "$log")
  text="$passed passed, $failed failed, $skipped skipped"
  grep -q 'no NVRTC' "$log" && text="$text: $(grep -m 1 -o 'no NVRTC.*' "$log")"
  [ $code = 0 ] && [ "$passed" -gt 0 ]
}

part_info() {
  { nvidia-smi 2>/dev/null || echo "no nvidia-smi"; ./temper devices; ./temper version
    "$PYTHON" -c 'import torch; print("PyTorch", torch.__version__)' 2>/dev/null || echo "no PyTorch"; } >"$out/info.txt" 2>&1
  text=$(./temper devices 2>/dev/null | grep -m 1 "^$DEVICE" | tr -s ' ')
  [ -n "$text" ] || { text="no device $DEVICE: $(./temper devices 2>&1 | tail -n 1)"; false; }
}

part_parity() { # every op case, every contraction at every precision, draws to the bit, two streams
  local all='^(TestKernels|TestTensor|TestPrologue|TestReduceParts|TestNormalBits|TestAutocast|TestBranchesBits|TestChoices|TestMeasure)$'
  [ -n "$tiny" ] && all='^(TestKernels|TestNormalBits)$/^(matmul|reduce|scatter|max-pool)'
  tests parity "$all"
}

part_sanitizer() {
  local tool
  command -v compute-sanitizer >/dev/null || { text="not run: no compute-sanitizer on this machine"; return 0; }
  for tool in memcheck racecheck; do
    tests "sanitizer-$tool" '^(TestTensor|TestReduceParts)$' compute-sanitizer --tool "$tool" --error-exitcode 3 || { text="$tool: $text: see $out/sanitizer-$tool.log"; return 1; }
    grep -q 'ERROR SUMMARY: 0 errors\|RACECHECK SUMMARY: 0 hazards' "$out/sanitizer-$tool.log" || { text="$tool did not report: see $out/sanitizer-$tool.log"; return 1; }
  done
  text="memcheck and racecheck clean"
}

part_repeat() { # two runs of one seed
  local a b i
  for i in 1 2; do
    rm -rf "$out/repeat$i"
    ./temper train --device "$DEVICE" --dataset structured --epochs 3 --seed 5 --run-dir "$out/repeat$i" >"$out/repeat$i.log" 2>&1 || { text="training failed: see $out/repeat$i.log"; return 1; }
  done
  a=$(cd "$out/repeat1" && cat */checkpoints/step-*.safetensors | sha256sum) b=$(cd "$out/repeat2" && cat */checkpoints/step-*.safetensors | sha256sum)
  text="checkpoints of two runs: ${a:0:12} and ${b:0:12}"
  [ "$a" = "$b" ]
}

bench() { # name, arguments
  local name=$1; shift
  ./temper bench --device "$DEVICE" --seconds "$SECONDS_A_CASE" --format json "$@" >"$out/bench-$name.json.new" 2>"$out/bench-$name.log" &&
    mv "$out/bench-$name.json.new" "$out/bench-$name.json"
}

part_bench() { # temper and PyTorch in turn, each precision on its own
  local peer=() precision suite missing=0
  "$PYTHON" -c 'import torch' 2>/dev/null && [ -z "$tiny" ] && peer=(--peer --python "$PYTHON")
  local suites="gpu kernels" match=.
  [ -n "$tiny" ] && suites=kernels match='conv2d/3x3/512' SECONDS_A_CASE=0.1
  for precision in bf16 tf32 float32; do
    [ -n "$tiny" ] && [ $precision != bf16 ] && continue
    for suite in $suites; do
      [ -e "$out/bench-$suite-$precision.json" ] && [ -z "${again:-}" ] && continue
      bench "$suite-$precision" --precision $precision --suite "$suite" --match "$match" ${peer[@]+"${peer[@]}"} || missing=$((missing + 1))
    done
  done
  [ ${#peer[@]} -gt 0 ] && text="with PyTorch" || text="without PyTorch"
  text="$text: $out/bench-*.json, $missing failed"
  [ $missing = 0 ]
}

part_train() { # CIFAR-10 where it lies beside this file, whole or as a split archive
  [ -n "$tiny" ] && { text="not run on the emulator"; return 0; }
  if [ ! -d data/cifar-10-batches-bin ] && ls cifar-10-binary.tar.gz* >/dev/null 2>&1; then
    mkdir -p data && cat cifar-10-binary.tar.gz* | tar -xz -C data
  fi
  [ -d data/cifar-10-batches-bin ] || { text="not run: no data/cifar-10-batches-bin"; return 0; }
  ./temper train --device "$DEVICE" --precision "${PRECISION:-bf16}" --dataset cifar10 --model preactresnet18 --recipe pgd-at --epochs "${EPOCHS:-3}" \
    --data-dir data --run-dir "$out/train" >"$out/train.log" 2>&1 || { text="failed: see $out/train.log"; return 1; }
  text=$(grep -m 1 'pgd-at .*%' "$out/train.log" | tr -s ' ')
}

again=
if [ $# -gt 0 ]; then again=1; else set -- $PARTS; fi
for part; do
  case " $PARTS " in *" $part "*) ;; *) echo "no part $part: they are $PARTS" >&2; exit 2 ;; esac
  [ -z "$again" ] && grep -q '"ok": true' "$out/$part.json" 2>/dev/null && continue
  echo "== $part" >&2
  text=
  if "part_$part"; then result "$part" yes "$text"; else result "$part" no "$text"; fi
done
exec "$PYTHON" table.py "$out"
