import dataclasses
import hashlib

import numpy as np
import pytest

from simloop.envs.interface import EnvError, Instruction, RenderSettings
from simloop.harness.adapters.base import Adapter
from simloop.harness.planning.execution import Execution, ExecutionError
from simloop.harness.planning.perturbation import Perturbation
from simloop.harness.planning.plan import make_plan
from simloop.harness.planning.protocol import Protocol
from simloop.harness.planning.seeding import query_key
from simloop.harness.rollout.latency import Reply
from simloop.harness.rollout.loop import play, run_episode
from simloop.harness.rollout.observers import Observer
from simloop.policies.interface import Chunk, PolicyError
from tests.helpers.point_policies import PointPolicy
from tests.helpers.point_suite import PointEnv, point_task

ADAPTER = Adapter("points", "point", cameras={"base_0_rgb": "top"})


def protocol(**rules) -> Protocol:
    return Protocol("points", **{"render": RenderSettings("fast", 16, 16), **rules})


def one_spec(policy: str = "point-expert", seed: int = 0):
    return make_plan([policy], [point_task()], protocol(), 1, seed).episodes[0]


def point_env(max_steps: int = 40) -> PointEnv:
    return PointEnv(point_task(max_steps=max_steps), RenderSettings("fast", 16, 16))


def test_an_episode_ends_at_the_first_success():
    played = run_episode(point_env(), one_spec(), PointPolicy(), ADAPTER, protocol())
    assert played.ended_by == "success"
    assert 0 < played.steps < 40


def test_an_episode_without_success_ends_at_the_step_limit():
    policy = PointPolicy(noise=5.0)
    played = run_episode(point_env(), one_spec(), policy, ADAPTER, protocol(max_steps=7))
    assert (played.ended_by, played.steps) == ("step_limit", 7)


@pytest.mark.parametrize(("replan", "queries"), [(1, 12), (3, 4), (5, 3), (100, 3)])
def test_queries_again_after_the_replan_interval_or_the_whole_chunk(replan, queries):
    policy = PointPolicy(chunk_steps=5, noise=5.0)
    played = run_episode(
        point_env(), one_spec(), policy, ADAPTER, protocol(replan_steps=replan, max_steps=12)
    )
    assert played.steps == 12
    assert len(played.queries) == queries
    assert [query.index for query in played.queries] == list(range(queries))


class InstructedEnv(PointEnv):
    def instruction(self) -> str:
        return f"move to {self._goal[0]:.1f}"


@pytest.mark.parametrize("seed", [0, 1])
def test_the_policy_receives_the_instruction_of_the_episode_where_each_has_its_own(seed):
    env, policy = InstructedEnv(point_task(), RenderSettings("fast", 16, 16)), PointPolicy()
    played = run_episode(env, one_spec(seed=seed), policy, ADAPTER, protocol())
    assert {query.instruction for query in policy.asked} == {env.instruction()}
    assert played.prompt_source == "episode"
    assert env.instruction() != "move to the goal"


def test_renders_nothing_between_queries():
    policy = PointPolicy(cameras=("base_0_rgb",), noise=5.0)
    env = point_env()
    played = run_episode(env, one_spec(), policy, ADAPTER, protocol(replan_steps=4, max_steps=12))
    assert env.renders == played.renders == len(played.queries) == 3


def test_renders_nothing_for_a_policy_without_cameras():
    env = point_env()
    run_episode(env, one_spec(), PointPolicy(), ADAPTER, protocol())
    assert env.renders == 0


def test_queries_carry_episode_step_and_key():
    policy, spec = PointPolicy(noise=5.0), one_spec()
    run_episode(point_env(), spec, policy, ADAPTER, protocol(replan_steps=2, max_steps=6))
    assert [query.key for query in policy.asked] == [query_key(spec.key, i) for i in range(3)]
    assert {query.instruction for query in policy.asked} == {"move to the goal"}
    assert [query.step for query in policy.asked] == [0, 2, 4]
    assert {query.episode for query in policy.asked} == {f"point-expert/points/{spec.protocol}/point/0"}


def test_replaying_an_episode_gives_the_same_hashes():
    records = [
        run_episode(point_env(), one_spec(), PointPolicy(noise=0.3), ADAPTER, protocol()) for _ in range(2)
    ]
    assert records[0].actions_sha256 == records[1].actions_sha256
    assert records[0].final_state_sha256 == records[1].final_state_sha256


def test_hashes_the_executed_actions():
    policy = PointPolicy(chunk_steps=3, noise=5.0)
    spec = one_spec()
    played = run_episode(point_env(), spec, policy, ADAPTER, protocol(replan_steps=2, max_steps=2))
    chunk = PointPolicy(chunk_steps=3, noise=5.0).infer([policy.asked[0]], 1).chunks[0]
    executed = np.clip(chunk.actions[:2], -1, 1).astype("<f4")
    assert played.actions_sha256 == hashlib.sha256(executed.tobytes()).hexdigest()


