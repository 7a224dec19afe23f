#!/usr/bin/env bash
# Meta-World 3.1.1, installed alone, cannot be imported: gymnasium 1.4.0 imports `packaging` in its MuJoCo module,
# which Meta-World uses, and declares it in an extra only.
#
# Seen with metaworld 3.1.1, gymnasium 1.4.0, mujoco 3.3.0, Python 3.11, Linux:
#   ModuleNotFoundError: No module named 'packaging'
# Fails if this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet metaworld==3.1.1 gymnasium==1.4.0 mujoco==3.3.0
"$folder/venv/bin/python" - <<'PYTHON'
try:
    import metaworld
except ModuleNotFoundError as error:
    print(f"{type(error).__name__}: {error}")
    assert error.name == "packaging"
else:
    raise AssertionError("metaworld imports without packaging now")
PYTHON
