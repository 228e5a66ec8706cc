#!/usr/bin/env bash
# Installs NVRTC, CUDA's run-time compiler, from pinned wheels, and prints what a
# shell has to evaluate to use it:
#
#   eval "$(build/nvrtc.sh)"      # sets TEMPER_NVRTC, CUDA 13, and TEMPER_NVRTC12
#
# It needs python3 with pip, and the network once: what it installs stays in the
# user's cache folder.
set -euo pipefail
cd "$(dirname "$0")"

cache="${XDG_CACHE_HOME:-$HOME/.cache}/temper"
python3 -m pip --version >/dev/null 2>&1 || { (apt-get update -q && apt-get install -y -q python3-pip) >&2; }

install() { # requirements, library in its packages
  local to="$cache/nvrtc-$(sha256sum "$1" | cut -c1-12)"
  if [ ! -e "$to/$2" ]; then
    mkdir -p "$cache"
    local new
    new=$(mktemp -d "$cache/nvrtc-XXXXXX")
    python3 -m pip install --quiet --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: --target "$new" -r "$1" >&2
    [ -e "$new/$2" ] || { echo "build/nvrtc.sh: $1 has no $2" >&2; exit 1; }
    mv -T "$new" "$to" 2>/dev/null || rm -rf "$new" # another process was first
  fi
  echo "$to/$2"
}

nvrtc13=$(install nvrtc/cuda13.txt nvidia/cu13/lib/libnvrtc.so.13)
nvrtc12=$(install nvrtc/cuda12.txt nvidia/cuda_nvrtc/lib/libnvrtc.so.12)
printf 'export TEMPER_NVRTC=%q TEMPER_NVRTC12=%q\n' "$nvrtc13" "$nvrtc12"