def test_undecodable_tokens_end_the_episode_as_a_failure():
    policy = PointPolicy(noise=5.0, undecodable_from=1)
    played = run_episode(point_env(), one_spec(), policy, ADAPTER, protocol(replan_steps=3))
    assert (played.ended_by, played.undecodable, played.steps) == ("undecodable", 1, 3)
    assert played.record(one_spec(), policy.spec, attempts=1, video="").outcome == "failure"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_invalid_action_ends_the_episode_as_a_failure_once_it_would_be_executed(value):
    class Diverging(PointPolicy):
        def _chunk(self, query):
            actions = super()._chunk(query).actions.copy()
            actions[3, 1] = value
            return Chunk(actions)

    policy = Diverging(chunk_steps=5, noise=5.0)
    played = run_episode(point_env(), one_spec(), policy, ADAPTER, protocol(replan_steps=5))
    assert (played.ended_by, played.steps) == ("invalid_action", 3)
    assert played.record(one_spec(), policy.spec, attempts=1, video="", max_steps=40).outcome == "failure"
    unharmed = run_episode(point_env(), one_spec(), policy, ADAPTER, protocol(replan_steps=3, max_steps=7))
    assert (unharmed.ended_by, unharmed.steps) == ("step_limit", 7)


def test_undecodable_tokens_hold_the_robot_if_the_protocol_says_so():
    policy = PointPolicy(undecodable_from=0)
    env = point_env()
    played = run_episode(
        env, one_spec(), policy, ADAPTER, protocol(undecodable="hold", replan_steps=3, max_steps=9)
    )
    assert (played.ended_by, played.undecodable, played.steps) == ("step_limit", 3, 9)
    fresh = point_env()
    fresh.reset(one_spec().seed)
    np.testing.assert_array_equal(env.state(), fresh.state())


def test_stages_of_a_query_add_up_to_its_total_even_if_an_observer_rendered_first():
    ticks = iter(np.arange(0.0, 1000.0, 1.0))  # A clock that advances a second at every reading.
    policy = PointPolicy(cameras=("base_0_rgb",), noise=5.0)
    rules = protocol(max_steps=1)
    observer = EventLog()  # Renders the camera before the policy needs it.
    episode = play(
        point_env(), one_spec(), policy.spec, ADAPTER, rules, [observer], clock=lambda: float(next(ticks))
    )
    chunk = policy.infer([next(episode)], 1).chunks[0]
    with pytest.raises(StopIteration) as stop:
        episode.send(
            Reply(
                chunk,
                queue_s=0.25,
                host_s=0.125,
                device_s=0.0625,
                post_s=0.0625,
                arrived_at=float(next(ticks)),
            )
        )
    row = stop.value.value.queries[0]
    parts = (
        row.render_ms
        + row.adapt_ms
        + row.transport_ms
        + row.queue_ms
        + row.host_ms
        + row.device_ms
        + row.post_ms
        + row.turn_ms
    )
    assert parts == pytest.approx(row.total_ms)
    assert row.render_ms == 1000.0
    assert row.adapt_ms == 2000.0
    assert row.device_ms == 62.5
    assert row.transport_ms == 500.0
    assert row.turn_ms == 1000.0


def test_raises_errors_of_the_environment():
    env = PointEnv(point_task("raises-in-step"), RenderSettings("fast", 16, 16))
    with pytest.raises(RuntimeError, match="diverged"):
        run_episode(env, one_spec(), PointPolicy(), ADAPTER, protocol())


def with_actions(actions) -> PointPolicy:
    """A policy that answers with these actions, whose chunks are to be of five."""

    class Malformed(PointPolicy):
        def infer(self, queries, batch_size):
            answer = super().infer(queries, batch_size)
            object.__setattr__(answer.chunks[0], "actions", actions)
            return answer

    return Malformed(chunk_steps=5)


@pytest.mark.parametrize(
    ("actions", "found"),
    [
        (np.zeros((5, 1), np.float32), "float32 of shape (5, 1)"),
        (np.zeros((5, 3), np.float32), "float32 of shape (5, 3)"),
        (np.zeros(10, np.float32), "float32 of shape (10,)"),
        (np.zeros((4, 2), np.float32), "float32 of shape (4, 2)"),
        (np.zeros((0, 2), np.float32), "float32 of shape (0, 2)"),
        (np.zeros((5, 2), np.complex64), "complex64 of shape (5, 2)"),
        (np.zeros((5, 2), np.int64), "int64 of shape (5, 2)"),
        ([[0.0, 0.0]] * 5, "a list"),
        (None, "None"),
    ],
    ids=str,
)
def test_charges_malformed_actions_to_the_policy(actions, found):
    with pytest.raises(PolicyError) as error:
        run_episode(point_env(), one_spec(), with_actions(actions), ADAPTER, protocol())
    assert "Policy 'point-expert'" in str(error.value)
    assert f"actions that are {found}; wanted float32 of shape (5, 2)" in str(error.value)


