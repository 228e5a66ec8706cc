#!/usr/bin/env bash
# Proves and measures temper on this machine's GPU; README.md says how.
#
#   bash run.sh                every part, from where it was stopped
#   bash run.sh bench info     these parts alone
#   AGAIN=1 bash run.sh bench  from its beginning
#
# DEVICE is the device (cuda:0), PYTHON the interpreter with torch (python3),
# SECONDS_A_CASE how long each training step is measured (10), PRECISIONS and MATCH
# which of them are, EPOCHS how long train trains (3), LIMIT on how many images it
# is then attacked (256).
set -uo pipefail
cd "$(dirname "$0")"

DEVICE=${DEVICE:-cuda:0}
PYTHON=${PYTHON:-python3}
SECONDS_A_CASE=${SECONDS_A_CASE:-10}
PARTS="info ways parity sanitizer repeat profile bench methods train robust attack"
out=results/$DEVICE
mkdir -p "$out"
export TEMPER_CACHE=${TEMPER_CACHE:-$PWD/cache}
export TEMPER_TEST_DEVICE=$DEVICE
tiny=; [ "$DEVICE" = emulator ] && tiny=1

for program in temper cuda.test; do
  [ $program -nt $program.gz ] && continue
  gzip -dc $program.gz >$program.new && chmod +x $program.new && mv $program.new $program || exit 1
done
if [ -e cache.tar.gz ] && [ ! cache -nt cache.tar.gz ]; then
  tar -xzmf cache.tar.gz && touch cache || exit 1
fi
if [ ! -e random.npz ]; then
  "$PYTHON" images.py random.npz.new 640 128 && mv random.npz.new random.npz || exit 1
fi

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

tests() { # part, pattern, command to run them under: runs tests of the kernels, and counts
  local log=$out/$1.log
  "${@:3}" ./cuda.test -test.v -test.run "$2" >"$log" 2>&1
  local code=$? passed failed skipped
  passed=$(grep -c -- '--- PASS' "$log") failed=$(grep -c -- '--- FAIL' "$log") skipped=$(grep -c -- '--- SKIP' "$log")
  text="$passed passed, $failed failed, $skipped skipped"
  grep -q 'no NVRTC' "$log" && text="$text: $(grep -m 1 -o 'no NVRTC.*' "$log")"
  [ $code = 0 ] && [ "$passed" -gt 0 ]
}

part_info() {
  { nvidia-smi 2>/dev/null || echo "no nvidia-smi"; ./temper doctor; ./temper version
    "$PYTHON" -c 'import torch; print("PyTorch", torch.__version__)' 2>/dev/null || echo "no PyTorch"; } >"$out/info.txt" 2>&1
  text=$(./temper devices 2>/dev/null | grep -m 1 "^$DEVICE" | tr -s ' ')
  [ -n "$text" ] || { text="no device $DEVICE: $(./temper devices 2>&1 | tail -n 1)"; false; }
}

