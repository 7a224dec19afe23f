#!/usr/bin/env bash
# safetensors 0.8.0 writes NumPy arrays that are not C-contiguous wrongly, without an error: it takes the bytes of the
# memory in their order, and the shape of the array. 0.7.0 wrote them as they are.
#
# Seen with safetensors 0.7.0 and 0.8.0, numpy 2.2.6, Python 3.11, Linux:
#   0.7.0 transposed: read back as written
#   0.7.0 every second column: read back as written
#   0.8.0 transposed: other numbers
#   0.8.0 every second column: other numbers
# Fails if this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/try.py" <<'PYTHON'
import sys

import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

folder, wrong = sys.argv[1], sys.argv[2] == "wrong"
numbers = np.arange(12, dtype=np.float32).reshape(3, 4)
for name, array in {"transposed": numbers.T, "every second column": numbers[:, ::2]}.items():
    save_file({"a": array}, f"{folder}/a.safetensors")
    same = np.array_equal(load_file(f"{folder}/a.safetensors")["a"], array)
    print(f"{safetensors.__version__} {name}: {'read back as written' if same else 'other numbers'}")
    assert same != wrong
PYTHON
for version in 0.7.0 0.8.0; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet "safetensors==$version" numpy==2.2.6
done
"$folder/0.7.0/bin/python" "$folder/try.py" "$folder" right
"$folder/0.8.0/bin/python" "$folder/try.py" "$folder" wrong
