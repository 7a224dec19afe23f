"""Perturbations change what they name, by the same draws for every policy, and nothing else."""

import dataclasses
import hashlib
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simloop.envs.interface import RenderSettings, StepResult
from simloop.envs.look import Look
from simloop.harness.adapters.base import Adapter
from simloop.harness.planning.execution import ExecutionError
from simloop.harness.planning.paraphrases import TEMPLATES, Paraphrases
from simloop.harness.planning.perturbation import Perturbation, PerturbationError
from simloop.harness.planning.plan import make_plan
from simloop.harness.planning.protocol import Protocol
from simloop.harness.rollout.chunking import hold_action
from simloop.harness.rollout.loop import run_episode
from simloop.harness.rollout.perturber import Perturber, require_perturbable
from simloop.policies.interface import Chunk, Query
from simloop.results.records.perturbation_kinds import KINDS
from tests.helpers.point_policies import PointPolicy
from tests.helpers.point_suite import PointEnv, PointSuite, point_task

TASK = point_task()
WITHOUT_LOOKS = [name for name, kind in KINDS.items() if not kind.changes_look]
IMAGES = {"base": np.full((64, 64, 3), 128, np.uint8), "hand": np.full((64, 64, 3), 200, np.uint8)}
QUERY = Query("point", "move", 5, np.zeros(1000, np.float32), IMAGES, np.zeros(1000))


def perturber(kind, strength, key=7):
    return Perturber([Perturbation(kind, strength)], key)


def executed(perturber, requested, task=TASK):
    """The actions that a robot executes when these are requested step by step."""
    made = []
    for step in range(len(requested)):
        made.append(perturber.action(task, requested[: step + 1], made[-1] if made else None))
    return made


def played(*perturbation, key=None, **policy):
    protocol = Protocol("points", render=RenderSettings("fast", 16, 16), perturbations=perturbation)
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
    assert all(seen.images[name] is image for name, image in IMAGES.items())
    blind = dataclasses.replace(QUERY, privileged=None)
    assert perturber("state-noise", 0.02).query(blind, 0).privileged is None


def test_action_noise_is_in_half_ranges_and_stays_within_the_bounds():
    task = dataclasses.replace(
        TASK, action_names=("a",) * 2000, action_low=(0.0,) * 2000, action_high=(4.0,) * 2000
    )
    wanted = [np.full(2000, 2.0, np.float32)]
    small = perturber("action-noise", 0.1).action(task, wanted, None)
    assert small.std() == pytest.approx(0.2, rel=0.1)
    large = perturber("action-noise", 1.0).action(task, wanted, None)
    assert (large.min(), large.max()) == (0.0, 4.0)
    assert large.dtype == np.float32


def test_sticky_actions_repeat_the_action_before_that_often_and_never_start_with_a_repeat():
    wanted = np.arange(2000, dtype=np.float32)
    done = np.concatenate(executed(perturber("sticky-actions", 0.25), list(wanted[:, None])))
    assert done[0] == 0
    repeated = done != wanted
    assert repeated.mean() == pytest.approx(0.25, abs=0.04)
    assert all(done[i] == done[i - 1] for i in np.flatnonzero(repeated))
    assert set(np.concatenate(executed(perturber("sticky-actions", 1.0), list(wanted[:9, None])))) == {0.0}


def test_a_delayed_robot_holds_still_and_then_executes_everything_that_many_steps_late():
    wanted = [np.array([0.1 * i, -1.0 + 0.1 * i], np.float32) for i in range(6)]
    done = executed(perturber("actuation-delay", 2.0), wanted)
    held = hold_action(TASK, None)
    np.testing.assert_array_equal(done, [held, hold_action(TASK, held), *wanted[:4]])


@pytest.mark.parametrize(("kind", "lasting"), [("dropped-frames", False), ("camera-missing", True)])
def test_lost_pictures_are_black_each_camera_on_its_own(kind, lasting):
    small = dataclasses.replace(QUERY, images={name: image[:4, :4] for name, image in IMAGES.items()})
    black = np.array(
        [
            [
                [not seen.images[name].any() for name in IMAGES]
                for seen in map(perturber(kind, 0.3, key).query, [small] * 4, range(4))
            ]
            for key in range(60)
        ]
    )
    assert black.mean() == pytest.approx(0.3, abs=0.1)
    assert (black[..., 0] != black[..., 1]).any(), "cameras are lost apart"
    assert lasting == (black.all(axis=1) | ~black.any(axis=1)).all(), "for the whole episode, or for a step"


