#!/usr/bin/env bash
# Installs the readers of others that tests hold temper's files to (the checker of
# ONNX and onnxruntime, TensorBoard) from pinned wheels, and prints what a shell
# has to evaluate to use them:
#
#   eval "$(build/python.sh)"     # sets TEMPER_PYTHON, a python3 that has them
set -euo pipefail
cd "$(dirname "$0")"
. ./wheels.sh

packages=$(dirname "$(install python python/requirements.txt onnxruntime)")
cat >"$packages/python.new$$" <<END
#!/bin/sh
PYTHONPATH="$packages" exec python3 "\$@"
END
chmod +x "$packages/python.new$$"
mv "$packages/python.new$$" "$packages/python"
printf 'export TEMPER_PYTHON=%q\n' "$packages/python"
