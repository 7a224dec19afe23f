"""Demonstrations show what statistics do not: the sign of a gripper, the control rate, where episodes begin."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from simloop.envs.interface import RenderSettings
from simloop.harness.adapters.base import Adapter
from simloop.harness.adapters.openpi_observation import RobotConvention
from simloop.harness.gate.demonstrations import Demonstrations, replay_findings
from simloop.harness.gate.statistics import state_findings
from simloop.policies.training.dataset_index import Episode
from simloop.policies.training.dataset_reader import Dataset
from tests.helpers.point_suite import PointEnv, point_task

STEPS = 20


def converted(change) -> Adapter:
    return Adapter("points", "point", convention=RobotConvention(from_model_actions=change))


def demonstrations(step: float = 0.1) -> Demonstrations:
    """Two episodes of the point suite, whose actions move by `step`."""
    actions = np.random.default_rng(0).uniform(0.2, 0.9, (2, STEPS, 2))
    states = np.concatenate([np.zeros((2, 1, 2)), np.cumsum(step * actions, axis=1)[:, :-1]], axis=1)
    return Demonstrations(
        Dataset(
            folder=Path("demonstrations"),
            fps=20.0,
            robot=None,
            cameras={},
            states=states.reshape(-1, 2).astype(np.float32),
            actions=actions.reshape(-1, 2).astype(np.float32),
            environment_states=np.zeros((2 * STEPS, 0), np.float32),
            task_of_frame=np.zeros(2 * STEPS, np.int64),
            instructions=("move to the goal",),
            episodes=tuple(Episode(i, i * STEPS, (i + 1) * STEPS, {}) for i in range(2)),
            data_files=(),
            seeds={},
        ),
        {},
    )


def replayed(change, step: float = 0.1):
    env = PointEnv(point_task(), RenderSettings())
    return list(replay_findings(demonstrations(step), env, converted(change)))


def test_replayed_actions_move_the_robot_as_in_the_demonstrations():
    assert replayed(lambda actions: actions) == []


@pytest.mark.parametrize(
    ("change", "step", "cause"),
    [
        (
            lambda actions: actions * [1, -1],
            0.1,
            "the other sign: entries of the state move against the demonstra",
        ),
        (lambda actions: actions, 0.2, "another control rate"),
        (lambda actions: actions / 57.3, 0.1, "the robot hardly moves as in the demonstrations"),
    ],
)
def test_a_wrong_sign_rate_or_unit_of_actions_is_seen_in_the_movement(change, step, cause):
    (found,) = replayed(change, step)
    assert found.verdict == "FAIL"
    assert cause in found.text


def test_first_states_are_compared_with_those_of_demonstrations_of_the_task():
    first = demonstrations().first_states("move to the goal")
    assert list(state_findings(first, np.zeros((2, 2)), "initial state")) == []
    (found,) = state_findings(first, np.array([[0.0, 2.0], [0.1, 2.5]]), "initial state")
    assert found.check == "initial state"
    assert "entry 1 is 2.25" in found.text


@pytest.mark.slow
def test_the_doctor_compares_a_policy_with_collected_demonstrations(tmp_path):
    from simloop.envs import registry
    from simloop.harness.adapters.adapter_file import use_adapter_file
    from simloop.harness.demonstrations.collect import Collection, collect
    from simloop.harness.engine.resources import Resources
    from simloop.harness.gate.trial import try_policy
    from simloop.harness.planning.policy_names import parse
    from simloop.harness.planning.protocol import named_protocol
    from simloop.terminal import Terminal

    data = tmp_path / "demonstrations"
    collect(Collection("metaworld", ("drawer-open",), episodes=3), data, Resources(), Terminal())
    tasks, protocol = registry.resolve_tasks("metaworld", ["drawer-open"]), named_protocol("metaworld")

    def faults(source: str = "") -> str:
        file = tmp_path / "wrong.py"
        file.write_text(
            "import dataclasses\nimport numpy as np\n"
            "from simloop.harness.adapters.metaworld import METAWORLD_HAND as RIGHT\n"
            f"from simloop.harness.adapters.openpi_observation import RobotConvention\nADAPTER = {source or 'RIGHT'}\n"
        )
        use_adapter_file(f"{file}:ADAPTER" if source else None)
        try:
            found = list(try_policy(parse("pi0-tiny"), tasks, protocol, data))
        finally:
            use_adapter_file(None)
        return "; ".join(f"{one.check}: {one.text}" for one in found if one.verdict == "FAIL")

    assert faults() == ""
    turned = faults("dataclasses.replace(RIGHT, image=lambda i: i[::-1, ::-1])")
    assert "base_0_rgb is rotated by 180 degrees, compared with the demonstrations" in turned
    cameras = "{'base_0_rgb': 'gripperPOV', 'left_wrist_0_rgb': 'behindGripper'}"
    assert "base_0_rgb shows what left_wrist_0_rgb shows" in faults(
        f"dataclasses.replace(RIGHT, cameras={cameras})"
    )
    convention = "RobotConvention(from_model_actions=lambda a: a * np.array([1, -1, 1, 1]))"
    against = faults(f"dataclasses.replace(RIGHT, convention={convention})")
    assert "replayed actions: the other sign" in against
    assert "hand_y_m" in against


def test_demonstrations_are_training_data():
    training = demonstrations().training
    assert training.fps == 20.0
    assert training.instructions == ("move to the goal",)
    assert dataclasses.asdict(training.stats["actions"])["q99"].max() <= 0.9
