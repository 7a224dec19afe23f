"""Datasets of other programs: tables are joined by their keys, and every contradiction is named."""

import json

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simloop.policies.training.dataset_layout import DatasetError
from simloop.policies.training.dataset_reader import open_dataset
from simloop.policies.training.prepared import prepare
from tests.helpers.lerobot_datasets import (
    CAMERAS,
    DATA,
    EPISODES,
    FPS,
    TASKS,
    change_column,
    change_info,
    grey,
    png,
    video,
    write_v3,
    write_v21,
)

MODEL_CAMERAS = {camera.rpartition(".")[2]: camera for camera in CAMERAS}


def said(folder):
    """Instruction of every episode."""
    data = open_dataset(folder)
    return [data.instructions[data.task_of_frame[episode.begin]] for episode in data.episodes]


def greys(folder, camera=CAMERAS[0]):
    """Mean of every image by its row."""
    return {row: round(float(pixels.mean())) for row, pixels in open_dataset(folder).images(camera)}


def refused(folder, match):
    with pytest.raises(DatasetError, match=match) as error:
        open_dataset(folder)
    assert type(error.value) is DatasetError


@pytest.mark.parametrize(
    ("key", "wrong", "match"),
    [
        (
            "episode_index",
            [0] * 4 + [1] * 5 + [2] * 3,
            r"frame 4 has episode_index 1; by the metadata it is 0",
        ),
        ("frame_index", list(range(12)), r"frame 5 has frame_index 5; by the metadata it is 0 \(episode 1\)"),
        ("timestamp", [i / 20 for i in (0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 1, 2)], r"frame 1 has timestamp 0\.05"),
        ("index", list(range(1, 13)), "frame 0 has index 1"),
        ("task_index", [0] * 7 + [5] * 5, "frame 7 has the task 5"),
    ],
)
def test_names_the_first_frame_whose_keys_contradict_the_metadata(tmp_path, key, wrong, match):
    refused(change_column(write_v3(tmp_path / "d"), key, lambda _: wrong), match)


def test_names_the_first_episode_whose_bounds_contradict_the_one_before(tmp_path):
    folder = change_column(write_v3(tmp_path / "d"), "dataset_from_index", lambda _: [0, 4, 9], EPISODES)
    refused(folder, "episode 1 has the frames 4 to 9, and the one before it ends at 5")


@pytest.mark.parametrize("numbers", [(0, 2), (1, 2), (7, 3)])
def test_tasks_are_looked_up_by_their_numbers(tmp_path, numbers):
    folder = change_column(write_v3(tmp_path / "d"), "task_index", lambda old: [numbers[i] for i in old])
    index = pandas.Index(TASKS, name="task")
    pandas.DataFrame({"task_index": numbers}, index=index).to_parquet(folder / "meta/tasks.parquet")
    assert said(folder) == [TASKS[0], TASKS[1], TASKS[0]]


def test_tasks_are_read_from_a_column_as_well_as_from_an_index(tmp_path):
    folder = write_v3(tmp_path / "d")
    pq.write_table(pa.table({"task_index": [1, 0], "task": TASKS[::-1]}), folder / "meta/tasks.parquet")
    assert said(folder) == [TASKS[0], TASKS[1], TASKS[0]]
    pq.write_table(pa.table({"task_index": [0, 0], "task": TASKS}), folder / "meta/tasks.parquet")
    refused(folder, "two sentences for task 0")


@pytest.mark.parametrize("file", [DATA, EPISODES, "meta/tasks.parquet"])
def test_says_that_a_writer_was_interrupted(tmp_path, file):
    folder = write_v3(tmp_path / "d")
    (folder / file).write_bytes((folder / file).read_bytes()[:-40])
    lost = ".*3 of 3 episodes are lost" if "tasks" not in file else ""
    refused(folder, rf"{file} has no footer: its writer was interrupted before finalize\(\) was called{lost}")


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float64()), pa.list_(pa.float32(), 4), pa.large_list(pa.float32())]
)
def test_files_of_one_dataset_may_differ_in_the_types_of_numbers(tmp_path, kind):
    folder = write_v3(tmp_path / "d")
    expected, table = open_dataset(folder).actions, pq.read_table(folder / DATA)
    second = table.slice(5)
    action = pa.array(second["action"].to_pylist(), kind)
    pq.write_table(table.slice(0, 5), folder / DATA)
    pq.write_table(
        second.set_column(second.column_names.index("action"), "action", action),
        folder / DATA.replace("000.p", "001.p"),
    )
    np.testing.assert_array_equal(open_dataset(folder).actions, expected)


