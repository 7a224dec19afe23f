"""Comparison of measured with published rates."""

import io

import pandas as pd
import pytest

from simloop.results.errors import ResultsError
from simloop.results.records.runs import load_runs
from simloop.results.statistics.unpaired import miettinen_nurminen
from simloop.results.tables.published import OPENPI_RULES, PUBLISHED, Published, read_published, reproductions
from simloop.results.tables.run_tables import table
from tests.helpers.run_folders import episodes, write_run


def ours(
    folder,
    successes,
    failures,
    policy="pi0_libero@/ckpt",
    tasks=("libero_goal",),
    protocol=OPENPI_RULES,
    written="",
):
    experiment = {"suite": "libero", "policies": [written or policy], "episodes": 500, "tasks": list(tasks)}
    config = {"experiment": experiment}
    fields = {"policy": policy, "weights": "trained", "suite": "libero", "protocol": protocol}
    return write_run(folder, episodes(successes, failures, **fields), config=config)


@pytest.mark.parametrize(
    ("successes", "episodes_", "verdict"),
    [
        (479, 500, "inconclusive"),
        (4790, 5000, "equivalent"),
        (400, 500, "lower"),
        (5000, 5000, "higher"),
        (9, 10, "inconclusive"),
    ],
)
def test_verdicts_use_the_margin_and_the_uncertainty_of_both_rates(tmp_path, successes, episodes_, verdict):
    (found,) = reproductions(load_runs(ours(tmp_path, successes, episodes_ - successes)))
    assert found.published == next(
        one for one in PUBLISHED if (one.policy, one.tasks) == ("pi0_libero", "libero_goal")
    )
    assert found.verdict == verdict
    assert found.interval == miettinen_nurminen(successes, episodes_, 479, 500)


def test_a_preset_under_another_name_is_compared_with_its_published_rates(tmp_path):
    run = ours(tmp_path, 400, 100, policy="mine", written="mine=pi0_libero@/ckpt")
    (found,) = reproductions(load_runs([f"first={run}"]))
    assert (found.policy, found.published.policy, found.verdict) == ("first:mine", "pi0_libero", "lower")


@pytest.mark.parametrize("protocol", ["libero/default-v1", "libero/openpi-v1+0badcafe"])
def test_gives_no_verdict_on_another_protocol(tmp_path, protocol):
    (found,) = reproductions(load_runs(ours(tmp_path, 400, 100, protocol=protocol)))
    assert found.verdict == "other protocol"


def test_ignores_other_policies_and_other_tasks(tmp_path):
    assert reproductions(load_runs(ours(tmp_path / "a", 9, 1, policy="pi0-tiny"))) == []
    assert reproductions(load_runs(ours(tmp_path / "b", 9, 1, tasks=("libero_goal", "libero_10")))) == []
    run = write_run(tmp_path / "c", episodes(9, 1))
    assert "No published rates are known" in table(run, only="published").to_markdown()


def test_table_shows_source_protocol_and_verdict(tmp_path):
    run = ours(tmp_path, 479, 21)
    for format in ("md", "html", "terminal"):
        text = " ".join(table(run, only="published").text(format).split())
        assert "95.8 (479/500)" in text
        assert "openpi, examples/libero/README.md" in text
        assert "inconclusive" in text
    frame = pd.read_csv(io.StringIO(table(run, only="published").to_csv()))
    assert frame.loc[0, ["published_rate", "published_episodes", "verdict"]].tolist() == [
        0.958,
        500,
        "inconclusive",
    ]


def test_published_rates_have_sources_and_whole_numbers_of_successes():
    for one in PUBLISHED:
        assert one.successes == pytest.approx(one.rate * one.episodes, abs=1e-6)
        assert one.source
        assert one.protocol
    mean = [one.rate for one in PUBLISHED if one.policy == "pi05_libero"]
    assert sum(mean) / 4 == pytest.approx(0.9685)


def test_reads_published_rates_from_a_file(tmp_path):
    file = tmp_path / "published.csv"
    file.write_text("policy,tasks,rate,episodes,protocol,source\nexpert,metaworld,0.9,10,theirs,a paper\n")
    (one,) = read_published(file)
    assert one == Published("expert", "metaworld", 0.9, 10, "theirs", "a paper")
    run = write_run(tmp_path / "run", episodes(9, 1))
    assert "90.0 (9/10)" in table(run, only="published", published=file).to_markdown()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("policy,rate\na,0.5\n", "wanted the columns policy, tasks, rate"),
        (
            "policy,tasks,rate,episodes,protocol,source\na,b,96.8,500,p,s\n",
            r"line 2: A published rate lies in \[0, 1\]",
        ),
        ("policy,tasks,rate,episodes,protocol,source\na,b,0.9,many,p,s\n", "line 2"),
    ],
)
def test_rejects_invalid_files_of_published_rates(tmp_path, text, message):
    (tmp_path / "published.csv").write_text(text)
    with pytest.raises(ResultsError, match=message):
        read_published(tmp_path / "published.csv")
    with pytest.raises(ResultsError, match="cannot be read"):
        read_published(tmp_path / "absent.csv")
