#!/usr/bin/env bash
# Makes a folder to carry to a GPU host without toolchain or network: temper, the
# tests of its kernels as a program, what runs and compares them, and the kernels
# of its training runs, compiled for sm_90, so that those need a driver alone; with
# NVRTC there, they are timed against others. Its README.md says how to run it. ARCH=
# leaves the kernels out.
set -euo pipefail
cd "$(dirname "$0")/.."

to=${1:-gpu-bundle}
mkdir -p "$to"
rm -f "$to"/{temper,cuda.test,cache.tar}.gz
go build -trimpath -ldflags="-s -w" -o "$to/temper" ./cmd/temper
go test -c -trimpath -ldflags="-s -w" -o "$to/cuda.test" ./cuda
cp build/bundle/* LICENSE "$to"
if [ -n "${ARCH=sm_90}" ]; then
  eval "$(build/nvrtc.sh)"
  kernels() { (cd "$to" && TEMPER_TUNE=off TEMPER_CACHE=cache ./temper kernels build --arch "$ARCH" --precision bf16 "$@"); }
  python3 build/bundle/images.py "$to/random.npz" 640 128
  # shellcheck disable=SC2046 # words
  kernels $(cat build/bundle/repeat.txt)
  kernels --dataset cifar10 --model preactresnet18 --recipe pgd-at
  tar -czf "$to/cache.tar.gz" -C "$to" cache
  rm -r "$to/cache" "$to/random.npz" # run.sh makes both
fi
gzip -9 "$to/temper" "$to/cuda.test" # and unpacks them
size=$(($(tar -c -C "$to" . | wc -c) >> 20))
echo "$to: $size MiB; there: bash run.sh"
[ "$size" -le 60 ] || { echo "gpu-bundle.sh: that is more than 60 MiB" >&2; exit 1; }
