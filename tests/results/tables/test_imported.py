"""Result files of other programs as published rates, counted from their episodes."""

import json

import pytest

from simloop.results.errors import ResultsError
from simloop.results.tables.published import import_published, published_to_csv, read_published


def log(suite, outcomes, *, complete=True):
    lines = ["[robosuite WARNING] No private macro file found!", f"INFO:root:Task suite: {suite}"]
    for done in range(1, len(outcomes) + 1):
        won = sum(outcomes[:done])
        lines += ["\nTask: open the drawer", f"INFO:root:Success: {outcomes[done - 1]}"]
        lines += [f"INFO:root:# episodes completed so far: {done}"]
        lines += [f"INFO:root:# successes: {won} ({won / done * 100:.1f}%)"]
    if complete:
        lines += [f"INFO:root:Total success rate: {won / done}", f"INFO:root:Total episodes: {done}"]
    return "\n".join([*lines, "Exception ignored in: <function EGL.__del__>"])


def imported(folder, content, name="file", **named):
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return {
        (row.tasks, row.successes, row.episodes) for row in import_published(file, "pi05_libero", **named)
    }


def test_reads_logs_of_openpis_libero_client(tmp_path):
    text = log("libero_goal", [True, False] * 10) + "\n" + log("libero_10", [True] * 3)
    assert imported(tmp_path, text) == {("libero_goal", 10, 20), ("libero_10", 3, 3)}


def test_refuses_logs_that_end_early_or_contradict_themselves(tmp_path):
    with pytest.raises(ResultsError, match="ends after 2 episodes of libero_goal"):
        imported(tmp_path, log("libero_goal", [True, False], complete=False))
    with pytest.raises(ResultsError, match="contradicts itself"):
        imported(
            tmp_path, log("libero_goal", [True, False]).replace("Total episodes: 2", "Total episodes: 3")
        )


def test_counts_successes_of_lerobot_eval_by_group_of_tasks(tmp_path):
    def task(group, number, outcomes):
        return {
            "task_group": group,
            "task_id": number,
            "metrics": {"successes": outcomes, "sum_rewards": [1.0]},
        }

    tasks = [
        task("libero_goal", 0, [True, False, True]),
        task("libero_goal", 1, [True]),
        task("libero_10", 0, [False]),
    ]
    body = {"per_task": tasks, "overall": {"pc_success": 99.9, "n_episodes": 5}}
    expected = {("libero_goal", 3, 4), ("libero_10", 0, 1)}
    assert imported(tmp_path, body) == imported(tmp_path, {"evaluation_1": body}) == expected


def test_counts_episodes_of_vla_eval(tmp_path):
    episodes = [{"episode_id": i, "metrics": {"success": i == 0}, "steps": 9} for i in range(3)]
    body = {"benchmark": "LIBERO", "harness_version": "0.6.0", "config": {"params": {"suite": "libero_goal"}},
            "tasks": [{"task": "open the drawer", "episodes": episodes, "mean_success": 0.3333}]}  # fmt: skip
    assert imported(tmp_path, body) == {("libero_goal", 1, 3)}
    (row,) = import_published(tmp_path / "file", "pi05_libero")
    assert row.protocol == "as run by vla-eval 0.6.0"


@pytest.mark.parametrize(
    "content",
    [
        [{"task": "open", "success": True}, {"task": "open", "success": False}],
        '{"task": "open", "success": 1}\n{"task": "open", "success": 0}\n',
        "task,episode,success\nopen,0,True\nopen,1,False\n",
        "task,successes,episodes\nopen,1,2\n",
    ],
)
def test_reads_lists_of_episodes_and_tables_by_task(tmp_path, content):
    assert imported(tmp_path, content) == {("open", 1, 2)}


def test_asks_for_tasks_that_a_file_does_not_name(tmp_path):
    with pytest.raises(ResultsError, match="does not name its tasks"):
        imported(tmp_path, [{"success": True}])
    assert imported(tmp_path, [{"success": True}], tasks="libero_goal") == {("libero_goal", 1, 1)}


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "{}", "[1, 2]", "task,success\nopen,perhaps\n", "{"])
def test_refuses_other_files(tmp_path, content):
    with pytest.raises(ResultsError):
        imported(tmp_path, content)


def test_imported_rows_are_read_back_as_published_rates(tmp_path):
    imported(tmp_path, log("libero_goal", [True, False, False]))
    rows = import_published(tmp_path / "file", "pi05_libero", source="a paper")
    (tmp_path / "p.csv").write_text(published_to_csv(rows))
    assert read_published(tmp_path / "p.csv") == rows
