"""Each export is read back by the library that it is made for, and holds what was recorded."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simloop.harness.export import exporting
from simloop.harness.export.exporting import ExportError, export
from simloop.policies.files.video import decode_frames
from simloop.results.records.step_records import read_step_records
from tests.helpers.recorded_run import FILE, NAME

CAMERAS = ("corner2", "gripperPOV")


@pytest.fixture(scope="module")
def records(recorded):
    return read_step_records(recorded / FILE)


def exported(recorded: Path, to, out: Path) -> list[Path]:
    return list(export(recorded, to, (NAME,), out))


def test_tables_hold_every_step_and_query(recorded, records, tmp_path):
    exported(recorded, "parquet", tmp_path / "out")
    tables = {file.stem: pd.read_parquet(file) for file in (tmp_path / "out").iterdir()}
    assert {name: len(table) for name, table in tables.items() if name in ("episodes", "queries", "steps")} == {
        "episodes": 1, "queries": len(records.queries), "steps": len(records.steps)
    }  # fmt: skip
    steps, poses = tables["steps"], tables["poses"]
    executed = steps[[f"executed.{name}" for name in records.header.action_names]].to_numpy()
    np.testing.assert_array_equal(executed, [step.executed for step in records.steps])
    assert steps.reward.tolist() == [step.reward for step in records.steps]
    assert set(steps.policy) == {"random"}
    last = poses[(poses.step == len(records.steps) - 1) & (poses.thing == "goal")]
    np.testing.assert_array_equal(
        last[["x_m", "y_m", "z_m"]].to_numpy()[0], records.steps[-1].poses["goal"][:3]
    )
    np.testing.assert_array_equal(np.stack(tables["queries"].chunk[0]), records.queries[0].chunk)


def test_a_recording_of_rerun_holds_cameras_scene_and_actions(recorded, records, tmp_path):
    pytest.importorskip("rerun", reason="no rerun-sdk to read recordings with: scripts/setup rerun")
    from rerun.chunk import RrdReader

    (path,) = exported(recorded, "rerun", tmp_path / "out")
    reader = RrdReader(path)
    assert len(reader.recordings()) == len(reader.blueprints()) == 1
    rows: dict[str, int] = {}
    for chunk in reader.stream():
        if not chunk.is_static:
            rows[chunk.entity_path] = rows.get(chunk.entity_path, 0) + chunk.num_rows
    steps = len(records.steps)
    for camera in CAMERAS:
        assert rows[f"/world/cameras/{camera}"] == 2 * (steps + 1), "images and poses"
    for name in records.header.action_names:
        assert rows[f"/executed/{name}"] == rows[f"/action/{name}"] == steps
    assert rows["/world/things/goal"] == rows["/world/grippers/0"] == steps + 1
    assert rows["/reward"] == steps
    assert rows["/chunk"] == len(records.queries)


def test_an_mcap_file_has_schemas_of_foxglove(recorded, records, tmp_path):
    pytest.importorskip("mcap_protobuf", reason="no packages to read MCAP with: scripts/setup mcap")
    pytest.importorskip(
        "foxglove_schemas_protobuf", reason="no packages to read MCAP with: scripts/setup mcap"
    )
    from mcap.reader import make_reader
    from mcap_protobuf.decoder import DecoderFactory

    (path,) = exported(recorded, "mcap", tmp_path / "out")
    with path.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        summary = reader.get_summary()
        schemas = {schema.name for schema in summary.schemas.values()}
        assert {
            "foxglove.CompressedImage",
            "foxglove.CameraCalibration",
            "foxglove.FrameTransforms",
        } <= schemas
        executed = [message for *_, message in reader.iter_decoded_messages(["/executed"])]
        steps = [json.loads(message.data) for _, _, message in reader.iter_messages(["/step"])]
        metadata = next(reader.iter_metadata()).metadata
        counts = {
            channel.topic: summary.statistics.channel_message_counts[number]
            for number, channel in summary.channels.items()
        }
    np.testing.assert_array_equal(
        [[joint.position for joint in message.joints] for message in executed],
        np.array([step.executed for step in records.steps], np.float64),
    )
    assert [step["reward"] for step in steps] == [step.reward for step in records.steps]
    assert (metadata["policy"], metadata["success"]) == ("random", "False")
    assert counts["/cameras/corner2/image"] == counts["/tf"] == len(records.steps) + 1
    assert counts["/query"] == len(records.queries)


READ_LEROBOT = """
import json, sys
import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

dataset = LeRobotDataset("simloop/rollouts", root=sys.argv[1], video_backend="pyav")
episode = dataset.meta.episodes[0]
frames = [dataset[i] for i in range(len(dataset))]
key = "observation.images.corner2"
np.savez(
    sys.argv[2],
    actions=np.stack([frame["action"].numpy() for frame in frames]),
    states=np.stack([frame["observation.state"].numpy() for frame in frames]),
    images=np.stack([frame[key].numpy().transpose(1, 2, 0) for frame in frames]),
)
print(json.dumps({"policy": episode["policy"], "success": bool(episode["success"]), "task": frames[0]["task"]}))
"""


def test_a_dataset_has_the_frames_of_the_episode(recorded, records, tmp_path):
    (folder,) = exported(recorded, "lerobot", tmp_path / "out")
    (video,) = folder.glob("videos/*corner2/*/*.mp4")
    assert len(list(decode_frames(video))) == len(records.steps)
    (episode,) = pd.read_parquet(next(folder.glob("meta/episodes/*/*.parquet"))).to_dict("records")
    assert (episode["policy"], episode["success"], episode["length"]) == ("random", False, len(records.steps))


@pytest.mark.slow
@pytest.mark.timeout(900)  # Importing LeRobot alone takes half a minute.
def test_lerobot_loads_the_same_frames(recorded, records, tmp_path):
    python = Path(os.environ.get("SIMLOOP_LEROBOT_PYTHON", "/nowhere"))
    if not python.is_file():
        pytest.skip("no Python with lerobot to load datasets with: name one with SIMLOOP_LEROBOT_PYTHON")
    (folder,) = exported(recorded, "lerobot", tmp_path / "out")
    command = [python, "-c", READ_LEROBOT, folder, tmp_path / "read.npz"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    read = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert read.returncode == 0, read.stderr
    said = json.loads(read.stdout.splitlines()[-1])
    assert said == {"policy": "random", "success": False, "task": records.queries[0].instruction}
    arrays = np.load(tmp_path / "read.npz")
    np.testing.assert_array_equal(arrays["actions"], [step.executed for step in records.steps])
    np.testing.assert_array_equal(arrays["states"][1:], [step.state for step in records.steps[:-1]])
    (video,) = folder.glob("videos/*corner2/*/*.mp4")
    decoded = np.stack([image for _, image in decode_frames(video)])
    assert np.abs(arrays["images"] * 255 - decoded).max() <= 2, "up to the rounding of its colour conversion"


def test_a_folder_that_exists_and_missing_packages_are_said(recorded, tmp_path, monkeypatch):
    with pytest.raises(ExportError, match="exists already"):
        exported(recorded, "parquet", tmp_path)
    monkeypatch.setitem(exporting.EXTRAS, "rerun", ("no_such_module",))
    with pytest.raises(ExportError, match=r"needs the package of no_such_module.*rerun"):
        exported(recorded, "rerun", tmp_path / "out")