def test_takes_actions_in_double_precision():
    played = run_episode(
        point_env(), one_spec(), with_actions(np.zeros((5, 2))), ADAPTER, protocol(max_steps=3)
    )
    assert played.steps == 3


class MalformedEnv(PointEnv):
    """An environment whose states, images or step results are those of the test."""

    def __init__(self, **given):
        super().__init__(point_task(), RenderSettings("fast", 16, 16))
        self._given = given

    def state(self):
        return self._given.get("state", super().state())

    def privileged(self):
        return self._given.get("privileged", super().privileged())

    def render(self, camera):
        return self._given.get("image", super().render(camera))

    def step(self, action):
        result = super().step(action)
        for name in self._given.keys() & {"success", "reward"}:
            object.__setattr__(result, name, self._given[name])
        return result


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (
            {"state": np.array([0.0, np.nan], np.float32)},
            "float32 of shape (2,) with NaN or infinite entries as state",
        ),
        ({"state": np.zeros(3, np.float32)}, "float32 of shape (3,) as state; wanted 2"),
        ({"privileged": np.full(4, np.inf)}, "NaN or infinite entries as privileged state"),
        ({"image": np.zeros((16, 16, 3))}, "float64 of shape (16, 16, 3) as image of camera 'top'"),
        ({"image": np.full((16, 16, 3), np.nan)}, "with NaN or infinite entries as image"),
        ({"image": np.zeros((16, 16, 4), np.uint8)}, "wanted uint8 of shape (16, 16, 3)"),
        ({"image": np.zeros((8, 16, 3), np.uint8)}, "uint8 of shape (8, 16, 3)"),
        ({"image": None}, "None as image"),
        ({"success": float("nan")}, "success=nan"),
        ({"success": None}, "success=None"),
        ({"reward": float("inf")}, "reward=inf"),
    ],
    ids=str,
)
def test_charges_malformed_observations_to_the_simulation(given, found):
    policy = PointPolicy(cameras=("base_0_rgb",))
    with pytest.raises(EnvError) as error:
        run_episode(MalformedEnv(**given), one_spec(), policy, ADAPTER, protocol())
    assert str(error.value).startswith("points/point gave ")
    assert found in str(error.value)
    assert "The simulation is at fault" in str(error.value)


class EventLog(Observer):
    def __init__(self):
        self.events = []
        self.steps = []

    def on_reset(self, frames, env):
        self.events.append("reset")
        frames["top"]

    def on_query(self, query, reply):
        self.events.append("query")

    def on_step(self, record):
        self.events.append("step")
        self.steps.append(record)
        record.frames["top"]

    def on_end(self, result):
        self.events.append(f"end: {result.ended_by}")

    def close(self):
        self.events.append("close")


def test_observers_follow_the_episode_and_share_rendered_frames():
    policy = PointPolicy(cameras=("base_0_rgb",), noise=5.0)
    env, log = point_env(), EventLog()
    played = run_episode(env, one_spec(), policy, ADAPTER, protocol(max_steps=4, replan_steps=3), [log])
    assert log.events == ["reset", "query", *["step"] * 3, "query", "step", "end: step_limit", "close"]
    assert env.renders == played.renders == 5
    assert [(s.step, s.chunk_index, s.index_in_chunk, s.ended) for s in log.steps] == [
        (0, 0, 0, False),
        (1, 0, 1, False),
        (2, 0, 2, False),
        (3, 1, 0, True),
    ]
    executed = np.stack([step.executed for step in log.steps]).astype("<f4")
    assert hashlib.sha256(executed.tobytes()).hexdigest() == played.actions_sha256
    assert sum(step.reward for step in log.steps) == pytest.approx(played.reward)


def test_step_records_tell_perturbed_actions_from_requested_ones():
    log = EventLog()
    rules = protocol(max_steps=3, perturbations=(Perturbation("action-noise", 0.5),))
    run_episode(point_env(), one_spec(), PointPolicy(), ADAPTER, rules, [log])
    assert any((step.action != step.executed).any() for step in log.steps)


