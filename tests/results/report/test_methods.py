"""The methods paragraph cites what was evaluated."""

import pytest

from simloop.results.records.runs import load_runs
from simloop.results.report.methods import methods
from tests.helpers.run_folders import episodes, write_run


@pytest.mark.parametrize(
    ("suite", "cited"),
    [
        ("metaworld", {"yu2020"}),
        ("libero", {"liu2023"}),
        ("libero_pro", {"liu2023", "zhou2025"}),
        ("libero_plus", {"liu2023", "fei2025"}),
    ],
)
def test_variants_of_a_benchmark_are_cited_beside_it(tmp_path, suite, cited):
    runs = load_runs(write_run(tmp_path / "run", episodes(1, suite=suite, protocol=f"{suite}/default-v1")))
    made = methods(runs, [], [], [], 0)
    assert set(made.sentences[0][1]) == cited
    assert all(f"{{{key}," in made.bibtex for key in cited)
