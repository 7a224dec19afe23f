"""Environments of a thread share a compiled model and its renderers, and keep what episodes change to themselves."""

import threading
from collections.abc import Iterator
from itertools import count

import mujoco
import numpy as np
import pytest

from simloop.envs import shared_model
from simloop.envs.interface import RenderSettings
from simloop.envs.shared_model import ModelUse, SharedModel, share_model

BALL = """
<mujoco>
  <worldbody>
    <camera name="front" pos="0 -2 0" xyaxes="1 0 0 0 0 1"/>
    <body name="ball"><geom type="sphere" size="0.2"/></body>
  </worldbody>
</mujoco>
"""
SMALL, LARGE = RenderSettings("fast", 24, 40), RenderSettings("official", 48, 40)
KEYS = count()


@pytest.fixture
def key() -> Iterator[str]:
    yield f"ball {next(KEYS)}"
    for shared in shared_model._MODELS.values():
        shared.close()
    shared_model._MODELS.clear()


def use(key: str) -> ModelUse:
    return share_model(key, ("body_pos",), lambda: mujoco.MjModel.from_xml_string(BALL))


def test_each_environment_finds_its_own_values_in_the_one_model(key: str):
    one, other = use(key), use(key)
    assert one.model is other.model
    one.enter()
    one.changed["body_pos"][1] = 1.0
    other.enter()
    assert np.all(other.model.body_pos[1] == 0.0)
    other.changed["body_pos"][1] = 2.0
    one.enter()
    assert np.all(one.model.body_pos[1] == 1.0)
    one.reset()
    assert np.all(one.model.body_pos[1] == 0.0)
    other.enter()
    assert np.all(other.model.body_pos[1] == 2.0)
    assert np.all(use(key).changed["body_pos"][1] == 2.0)  # A new use does not enter by itself.


def test_renderers_are_shared_by_settings_and_kept_while_they_are_used(key: str):
    one, other = use(key), use(key)
    small = one.renderer(SMALL)
    assert other.renderer(SMALL) is small
    assert one.renderer(LARGE) is not small
    one.close()
    other.renderer(LARGE)
    data = mujoco.MjData(other.model)
    mujoco.mj_forward(other.model, data)
    assert small.render(data, "front").shape == (24, 40, 3)
    other.close()
    use(key).renderer(RenderSettings("fast", 16, 16))
    with pytest.raises(RuntimeError, match="closed"):
        small.render(data, "front")


def test_one_unused_model_is_kept_for_the_next_environment(key: str):
    one = use(key)
    model = one.model
    one.close()
    assert use(key).model is model
    use(f"{key} other")
    assert use(key).model is not model


def test_a_model_that_is_not_shared_frees_its_renderer_with_its_environment():
    alone = ModelUse(SharedModel(mujoco.MjModel.from_xml_string(BALL), ()))
    renderer = alone.renderer(SMALL)
    alone.close()
    with pytest.raises(RuntimeError, match="closed"):
        renderer.render(mujoco.MjData(alone.model), "front")


def test_threads_do_not_share(key: str):
    models = [use(key).model]
    thread = threading.Thread(target=lambda: models.append(use(key).model))
    thread.start()
    thread.join()
    assert models[0] is not models[1]
