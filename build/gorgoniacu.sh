#!/usr/bin/env bash
# Compiles and runs what the tag gorgoniacu adds, on a machine with neither a GPU
# nor a CUDA toolkit: gorgonia.org/cu against the headers of CUDA 12, from a
# pinned wheel, linked with the emulator's look-alike of libcuda.
#
# It needs python3 with pip, g++, and the network once: what it installs stays in
# the user's cache folder.
set -euo pipefail
cd "$(dirname "$0")/.."

cache="${XDG_CACHE_HOME:-$HOME/.cache}/temper"
headers="$cache/cuda-headers-12.8.90"
if [ ! -e "$headers/nvidia/cuda_runtime/include/cuda.h" ]; then
  python3 -m pip --version >/dev/null 2>&1 || { apt-get update -q && apt-get install -y -q python3-pip; }
  mkdir -p "$cache"
  new=$(mktemp -d "$cache/headers-XXXXXX")
  python3 -m pip install --quiet --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: --target "$new" -r build/gorgoniacu.txt
  mv -T "$new" "$headers" 2>/dev/null || rm -rf "$new" # another process was first
fi

# The look-alike under the name that the linker wants. It lacks most of what cu
# could call; what the test calls is there.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export TEMPER_CACHE="$work/cache"
go test -count=1 -run '^TestCompileMistake$' ./cuda/emulator
ln -s "$TEMPER_CACHE"/libcuda-emulator-*.so "$work/libcuda.so"

export CGO_CFLAGS="-I$headers/nvidia/cuda_runtime/include -Wno-deprecated-declarations"
export CGO_LDFLAGS="-L$work -Wl,--unresolved-symbols=ignore-all -Wl,-z,lazy"
export CGO_LDFLAGS_ALLOW='-Wl,(--unresolved-symbols=ignore-all|-z,lazy)'
export LD_LIBRARY_PATH="$work${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
go vet -tags gorgoniacu ./cuda
TEMPER_TEST_DEVICE=emulator go test -count=1 -tags gorgoniacu -run Gorgonia -v ./cuda
