"""The server of docs/serving.md is a policy."""

import re
import sys
from pathlib import Path

import numpy as np

from simloop.harness.planning.policy_names import parse
from tests.harness.remote.test_policy import query

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"


def block(after: str, language: str) -> str:
    """The first code block of a language after a text of the page."""
    found = re.search(rf"{re.escape(after)}.*?```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_server_of_the_page_has_at_most_twenty_lines_and_answers(tmp_path):
    server = block("`my_policy/server.py`", "python")
    (tmp_path / "server.py").write_text(server)
    (tmp_path / "simloop-policy.toml").write_text(block("`my_policy/simloop-policy.toml`", "toml"))
    policy = parse(f"process:{tmp_path}?python={sys.executable}").load()
    try:
        policy.prepare(1)
        (chunk,) = policy.infer([query(2)], 1).chunks
    finally:
        policy.close()

    assert sum(bool(line.strip()) for line in server.splitlines()) <= 20
    assert chunk.actions.shape == (10, 4)
    np.testing.assert_allclose(chunk.actions[0], [-2, -1.3, -1.8, 1], atol=1e-6)
