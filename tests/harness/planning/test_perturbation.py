"""Perturbations change what they name, by the same draws for every policy, and nothing else."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simloop.envs.interface import RenderSettings, StepResult
from simloop.harness.adapters.base import Adapter
from simloop.harness.planning.perturbation import Perturbation, PerturbationError, Perturber
from simloop.harness.planning.plan import make_plan
from simloop.harness.planning.protocol import Protocol
from simloop.harness.rollout.loop import run_episode
from simloop.policies.interface import Chunk, Query
from simloop.results.records.perturbation_kinds import KINDS, perturbation_kind, split_label
from tests.helpers.point_policies import PointPolicy
from tests.helpers.point_suite import PointEnv, point_task

TASK = point_task()
IMAGES = {"base": np.full((64, 64, 3), 128, np.uint8), "hand": np.full((64, 64, 3), 200, np.uint8)}
QUERY = Query("point", "move", 5, np.zeros(1000, np.float32), IMAGES, np.zeros(1000))


def perturber(kind, strength, key=7):
    return Perturber(Perturbation(kind, strength), key)


def played(perturbation=None, key=None, **policy):
    protocol = Protocol("points", render=RenderSettings("fast", 16, 16), perturbation=perturbation)
    (spec,) = make_plan(["point-expert"], [TASK], protocol, 1, 0).episodes
    spec = spec if key is None else dataclasses.replace(spec, key=key)
    asked = PointPolicy(cameras=("base_0_rgb",), **policy)
    adapter = Adapter("points", "point", cameras={"base_0_rgb": "top"})
    env = PointEnv(TASK, RenderSettings("fast", 16, 16))
    return run_episode(env, spec, asked, adapter, protocol), asked.asked


def test_camera_noise_has_the_strength_as_its_standard_deviation_and_pictures_stay_pictures():
    seen = perturber("camera-noise", 0.05).query(QUERY, 0)
    for name, image in seen.images.items():
        assert image.dtype == np.uint8
        off = image.astype(float) - IMAGES[name]
        assert off.std() == pytest.approx(0.05 * 255, rel=0.05)
        assert abs(off.mean()) < 0.5
    np.testing.assert_array_equal(seen.state, QUERY.state)
    saturated = perturber("camera-noise", 1.0).query(QUERY, 0).images["base"]
    assert {0, 255} <= set(saturated.ravel())


def test_cameras_and_moments_have_noise_of_their_own_whatever_else_is_looked_at():
    both = perturber("camera-noise", 0.1)
    first, second = both.query(QUERY, 0), both.query(QUERY, 1)
    assert not np.array_equal(first.images["base"], second.images["base"])
    assert not np.array_equal(first.images["base"].astype(int) - 128, first.images["hand"].astype(int) - 200)
    alone = dataclasses.replace(QUERY, images={"hand": IMAGES["hand"]})
    seen = perturber("camera-noise", 0.1).query(alone, 0)
    np.testing.assert_array_equal(seen.images["hand"], first.images["hand"])


@pytest.mark.parametrize(("strength", "value"), [(0.25, 96), (0.5, 64), (1.0, 0)])
def test_darkness_takes_that_share_of_the_light(strength, value):
    seen = perturber("camera-dark", strength).query(QUERY, 0)
    assert set(seen.images["base"].ravel()) == {value}
    assert seen.images["base"].dtype == np.uint8


def test_state_noise_reaches_the_robot_state_and_the_simulators():
    seen = perturber("state-noise", 0.02).query(QUERY, 0)
    assert seen.state.std() == pytest.approx(0.02, rel=0.1)
    assert seen.state.dtype == np.float32
    assert seen.privileged.std() == pytest.approx(0.02, rel=0.1)
    assert seen.images is QUERY.images
    blind = dataclasses.replace(QUERY, privileged=None)
    assert perturber("state-noise", 0.02).query(blind, 0).privileged is None


def test_action_noise_is_in_half_ranges_and_stays_within_the_bounds():
    task = dataclasses.replace(
        TASK, action_names=("a",) * 2000, action_low=(0.0,) * 2000, action_high=(4.0,) * 2000
    )
    small = perturber("action-noise", 0.1).action(task, np.full(2000, 2.0, np.float32), 0)
    assert small.std() == pytest.approx(0.2, rel=0.1)
    large = perturber("action-noise", 1.0).action(task, np.full(2000, 2.0, np.float32), 0)
    assert (large.min(), large.max()) == (0.0, 4.0)
    assert large.dtype == np.float32


def test_sticky_actions_repeat_the_action_before_that_often_and_never_start_with_a_repeat():
    sticky = perturber("sticky-actions", 0.25)
    wanted = np.arange(4000, dtype=np.float32)
    executed = np.array([sticky.action(TASK, wanted[i : i + 1], i)[0] for i in range(4000)])
    assert executed[0] == 0
    repeated = executed != wanted
    assert repeated.mean() == pytest.approx(0.25, abs=0.03)
    assert all(executed[i] == executed[i - 1] for i in np.flatnonzero(repeated))
    assert set(perturber("sticky-actions", 1.0).action(TASK, wanted[:1], 0)) == {0.0}


@given(st.sampled_from(sorted(KINDS)), st.floats(0.001, 1.0), st.integers(0, 2**64 - 1), st.integers(0, 500))
def test_the_same_moment_of_the_same_episode_is_disturbed_alike(kind, strength, key, index):
    one, other = perturber(kind, strength, key), perturber(kind, strength, key)
    small = dataclasses.replace(QUERY, images={"base": IMAGES["base"][:4, :4]})
    first, second = one.query(small, index), other.query(small, index)
    np.testing.assert_array_equal(first.images["base"], second.images["base"])
    np.testing.assert_array_equal(first.state, second.state)
    action = np.array([0.5, -0.5], np.float32)
    np.testing.assert_array_equal(one.action(TASK, action, index), other.action(TASK, action, index))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_policies_with_other_chunk_lengths_meet_the_same_disturbance_at_the_same_step(kind):
    perturbation = Perturbation(kind, 0.2)
    often, seldom = (
        observations_by_step(replan_steps, perturbation, kind == "state-noise") for replan_steps in (1, 3)
    )
    assert set(seldom) == {0, 3, 6}
    for step, seen in seldom.items():
        np.testing.assert_array_equal(seen, often[step])


def observations_by_step(replan_steps, perturbation, privileged):
    """What a policy that never moves is shown before each of its queries, by control step."""
    rules = Protocol("points", replan_steps=replan_steps, max_steps=8, perturbation=perturbation)
    rules = dataclasses.replace(rules, render=RenderSettings("fast", 16, 16))
    (spec,) = make_plan(["point-expert"], [TASK], Protocol("points"), 1, 0).episodes
    policy = StandingStill(cameras=("base_0_rgb",))
    adapter = Adapter("points", "point", cameras={"base_0_rgb": "top"})
    env = PointEnv(TASK, RenderSettings("fast", 16, 16))
    env.step = lambda action: StepResult(0.0, False)
    run_episode(env, spec, policy, adapter, rules)
    return {q.step: q.privileged if privileged else q.images["base_0_rgb"] for q in policy.asked}


class StandingStill(PointPolicy):
    def _chunk(self, query):
        self.asked.append(query)
        return Chunk(np.zeros((self.spec.chunk_steps, 2), np.float32))


def test_kinds_whose_disturbance_has_changed_never_share_a_label_a_hash_or_a_curve_with_old_runs():
    old = "points/default-v1 with camera-noise=0.05"
    new = Protocol("points", perturbation=Perturbation("camera-noise", 0.05))
    assert new.label != old
    assert split_label(old)[1] != split_label(new.label)[1]
    unversioned = hashlib.sha256(json.dumps(dataclasses.asdict(new), sort_keys=True).encode()).hexdigest()
    assert new.sha256 != unversioned
    kept = Protocol("points", perturbation=Perturbation("action-noise", 0.05))
    assert kept.label == "points/default-v1 with action-noise=0.05"


def test_nothing_is_changed_without_a_perturbation():
    plain = Perturber(None, 7)
    action = np.array([0.5, -0.5], np.float32)
    assert plain.query(QUERY, 0) is QUERY
    assert plain.action(TASK, action, 0) is action


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_episodes_are_disturbed_and_the_same_every_time(kind):
    plain, asked = played()
    disturbed, seen = played(Perturbation(kind, 0.4))
    again, _ = played(Perturbation(kind, 0.4))
    assert disturbed.actions_sha256 == again.actions_sha256
    if kind.startswith("camera"):
        assert not np.array_equal(seen[0].images["base_0_rgb"], asked[0].images["base_0_rgb"])
    else:
        assert disturbed.actions_sha256 != plain.actions_sha256
    if kind != "camera-dark":
        other, seen_there = played(Perturbation(kind, 0.4), key=99)
        images = (seen[0].images["base_0_rgb"], seen_there[0].images["base_0_rgb"])
        assert other.actions_sha256 != disturbed.actions_sha256 or not np.array_equal(*images)


def test_the_protocol_of_a_disturbed_run_says_what_and_how_much():
    for rules in ({}, {"replan_steps": 3}):
        plain = Protocol("points", **rules)
        disturbed = dataclasses.replace(plain, perturbation=Perturbation.parse("camera-noise=0.05"))
        assert disturbed.label == f"{plain.label} with camera-noise-v2=0.05"
        assert split_label(disturbed.label) == (plain.label, "camera-noise-v2", 0.05)
        assert split_label(plain.label) == (plain.label, "", 0.0)
        assert disturbed.sha256 != plain.sha256


@given(st.sampled_from(sorted(KINDS)), st.floats(1e-6, 1.0))
def test_labels_are_read_back_as_they_were_written(kind, strength):
    perturbation = Perturbation(kind, strength)
    assert Perturbation.parse(str(perturbation)) == perturbation
    label = Protocol("points", perturbation=perturbation).label
    base, versioned, read = split_label(label)
    assert (base, read) == ("points/default-v1", strength)
    assert perturbation_kind(versioned) is KINDS[kind]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("camera-nose=0.1", "there are camera-noise"),
        ("camera-noise", "Wanted KIND=STRENGTH"),
        ("camera-noise=much", "Wanted KIND=STRENGTH"),
        ("camera-noise=0", r"lies in \(0, 1\]; got 0"),
        ("action-noise=1.5", "got 1.5"),
        ("action-noise=nan", "got nan"),
    ],
)
def test_what_cannot_be_done_is_refused(text, complaint):
    with pytest.raises(PerturbationError, match=complaint):
        Perturbation.parse(text)
