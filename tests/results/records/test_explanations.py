"""Explanations beside step records: written and read, and refused where they belong elsewhere."""

import dataclasses
import json

import pytest

from simloop.results.records.explanations import (
    CameraAttention,
    ExplanationFileError,
    explanation_path,
    explanations_of,
    read_explanation,
)
from tests.helpers.explanations import STORED
from tests.helpers.run_folders import EPISODE
from tests.helpers.scripted_records import recorded

QUERIES = recorded("....").queries


@pytest.fixture
def file(tmp_path):
    path = tmp_path / explanation_path(EPISODE.key, 1)
    path.parent.mkdir(parents=True)
    path.write_text(STORED.to_json())
    return path


def test_an_explanation_is_read_as_it_was_written(tmp_path, file):
    found = explanations_of(tmp_path, EPISODE.key, QUERIES)
    assert list(found) == [1]
    assert dataclasses.replace(found[1], sensitivities=()) == dataclasses.replace(STORED, sensitivities=())
    assert found[1].sensitivities[0]["change"] is None, "JSON has no nan"


@pytest.mark.parametrize(
    "change",
    [
        {"key": 1},
        {"query": 0},
        {"spread": ((0.1,),)},
        {"cameras": (CameraAttention("top", 3, (1.0,)),)},
        {"cameras": (CameraAttention("top", 100, (1.0,) * 10_000),)},
    ],
)
def test_an_explanation_of_other_records_is_left_out(tmp_path, file, change):
    file.write_text(dataclasses.replace(STORED, **change).to_json())
    assert explanations_of(tmp_path, EPISODE.key, QUERIES) == {}


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"version": 9}', json.dumps({"version": 1, "query": "x"})]
)
def test_a_damaged_explanation_says_so_and_is_left_out(tmp_path, file, content):
    file.write_text(content)
    with pytest.raises(ExplanationFileError, match=str(file)):
        read_explanation(file)
    assert explanations_of(tmp_path, EPISODE.key, QUERIES) == {}


def test_a_link_out_of_the_run_folder_is_not_followed(tmp_path, file):
    outside = tmp_path.parent / "outside.json"
    outside.write_text(STORED.to_json())
    file.unlink()
    file.symlink_to(outside)
    assert explanations_of(tmp_path, EPISODE.key, QUERIES) == {}
