"""Names of files are safe and distinct, whatever policies and tasks are called."""

import dataclasses

from simloop.results.records.fork_labels import fork_label
from simloop.results.records.paths import (
    MAX_NAME,
    attached_files,
    file_name,
    images_path,
    step_files,
    step_records_path,
    video_path,
)
from tests.helpers.run_folders import EPISODE

ODD = ["a b", "a/b", "a~2f~b", "a-b", "A-b", "ä", "..", ".", "", "x" * 300, "x" * 300 + "y"]


def records_path(policy: str, task: str, episode: int, protocol: str = "metaworld/default-v1") -> str:
    return step_records_path((policy, "metaworld", protocol, task, episode))


def test_no_two_episodes_share_a_name():
    for path in (lambda *episode: video_path(*episode, "success"), records_path):
        paths = {path(policy, task, episode) for policy in ODD for task in ODD for episode in range(3)}
        assert len(paths) == len(ODD) ** 2 * 3
        assert all(found.count("/") == 2 for found in paths)
        assert all(len(part) < 255 for found in paths for part in found.split("/"))


def test_records_of_forks_tell_their_queries_and_changes_apart():
    labels = [
        fork_label("metaworld/default-v1", "a/b/0", query, text) for query in (1, 2) for text in ("", "x=1")
    ]
    assert len({records_path("a", "b", 0, label) for label in [*labels, "metaworld/default-v1"]}) == 5
    assert records_path("a", "b", 0, labels[1]) == "steps/a/b-query-1-x~3d~1-0000.parquet"


def test_file_names_have_no_characters_with_a_meaning():
    assert file_name("pi0@/ckpt/../x") == "pi0~40~~2f~ckpt~2f~..~2f~x"
    assert file_name("..") == "~2e~."
    assert len(file_name("é" * 100)) <= MAX_NAME + 17


def test_what_recorders_attach_becomes_files_of_the_episode():
    attachments = {"video": b"mp4", "step records": b"parquet", "images of left/wrist": b"images"}
    files = attached_files(EPISODE, attachments)
    assert files == {
        "steps/expert/reach-v3-0000.parquet": b"parquet",
        "steps/expert/reach-v3-0000/left~2f~wrist.mp4": b"images",
    }, "the record names no video"


def test_finds_the_files_of_one_episode_alone(tmp_path):
    other = dataclasses.replace(EPISODE, episode=1).key
    mine = ["steps/expert/reach-v3-0000.parquet", images_path(EPISODE.key, "top")]
    others = ["steps/expert/reach-v3-0001.parquet", images_path(other, "top")]
    for name in mine + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert step_files(tmp_path, EPISODE) == mine
