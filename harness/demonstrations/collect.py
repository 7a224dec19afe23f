"""Collect demonstrations of scripted experts in parallel into a dataset; an interrupted collection resumes.

Every finished attempt is a file of its own beside the dataset (`<out>.parts/`), so that a kill loses at most the
attempts under way. When there are enough, they become the dataset `<out>` in one atomic step.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from simloop.envs.interface import RenderSettings, TaskSpec
from simloop.envs.registry import resolve_tasks
from simloop.envs.rendering import render_test_frame
from simloop.harness.actors.env_actor import EpisodeResult
from simloop.harness.actors.factories import Factories
from simloop.harness.adapters.registry import find_adapter
from simloop.harness.demonstrations.dagger import RollIn, rolled_in
from simloop.harness.demonstrations.expert import (
    DEMONSTRATION,
    EXPERT,
    DemonstrationRecorder,
    DemonstrationSettings,
    Demonstrator,
)
from simloop.harness.engine.engine import Engine
from simloop.harness.engine.resources import Resources
from simloop.harness.errors import SimloopError
from simloop.harness.interrupts import sigterm_as_interrupt
from simloop.harness.planning.plan import EpisodeSpec
from simloop.harness.planning.policy_names import parse
from simloop.harness.planning.protocol import Protocol, named_protocol
from simloop.harness.planning.seeding import demonstration_key, demonstration_seed
from simloop.harness.recording.run_folder import write_atomically
from simloop.harness.recording.run_progress import PLAIN_EVERY_S
from simloop.policies.files.progress import progress_bar
from simloop.policies.files.video import CRF
from simloop.policies.interface import BatchedPolicy, PolicySpec, batched
from simloop.policies.scripted import scripted_policy
from simloop.policies.training.dataset_writer import DatasetHeader, write_dataset
from simloop.policies.training.demonstration import Demonstration, demonstration_from
from simloop.results.records.compatibility import nested_differences
from simloop.untrusted import read_bytes, read_json_object

CONFIG = "collection.json"
MAX_BYTES = 1 << 30
"""Most that is read of a demonstration."""
MOST_ATTEMPTS = 4
"""Maximum attempts per wanted demonstration; an expert that fails more often has nothing to teach."""


class CollectError(SimloopError):
    """Demonstrations that cannot be collected as requested."""


@dataclass(frozen=True)
class Collection:
    """Settings that determine the demonstrations."""

    suite: str
    tasks: tuple[str, ...]
    """Task names or names of groups."""
    episodes: int
    """Demonstrations per task."""
    seed: int = 0
    robot: str = "metaworld_hand"
    cameras: tuple[str, ...] = ()
    """Model camera names; empty for all cameras of the robot."""
    image_size: int = 96
    noise: float = 0.0
    """As in `DemonstrationSettings`."""
    keep_failures: bool = False
    render: RenderSettings = field(default_factory=RenderSettings)
    crf: int = CRF
    roll_in: str = ""
    """Policy that plays before the expert takes over; empty for none."""
    roll_in_steps: int = 150
    """As `RollIn.max_steps`."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.episodes < 1:
            raise CollectError(f"--episodes must be at least 1; got {self.episodes}.")
        if self.image_size < 2 or self.image_size % 2:
            raise CollectError(f"--image-size must be even, as H.264 wants it; got {self.image_size}.")
        if self.noise < 0:
            raise CollectError(f"--noise is a standard deviation, so at least 0; got {self.noise}.")
        if self.roll_in_steps < 0:
            raise CollectError(f"--roll-in-steps must be at least 0; got {self.roll_in_steps}.")

    def task_specs(self) -> list[TaskSpec]:
        """Return the tasks, with groups resolved."""
        return list(resolve_tasks(self.suite, self.tasks))

    def attempt(self, task: TaskSpec, number: int) -> EpisodeSpec:
        """Return attempt `number` at a task; it does not depend on the env actor that plays it."""
        return EpisodeSpec(
            policy=EXPERT,
            suite=self.suite,
            protocol=self.protocol().label,
            task=task.name,
            episode=number,
            seed=demonstration_seed(self.seed, self.suite, task.name, number),
            key=demonstration_key(self.seed, self.suite, task.name, number),
        )

    def protocol(self) -> Protocol:
        """Return the rules of the episodes: the expert is queried at every step."""
        return Protocol(self.suite, name="demonstration", render=self.render, replan_steps=1)

    def rolled_in_by(self) -> RollIn | None:
        """Return the policy that plays before the expert, after checking that it can play the tasks.

        Raises:
          CollectError, UnknownPolicyError, AdapterError: If it cannot.
        """
        if not self.roll_in:
            return None
        roll_in = parse(self.roll_in)
        roll_in.require_weights()
        spec = roll_in.spec()
        adapter = find_adapter(self.suite, spec)
        for task in self.task_specs():
            adapter.check(spec, task)
            if self.roll_in_steps >= task.max_steps:
                raise CollectError(
                    f"{task.suite}/{task.name} ends after {task.max_steps} steps; --roll-in-steps "
                    f"{self.roll_in_steps} leaves the expert none of them."
                )
        return RollIn(self.roll_in, self.roll_in_steps, named_protocol(self.suite).replan_steps)

    def described(self) -> dict[str, Any]:
        """Return all settings as JSON values, with a hash of the weights of the roll-in policy."""
        plain = json.loads(json.dumps(dataclasses.asdict(self)))
        roll_in = self.rolled_in_by()
        return {**plain, "roll_in_sha256": roll_in.weights_sha256()} if roll_in else plain

    def settings(self) -> DemonstrationSettings:
        """Return what is recorded, after checking that the tasks offer it.

        Raises:
          CollectError, AdapterError: If they do not.
        """
        tasks = self.task_specs()
        rates = {task.control_hz for task in tasks}
        (rate,) = rates if len(rates) == 1 else (None,)
        if rate is None or rate != round(rate):
            raise CollectError(
                f"A dataset has one whole number of frames per second; the tasks have {sorted(rates)}. "
                "Collect tasks of one rate at a time."
            )
        adapter = find_adapter(
            self.suite, dataclasses.replace(scripted_policy(EXPERT).spec, robot=self.robot)
        )
        states = {task.name: adapter.convention.state_size or task.state_size for task in tasks}
        if len(set(states.values())) > 1:
            listed = ", ".join(f"{name} {size}" for name, size in states.items())
            raise CollectError(
                f"A dataset has states of one size; the tasks have {listed}. Collect tasks of one size at a time."
            )
        cameras = self.cameras or tuple(adapter.cameras)
        # One column of the dataset holds the simulator state of all tasks, so sizes must agree.
        sizes = {task.privileged_size for task in tasks}
        (environment_size,) = sizes if len(sizes) == 1 else (0,)
        settings = DemonstrationSettings(
            self.robot, cameras, self.image_size, int(rate), self.noise, self.crf, environment_size
        )
        for task in tasks:
            adapter.check(settings.spec(task), task)
        return settings


