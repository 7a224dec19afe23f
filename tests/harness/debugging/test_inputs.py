"""The inputs of a policy are described beside those of the suite and of the training data."""

import dataclasses
from types import SimpleNamespace

import numpy as np

from simloop.envs.interface import RenderSettings
from simloop.harness.adapters.metaworld import METAWORLD_HAND
from simloop.harness.debugging.inputs import described_inputs
from simloop.harness.debugging.session import Session
from simloop.harness.planning.protocol import Protocol
from simloop.policies.transforms.normalization import EntryStats
from tests.helpers.point_policies import PointPolicy

SMALL = Protocol("metaworld", render=RenderSettings("fast", 24, 32))
STATS = {"state": EntryStats(np.array([0.0, 0.6, 0.2, 1.0]), np.full(4, 0.1))}


class Looks(PointPolicy):
    def __init__(self):
        super().__init__(cameras=("base_0_rgb",))
        self.spec = dataclasses.replace(self.spec, robot="metaworld_hand", state_size=4, action_size=4)


def inputs(**adapter) -> list[str]:
    with Session(
        "metaworld", "reach", Looks(), protocol=SMALL, adapter=dataclasses.replace(METAWORLD_HAND, **adapter)
    ) as session:
        vars(session.policy)["_loaded"] = SimpleNamespace(stats=STATS)
        return list(described_inputs(session.set_prompt("wave") if adapter else session))


def test_inputs_as_the_policy_was_trained_with_have_no_remarks():
    instruction, image, *state = inputs()
    assert "that of the task" not in instruction
    assert image.endswith("base_0_rgb  24 x 32 pixels, camera behindGripper, upright")
    assert "trained on 0.0000 ± 0.1000" in state[0]
    assert not any("away" in line for line in state)


def test_a_turned_image_a_shifted_state_and_another_prompt_are_said():
    instruction, image, *state = inputs(
        image=lambda image: image[::-1, ::-1], state=lambda env: np.roll(env.state(), 1)
    )
    assert "'wave'; that of the task is " in instruction
    assert image.endswith("camera behindGripper, rotated by 180 degrees")
    assert "trained on 0.0000 ± 0.1000: 10 deviations away" in state[0]


def test_exchanged_cameras_and_changed_pixels_are_said():
    _, image, *_ = inputs(cameras={"base_0_rgb": "gripperPOV"})
    assert "camera gripperPOV, upright" in image
    _, image, *_ = inputs(image=lambda image: image // 2)
    assert "none of the cameras" in image
