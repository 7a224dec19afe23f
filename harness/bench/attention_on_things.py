"""Does a policy attend to the thing that it is to grasp? Measured at the first query of episodes.

Axis letters: e episodes, r rows and columns of patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from simloop.harness.debugging.explaining import explainer_of
from simloop.harness.debugging.session import Session
from simloop.harness.errors import SimloopError
from simloop.harness.planning.policy_names import parse
from simloop.results.statistics.intervals import Interval, wilson
from simloop.results.tables.grid import Cell, Grid
from simloop.results.tables.typesetting import to_text
from simloop.terminal import Terminal

if TYPE_CHECKING:
    from simloop.policies.explaining.base import Explainer

SUITE = "metaworld"
"""Its images reach policies as the suite draws them, so that pixels of a camera are pixels of the model's input."""
RESAMPLES = 10_000


@dataclass(frozen=True, eq=False)
class Look:
    """Attention to one camera at one query, and where the thing is in its image."""

    task: str
    camera: str
    maps: dict[str, Float[np.ndarray, "r r"]]
    """Share of every patch in the attention to the camera, by the kind of attention."""
    patch: tuple[int, int]
    """Row and column of the patch that shows the middle of the thing."""


@dataclass(frozen=True)
class Looking:
    """Attention to the patch of the thing over episodes."""

    share: float
    """Mean share of the attention to the camera."""
    times_chance: float
    """The share relative to that of a patch under uniform attention."""
    times_chance_interval: Interval
    """95 % bootstrap interval over episodes."""
    times_elsewhere: float
    """The share in units of that of the same place in other episodes of the task, where the thing is elsewhere. It
    is 1 for attention that prefers some places of the image and ignores the thing."""
    times_elsewhere_interval: Interval
    above: int
    """Episodes with more than the share in the other episodes, rounding apart."""
    count: int


def run(policy: str, tasks: Sequence[str], episodes: int, terminal: Terminal) -> int:
    """Print the attention of a policy to the things of tasks, over `episodes` episodes in all."""
    explainer, looks = explainer_of(parse(policy), 2), []
    for number in range(episodes):
        looks += look(explainer, policy, tasks[number % len(tasks)], number // len(tasks))
    terminal.print(to_text(grid(policy, looks)), soft_wrap=True)
    return 0


def look(explainer: Explainer, policy: str, task: str, episode: int) -> list[Look]:
    """Attention at the first query of an episode to every camera that shows the thing.

    Raises:
      SimloopError: If the task has nothing that can be moved.
    """
    with Session(SUITE, task, policy, episode=episode) as session:
        env = session.env
        if not env.movable():
            raise SimloopError(f"{env.spec.name} has nothing to grasp. Choose tasks such as pick-place.")
        scenes = env.scenes([env.snapshot()])
        assert scenes is not None
        middle = scenes[0].poses[env.movable()[0]].position_m
        attention = explainer.attention(session.next_query())
        looks = []
        for camera in attention.layout.cameras:
            view = env.view(session.adapter.cameras[camera])
            assert view is not None
            (u, v), depth = (found[0] for found in view.project(middle[None]))
            if not (depth > 0 and 0 <= u < view.width and 0 <= v < view.height):
                continue
            side = attention.layout.side
            patch = int(v / view.height * side), int(u / view.width * side)
            plain = attention.weights.mean(axis=(0, 1))
            maps = {"rollout": attention.image_map(camera), "mean": attention.image_map(camera, plain)}
            shares = {kind: weights / weights.sum() for kind, weights in maps.items()}
            looks.append(Look(env.spec.name, camera, shares, patch))
        return looks


def looking(looks: Sequence[Look], kind: str) -> Looking:
    """Summarize looks at one camera.

    Args:
      kind: Of attention, as in `Look.maps`.
    """
    shares = np.array([one.maps[kind][one.patch] for one in looks])
    elsewhere = np.array([_elsewhere(one, looks, kind) for one in looks])
    patches = looks[0].maps[kind].size
    draws = np.random.default_rng(0).integers(0, len(looks), (RESAMPLES, len(looks)))
    return Looking(
        share=float(shares.mean()),
        times_chance=float(shares.mean() * patches),
        times_chance_interval=_interval(shares[draws].mean(axis=1) * patches),
        times_elsewhere=float(shares.mean() / elsewhere.mean()),
        times_elsewhere_interval=_interval(shares[draws].mean(axis=1) / elsewhere[draws].mean(axis=1)),
        above=int((shares > elsewhere * (1 + 1e-9)).sum()),
        count=len(looks),
    )


def _elsewhere(one: Look, looks: Sequence[Look], kind: str) -> float:
    """Mean share of the place in the other episodes of the task whose thing is at another."""
    others = [
        other.maps[kind][one.patch]
        for other in looks
        if other is not one and other.task == one.task and other.patch != one.patch
    ]
    return float(np.mean(others)) if others else float("nan")


def _interval(values: np.ndarray) -> Interval:
    return Interval(*np.quantile(values, [0.025, 0.975]).tolist())


def grid(policy: str, looks: Sequence[Look]) -> Grid:
    """A row per camera and kind of attention."""
    rows = []
    for camera in dict.fromkeys(one.camera for one in looks):
        of_camera = [one for one in looks if one.camera == camera]
        compared = [one for one in of_camera if not np.isnan(_elsewhere(one, of_camera, "rollout"))]
        for kind in ("rollout", "mean") if compared else ():
            found = looking(compared, kind)
            rows.append(
                (
                    camera,
                    kind,
                    Cell(100 * found.share),
                    Cell(found.times_chance, found.times_chance_interval, decimals=2),
                    Cell(found.times_elsewhere, found.times_elsewhere_interval, decimals=2),
                    Cell(
                        100 * found.above / found.count,
                        wilson(found.above, found.count).scaled(100.0),
                        f"{found.above}/{found.count}",
                    ),
                )
            )
    tasks = ", ".join(dict.fromkeys(one.task for one in looks))
    notes = (
        "Share of the attention to a camera, in %, that the patch with the middle of the thing gets; chance is the "
        "same for all patches. Elsewhere: the same patch in other episodes of the task, where the thing is elsewhere; "
        "above: episodes with a larger share than that. In brackets 95 % intervals, by the bootstrap over episodes or "
        "Wilson.",
        f"Tasks: {tasks}. Mean: over layers and heads.",
    )
    columns = ("camera", "attention", "share", "times chance", "times elsewhere", "above elsewhere, %")
    return Grid(f"Attention of {policy} to the thing to be grasped", columns, (tuple(rows),), notes, labels=2)
