"""Checks that a suite keeps the contract of `simloop.envs.interface`; each failure is a sentence.

`tests/envs/test_conformance.py` runs them on every registered task, `simloop check suite` on any suite.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simloop.envs.env_state import EnvState
from simloop.envs.interface import (
    ActionError,
    CameraError,
    Env,
    LookError,
    RenderSettings,
    StepResult,
    Suite,
    TaskSpec,
)
from simloop.envs.look import CameraOffset, Look

HEIGHT, WIDTH = 48, 64  # Unequal, to detect an exchange of the two.
RENDER = RenderSettings("fast", HEIGHT, WIDTH)
STEPS = 2
DULL = 5.0
"""Standard deviation of the pixels of an image that shows next to nothing."""


class NonconformityError(AssertionError):
    """A promise of the interface that is not kept."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    task: str
    """Empty for checks of the suite as a whole."""
    check: str
    problem: str
    """What is wrong; empty if nothing is."""


def check_suite(suite: Suite, tasks: Sequence[str] = ()) -> Iterator[Finding]:
    """Check the specs of all tasks of a suite, then simulate some of them.

    Args:
      tasks: Tasks to simulate; by default those of the default group.
    """
    for spec in suite.tasks():
        yield _finding(spec.name, check_spec, spec)
    for group, members in suite.groups().items():
        unknown = set(members) - {spec.name for spec in suite.tasks()}
        problem = f"group {group} has {', '.join(sorted(unknown))}, which are no tasks" if unknown else ""
        yield Finding("", "groups consist of tasks", problem)
    for task in tasks or suite.groups()[suite.default_group]:
        with contextlib.closing(suite.make(task, RENDER)) as env:
            for check in CHECKS:
                yield _finding(task, check, env)


def _finding(task: str, check: Callable[..., None], subject: object) -> Finding:
    problem = ""
    try:
        check(subject)
    except NonconformityError as error:
        problem = str(error)
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    return Finding(task, check.__name__.removeprefix("check_").replace("_", " "), problem)


def check_spec(spec: TaskSpec) -> None:
    """Raise `NonconformityError` unless the spec of a task is complete."""
    _require(bool(spec.name), "The task has no name")
    _check_instruction(spec.instruction)
    _require(spec.max_steps > 0, f"max_steps is {spec.max_steps}; wanted at least 1")
    _require(spec.control_hz > 0, f"control_hz is {spec.control_hz}; wanted a positive number")
    for kind, names in (
        ("cameras", spec.cameras), ("state_names", spec.state_names), ("action_names", spec.action_names)
    ):  # fmt: skip
        _require(len(set(names)) == len(names) > 0, f"{kind} are {names}; wanted names that differ")
    sizes = (spec.action_size, len(spec.action_low), len(spec.action_high))
    _require(len(set(sizes)) == 1, f"action_names, action_low and action_high have {sizes} entries")
    low_high = zip(spec.action_low, spec.action_high, strict=True)
    _require(all(low < high for low, high in low_high), "action_low is not below action_high everywhere")


def _check_instruction(text: str) -> None:
    wanted = "wanted a sentence without spaces around it"
    _require(text.strip() == text != "", f"The instruction is {text!r}; {wanted}")


def observations_match_the_spec(env: Env) -> None:
    """State, privileged state and reward have the promised sizes and are finite; an instruction is a sentence."""
    env.reset(0)
    if (own := env.instruction()) is not None:
        _check_instruction(own)
    result = env.step(_actions(env.spec)[0])
    _require(isinstance(result, StepResult), f"step returned {result!r}; wanted a StepResult")
    _require(bool(np.isfinite(result.reward)), f"The reward is {result.reward}")
    state, privileged = env.state(), env.privileged()
    wanted = (env.spec.state_size,)
    _require(
        state.shape == wanted and state.dtype == np.float32,
        f"state is {state.dtype} of shape {state.shape}; wanted float32 of shape {wanted}",
    )
    wanted = (env.spec.privileged_size,)
    _require(privileged.shape == wanted, f"privileged has shape {privileged.shape}; wanted {wanted}")
    for name, seen in (("state", state), ("privileged", privileged), ("snapshot", env.snapshot())):
        _require(bool(np.all(np.isfinite(seen))), f"{name} has NaN or infinite entries")


def every_camera_shows_something(env: Env) -> None:
    """Images have the size of the render settings and are not of one colour."""
    env.reset(0)
    for camera in env.spec.cameras:
        image = env.render(camera)
        _require(
            image.shape == (HEIGHT, WIDTH, 3) and image.dtype == np.uint8,
            f"Camera {camera} gives {image.dtype} of shape {image.shape}; wanted uint8 of shape {(HEIGHT, WIDTH, 3)}",
        )
        _require(bool(image.std() > DULL), f"The image of camera {camera} is of one colour")