def test_distractors_replace_that_share_of_the_entries_with_noise_that_says_nothing():
    far = dataclasses.replace(QUERY, state=np.full(1000, 50.0, np.float32), privileged=np.full(1000, 50.0))
    seen = perturber("state-distractors", 0.2).query(far, 0)
    for values in (seen.state, seen.privileged):
        replaced = values != 50
        assert replaced.mean() == pytest.approx(0.2, abs=0.04)
        assert values[replaced].std() == pytest.approx(1.0, rel=0.2)
    assert seen.state.dtype == np.float32
    stronger = perturber("state-distractors", 0.5).query(far, 0)
    assert ((stronger.state != 50) >= (seen.state != 50)).all(), (
        "a stronger one disturbs what a weaker one disturbs"
    )


def test_that_share_of_the_episodes_has_another_wording_which_lasts_for_the_episode():
    said = [perturber("paraphrase", 0.4, key).instruction("push") for key in range(300)]
    assert np.mean([text != "push" for text in said]) == pytest.approx(0.4, abs=0.08)
    assert len(set(said)) == 1 + len(TEMPLATES)
    mine = Paraphrases("mine", (("push", ("shove",)),))
    only = Perturber([Perturbation("paraphrase", 1.0)], 7, mine)
    assert (only.instruction("push"), only.instruction("pull")) == ("shove", "pull")


def test_cameras_are_displaced_and_turned_by_the_strength_each_in_a_direction_of_its_own():
    both = Perturber([Perturbation("camera-shift", 0.1), Perturbation("camera-turn", 30.0)], 7)
    top, hand = both.look(("top", "hand")).cameras.values()
    for offset in (top, hand):
        assert np.linalg.norm(offset.shift_m) == pytest.approx(0.1)
        assert np.linalg.norm(offset.turn_rad) == pytest.approx(np.pi / 6)
    assert not np.allclose(top.shift_m, hand.shift_m)
    weaker = perturber("camera-shift", 0.05).look(("top",)).cameras["top"]
    np.testing.assert_allclose(np.multiply(weaker.shift_m, 2), top.shift_m)
    assert weaker.turn_rad == (0.0, 0.0, 0.0)


def test_lights_are_dimmed_and_turned_about_a_horizontal_axis():
    look = Perturber([Perturbation("light-dim", 0.25), Perturbation("light-turn", 90.0)], 7).look(("top",))
    assert look.brightness == 0.75
    assert look.light_turn_rad[2] == 0
    assert np.linalg.norm(look.light_turn_rad) == pytest.approx(np.pi / 2)
    assert not look.cameras


def test_several_perturbations_disturb_as_each_does_alone():
    kinds = [
        Perturbation("camera-noise", 0.1),
        Perturbation("state-noise", 0.1),
        Perturbation("action-noise", 0.1),
    ]
    together = Perturber(kinds, 7)
    seen = together.query(QUERY, 3)
    np.testing.assert_array_equal(
        seen.images["base"], perturber("camera-noise", 0.1).query(QUERY, 3).images["base"]
    )
    np.testing.assert_array_equal(seen.state, perturber("state-noise", 0.1).query(QUERY, 3).state)
    wanted = [np.array([0.5, -0.5], np.float32)]
    np.testing.assert_array_equal(
        together.action(TASK, wanted, None), perturber("action-noise", 0.1).action(TASK, wanted, None)
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("camera-noise", "58cd38e52c86090a"),
        ("camera-dark", "1edb9cc1deacaf3e"),
        ("state-noise", "a84e4c6591b6c524"),
        ("action-noise", "885f49861e874b5f"),
        ("sticky-actions", "8269c2683c8102a4"),
    ],
)
def test_episodes_are_disturbed_as_by_the_first_version_of_a_kind(kind, expected):
    one, sha256, last = perturber(kind, 0.25), hashlib.sha256(), None
    wanted = [np.array([0.1 * step, -0.5], np.float32) for step in range(8)]
    for step in range(8):
        seen = one.query(QUERY, step)
        for image in seen.images.values():
            sha256.update(image.tobytes())
        sha256.update(seen.state.tobytes() + seen.privileged.tobytes())
        last = one.action(TASK, wanted[: step + 1], last)
        sha256.update(last.tobytes())
    assert sha256.hexdigest()[:16] == expected


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_strength_zero_changes_no_bit(kind):
    none = perturber(kind, 0.0)
    seen = none.query(QUERY, 3)
    for name, image in IMAGES.items():
        np.testing.assert_array_equal(seen.images[name], image)
    np.testing.assert_array_equal(seen.state, QUERY.state)
    np.testing.assert_array_equal(seen.privileged, QUERY.privileged)
    assert none.look(("top", "hand")).plain
    assert none.instruction("push") == "push"
    wanted = [np.array([0.1 * i, -0.5], np.float32) for i in range(5)]
    np.testing.assert_array_equal(executed(none, wanted), wanted)


