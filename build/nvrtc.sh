#!/usr/bin/env bash
# Installs NVRTC, CUDA's run-time compiler, from pinned wheels, and prints what a
# shell has to evaluate to use it:
#
#   eval "$(build/nvrtc.sh)"      # sets TEMPER_NVRTC, CUDA 13, and TEMPER_NVRTC12
set -euo pipefail
cd "$(dirname "$0")"
. ./wheels.sh

nvrtc13=$(install nvrtc nvrtc/cuda13.txt nvidia/cu13/lib/libnvrtc.so.13)
nvrtc12=$(install nvrtc nvrtc/cuda12.txt nvidia/cuda_nvrtc/lib/libnvrtc.so.12)
printf 'export TEMPER_NVRTC=%q TEMPER_NVRTC12=%q\n' "$nvrtc13" "$nvrtc12"
