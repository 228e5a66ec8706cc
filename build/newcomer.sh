#!/usr/bin/env bash
# A newcomer's way, in a fresh clone of what is committed: the README's first
# commands as they stand there, the binaries of a release, and then train, evaluate,
# report, export, serve on a part of real data (TEMPER_DATA).
set -euo pipefail
cd "$(dirname "$0")/.."
: "${TEMPER_DATA:?is not set: the folder of the data sets}"
TEMPER_DATA=$(cd "$TEMPER_DATA" && pwd)
export TEMPER_DATA

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$work"' EXIT
git clone --quiet . "$work/temper"
cd "$work/temper"

say() { printf '\n$ %s\n' "$*"; }
fail() { echo "newcomer: $*" >&2; exit 1; }

# The README's commands for a clone.
mapfile -t first < <(sed -n 's/^    \(go run .*\)$/\1/p' README.md)
[ "${#first[@]}" -eq 2 ] || fail "the README has ${#first[@]} commands for a clone, not 2"
for line in "${first[@]}"; do
  say "$line"
  bash -c "$line"
done

say go run ./build/release
go run ./build/release # make release
(cd dist && sha256sum --check --quiet SHA256SUMS)
temper=$PWD/dist/temper-linux-$(go env GOARCH)
"$temper" version
"$temper" version | grep -q "$(git rev-parse --short=12 HEAD)" || fail "the binary does not name its commit"
if command -v qemu-aarch64 >/dev/null && [ "$(go env GOARCH)" != arm64 ]; then
  qemu-aarch64 dist/temper-linux-arm64 version
  qemu-aarch64 dist/temper-linux-arm64 train --epochs 5 --threads 1 --run-dir "$work/arm64"
  qemu-aarch64 dist/temper-linux-arm64 eval latest --limit 20 --threads 1 --run-dir "$work/arm64"
fi

cd "$work"
run() { say temper "$@"; "$temper" "$@"; }
run doctor
if run train --epoch 3; then fail "a flag that is none was taken"; fi
run train --dataset mnist --recipe fast-at --limit 1000 --epochs 2 --set eval.limit=100

say temper train, interrupted
set -m # so that the interrupt reaches it
"$temper" train --dataset mnist --recipe fast-at --limit 1000 --epochs 20 --set eval.limit=100 --set eval.every=10 2>train.log &
training=$!
set +m
latest=$(readlink runs/latest)
until [ "$(readlink runs/latest)" != "$latest" ] && [ -s runs/latest/metrics.jsonl ]; do
  kill -0 "$training" || fail "the training ended early: $(cat train.log)"
  sleep 0.1
done
kill -INT "$training"
code=0
wait "$training" || code=$?
[ "$code" -eq 130 ] || fail "an interrupted training ends with $code: $(cat train.log)"
go_on=$(sed -n 's/^temper: interrupted at step [0-9]*; go on with: temper //p' train.log)
run $go_on

run eval latest --attack pgd --steps 5 --limit 100
run report latest
grep -q 'Attacked examples' runs/latest/report.html || fail "the page has no attacked examples"
run export latest --out model.onnx
run export latest --out model.safetensors

say temper serve --listen 127.0.0.1:0
set -m
"$temper" serve --listen 127.0.0.1:0 2>serve.log &
server=$!
set +m
for _ in $(seq 100); do grep -q http serve.log && break; sleep 0.1; done
address=$(grep -o '127.0.0.1:[0-9]*' serve.log) || fail "the server does not start: $(cat serve.log)"
get() { # PATH: what the server answers, headers included
  exec 3<>"/dev/tcp/${address%:*}/${address#*:}"
  printf 'GET %s HTTP/1.0\r\nHost: %s\r\n\r\n' "$1" "$address" >&3
  cat <&3
  exec 3>&-
}
for want in '/ mnist-fgsm-rs' '/runs/latest/ Attacked' '/metrics temper_run_step'; do
  get "${want% *}" >answer
  grep -q "${want#* }" answer || fail "$want: $(head -c 500 answer)"
done
kill -INT "$server"
wait "$server" || fail "the server ends with $?"
server=
echo
echo "a newcomer gets there, in $SECONDS s"