def collect(
    collection: Collection,
    out: Path,
    resources: Resources,
    console: Console,
    sources: Factories | None = None,
) -> Path:
    """Collect demonstrations and write them as a dataset.

    The same call resumes after an interruption. The result does not depend on the number of env actors: the attempts
    at each task are made in rounds, each as large as the number of demonstrations still wanted, and whole rounds count.

    Raises:
      CollectError: If `out` exists or belongs to another collection, or an expert fails too often.
      KeyboardInterrupt: On Ctrl-C or SIGTERM; finished attempts are kept.
    """
    if out.exists():
        raise CollectError(f"{out} exists already. Choose another --out folder.")
    settings = collection.settings()
    roll_in = collection.rolled_in_by()
    if roll_in and resources.ray_address is not None:
        raise CollectError(
            "--roll-in loads its policy in every env actor, from the disk of this machine. Leave --ray-address out."
        )
    tasks = {task.name: task for task in collection.task_specs()}
    render_test_frame(RenderSettings(collection.render.profile, 64, 64))
    parts = _Parts(out.with_name(f"{out.name}.parts"), collection)
    policy = settings.spec(next(iter(tasks.values())))
    sources = sources or Factories()
    if roll_in:
        sources = dataclasses.replace(sources, env=rolled_in(roll_in, sources.env))
    sources = dataclasses.replace(
        sources,
        policy=functools.partial(_demonstrator, policy, collection.noise),
        recorder=functools.partial(DemonstrationRecorder, settings=settings),
    )
    goal = len(tasks) * collection.episodes
    with sigterm_as_interrupt(), progress_bar("demonstrations", goal, console=console) as update:
        update(parts.useful())
        last_line = time.monotonic()
        with Engine(collection.protocol(), {EXPERT: policy}, 1, resources, None, factories=sources) as engine:
            while todo := _next_round(collection, tasks, parts):
                for attempt, result in engine.results(todo):
                    parts.add(attempt.spec, result)
                    if result.played is None:
                        console.print(
                            f"{attempt.spec.task}, attempt {attempt.spec.episode} broke: {result.error}",
                            highlight=False,
                            markup=False,
                        )
                    update(min(parts.useful(), goal))
                    if not console.is_terminal and time.monotonic() - last_line >= PLAIN_EVERY_S:
                        last_line = time.monotonic()
                        console.print(f"{parts.useful()}/{goal} demonstrations", highlight=False)
    notes = {"collection": collection.described()}
    first = next(iter(tasks.values()))
    header = DatasetHeader(
        robot=collection.robot,
        fps=settings.fps,
        state_names=find_adapter(collection.suite, policy).state_names(first),
        action_names=first.action_names,
        cameras=settings.cameras,
        image_hw=(collection.image_size, collection.image_size),
        environment_size=settings.environment_size,
        notes=notes,
    )
    write_dataset(out, header, parts.demonstrations(list(tasks)))
    parts.remove()
    return out


