"""Demonstrations on disk: the layout of LeRobotDataset v3, and what comes back from it."""

import dataclasses
import json

import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest

from simloop.policies.training import dataset_layout as layout
from simloop.policies.training.dataset_layout import DatasetError
from simloop.policies.training.dataset_reader import open_dataset
from simloop.policies.training.dataset_writer import write_dataset
from simloop.policies.training.demonstration import demonstration_from
from tests.helpers.demonstrations import (
    CAMERAS,
    FPS,
    INSTRUCTIONS,
    demonstration,
    header,
    picture,
    small_dataset,
)

BASE = layout.IMAGE_PREFIX + CAMERAS[0]


def test_reads_back_a_written_dataset(tmp_path):
    recorded = [demonstration(seed, steps=10 + seed) for seed in range(3)]
    write_dataset(tmp_path / "data", header(), recorded)
    dataset = open_dataset(tmp_path / "data")
    np.testing.assert_array_equal(dataset.states, np.concatenate([d.states for d in recorded]))
    np.testing.assert_array_equal(dataset.actions, np.concatenate([d.actions for d in recorded]))
    np.testing.assert_array_equal(
        dataset.environment_states, np.concatenate([d.environment_states for d in recorded])
    )
    assert [(e.begin, e.end) for e in dataset.episodes] == [(0, 10), (10, 21), (21, 33)]
    assert dataset.instructions == INSTRUCTIONS
    assert dataset.task_of_frame.tolist() == [0] * 10 + [1] * 11 + [0] * 12
    assert dataset.seeds == {"points/task-0": (1000, 1002), "points/task-1": (1001,)}
    assert dataset.fps == FPS


def test_finds_every_frame_in_the_concatenated_videos(tmp_path):
    dataset = open_dataset(small_dataset(tmp_path / "data", episodes=3))
    for camera in CAMERAS:
        seen = dict(dataset.images(layout.IMAGE_PREFIX + camera))
        assert sorted(seen) == list(range(len(dataset.states)))
        for row, image in seen.items():
            drawn = picture(dataset.states[row], camera, 32)
            assert np.abs(image.astype(int) - drawn).mean() < 6.0, row


