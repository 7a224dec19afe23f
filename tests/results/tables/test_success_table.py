"""The table of success rates."""

import dataclasses

import pytest

from simloop.results.statistics.intervals import wilson
from simloop.results.tables.run_tables import table
from tests.helpers.run_folders import EPISODE, broken, episodes, failed, write_run
from tests.results.tables.conftest import CONFIG


def test_prints_rates_intervals_letters_and_counts(run):
    assert table(run).to_text().splitlines()[:8] == [
        "Success in %, protocol metaworld/default-v1",
        "",
        "task                            expert           pi0-tiny (untrained)",
        "─────────────────────────────────────────────────────────────────────",
        "push-v3          88.9 [56.5, 98.0] 8/9     0.0 [0.0, 35.4] 0/7 +3 err",  # The errors may decide.
        "reach-v3   100.0 a [72.2, 100.0] 10/10        10.0 b [1.8, 40.4] 1/10",
        "─────────────────────────────────────────────────────────────────────",
        "mean of 2    94.4 a [74.9, 99.0] 18/19  5.0 b [0.9, 28.3] 1/17 +3 err",
    ]


def test_stresses_only_a_policy_that_is_significantly_better_than_all_others(tmp_path):
    def policy(name, *counts):
        return episodes(*counts, policy=name, weights="trained")

    run = write_run(tmp_path / "clear", [*policy("good", 19, 1), *policy("bad", 2, 18)])
    assert "| **95.0 a [76.4, 99.1] 19/20** | 10.0 b [2.8, 30.1] 2/20 |" in swapped_columns(
        table(run).to_markdown()
    )
    assert table(run).to_latex().count(r"\textbf{") == 2, "the task and the mean"
    assert table(run).to_html().count("<strong>") == 2
    # The two highest rates do not differ significantly: neither policy is best.
    run = write_run(
        tmp_path / "unclear", [*policy("good", 19, 1), *policy("fine", 17, 3), *policy("bad", 2, 18)]
    )
    assert "**" not in table(run).to_markdown().split("\n", 1)[1]
    assert "<strong>" not in table(run).to_html()


def swapped_columns(markdown):
    """The table with its two columns of policies in the other order."""
    rows = [line.split(" | ") for line in markdown.splitlines()]
    return "\n".join(
        f"| {row[2].removesuffix(' |')} | {row[1]} |" if len(row) == 3 else " | ".join(row) for row in rows
    )


def test_notes_name_errors_missing_episodes_and_absent_policies(run):
    for format in ("terminal", "md", "tex"):
        text = " ".join(table(run).text(format).split())
        assert "3 of 20 episodes, which ended in an error (push-v3: 3); the mean would be 5.0 if" in text
        assert "Not yet finished: 1 of 20 planned episodes of expert." in text
        assert "Policies without a finished episode: late." in text


def test_csv_holds_every_score(run):
    frame = table(run).to_frame()
    tasks = frame[frame["level"] == "task"].set_index(["policy", "task"])
    assert len(tasks) == 4
    row = tasks.loc[("pi0-tiny (untrained)", "push-v3")]
    assert row[["episodes", "completed", "successes", "failures", "errors", "missing"]].tolist() == [
        10,
        7,
        0,
        7,
        3,
        0,
    ]
    assert (row["low"], row["high"]) == pytest.approx((0.0, wilson(0, 7).high))
    assert (row["rate_if_errors_fail"], row["rate_if_errors_succeed"]) == (0.0, 0.3)
    mean = frame[frame["level"] == "mean"].set_index("policy").loc["expert"]
    assert mean["rate"] == pytest.approx((1 + 8 / 9) / 2)
    assert mean["missing"] == 1


def test_shows_policies_without_a_completed_episode(tmp_path):
    text = table(write_run(tmp_path, [broken(EPISODE)])).to_markdown()
    assert "| reach-v3 | – 0/0 +1 err |" in text
    assert "expert has no mean: no completed episode of reach-v3." in text


def test_notes_name_undecodable_tokens(tmp_path):
    record = failed(EPISODE)
    record = type(record)(**(record.to_dict() | {"queries": 2, "undecodable": 2, "ended_by": "undecodable"}))
    text = table(write_run(tmp_path, [record])).to_text()
    assert (
        "expert: in 1 of 1 completed episodes, the tokens of a query could not be decoded to actions." in text
    )


def test_counts_invalid_actions_as_failures_and_names_them(tmp_path):
    records = [dataclasses.replace(r, ended_by="invalid_action") for r in episodes(0, 2)]
    run = write_run(tmp_path, [*episodes(4)[2:], *records])
    text = table(run).to_markdown()
    assert "| reach-v3 | 50.0 [15.0, 85.0] 2/4 |" in text
    assert (
        "expert: 2 of 4 completed episodes are failures because an action was nan or infinite (reach-v3: 2)"
        in text
    )
    frame = table(run).to_frame()
    assert frame["invalid_actions"].tolist() == [2, 2]


def test_notes_name_tasks_that_were_solved_at_the_first_step(tmp_path):
    text = table(write_run(tmp_path, [dataclasses.replace(EPISODE, steps=1)])).to_markdown()
    assert f"1 of the successes came at the first control step ({EPISODE.task})" in text


def test_policies_without_a_common_task_have_no_letters(tmp_path):
    records = [*episodes(10), *episodes(0, 10, policy="b", weights="trained", task="push-v3")]
    text = table(write_run(tmp_path, records)).to_markdown()
    assert "100.0 [72.2, 100.0] 10/10" in text
    assert "Not compared with every other policy: b, expert." in text
    assert "do not differ" not in text
    assert "differ significantly" not in text


def test_letters_of_all_protocols_are_one_family(tmp_path):
    def records(protocol):
        fields = {"weights": "trained", "protocol": protocol}
        return [*episodes(8, 2, policy="a", **fields), *episodes(2, 8, policy="b", **fields)]

    one = table(write_run(tmp_path / "one", records("metaworld/p0"))).to_markdown()
    assert "**80.0 a" in one
    assert "over the 1 comparison of means in these tables" in one
    many = [record for i in range(4) for record in records(f"metaworld/p{i}")]
    text = table(write_run(tmp_path / "many", many)).to_markdown()
    assert "**80.0" not in text
    assert "over the 4 comparisons of means in these tables and, with an error rate" in text
    assert "of its own, over the 4 of tasks" in text


@pytest.mark.parametrize(
    ("early", "said"),
    [({"limit": 3}, "limited to the first episodes"), ({"stopping": {"alpha": 0.05}}, "had a stopping rule")],
)
def test_runs_that_may_stop_early_miss_no_episodes(tmp_path, early, said):
    config = {"experiment": {**CONFIG["experiment"], "policies": ["expert"], **early}}
    text = table(write_run(tmp_path, episodes(3), (), config, {})).to_markdown()
    assert said in text
    assert "have not finished" not in text


def test_marks_policies_of_servers_whose_weights_are_not_known(tmp_path):
    text = table(write_run(tmp_path / "run", episodes(3, 1, policy="mine", weights="unknown"))).to_markdown()

    assert "mine (served)" in text
    assert "Its weights are not known" in text
