#!/usr/bin/env bash
# Makes a folder to carry to a GPU host without toolchain or network: temper, the
# tests of its kernels as a program, and what runs and compares them. Its
# README.md says how to run it.
set -euo pipefail
cd "$(dirname "$0")/.."

to=${1:-gpu-bundle}
mkdir -p "$to"
go build -trimpath -ldflags="-s -w" -o "$to/temper" ./cmd/temper
go test -c -trimpath -ldflags="-s -w" -o "$to/cuda.test" ./cuda
cp build/bundle/* LICENSE "$to"
echo "$to: $(du -sh "$to" | cut -f1); there: bash run.sh"