def _next_round(collection: Collection, tasks: dict[str, TaskSpec], parts: _Parts) -> list[EpisodeSpec]:
    """Return the attempts of the current round that have not been made."""
    todo: list[EpisodeSpec] = []
    for name, task in tasks.items():
        outcomes = parts.outcomes(name)
        end, useful = 0, 0  # Of the complete rounds, then of the incomplete one.
        while useful < collection.episodes and all(number in outcomes for number in range(end)):
            if end >= MOST_ATTEMPTS * collection.episodes:
                raise CollectError(
                    f"{collection.suite}/{name}: the expert succeeded in {useful} of {end} attempts, and "
                    f"{collection.episodes} demonstrations are wanted. Lower --noise (now "
                    f"{collection.noise:g}){' or --roll-in-steps' * bool(collection.roll_in)}, or leave the task "
                    "out."
                )
            end += collection.episodes - useful
            useful = sum(outcomes.get(number, False) for number in range(end))
        todo += [collection.attempt(task, number) for number in range(end) if number not in outcomes]
    return todo


class _Parts:
    """Files of the finished attempts; the file of an attempt without a demonstration is empty."""

    def __init__(self, folder: Path, collection: Collection):
        self._folder = folder
        self._keep_failures = collection.keep_failures
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / CONFIG
        ours = collection.described()
        if config.exists():
            if differing := nested_differences(read_json_object(config, error=CollectError), ours):
                raise CollectError(
                    f"{folder} belongs to another collection: {'; '.join(differing)}. Give the same options "
                    "to go on with it, remove it, or choose another --out folder."
                )
        else:
            write_atomically(config, json.dumps(ours, indent=2) + "\n")
        self._outcomes: dict[str, dict[int, bool]] = {}
        for file in folder.glob("*.demonstration"):
            task, _, number = file.stem.rpartition("-")
            self._outcomes.setdefault(task, {})[int(number)] = file.stat().st_size > 0

    def outcomes(self, task: str) -> dict[int, bool]:
        """Return whether each finished attempt gave a demonstration, by its number."""
        return self._outcomes.get(task, {})

    def useful(self) -> int:
        """Return the number of demonstrations so far."""
        return sum(sum(outcomes.values()) for outcomes in self._outcomes.values())

    def add(self, spec: EpisodeSpec, result: EpisodeResult) -> None:
        """Store an attempt."""
        succeeded = result.played is not None and result.played.ended_by == "success"
        content = result.attachments.get(DEMONSTRATION) if succeeded or self._keep_failures else None
        write_atomically(self._file(spec.task, spec.episode), content or b"")
        self._outcomes.setdefault(spec.task, {})[spec.episode] = bool(content)

    def demonstrations(self, tasks: list[str]) -> Iterator[Demonstration]:
        """Yield the demonstrations, task by task in the order of attempts."""
        for task in tasks:
            for number, useful in sorted(self.outcomes(task).items()):
                if useful:
                    yield demonstration_from(
                        read_bytes(self._file(task, number), MAX_BYTES, error=CollectError)
                    )

    def remove(self) -> None:
        """Delete the files."""
        shutil.rmtree(self._folder)

    def _file(self, task: str, number: int) -> Path:
        return self._folder / f"{task}-{number:05d}.demonstration"


def _demonstrator(spec: PolicySpec, noise: float, name: str) -> BatchedPolicy:
    assert name == EXPERT
    return batched(Demonstrator(spec, noise))
