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
rm -f "$to"/*.gz
go build -trimpath -ldflags="-s -w" -o "$to/temper" ./cmd/temper
go test -c -trimpath -ldflags="-s -w" -o "$to/cuda.test" ./cuda
cp build/bundle/* LICENSE "$to"
if [ -n "${ARCH=sm_90}" ]; then
  eval "$(build/nvrtc.sh)"
  kernels() { TEMPER_TUNE=off TEMPER_CACHE="$to/cache" "$to/temper" kernels build --arch "$ARCH" "$@"; }
  kernels --dataset structured
  kernels --precision bf16 --dataset cifar10 --model preactresnet18 --recipe pgd-at
fi
gzip -9 "$to/temper" "$to/cuda.test"  # run.sh unpacks them
size=$(du -sm "$to" | cut -f1)
echo "$to: $size MiB; there: bash run.sh"
[ "$size" -le 60 ] || { echo "gpu-bundle.sh: that is more than 60 MiB" >&2; exit 1; }
