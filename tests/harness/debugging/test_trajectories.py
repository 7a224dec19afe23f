"""Trajectories: what was executed, what chunks predict, and where cameras see both."""

import contextlib
import dataclasses

import numpy as np
import pytest
from PIL import Image

from simloop.harness.debugging import trajectories as computing
from simloop.harness.debugging.episodes import EpisodeError, find_episode
from simloop.harness.debugging.trajectories import image_affine, trajectories, write_trajectories
from simloop.results.records.step_records import load_steps
from simloop.results.records.trajectories import TrajectoriesError, read_trajectories
from tests.helpers.recorded_run import NAME


@pytest.fixture(scope="module")
def found(recorded):
    episode = find_episode(recorded, NAME)
    with contextlib.closing(episode.make_env()) as env:
        yield trajectories(episode, load_steps(recorded, episode.spec.id), env)


def test_predictions_begin_where_the_robot_was_and_differ_by_the_perturbation(recorded, found):
    records = load_steps(recorded, find_episode(recorded, NAME).spec.id)
    assert len(found.executed) == len(records.steps) + 1
    assert len(found.predicted) == len(records.queries)
    for query, path in zip(records.queries, found.predicted, strict=True):
        assert len(path) == len(query.chunk) + 1
        assert path[0] == found.executed[query.step]
        kept = [np.array_equal(step.action, step.executed) for step in query.steps]
        undisturbed = kept.index(False) if False in kept else len(kept)
        assert path[: undisturbed + 1] == found.executed[query.step : query.step + undisturbed + 1]
    meanwhile = [found.executed[query.step : query.step + len(query.chunk) + 1] for query in records.queries]
    assert found.predicted != meanwhile, "actions of this run were perturbed"


def test_projections_show_the_hand_of_the_recorded_states(recorded, found):
    records = load_steps(recorded, find_episode(recorded, NAME).spec.id)
    hand = records.steps[-1].state[:3]
    assert np.linalg.norm(found.executed[-1][0][:3] - hand) < 0.06, "a finger is 4.5 cm long"
    assert found.video == ["corner2", "gripperPOV"]
    assert len(found.cameras["corner2"]) == 1
    assert len(found.cameras["gripperPOV"]) == len(found.executed)
    u, v, depth = np.array(found.cameras["corner2"][0]) @ [*found.executed[0][0][:3], 1]
    assert depth > 0
    assert 0 < u / depth < 1
    assert 0 < v / depth < 1


def test_written_trajectories_are_read_until_they_belong_to_other_records(run, found, monkeypatch):
    records = load_steps(run, find_episode(run, NAME).spec.id)
    assert read_trajectories(run, records) is None
    monkeypatch.setattr(computing, "trajectories", lambda *_: found)
    path = write_trajectories(run, NAME)
    assert read_trajectories(run, records) == found
    path.write_bytes(dataclasses.replace(found, actions_sha256="other").to_bytes())
    with pytest.raises(TrajectoriesError, match="does not belong"):
        read_trajectories(run, records)
    path.write_text('{"executed": []}')
    with pytest.raises(TrajectoriesError, match="Compute them again: simloop trajectories"):
        read_trajectories(run, records)


def test_another_simulator_is_noticed(recorded):
    episode = find_episode(recorded, NAME)
    records = load_steps(recorded, episode.spec.id)
    first = records.queries[0]
    steps = (dataclasses.replace(first.steps[0], executed=-first.steps[0].executed), *first.steps[1:])
    damaged = dataclasses.replace(
        records, queries=(dataclasses.replace(first, steps=steps), *records.queries[1:])
    )
    with (
        contextlib.closing(episode.make_env()) as env,
        pytest.raises(EpisodeError, match="step 0 leads to another"),
    ):
        trajectories(episode, damaged, env)


def resized_with_padding(image):
    small = np.asarray(Image.fromarray(image).resize((40, 20)))
    return np.pad(small, ((10, 10), (0, 0), (0, 0)))


@pytest.mark.parametrize(
    ("convert", "corner"),
    [
        (lambda image: image, (0, 0)),
        (lambda image: image[::-1, ::-1], (1, 1)),
        (lambda image: image[:, ::-1], (1, 0)),
        (np.rot90, (0, 1)),
        (resized_with_padding, (0, 0.25)),
    ],
)
def test_what_an_adapter_does_to_images_is_found(convert, corner):
    affine = image_affine(convert, 60, 120)
    np.testing.assert_allclose(np.array(affine) @ [0, 0, 1], corner, atol=0.02)


def test_what_is_no_affine_map_is_not_taken_for_one():
    shuffled = np.random.default_rng(0).permutation(60)
    assert image_affine(lambda image: image[shuffled], 60, 120) is None