def test_info_has_every_entry_of_lerobot(tmp_path):
    folder = small_dataset(tmp_path / "data", episodes=2)
    info = json.loads((folder / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert info["fps"] == FPS
    assert isinstance(info["fps"], int)
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (2, 49, 2)
    assert info["splits"] == {"train": "0:2"}
    assert {"chunks_size", "data_files_size_in_mb", "video_files_size_in_mb", "robot_type"} <= info.keys()
    assert info["data_path"].format(chunk_index=0, file_index=0) == "data/chunk-000/file-000.parquet"
    assert info["features"][BASE]["dtype"] == "video"
    assert info["features"][BASE]["shape"] == [32, 32, 3]
    assert info["features"]["action"]["shape"] == [4]


def test_data_columns_equal_the_features_without_videos(tmp_path):
    folder = small_dataset(tmp_path / "data", episodes=2)
    features = json.loads((folder / "meta/info.json").read_text())["features"]
    table = pq.read_table(folder / "data/chunk-000/file-000.parquet")
    assert set(table.column_names) == {k for k, f in features.items() if f["dtype"] != "video"}
    numpy_type = {"float32": "float", "int64": "int64", "bool": "bool"}
    for key in table.column_names:
        kind = str(table.schema.field(key).type)
        size = features[key]["shape"][0]
        inner = numpy_type[features[key]["dtype"]]
        assert kind == (inner if size == 1 else f"fixed_size_list<element: float>[{size}]")
    assert pq.ParquetFile(folder / "data/chunk-000/file-000.parquet").num_row_groups == 2
    np.testing.assert_allclose(table["timestamp"].to_numpy()[:3], [0, 1 / FPS, 2 / FPS])
    assert table["index"].to_pylist() == list(range(49))
    assert [i for i, done in enumerate(table["next.success"].to_pylist()) if done] == [23, 48]


def test_episode_rows_locate_the_frames(tmp_path):
    folder = small_dataset(tmp_path / "data", episodes=3)
    rows = pq.read_table(folder / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["length"] for row in rows] == [24, 25, 26]
    assert [row["dataset_to_index"] for row in rows] == [24, 49, 75]
    assert [row["seed"] for row in rows] == [1000, 1001, 1002]
    assert rows[1]["tasks"] == [INSTRUCTIONS[1]]
    for row in rows:
        key = f"videos/{BASE}"
        assert row[f"{key}/to_timestamp"] - row[f"{key}/from_timestamp"] == pytest.approx(row["length"] / FPS)
        assert {"data/chunk_index", "data/file_index", "meta/episodes/file_index"} <= row.keys()
        assert len(row["stats/action/mean"]) == 4
        assert np.shape(row[f"stats/{BASE}/mean"]) == (3, 1, 1)


def test_tasks_and_stats_follow_lerobots_layout(tmp_path):
    folder = small_dataset(tmp_path / "data", episodes=3)
    tasks = pandas.read_parquet(folder / "meta/tasks.parquet")
    assert tasks.loc[INSTRUCTIONS[1]].task_index == 1
    stats = json.loads((folder / "meta/stats.json").read_text())
    dataset = open_dataset(folder)
    np.testing.assert_allclose(stats["observation.state"]["mean"], dataset.states.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(stats["action"]["max"], dataset.actions.max(axis=0))
    pixels = np.concatenate([image.reshape(-1, 3) for _, image in dataset.images(BASE)]) / 255.0
    np.testing.assert_allclose(np.ravel(stats[BASE]["mean"]), pixels.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(np.ravel(stats[BASE]["std"]), pixels.std(axis=0), atol=0.03)
    assert stats["next.success"]["max"] == [1.0]


def test_video_times_are_multiples_of_the_frame_time(tmp_path):
    folder = small_dataset(tmp_path / "data", episodes=2)
    import av

    with av.open(str(folder / f"videos/{BASE}/chunk-000/file-000.mp4")) as container:
        times = [float(frame.time) for frame in container.decode(video=0)]
    np.testing.assert_allclose(times, np.arange(49) / FPS, atol=1e-4)  # lerobot's own tolerance.


def test_demonstration_serialization_round_trips():
    recorded = demonstration(4)
    back = demonstration_from(recorded.to_bytes())
    for name in (field.name for field in dataclasses.fields(recorded)):
        np.testing.assert_equal(getattr(back, name), getattr(recorded, name))


def test_rejects_demonstrations_that_contradict_the_header(tmp_path):
    with pytest.raises(DatasetError, match=r"state size should be 4 and is 5"):
        write_dataset(tmp_path / "data", header(), [demonstration(0), demonstration(1, state_size=5)])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DatasetError, match="no demonstration"):
        write_dataset(tmp_path / "data", header(), [])


def test_rejects_unusable_datasets(tmp_path):
    with pytest.raises(DatasetError, match="is no LeRobotDataset"):
        open_dataset(tmp_path)
    folder = small_dataset(tmp_path / "data", episodes=1)
    with pytest.raises(DatasetError, match=r"no column 'joints'; it has 'observation\.state'"):
        open_dataset(folder, state_key="joints")
    with pytest.raises(DatasetError, match=r"'observation\.images\.base_0_rgb'.*got 'nose'"):
        next(open_dataset(folder).images("nose"))
    info = folder / "meta/info.json"
    info.write_text(info.read_text().replace("v3.0", "v1.6"))
    with pytest.raises(DatasetError, match=r"version v1\.6; v3\.0 and v2\.1, v2\.0 are read"):
        open_dataset(folder)


def test_rejects_actions_that_are_not_finite(tmp_path):
    broken = demonstration(0)
    broken.actions[7, 2] = np.nan
    write_dataset(tmp_path / "data", header(), [broken])
    with pytest.raises(DatasetError, match="action of frame 7 is NaN"):
        open_dataset(tmp_path / "data")


def test_ignores_environment_states_of_another_form(tmp_path):
    one_number = dataclasses.replace(demonstration(0), environment_states=np.zeros((24, 1), np.float32))
    write_dataset(tmp_path / "data", dataclasses.replace(header(), environment_size=1), [one_number])
    file = tmp_path / "data/data/chunk-000/file-000.parquet"
    frame = pandas.read_parquet(file)
    frame[layout.ENVIRONMENT_KEY] = 0.5  # As LeRobot keeps features of one number.
    frame.to_parquet(file)
    assert open_dataset(tmp_path / "data").environment_states.shape == (24, 0)