part_ways() { # each way of computing a convolution on sm_90, in a process that may fault or hang; all that follows does without those that do
  local way word ways="wgmma wgmma_in_strips wgmma_in_turns wgmma_in_pairs wgmma_in_strips,_crossed wgmma_in_strips_in_turns wgmma_in_turns_in_pairs
    wgmma_in_strips_in_pairs wgmma_in_strips_in_turns_in_pairs wgmma_in_strips_in_turns,_crossed wgmma_in_strips_in_pairs,_crossed wgmma_in_strips_in_turns_in_pairs,_crossed"
  local -a without=()
  [ -n "$tiny" ] && ways=wgmma_in_strips,_crossed
  rm -f "$out/without"
  for way in $ways; do
    for word in ${without[@]+"${without[@]}"}; do [[ $way == *$word* ]] && continue 2; done
    tests "ways-$way" "^TestChoices\$/^bf16\$/^$way\$" timeout "${WAY_SECONDS:-120}" && continue
    grep -q -- '--- SKIP' "$out/ways-$way.log" && { text="not run: they are sm_90's"; return 0; }
    for word in pairs crossed turns strips wgmma; do [[ $way == *$word* ]] && break; done
    without+=("$word")
  done
  [ ${#without[@]} = 0 ] && { text="all agree with the reference"; return 0; }
  (IFS=, && echo "${without[*]}") >"$out/without"
  text="all that follows is without $(cat "$out/without"): see $out/ways-*.log"
  return 1
}

part_parity() { # op cases, contractions, what is computed before and behind them, draws, training steps
  local all='^(TestKernels|TestTensor|TestEpilogue|TestPrologue|TestReduceParts|TestNormalBits|TestAutocast|TestBranchesBits|TestStepBlock|TestFeedAhead|TestStepScalars|TestPreActResNet|TestChoices|TestMeasure)$'
  [ -n "$tiny" ] && all='^(TestKernels|TestNormalBits)$/^(matmul|reduce|scatter|max-pool)'
  tests parity "$all"
}

part_sanitizer() { # the op cases and contractions, every access looked at
  local tool check=(compute-sanitizer --error-exitcode 3 --tool)
  command -v compute-sanitizer >/dev/null || { text="not run: no compute-sanitizer on this machine"; return 0; }
  if ! tests sanitizer '^TestNormalBits$' "${check[@]}" memcheck && grep -qi 'not supported' "$out/sanitizer.log"; then
    text="not run: this machine does not let compute-sanitizer work: $(grep -m 1 -i 'not supported' "$out/sanitizer.log" | tr -s '= ')"
    return 0
  fi
  for tool in memcheck racecheck; do
    tests "sanitizer-$tool" '^(TestKernels|TestTensor|TestReduceParts)$' "${check[@]}" $tool || { text="$tool: $text: see $out/sanitizer-$tool.log"; return 1; }
    grep -q 'ERROR SUMMARY: 0 errors\|RACECHECK SUMMARY: 0 hazards' "$out/sanitizer-$tool.log" || { text="$tool did not report: see $out/sanitizer-$tool.log"; return 1; }
  done
  text="memcheck and racecheck clean, $text"
}

part_repeat() { # PGD-10 of PreActResNet-18 in bf16, on random images: two runs of one seed
  local a b i small=()
  [ -n "$tiny" ] && small=(--limit 16 --batch-size 8 --steps 2 --epochs 1 --set model.width=8 --set 'model.blocks=[1,1,1,1]' --set eval.limit=8)
  for i in 1 2; do
    rm -rf "$out/repeat$i"
    # shellcheck disable=SC2046 # words
    ./temper train --device "$DEVICE" --precision bf16 $(cat repeat.txt) ${small[@]+"${small[@]}"} --run-dir "$out/repeat$i" >"$out/repeat$i.log" 2>&1 ||
      { text="training failed: $(tail -n 1 "$out/repeat$i.log")"; return 1; }
  done
  a=$(cat "$out"/repeat1/latest/checkpoints/step-*.safetensors | sha256sum) b=$(cat "$out"/repeat2/latest/checkpoints/step-*.safetensors | sha256sum)
  text="checkpoints of two runs in bf16: ${a:0:12} and ${b:0:12}"
  [ "$a" = "$b" ]
}

part_profile() { # the times of a step's parts, beside the bytes that the compiler counts
  [ -d "$out/repeat1/latest" ] || { text="not run: repeat comes first"; return 0; }
  ./temper graph latest --run-dir "$out/repeat1" --device "$DEVICE" --profile --trace "$out/trace.json" >"$out/profile.txt" 2>"$out/profile.log" ||
    { text="failed: $(tail -n 1 "$out/profile.log")"; return 1; }
  text=$(head -n 1 "$out/profile.txt")
}

# measure SUITE PRECISION PATTERN SECONDS measures each case that has no result yet,
# with PyTorch's variants in turn, in a process of its own.
measure() {
  local name file peer=()
  torch=${torch:-$("$PYTHON" -c 'import torch' 2>/dev/null && echo yes || echo no)}
  [ -z "$tiny" ] && [ "$torch" = yes ] && peer=(--peer --python "$PYTHON")
  mkdir -p "$out/bench/$2"
  while read -r name; do
    file=$out/bench/$2/${name//\//_}
    [ -e "$file.json" ] && continue
    [[ $name =~ ${MATCH:-.} ]] || continue
    echo "$2 $name" >&2
    if ./temper bench --device "$DEVICE" --precision "$2" --suite "$1" --match "^$name\$" --seconds "$4" --format json ${peer[@]+"${peer[@]}"} >"$file.new" 2>"$file.log" </dev/null; then
      mv "$file.new" "$file.json"
    elif grep -q 'out of device memory' "$file.log"; then
      large=$((large + 1))
    else
      failed=$((failed + 1)) why="$name: $(tail -n 1 "$file.log")"
    fi
  done < <(./temper bench --suite "$1" --match "$3" --list)
}

measured() {
  text="$(find "$out/bench" -name "$1" | wc -l) measured, $large larger than the memory, $failed failed"
  [ $failed = 0 ] || { text="$text: $why"; return 1; }
}

part_bench() { # steps of PGD training at 128, 512 and 1024 images, and the convolutions under them
  local precision large=0 failed=0 why=
  if [ -n "$tiny" ]; then
    measure kernels bf16 conv2d/3x3/512 0.1
  else
    for precision in ${PRECISIONS:-bf16 tf32 float32}; do
      measure gpu "$precision" . "$SECONDS_A_CASE"
      measure kernels "$precision" . 2
    done
  fi
  measured '*.json'
}

part_methods() { # what the methods of adversarial training cost, in bf16
  local large=0 failed=0 why=
  [ -n "$tiny" ] && { text="not run on the emulator"; return 0; }
  measure adversarial bf16 'batch=512$' "$SECONDS_A_CASE"
  measured 'step*batch=512.json'
}

cifar() { # is there where it lies beside this file, whole or as a split archive
  if [ ! -d data/cifar-10-batches-bin ] && ls cifar-10-binary.tar.gz* >/dev/null 2>&1; then
    mkdir -p data && cat cifar-10-binary.tar.gz* | tar -xz -C data
  fi
  [ -d data/cifar-10-batches-bin ] || { text="not run: no data/cifar-10-batches-bin"; return 1; }
}

part_train() { # PGD-10 of PreActResNet-18, a few epochs
  local how=(--precision bf16 --dataset cifar10 --model preactresnet18 --recipe pgd-at --epochs "${EPOCHS:-3}")
  [ -n "$tiny" ] && { text="not run on the emulator"; return 0; }
  cifar || return 0
  ls "$out"/train/latest/checkpoints/step-* >/dev/null 2>&1 && how=(--resume)
  ./temper train --device "$DEVICE" "${how[@]}" --data-dir data --run-dir "$out/train" >"$out/train.log" 2>&1 || { text="failed: $(tail -n 1 "$out/train.log")"; return 1; }
  text=$(grep -m 1 'pgd-at .*%' "$out/train.log" | tr -s ' ')
}

part_robust() { # time to robustness: cifar10-fast from the start of the process to its last checkpoint, then AutoAttack
  local began seconds
  [ -n "$tiny" ] && { text="not run on the emulator"; return 0; }
  cifar || return 0
  rm -rf "$out/robust"
  began=$(date +%s.%N)
  ./temper train --device "$DEVICE" --precision bf16 --dataset cifar10 --recipe cifar10-fast --data-dir data --run-dir "$out/robust" >"$out/robust.log" 2>&1 ||
    { text="failed: $(tail -n 1 "$out/robust.log")"; return 1; }
  seconds=$("$PYTHON" -c "import glob, os; print(round(max(map(os.path.getmtime, glob.glob('$out/robust/latest/checkpoints/step-*'))) - $began, 1))")
  ./temper eval latest --run-dir "$out/robust" --device "$DEVICE" --attack autoattack --limit "${ROBUST_LIMIT:-1000}" --data-dir data --json >"$out/robust-autoattack.json" 2>>"$out/robust.log" ||
    { text="trained in $seconds s; AutoAttack failed: $(tail -n 1 "$out/robust.log")"; return 1; }
  text=$("$PYTHON" - "$out/robust-autoattack.json" "$seconds" <<'END'
import json, sys
with open(sys.argv[1]) as f:
    r = json.load(f)
print(f"{sys.argv[2]} s to the last checkpoint; AutoAttack: {r['robust']} of {r['n']} withstand it, {r['seconds']:.1f} s")
END
)
}

part_attack() { # AutoAttack, and with its search in bf16, on what train or repeat trained
  local attack runs=$out/train attacks="autoattack autoattack-mixed"
  [ -n "$tiny" ] && attacks=fgsm
  [ -d "$runs/latest" ] || runs=$out/repeat1
  [ -d "$runs/latest" ] || { text="not run: nothing was trained"; return 0; }
  for attack in $attacks; do
    [ -e "$out/attack-$attack.json" ] && continue
    ./temper eval latest --run-dir "$runs" --device "$DEVICE" --attack "$attack" --limit "${LIMIT:-256}" --data-dir data --json >"$out/attack-$attack.json.new" 2>"$out/attack-$attack.log" ||
      { text="$attack failed: $(tail -n 1 "$out/attack-$attack.log")"; return 1; }
    mv "$out/attack-$attack.json.new" "$out/attack-$attack.json"
  done
  text=$("$PYTHON" - "$out"/attack-*.json <<'END'
import json, sys
for path in sys.argv[1:]:
    with open(path) as f:
        r = json.load(f)
    print(f"{r['attack'].split(',')[0].split(' (')[0]}: {r['robust']} of {r['n']} withstand it, {r['seconds']:.1f} s;", end=" ")
END
)
}

[ $# -gt 0 ] || set -- $PARTS
for part; do
  case " $PARTS " in *" $part "*) ;; *) echo "no part $part: they are $PARTS" >&2; exit 2 ;; esac
done
for part; do
  if [ -n "${AGAIN:-}" ]; then
    rm -rf "$out/$part.json" "$out/$part"
    [ "$part" = methods ] && rm -f "$out"/bench/bf16/step*batch=512.json
    [ "$part" = attack ] && rm -f "$out"/attack-*.json
  fi
  case $part in
    bench | methods) ;; # they skip the cases that they have
    *) grep '"ok": true' "$out/$part.json" 2>/dev/null | grep -qv '"not run' && continue ;;
  esac
  [ -z "${TEMPER_CUDA_WITHOUT:-}" ] && [ -s "$out/without" ] && TEMPER_CUDA_WITHOUT=$(cat "$out/without") && export TEMPER_CUDA_WITHOUT
  echo "== $part" >&2
  text=
  if "part_$part"; then result "$part" yes "$text"; else result "$part" no "$text"; fi
done
exec "$PYTHON" table.py "$out"
