"""A look belongs to one environment, and images and views agree about it."""

import contextlib

import numpy as np
import pytest

from simloop.envs.interface import CameraError, LookError, RenderSettings
from simloop.envs.look import CameraOffset, Look
from simloop.envs.registry import suite
from tests.helpers.point_suite import PointEnv, point_task

SMALL = RenderSettings("fast", 48, 64)
BENCHES = [
    ("metaworld", "reach-v3"),
    pytest.param(("aloha_sim", "transfer_cube"), marks=pytest.mark.slow),
    pytest.param(("libero", ""), marks=pytest.mark.slow),
]


@pytest.fixture(params=BENCHES, ids=lambda bench: bench[0])
def neighbours(request):
    """Two environments of one task in one thread, which share the compiled model."""
    name, task = request.param
    made = suite(name)
    if not made.is_installed():
        pytest.skip(f"scripts/setup {made.extra} installs {name}.")
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(contextlib.closing(made.make(task or made.tasks()[0].name, SMALL)))
            for _ in "ab"
        ]


def test_a_neighbour_on_the_same_model_keeps_its_pictures_its_physics_and_its_views(neighbours):
    changed, other = neighbours
    for env in neighbours:
        env.reset(0)
    assert changed._model_use.model is other._model_use.model
    camera = other.spec.cameras[0]
    plain, view, state = other.render(camera), other.view(camera), other.snapshot()
    turned = {camera: CameraOffset((0.1, 0.0, 0.0), (0.0, 0.2, 0.0))}
    for look in (Look(turned), Look(light_turn_rad=(0.8, 0.4, 0.0)), Look(brightness=0.3)):
        changed.look(look)
        assert not np.array_equal(changed.render(camera), plain), look
        np.testing.assert_array_equal(other.render(camera), plain)
    changed.look(Look(turned))
    assert not np.array_equal(changed.view(camera).extrinsics, view.extrinsics)
    np.testing.assert_array_equal(other.view(camera).extrinsics, view.extrinsics)
    action = np.clip(np.zeros(changed.spec.action_size), changed.spec.action_low, changed.spec.action_high)
    for env in neighbours:
        env.step(action)
    np.testing.assert_array_equal(changed.snapshot(), other.snapshot())
    changed.look(Look())
    np.testing.assert_array_equal(changed.render(camera), other.render(camera))
    assert not np.array_equal(other.snapshot(), state)


def test_a_suite_that_cannot_change_its_look_says_so():
    env = PointEnv(point_task(), SMALL)
    env.look(Look())
    with pytest.raises(LookError, match="points/point can move neither cameras nor lights"):
        env.look(Look(brightness=0.5))


def test_a_camera_that_the_task_does_not_have_is_named():
    env = suite("metaworld").make("reach-v3", SMALL)
    with contextlib.closing(env), pytest.raises(CameraError, match="periscope"):
        env.look(Look({"periscope": CameraOffset((0.1, 0.0, 0.0))}))