@pytest.mark.parametrize(
    ("source", "instruction", "recorded"),
    [
        ("suite", "go to the goal", "bddl"),
        ("bddl", "go to the goal", "bddl"),
        ("filename", "move", "filename"),
    ],
)
def test_the_instruction_comes_from_the_source_that_the_protocol_names_and_the_record_says_so(
    source, instruction, recorded
):
    instructions = (Instruction("bddl", "go to the goal"), Instruction("filename", "move"))
    task = dataclasses.replace(point_task(), instruction="go to the goal", instructions=instructions)
    env, rules = PointEnv(task, RenderSettings("fast", 16, 16)), protocol(max_steps=1, prompt_source=source)
    episode = play(env, one_spec(), PointPolicy().spec, ADAPTER, rules)
    assert next(episode).instruction == instruction
    episode.close()
    played = run_episode(env, one_spec(), PointPolicy(), ADAPTER, rules)
    assert played.record(one_spec(), PointPolicy().spec, attempts=1, video="").prompt_source == recorded


def test_observers_are_closed_when_the_environment_raises():
    log = EventLog()
    env = PointEnv(point_task("raises-in-step"), RenderSettings("fast", 16, 16))
    with pytest.raises(RuntimeError, match="diverged"):
        run_episode(env, one_spec(), PointPolicy(), ADAPTER, protocol(), [log])
    assert log.events[-1] == "close"
    assert not any(event.startswith("end") for event in log.events)


def test_observers_are_closed_when_no_reply_comes():
    log = EventLog()
    episode = play(point_env(), one_spec(), PointPolicy().spec, ADAPTER, protocol(), [log])
    next(episode)
    episode.close()
    assert log.events == ["reset", "close"]


class CountingPolicy(PointPolicy):
    """Answers query q at step k with the actions (k / 100, row / 10)."""

    def _chunk(self, query):
        self.asked.append(query)
        rows = np.arange(self.spec.chunk_steps, dtype=np.float32) / 10
        return Chunk(np.stack([np.full_like(rows, query.step / 100), rows], axis=1))


def played_steps(mode: str, delay: str, **rules):
    steps, policy = [], CountingPolicy(chunk_steps=8)
    policy.spec = dataclasses.replace(policy.spec, guidance=("full", "trained"))
    observer = Observer()
    observer.on_step = lambda record: steps.append(record)
    under = protocol(replan_steps=4, max_steps=12, execution=Execution.parse(mode, delay), **rules)
    result = run_episode(point_env(), one_spec(), policy, ADAPTER, under, observers=[observer])
    return result, steps, policy


def test_a_delayed_chunk_is_executed_from_the_row_of_its_arrival_and_is_as_old_as_its_observation():
    result, steps, policy = played_steps("naive", "2")
    assert [query.step for query in policy.asked] == [0, 4, 8]
    asked_at = [round(100 * float(step.action[0])) for step in steps]
    rows = [round(10 * float(step.action[1])) for step in steps]
    assert asked_at == [0, 0, 0, 0, 0, 0, 4, 4, 4, 4, 8, 8]
    assert rows == [0, 1, 2, 3, 4, 5, 2, 3, 4, 5, 2, 3]
    assert result.age_steps == np.mean(rows)
    assert result.held == 0


def test_a_robot_that_waits_for_the_answer_holds_still_with_its_last_gripper_command():
    result, steps, policy = played_steps("synchronous", "2")
    assert [query.step for query in policy.asked] == [0, 4, 10]
    assert [step.chunk_index for step in steps] == [0, 0, 0, 0, -1, -1, 1, 1, 1, 1, -1, -1]
    assert steps[4].action.tolist() == [0.0, pytest.approx(0.3)]
    assert result.held == 4


def test_queries_under_real_time_chunking_carry_what_is_left_of_the_chunk_and_the_expected_delay():
    _, _, policy = played_steps("rtc", "2")
    first, second, _ = (query.guidance for query in policy.asked)
    assert first.actions.shape == (0, 2)
    np.testing.assert_allclose(second.actions[:, 1], [0.4, 0.5, 0.6, 0.7], rtol=1e-6)
    assert (second.delay, second.method) == (2, "full")


def test_no_delay_gives_the_episode_of_a_world_that_stands_still_bit_for_bit():
    plain, _, _ = played_steps("synchronous", "0")
    guided, _, _ = played_steps("rtc", "0")
    newest, _, _ = played_steps("ensemble:newest", "0")
    assert plain.actions_sha256 == guided.actions_sha256 == newest.actions_sha256


def test_an_impossible_execution_is_refused_before_the_episode():
    with pytest.raises(ExecutionError, match="Choose"):
        played_steps("naive", "5")
    with pytest.raises(ExecutionError, match="cannot be guided"):
        run_episode(
            point_env(), one_spec(), PointPolicy(), ADAPTER, protocol(execution=Execution.parse("rtc", "0"))
        )
