"""Suite `gym`: environments that are registered with gymnasium, as tasks.

A `GymMapping` says what of an environment is a camera, the state and success. Whatever gymnasium cannot say has a
default that is stated here, or is asked for in a sentence.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces
from jaxtyping import Float32, Float64, UInt8
from PIL import Image

from simloop.envs.checks import check_action, check_cameras_stay
from simloop.envs.env_state import EnvState, StateError
from simloop.envs.interface import Env, RenderSettings, StepResult, Suite, TaskSpec, check_camera
from simloop.envs.mujoco_env import POSITIONS
from simloop.envs.rendering import GL_BACKEND as GL_BACKEND  # Sets MUJOCO_GL, which gymnasium reads.

NAME = "gym"
RENDER = "render"
"""Camera of `gymnasium.Env.render`."""
SUCCESS = re.compile(
    r"info\.(?P<key>\w+)|(?P<terminated>terminated)|(?P<sum>return|reward)(?P<sign>>=|>)(?P<limit>[-+.\deE]+)"
)


class GymError(ValueError):
    """An environment that cannot be mapped to a task."""

    user_facing = True


@dataclass(frozen=True)
class GymMapping:
    """How environments become tasks. Names of nested dictionaries are joined by `/`, as in `pixels/top`."""

    success: str = ""
    """`info.KEY`, `terminated`, `reward>X` (at any step) or `return>X` (at the end of the episode); `>=` as well. By
    default `info.success` or `info.is_success`, where the environment has one of them."""
    cameras: tuple[str, ...] = ()
    """Entries of the observation that are images, and `render`; by default all of these."""
    state: tuple[str, ...] = ()
    """Entries of the observation that form the state; by default all that are not images, in gymnasium's order."""
    instruction: str = ""
    """By default the name of the environment in words."""
    max_steps: int = 0
    """By default that with which the environment is registered."""
    action_limit: float = 0.0
    """Bound of actions that have none."""
    make: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `gymnasium.make`."""


class GymSuite(Suite):
    """The named environments as the tasks of a suite."""

    name = NAME
    default_group = "all"

    def __init__(self, ids: Sequence[str], mapping: GymMapping = GymMapping()) -> None:
        self._ids = tuple(ids)
        self._mapping = mapping

    @functools.cached_property
    def packages(self) -> tuple[str, ...]:  # type: ignore[override]
        """Distributions of gymnasium and of the environments."""
        modules = {_registered(id).entry_point for id in self._ids}
        tops = {
            str(module).partition(":")[0].partition(".")[0] for module in modules if isinstance(module, str)
        }
        known = metadata.packages_distributions()
        return tuple(
            dict.fromkeys(["gymnasium", *(name for top in sorted(tops) for name in known.get(top, ()))])
        )

    def tasks(self) -> Sequence[TaskSpec]:
        """One task per environment; each is made once to learn its spaces."""
        return self._tasks

    @functools.cached_property
    def _tasks(self) -> tuple[TaskSpec, ...]:
        return tuple(map(self._probe, self._ids))

    def _probe(self, id: str) -> TaskSpec:
        env = GymTask(id, self._mapping, RenderSettings(), self.source)
        try:
            return env.spec
        finally:
            env.close()

    def groups(self) -> dict[str, tuple[str, ...]]:
        """All environments."""
        return {"all": self._ids}

    def make(self, task: str, render: RenderSettings) -> Env:
        """Make the environment of that id."""
        if task not in self._ids:
            raise KeyError(task)
        return GymTask(task, self._mapping, render, self.source)


class GymTask(Env):
    """A gymnasium environment as a task.

    Once it has terminated without success, it ignores actions until the step limit. A saved state holds the seed and
    the actions since, which `restore` plays again.
    """

    def __init__(self, id: str, mapping: GymMapping, render: RenderSettings, source: str) -> None:
        registered = _registered(id)
        made: dict[str, Any] = dict(mapping.make)
        if RENDER in (mapping.cameras or (RENDER,)):
            made.setdefault("render_mode", "rgb_array")
        limit = mapping.max_steps or registered.max_episode_steps
        if not limit:
            raise GymError(f"{id} is registered without a step limit; write max_steps=N.")
        try:
            self._env = gymnasium.make(id, max_episode_steps=-1, disable_env_checker=True, **made)
        except (TypeError, gymnasium.error.Error) as error:
            raise GymError(f"{id} cannot be made with {made}: {error}.") from error
        self._mapping, self._source, self._render = mapping, source, render
        leaves = dict(_leaves(self._env.observation_space))
        images = {name: space for name, space in leaves.items() if _is_image(space)}
        renders = "rgb_array" in self._env.metadata.get("render_modes", ())
        cameras = mapping.cameras or (*images, *([RENDER] if renders else ()))
        state = mapping.state or tuple(name for name in leaves if name not in images)
        if unknown := [n for n in (*cameras, *state) if n not in leaves and not (n == RENDER and renders)]:
            raise GymError(
                f"{id} observes {', '.join(leaves)}{' and renders' if renders else ''}; got {unknown[0]!r}."
            )
        self._state_spaces = {name: leaves[name] for name in state}
        low, high = self._bounds(id)
        self.spec = TaskSpec(
            NAME,
            id,
            mapping.instruction or _in_words(id),
            limit,
            _control_hz(self._env),
            cameras,
            tuple(_state_names(self._state_spaces)) or ("step",),
            tuple(f"action[{i}]" for i in range(len(low))),
            low,
            high,
        )
        check_cameras_stay(self.spec, render)
        self._observation: dict[str, Any] = {}
        self._info: dict[str, Any] = {}
        self._seed: int | None = None
        self._actions: list[np.ndarray] = []
        self._return, self._over = 0.0, False
        self._success = self._success_rule()

    def _bounds(self, id: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
        space, limit = self._env.action_space, self._mapping.action_limit
        if isinstance(space, spaces.Discrete):
            return (-1.0,) * int(space.n), (1.0,) * int(space.n)
        if not isinstance(space, spaces.Box):
            raise GymError(f"{id} takes actions of {space}; wanted a Box or a Discrete space.")
        low, high = space.low.ravel().astype(float), space.high.ravel().astype(float)
        if not np.isfinite([low, high]).all() and not limit:
            raise GymError(f"{id} has actions without bounds; write action_limit=X.")
        if limit:
            low, high = np.maximum(low, -limit), np.minimum(high, limit)
        return tuple(low.tolist()), tuple(high.tolist())

    def _success_rule(self) -> re.Match[str]:
        """The rule of the mapping, or the key of `info` that a first step shows."""
        text, keys = self._mapping.success, ""
        if not text:
            self._env.reset(seed=0)
            info = self._env.step(self._converted(np.asarray(self.spec.action_low)))[-1]
            text = next((f"info.{key}" for key in ("success", "is_success") if key in info), "")
            keys = f"; its info has {', '.join(info) or 'nothing'}"
        if rule := SUCCESS.fullmatch(text):
            return rule
        raise GymError(
            f"{self.spec.name} does not say what success is{keys}. Write success=terminated, success=info.KEY, "
            f"success=reward>X or success=return>X; got {text or 'none of them'}."
        )

    def reset(self, seed: int) -> None:
        """Start an episode by `gymnasium.Env.reset(seed=seed)`."""
        observation, self._info = self._env.reset(seed=seed)
        self._observation = dict(_values(self._env.observation_space, observation))
        self._seed, self._actions = seed, []
        self._return, self._over = 0.0, False

    def step(self, action: Float32[np.ndarray, "a"] | Float64[np.ndarray, "a"]) -> StepResult:
        """Advance one step; see the class for what happens after a termination."""
        check_action(self.spec, action)
        if self._seed is None:
            raise RuntimeError(f"{self.spec.name}: call reset first.")
        if len(self._actions) >= self.spec.max_steps:
            raise RuntimeError(f"{self.spec.name}: the episode has ended after {self.spec.max_steps} steps.")
        self._actions.append(np.array(action))
        last = len(self._actions) == self.spec.max_steps
        if self._over:
            return StepResult(0.0, False)
        observation, reward, terminated, truncated, self._info = self._env.step(self._converted(action))
        self._observation = dict(_values(self._env.observation_space, observation))
        self._return += float(reward)
        self._over = bool(terminated or truncated)
        return StepResult(float(reward), self._succeeds(float(reward), bool(terminated), self._over or last))

    def _converted(self, action: np.ndarray) -> Any:
        space = self._env.action_space
        if isinstance(space, spaces.Discrete):
            return int(space.start) + int(np.argmax(action))
        assert isinstance(space, spaces.Box)
        low, high = space.low, space.high
        return np.clip(np.asarray(action, space.dtype).reshape(space.shape), low, high)

    def _succeeds(self, reward: float, terminated: bool, ends: bool) -> bool:
        rule = self._success
        if rule["key"]:
            return bool(np.all(self._info.get(rule["key"], False)))
        if rule["terminated"]:
            return terminated
        value = self._return if rule["sum"] == "return" else reward
        reached = value > float(rule["limit"]) or (rule["sign"] == ">=" and value == float(rule["limit"]))
        return reached and (ends or rule["sum"] == "reward")

    def state(self) -> Float32[np.ndarray, "s"]:
        """The chosen entries of the observation, flattened; the number of steps where there are none."""
        if not self._state_spaces:
            return np.array([len(self._actions)], np.float32)
        return self._flat(self._state_spaces).astype(np.float32)

    def _flat(self, of: Mapping[str, spaces.Space]) -> np.ndarray:
        parts = [
            np.ravel(spaces.flatten(space, self._observation[name])).astype(np.float64)
            for name, space in of.items()
        ]
        return np.concatenate([*parts, np.zeros(0)])

    def privileged(self) -> Float64[np.ndarray, "p"]:
        """Nothing."""
        return np.zeros(0)

    def render(self, camera: str) -> UInt8[np.ndarray, "h w 3"]:
        """The rendered scene, or an image of the observation, in the size of the render settings."""
        check_camera(self.spec, camera)
        with _physics_kept(self._env.unwrapped):
            image = self._env.render() if camera == RENDER else self._observation[camera]
        pixels = np.asarray(image)
        if pixels.shape[0] == 3 and pixels.shape[-1] != 3:
            pixels = np.moveaxis(pixels, 0, -1)
        size = (self._render.width, self._render.height)
        return np.array(
            Image.fromarray(pixels[..., :3].astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
        )

    def snapshot(self) -> Float64[np.ndarray, "_"]:
        """The whole observation without images, the state of MuJoCo where there is one, and the return."""
        leaves = {n: s for n, s in _leaves(self._env.observation_space) if not _is_image(s)}
        data: Any = getattr(self._env.unwrapped, "data", None)
        physics = [data.qpos.ravel(), data.qvel.ravel()] if hasattr(data, "qpos") else []
        return np.concatenate([self._flat(leaves), *physics, [self._return, float(self._over)]]).astype(
            np.float64
        )

    def save(self) -> EnvState:
        """The seed of the episode and its actions."""
        actions = np.array(self._actions).reshape(-1, self.spec.action_size)
        values = {"seed": self._seed, "actions": actions}
        return EnvState(NAME, self.spec.name, self._source, len(self._actions), self.snapshot(), values)

    def restore(self, state: EnvState) -> None:
        """Play the saved actions from the saved seed.

        Raises:
          StateError: If that does not lead to the saved state: the environment does not repeat its episodes.
        """
        state.require(NAME, self.spec.name, self._source)
        seed, actions = state.values["seed"], state.values["actions"]
        self.reset(int(seed))  # type: ignore[arg-type]
        for action in np.asarray(actions):
            self.step(action)
        if not np.array_equal(self.snapshot(), state.physics):
            raise StateError(
                f"{self.spec.name} does not repeat its episodes: {state.steps} actions from seed {seed} lead "
                "elsewhere. Find what it draws beside gymnasium's np_random."
            )

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


@contextlib.contextmanager
def _physics_kept(env: Any) -> Iterator[None]:
    """Put MuJoCo's data back as they were: some environments compute them anew when they draw a goal."""
    model, data = getattr(env, "model", None), getattr(env, "data", None)
    if not (isinstance(model, mujoco.MjModel) and isinstance(data, mujoco.MjData)):
        yield
        return
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(model, kind))
    mujoco.mj_getState(model, data, state, kind)
    positions = {name: getattr(data, name).copy() for name in POSITIONS}
    yield
    mujoco.mj_setState(model, data, state, kind)
    for name, values in positions.items():
        getattr(data, name)[:] = values