def same_seed_repeats_the_episode_after_other_episodes(env: Env) -> None:
    """An episode depends on its seed alone."""
    camera = env.spec.cameras[0]
    first = [*_play(env, seed=1), env.render(camera)]
    _play(env, seed=2)
    _require(
        _equal(first, [*_play(env, seed=1), env.render(camera)]),
        "Seed 1 gave another episode after one of seed 2 than before it",
    )


def different_seeds_give_different_initial_states(env: Env) -> None:
    """Seeds of the whole range are told apart."""
    scenes = []
    for seed in (0, 1, 2**63 - 1):
        env.reset(seed)
        scenes.append(np.concatenate([env.snapshot(), env.privileged()]).tobytes())
    _require(
        len(set(scenes)) == len(scenes), "Two of the seeds 0, 1 and 2**63 - 1 gave the same initial state"
    )


def global_random_state_is_neither_read_nor_changed(env: Env) -> None:
    """Neither `random` nor `numpy.random` decides or notices an episode."""
    seen, own, numpys = [], random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        for seed in (11, 12):
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            before = random.getstate(), np.random.get_state()[1].tobytes()  # type: ignore[index] # noqa: NPY002
            seen.append(_play(env, seed=5))
            after = random.getstate(), np.random.get_state()[1].tobytes()  # type: ignore[index] # noqa: NPY002
            _require(after == before, "The episode drew from the global random state of random or numpy")
    finally:
        random.setstate(own)
        np.random.set_state(numpys)  # noqa: NPY002
    _require(_equal(*seen), "The episode depends on the global random state of random or numpy")


def a_saved_state_continues_the_episode(env: Env) -> None:
    """`restore` continues bit for bit from the bytes of `save`."""
    env.reset(3)
    env.step(_actions(env.spec)[0])
    saved = EnvState.from_bytes(env.save().to_bytes())
    first = [*_continue(env), env.render(env.spec.cameras[0])]
    _play(env, seed=4)
    env.restore(saved)
    _require(
        _equal(first, [*_continue(env), env.render(env.spec.cameras[0])]),
        "The steps after restore differ from those after save",
    )


def the_scene_has_places_and_forces(env: Env) -> None:
    """A scene, where the suite tells one, is finite and does not change the simulation."""
    env.reset(0)
    env.step(_actions(env.spec)[0])
    before, scenes = env.save(), env.scenes([env.snapshot()])
    _require(env.save() == before, "scenes changed the simulation")
    if scenes is None:
        return
    (scene,) = scenes
    _require(scene.time_s > 0, f"time_s is {scene.time_s} after one step")
    for name, pose in scene.poses.items():
        _require(
            bool(np.isfinite([*pose.position_m, *pose.quaternion]).all())
            and abs(float(np.linalg.norm(pose.quaternion)) - 1) < 1e-6,
            f"The pose of {name} is {pose}; wanted finite numbers and a quaternion of length 1",
        )
    _require(all(contact.force_n >= 0 for contact in scene.contacts), "A contact has a negative force")


def an_action_changes_the_state(env: Env) -> None:
    """A step advances the simulation."""
    env.reset(0)
    before = env.snapshot()
    env.step(_actions(env.spec)[0])
    _require(not np.array_equal(env.snapshot(), before), "snapshot is the same before and after a step")


def success_does_not_hold_in_the_initial_state(env: Env) -> None:
    """A robot that stands still has not solved the task after one step."""
    env.reset(0)
    still = np.clip(np.zeros_like(env.spec.action_low), env.spec.action_low, env.spec.action_high)
    _require(
        not env.step(still).success,
        "The task is solved after one step without motion, so that every policy succeeds; let reset choose a state "
        "in which it is not solved yet",
    )


def rendering_does_not_affect_the_physics(env: Env) -> None:
    """Episodes are the same whether or not images are drawn."""
    env.reset(0)
    unseen = [env.snapshot()]
    for action in _actions(env.spec):
        env.step(action)
        unseen.append(env.snapshot())
    env.reset(0)
    seen = [env.snapshot()]
    for action in _actions(env.spec):
        env.render(env.spec.cameras[0])
        env.step(action)
        seen.append(env.snapshot())
    _require(_equal(unseen, seen), "Steps with rendering in between lead to another state")