@settings(max_examples=40)
@given(st.sampled_from(sorted(KINDS)), st.integers(1, 4), st.integers(0, 2**64 - 1), st.integers(0, 9))
def test_the_same_moment_of_the_same_episode_is_disturbed_alike(kind, quarters, key, index):
    strength = quarters / 4 if KINDS[kind].most == 1 else float(quarters)
    one, other = perturber(kind, strength, key), perturber(kind, strength, key)
    small = dataclasses.replace(QUERY, images={"base": IMAGES["base"][:4, :4]})
    first, second = one.query(small, index), other.query(small, index)
    np.testing.assert_array_equal(first.images["base"], second.images["base"])
    np.testing.assert_array_equal(first.state, second.state)
    action = np.array([0.5, -0.5], np.float32)
    wanted = [action] * (index + 1)
    np.testing.assert_array_equal(one.action(TASK, wanted, action), other.action(TASK, wanted, action))
    assert one.look(("top",)) == other.look(("top",))
    assert one.instruction("push") == other.instruction("push")


@pytest.mark.parametrize("kind", WITHOUT_LOOKS)
def test_policies_with_other_chunk_lengths_meet_the_same_disturbance_at_the_same_step(kind):
    perturbation = Perturbation(kind, 2.0 if KINDS[kind].whole else 0.2)
    often, seldom = (
        observations_by_step(replan_steps, perturbation, kind.startswith("state")) for replan_steps in (1, 3)
    )
    assert set(seldom) == {0, 3, 6}
    for step, seen in seldom.items():
        np.testing.assert_array_equal(seen, often[step])


def observations_by_step(replan_steps, perturbation, privileged):
    """What a policy that never moves is shown before each of its queries, by control step."""
    rules = Protocol("points", replan_steps=replan_steps, max_steps=8, perturbations=(perturbation,))
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


def test_nothing_is_changed_without_a_perturbation():
    plain = Perturber([], 7)
    action = np.array([0.5, -0.5], np.float32)
    assert plain.query(QUERY, 0) is QUERY
    assert plain.action(TASK, [action], None) is action
    assert plain.look(("top",)).plain


@pytest.mark.parametrize("kind", WITHOUT_LOOKS)
def test_episodes_are_disturbed_and_the_same_every_time(kind):
    perturbation = Perturbation(kind, 2.0 if KINDS[kind].whole else 1.0)
    plain, asked = played()
    disturbed, seen = played(perturbation)
    again, seen_again = played(perturbation)
    assert disturbed.actions_sha256 == again.actions_sha256
    images, images_again, others = (
        [query.images["base_0_rgb"] for query in queries] for queries in (seen, seen_again, asked)
    )
    np.testing.assert_array_equal(images, images_again)
    texts = [{query.instruction for query in queries} for queries in (seen, asked)]
    differ = disturbed.actions_sha256 != plain.actions_sha256
    differ |= (
        any(not np.array_equal(a, b) for a, b in zip(images, others, strict=False)) or texts[0] != texts[1]
    )
    assert differ, "the key of this episode draws a disturbance of every kind"


def test_a_scene_is_looked_at_as_the_protocol_says_and_as_it_was_in_the_next_episode():
    class Looking(PointEnv):
        looks: ClassVar[list[Look]] = []

        def look(self, look):
            self.looks.append(look)

    env = Looking(TASK, RenderSettings("fast", 16, 16))
    for perturbations in ([Perturbation("light-dim", 0.5)], []):
        rules = Protocol("points", max_steps=1, perturbations=tuple(perturbations))
        (spec,) = make_plan(["point-expert"], [TASK], rules, 1, 0).episodes
        run_episode(env, spec, PointPolicy(), Adapter("points", "point"), rules)
    assert env.looks == [Look(brightness=0.5), Look()]


def test_what_a_suite_or_a_file_cannot_do_is_refused_before_the_run():
    class Still(PointSuite):
        changes_look = True

    dim = Protocol("points", perturbations=(Perturbation("light-dim", 0.5),))
    require_perturbable(dim, Still(), [TASK])
    with pytest.raises(PerturbationError, match="can move neither cameras nor lights, which light-dim does"):
        require_perturbable(dim, PointSuite(), [TASK])
    late = Protocol("points", perturbations=(Perturbation("actuation-delay", 1.0),))
    with pytest.raises(ExecutionError, match="how the robot holds still"):
        require_perturbable(late, PointSuite(), [dataclasses.replace(TASK, action_kinds=None)])
    said = Protocol(
        "points",
        perturbations=(Perturbation("paraphrase", 1.0),),
        paraphrases=Paraphrases("mine", (("push", ("shove",)),)),
    )
    with pytest.raises(PerturbationError, match="'mine' has no wording for 'move to the goal'"):
        require_perturbable(said, PointSuite(), [TASK])