def test_vectors_in_a_list_of_one_are_flattened(tmp_path):
    folder = write_v3(tmp_path / "d")
    expected = open_dataset(folder).actions
    change_column(folder, "action", lambda old: [[vector] for vector in old])
    np.testing.assert_array_equal(open_dataset(folder).actions, expected)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda old: [None if i == 5 else x for i, x in enumerate(old)], "action of row 5 is null"),
        (
            lambda old: [[1.0, None, 0.0, 0.0] if i == 5 else x for i, x in enumerate(old)],
            "row 5 has a null entry",
        ),
        (
            lambda old: [x * (1 + 12 * (i == 5)) for i, x in enumerate(old)],
            "row 5 has 52 entries; row 0 has 4",
        ),
        (lambda old: [[x[:2], x[2:]] for x in old], r"action has the shape \(2, 2\)"),
        (lambda old: [["a"] * 4 for _ in old], "action holds string"),
    ],
)
def test_names_column_and_row_of_vectors_that_are_none(tmp_path, change, match):
    refused(change_column(write_v3(tmp_path / "d"), "action", change), match)


def test_one_camera_may_be_a_video_and_another_pictures(tmp_path):
    folder = write_v3(tmp_path / "d", images="video")
    table = pq.read_table(folder / DATA)
    cells = pa.array([{"bytes": png(row), "path": None} for row in range(12)])
    pq.write_table(table.append_column(CAMERAS[1], cells), folder / DATA)
    change_info(folder, lambda info: info["features"][CAMERAS[1]].update(dtype="image"))
    exact = {row: grey(row) for row in range(12)}
    assert greys(folder, CAMERAS[1]) == exact
    assert all(abs(value - exact[row]) <= 2 for row, value in greys(folder).items())


def test_pictures_may_be_paths_inside_the_dataset(tmp_path):
    folder = write_v3(tmp_path / "d")
    (folder / "images").mkdir()
    for row in range(12):
        (folder / f"images/{row}.png").write_bytes(png(row))
    change_column(
        folder, CAMERAS[0], lambda old: [{"bytes": None, "path": f"images/{i}.png"} for i in range(12)]
    )
    assert greys(folder) == {row: grey(row) for row in range(12)}
    change_column(folder, CAMERAS[0], lambda old: [{"bytes": None, "path": "/etc/passwd"} for _ in old])
    with pytest.raises(DatasetError, match="inside the folder"):
        greys(folder)


def test_names_a_video_that_is_absent(tmp_path):
    folder = write_v3(tmp_path / "d", images="video")
    (folder / "videos" / CAMERAS[1] / "chunk-000/file-000.mp4").unlink()
    refused(folder, rf"lacks the video .*{CAMERAS[1]}.*episode 0")


def test_refuses_a_video_whose_frames_drift_from_their_time_stamps(tmp_path):
    folder = write_v3(tmp_path / "d", images="video")
    file = folder / "videos" / CAMERAS[0] / "chunk-000/file-000.mp4"
    file.write_bytes(video(range(12), fps=FPS + 1))
    with pytest.raises(
        DatasetError, match=r"lacks 8 frames of its episodes, the first at 0\.200 s of episode 0"
    ):
        greys(folder)


def test_refuses_episodes_that_share_frames_of_a_video(tmp_path):
    folder = write_v3(tmp_path / "d", images="video")
    change_column(folder, f"videos/{CAMERAS[0]}/from_timestamp", lambda old: [0.0, 0.4, 0.9], EPISODES)
    with pytest.raises(DatasetError, match="episode 0 shares frames"):
        greys(folder)


def test_reads_datasets_of_version_2_1(tmp_path):
    folder = write_v21(tmp_path / "d")
    data = open_dataset(folder)
    assert data.states[:, 0].tolist() == list(range(9))
    assert [(episode.begin, episode.end) for episode in data.episodes] == [(0, 5), (5, 9)]
    assert said(folder) == list(TASKS)
    assert all(abs(value - grey(row)) <= 2 for row, value in greys(folder).items())
    assert len(greys(folder)) == 9
    (folder / "meta/episodes.jsonl").write_text(json.dumps({"episode_index": 0, "length": 6}) + "\n")
    refused(folder, "end at frame 6, the data have 5")


@pytest.mark.parametrize("changed", ["action", "task", "picture"])
def test_a_prepared_dataset_is_made_anew_when_the_content_changes(tmp_path, changed):
    folder = write_v3(tmp_path / "d")
    before = prepare(folder, MODEL_CAMERAS, 32)
    assert prepare(folder, MODEL_CAMERAS, 32).folder == before.folder
    if changed == "action":
        change_column(folder, "action", lambda old: [[-x for x in vector] for vector in old])
    elif changed == "picture":
        change_column(folder, CAMERAS[1], lambda old: old[::-1])
    else:
        index = pandas.Index(["pull the drawer open", TASKS[1]], name="task")
        pandas.DataFrame({"task_index": [0, 1]}, index=index).to_parquet(folder / "meta/tasks.parquet")
    after = prepare(folder, MODEL_CAMERAS, 32)
    assert after.folder != before.folder
    if changed == "picture":
        assert after.frames["left_wrist_0_rgb"][0].mean() == grey(11)
    elif changed == "task":
        assert after.instructions[0] == "pull the drawer open"
    else:
        np.testing.assert_array_equal(after.actions, -before.actions)