def a_changed_look_changes_images_alone(env: Env) -> None:
    """Displaced cameras and dimmed lights change images, the physics stays, and both can be taken back."""
    env.reset(0)
    camera, before = env.spec.cameras[0], env.snapshot()
    plain = env.render(camera)
    for look in (Look({camera: CameraOffset((0.05, 0.0, 0.0), (0.0, 0.05, 0.0))}), Look(brightness=0.5)):
        try:
            env.look(look)
        except LookError:
            return
        _require(not np.array_equal(env.render(camera), plain), f"An image does not show {look}")
    _require(np.array_equal(env.snapshot(), before), "A changed look changed the physics")
    env.look(Look())
    _require(np.array_equal(env.render(camera), plain), "A look that was taken back still shows")


def returned_arrays_are_independent_of_later_steps(env: Env) -> None:
    """What was observed stays as it was, and may be written to."""
    env.reset(0)
    camera = env.spec.cameras[0]

    def observed() -> list[np.ndarray]:
        return [env.state(), env.privileged(), env.snapshot(), env.render(camera)]

    first, later = observed(), observed()
    copies, names = [array.copy() for array in first], ("state", "privileged", "snapshot", "render")
    for name, a, b in zip(names, first, later, strict=True):
        _require(not np.shares_memory(a, b), f"Two arrays of {name} share memory; return copies")
        b[...] = 0
    env.step(_actions(env.spec)[0])
    env.render(camera)
    for name, a, b in zip(names, first, copies, strict=True):
        _require(np.array_equal(a, b), f"An array of {name} changed after it was returned")


def rejects_invalid_actions_without_advancing(env: Env) -> None:
    """Actions of another shape, with NaN or outside the bounds raise `ActionError`."""
    env.reset(0)
    before, good = env.snapshot(), _actions(env.spec)[0]
    not_a_number, infinite, too_large, too_small = (good.copy() for _ in range(4))
    not_a_number[-1], infinite[0] = np.nan, np.inf
    too_large[0] = env.spec.action_high[0] + 1
    too_small[-1] = env.spec.action_low[-1] - 1
    for kind, action, said in (
        ("of another shape", good[:-1], "shape"),
        ("with NaN", not_a_number, "NaN"),
        ("with an infinite entry", infinite, "NaN or infinite"),
        ("above its bounds", too_large, f"takes {env.spec.action_names[0]} in"),
        ("below its bounds", too_small, f"takes {env.spec.action_names[-1]} in"),
    ):
        try:
            env.step(action)
            raise NonconformityError(
                f"step accepted an action {kind}; call simloop.envs.checks.check_action first"
            )
        except ActionError as error:
            _require(said in str(error), f"The error of an action {kind} does not say {said!r}: {error}")
    _require(np.array_equal(env.snapshot(), before), "A rejected action advanced the simulation")


def rejects_an_unknown_camera_by_name(env: Env) -> None:
    """Cameras that the task does not have raise `CameraError`."""
    env.reset(0)
    try:
        env.render("periscope")
    except CameraError as error:
        _require("'periscope'" in str(error), f"The error does not name the camera: {error}")
        return
    raise NonconformityError(
        "render accepted a camera that does not exist; call simloop.envs.interface.check_camera"
    )


def may_be_closed_twice(env: Env) -> None:
    """Closing is the last check."""
    env.close()
    env.close()


CHECKS: tuple[Callable[[Env], None], ...] = (
    observations_match_the_spec,
    every_camera_shows_something,
    same_seed_repeats_the_episode_after_other_episodes,
    different_seeds_give_different_initial_states,
    global_random_state_is_neither_read_nor_changed,
    a_saved_state_continues_the_episode,
    the_scene_has_places_and_forces,
    an_action_changes_the_state,
    success_does_not_hold_in_the_initial_state,
    rendering_does_not_affect_the_physics,
    a_changed_look_changes_images_alone,
    returned_arrays_are_independent_of_later_steps,
    rejects_invalid_actions_without_advancing,
    rejects_an_unknown_camera_by_name,
    may_be_closed_twice,
)
"""In this order; the last one ends the environment."""


def _require(kept: bool, problem: str) -> None:
    if not kept:
        raise NonconformityError(f"{problem}.")


def _actions(spec: TaskSpec) -> np.ndarray:
    generator = np.random.Generator(np.random.PCG64(0))
    return generator.uniform(spec.action_low, spec.action_high, (STEPS, spec.action_size)).astype(np.float32)


def _play(env: Env, seed: int) -> Any:
    """Everything but images that a policy or a record can observe of a short episode.

    A list of arrays; where types are checked at run time, a check of its items would draw from `random`.
    """
    env.reset(seed)
    return [env.snapshot(), env.state(), env.privileged(), *_continue(env)]


def _continue(env: Env) -> Any:
    seen = []
    for action in _actions(env.spec):
        result = env.step(action)
        seen += [env.snapshot(), env.state(), env.privileged(), np.array([result.reward, result.success])]
    return seen


def _equal(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))
