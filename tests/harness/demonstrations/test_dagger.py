import dataclasses
import re
import shutil

import numpy as np
import pytest
from rich.console import Console

from simloop.envs.interface import RenderSettings
from simloop.harness.actors.factories import make_env
from simloop.harness.adapters.base import AdapterError
from simloop.harness.demonstrations.collect import CollectError, Collection, _Parts, collect
from simloop.harness.demonstrations.dagger import RollIn, rolled_in
from simloop.harness.engine.resources import Resources
from simloop.harness.planning.policy_names import UnknownPolicyError
from simloop.policies.presets import PRESETS
from simloop.policies.training.dataset_reader import open_dataset

REACH, CLOSE = "reach-v3", "drawer-close-v3"
RENDER = RenderSettings("fast", 32, 32)


def made(task: str, policy: str, max_steps: int):
    return rolled_in(RollIn(policy, max_steps, replan_steps=10))("metaworld", task, RENDER)


def test_reset_plays_the_policy_for_the_number_of_steps_of_the_seed():
    roll_in = RollIn("random", 40, 10)
    lengths = [roll_in.steps(seed) for seed in range(300)]
    assert set(lengths) == set(range(41)), "from none to all"
    env, plain = made(REACH, "random", 40), make_env("metaworld", REACH, RENDER)
    seeds = [seed for seed in range(20) if roll_in.steps(seed) > 10][:2]
    for seed in seeds:
        plain.reset(seed)
        env.reset(seed)
        moved = np.abs(env.state() - plain.state())[:3].max()
        assert moved > 0.005, "the hand is elsewhere, in metres"
        np.testing.assert_allclose(env.privileged()[4:7], plain.privileged()[4:7], atol=2e-3)
    first = env.snapshot()
    env.reset(seeds[0])
    env.reset(seeds[1])
    np.testing.assert_array_equal(env.snapshot(), first)
    still = next(seed for seed in range(300) if roll_in.steps(seed) == 0)
    env.reset(still)
    plain.reset(still)
    np.testing.assert_array_equal(env.snapshot(), plain.snapshot())
    assert env.spec.max_steps == plain.spec.max_steps - 40


def test_replays_half_of_the_steps_if_the_policy_solves_the_task():
    env, plain = made(CLOSE, "expert", 300), make_env("metaworld", CLOSE, RENDER)
    roll_in = RollIn("expert", 300, 10)
    seed = next(seed for seed in range(100) if roll_in.steps(seed) > 250)
    env.reset(seed)
    plain.reset(seed)
    assert np.abs(env.state() - plain.state())[:3].max() > 0.01
    result = env.step(np.zeros(4, np.float32))
    assert not result.success


def test_queries_a_network_with_its_cameras_once_per_chunk():
    roll_in = RollIn("pi0-tiny@random", 30, replan_steps=10)
    asked = []
    env = rolled_in(roll_in)("metaworld", REACH, RENDER)
    infer = env._policy.infer
    env._policy.infer = lambda queries, batch_size: asked.append(queries[0]) or infer(queries, batch_size)
    seed = next(seed for seed in range(100) if roll_in.steps(seed) == 25)
    env.reset(seed)
    assert [sorted(query.images) for query in asked] == [["base_0_rgb", "left_wrist_0_rgb"]] * 3
    assert len({query.key for query in asked}) == 3
    first = env.snapshot()
    env.reset(seed)
    np.testing.assert_array_equal(env.snapshot(), first)


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_records_the_part_of_the_expert_only(tmp_path):
    chosen = Collection(
        "metaworld", (REACH,), 2, seed=3, image_size=32, render=RENDER, roll_in="random", roll_in_steps=30
    )
    folder = collect(chosen, tmp_path / "data", Resources(env_actors=1), Console())
    again = collect(chosen, tmp_path / "again", Resources(env_actors=2, envs_per_actor=2), Console())
    data, same = open_dataset(folder), open_dataset(again)
    np.testing.assert_array_equal(data.states, same.states)
    np.testing.assert_array_equal(data.actions, same.actions)
    env = rolled_in(chosen.rolled_in_by())("metaworld", REACH, RENDER)
    starts = []
    for seed in data.seeds[f"metaworld/{REACH}"]:
        env.reset(seed)
        starts.append(env.state())
    for episode, start in zip(data.episodes, starts, strict=True):
        np.testing.assert_array_equal(data.states[episode.begin], start)


def test_rejects_other_weights_of_the_same_name_when_resuming(tmp_path):
    chosen = Collection("metaworld", (REACH,), 1, roll_in="pi0-tiny")
    ours = chosen.rolled_in_by().weights_sha256()
    assert re.fullmatch("[0-9a-f]{64}", ours)
    assert dataclasses.replace(chosen, roll_in="random").rolled_in_by().weights_sha256() == ""
    checkpoint = shutil.copytree(PRESETS["pi0-tiny"].bundled, tmp_path / "checkpoint")
    chosen = dataclasses.replace(chosen, roll_in=f"pi0-tiny@{checkpoint}")
    assert chosen.described()["roll_in_sha256"] == ours
    _Parts(tmp_path / "parts", chosen)
    _Parts(tmp_path / "parts", chosen)
    with (checkpoint / "simloop_checkpoint.json").open("a") as manifest:
        manifest.write(" ")
    with pytest.raises(CollectError, match="another collection: roll_in_sha256"):
        _Parts(tmp_path / "parts", chosen)


def test_rejects_policies_that_cannot_play_the_tasks(tmp_path):
    chosen = Collection("metaworld", (REACH,), 1, roll_in="random")
    with pytest.raises(UnknownPolicyError, match="no policy 'rendom'"):
        dataclasses.replace(chosen, roll_in="rendom").rolled_in_by()
    with pytest.raises(UnknownPolicyError, match="needs trained weights"):
        dataclasses.replace(chosen, roll_in="pi0_aloha_sim").rolled_in_by()
    with pytest.raises(AdapterError):
        dataclasses.replace(chosen, roll_in="pi0_aloha_sim@random").rolled_in_by()
    with pytest.raises(CollectError, match="at least 0; got -1"):
        dataclasses.replace(chosen, roll_in_steps=-1)
    with pytest.raises(
        CollectError, match="ends after 500 steps; --roll-in-steps 500 leaves the expert none"
    ):
        dataclasses.replace(chosen, roll_in_steps=500).rolled_in_by()
    assert Collection("metaworld", (REACH,), 1).rolled_in_by() is None
    with pytest.raises(CollectError, match="Leave --ray-address out"):
        collect(chosen, tmp_path / "data", Resources(ray_address="auto"), Console(quiet=True))