def _registered(id: str) -> Any:
    """What gymnasium knows about an environment; imports the module of `MODULE:ID`."""
    try:
        return gymnasium.spec(id)
    except (gymnasium.error.Error, ImportError) as error:
        raise GymError(
            f"gymnasium has no environment {id}: {error}. Name what registers it: module=MODULE."
        ) from error


def _leaves(space: spaces.Space, name: str = "") -> Iterator[tuple[str, spaces.Space]]:
    """Entries of nested dictionaries by joined names; another space is one entry, `observation`."""
    if not isinstance(space, spaces.Dict):
        yield name or "observation", space
        return
    for key, inner in space.spaces.items():
        yield from _leaves(inner, f"{name}/{key}" if name else str(key))


def _values(space: spaces.Space, value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(space, spaces.Dict):
        yield name or "observation", value
        return
    for key, inner in space.spaces.items():
        yield from _values(inner, value[key], f"{name}/{key}" if name else str(key))


def _is_image(space: spaces.Space) -> bool:
    return (
        isinstance(space, spaces.Box)
        and space.dtype == np.uint8
        and len(space.shape) == 3
        and (space.shape[-1] in (3, 4) or space.shape[0] == 3)
    )


def _state_names(of: Mapping[str, spaces.Space]) -> Iterator[str]:
    for name, space in of.items():
        size = spaces.flatdim(space)
        yield from (f"{name}[{i}]" for i in range(size)) if size > 1 else (name,)


def _in_words(id: str) -> str:
    """`gym_pusht/PushT-v0` as `push t`."""
    name = re.sub(r"-v\d+$", "", id.rpartition("/")[2])
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_-]+", " ", name).lower()


def _control_hz(env: gymnasium.Env) -> float:
    step_s = getattr(env.unwrapped, "dt", None)
    if isinstance(step_s, float) and step_s > 0:
        return round(1 / step_s, 6)
    return float(env.metadata.get("render_fps") or 30)
