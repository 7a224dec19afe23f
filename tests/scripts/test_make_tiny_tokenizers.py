import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_tiny_tokenizers.py"


@pytest.mark.slow
def test_stored_files_equal_the_output_of_the_script(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("make_tiny_tokenizers", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr("sys.argv", [str(SCRIPT), str(tmp_path)])
    script.main()
    stored = sorted(p.relative_to(script.FOLDER) for p in script.FOLDER.rglob("*") if p.is_file())
    assert stored == sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    for name in stored:
        assert (tmp_path / name).read_bytes() == (script.FOLDER / name).read_bytes(), name
