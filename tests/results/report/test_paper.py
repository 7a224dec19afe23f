"""Folders for papers: their numbers are those of the runs, and a number that is no longer is found."""

import json
import re
import shutil

import pytest
from matplotlib.figure import Figure

from simloop.results.errors import ResultsError
from simloop.results.figures.catalog import drawings
from simloop.results.records.runs import load_runs
from simloop.results.report.details import Details
from simloop.results.report.numbers import numbers, slug
from simloop.results.report.paper import MANIFEST, write_paper
from simloop.results.report.paper_check import check_paper
from simloop.results.statistics.intervals import wilson
from simloop.results.tables.options import TableOptions
from tests.helpers.run_folders import episodes, write_run

PAPER = r"""\documentclass{article}
\input{made/numbers}
\begin{document}
The expert reaches \rate{expert}{reach-v3}\,\% of \rateepisodes{expert}{reach-v3} episodes, pi0
\simloop[30.0]{rate/pi0/reach-v3}. % \simloop[99]{rate/pi0/reach-v3} is no text.
\end{document}
"""


def write(folder, successes=3):
    pi0 = episodes(successes, 10 - successes, policy="pi0", weights="trained")
    return write_run(folder, [*episodes(8, 2), *pi0])


@pytest.fixture(autouse=True, scope="module")
def without_figures():
    """Figures have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Details, "figures", {})
        yield


@pytest.fixture(scope="module")
def made(without_figures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("paper")
    write_paper([write(folder / "run")], folder / "made")
    (folder / "main.tex").write_text(PAPER)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A paper with marked numbers, and a run behind them."""
    return shutil.copytree(made, tmp_path / "copy")


def test_numbers_are_those_of_the_runs(tmp_path):
    found = numbers(load_runs(write(tmp_path)))
    assert found["rate/expert/reach-v3"].text == "80.0"
    assert found["rate/pi0/metaworld"].exact == pytest.approx(30)
    ends = wilson(8, 10)
    assert found["interval/expert/reach-v3"].text == f"[{100 * ends.low:.1f}, {100 * ends.high:.1f}]"
    assert found["difference/pi0/expert/metaworld"].text == "−50.0"
    assert found["episodes/pi0/reach-v3"].text == "10"
    assert found["rate/pi0/reach-v3"].runs == (0,)


def test_names_in_keys_have_neither_capitals_nor_underscores():
    assert slug("LIBERO_Spatial") == "libero-spatial"
    assert slug("π₀.₅") == slug("π0.5") == "pi0.5"


def test_methods_and_figures_have_the_names_of_the_options(tmp_path):
    folder = write(tmp_path / "run")
    write_paper([folder], tmp_path / "made", TableOptions(names={"pi0": "π₀"}))
    said = (tmp_path / "made" / "methods.tex").read_text()
    assert said.startswith(
        r"The policies expert and $\pi$$_{0}$ were evaluated on 20 episodes of 1 task of metaworld"
    )
    drawn = drawings(load_runs(folder), names={"expert": "E", "pi0": "π₀"})["success"].draw(
        Figure().subplots()
    )
    assert set(drawn.policy) == {"E", "π₀"}


def test_software_that_several_runs_share_is_named_once(tmp_path):
    software = {"starts": [{"packages": {"mujoco": "3.3.0", "simloop": "0.1.0"}}]}
    runs = [
        write_run(tmp_path / task, episodes(3, 1, task=task), provenance=software)
        for task in ("reach-v3", "push-v3")
    ]
    write_paper(runs, tmp_path / "made")
    said = (tmp_path / "made" / "methods.tex").read_text()
    assert said.count("The policy expert was evaluated on 4 episodes") == 2
    assert said.count("The software was MuJoCo 3.3.0 and simloop 0.1.0") == 1


def test_a_paper_agrees_with_the_runs_that_it_was_written_from(folder):
    found = check_paper(folder / "main.tex")
    assert [(one.key, one.printed) for one in found.numbers] == [
        ("rate/expert/reach-v3", "80.0"),
        ("episodes/expert/reach-v3", "10"),
        ("rate/pi0/reach-v3", "30.0"),
    ]
    assert not found.wrong
    assert not found.changed


def test_a_run_that_contradicts_a_marked_number_is_found(folder):
    write(folder / "run", successes=4)
    found = check_paper(folder / "main.tex")
    (wrong,) = found.wrong
    assert str(wrong).endswith("main.tex:5: rate/pi0/reach-v3 stands in the text as 30.0, the runs give 40.0")
    assert "episodes.jsonl changed" in found.changed[0]


def test_a_folder_that_is_older_than_the_runs_is_found(folder):
    write_run(folder / "run", [*episodes(9, 1), *episodes(3, 7, policy="pi0", weights="trained")])
    (wrong,) = check_paper(folder / "main.tex").wrong
    assert "rate/expert/reach-v3 is printed as 80.0, the runs give 90.0; write the folder again" in str(wrong)


def test_a_number_that_the_runs_do_not_have_is_found(folder):
    (folder / "main.tex").write_text(PAPER.replace("{expert}{reach-v3}\\,", "{expert}{push-v3}\\,"))
    (wrong,) = check_paper(folder / "main.tex").wrong
    assert "rate/expert/push-v3 is no number of the runs" in str(wrong)


def test_a_paper_without_numbers_of_a_folder_is_refused(tmp_path):
    (tmp_path / "main.tex").write_text(r"\documentclass{article}")
    with pytest.raises(ResultsError, match=r"does not \\input a numbers.tex"):
        check_paper(tmp_path / "main.tex")


def test_the_manifest_names_the_runs_behind_each_number_by_their_hashes(folder):
    manifest = json.loads((folder / "made" / MANIFEST).read_text())
    assert manifest["runs"][0]["folder"] == "../run"
    assert set(manifest["runs"][0]["sha256"]) == {
        "episodes.jsonl",
        "queries.jsonl",
        "config.json",
        "provenance.json",
    }
    assert manifest["numbers"]["rate/pi0/reach-v3"] == {"text": "30.0", "runs": [0]}
    assert "tables/success.tex" in manifest["files"]


def test_equal_records_give_equal_bytes_and_files_of_others_stay(folder):
    def content():
        return {file: file.read_bytes() for file in (folder / "made").rglob("*") if file.is_file()}

    (folder / "made" / "own.tex").write_text("mine")
    before = content()
    write_paper([folder / "run"], folder / "made")
    assert content() == before


def test_a_file_of_others_is_not_replaced(tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "methods.tex").write_text("mine")
    with pytest.raises(ResultsError, match=r"methods.tex was not written by simloop"):
        write_paper([write(tmp_path / "run")], tmp_path / "made", TableOptions())
    assert (tmp_path / "made" / "methods.tex").read_text() == "mine"


def test_every_citation_has_an_entry(folder):
    cited = re.findall(r"\\cite\{([^}]*)\}", (folder / "made" / "methods.tex").read_text())
    entries = re.findall(r"@\w+\{(\w+),", (folder / "made" / "references.bib").read_text())
    assert {key for keys in cited for key in keys.split(",")} == set(entries)
    assert {"yu2020", "wilson1927"} <= set(entries)
