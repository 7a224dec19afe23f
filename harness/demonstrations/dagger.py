"""Environments whose episodes begin in a state that a learned policy reached (DAgger).

Demonstrations of an expert alone never visit the states that a policy's own mistakes lead to (S. Ross et al., DAgger,
arXiv:1011.0686). Here the policy plays first, for a number of steps drawn from the seed; then the expert takes over,
and only its part is recorded.

Axis letters: h image height, w image width, s state size, a action size, p privileged size.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from simloop.envs.env_state import EnvState
from simloop.envs.interface import Env, RenderSettings, StepResult
from simloop.harness.actors.factories import make_env
from simloop.harness.adapters.base import Adapter
from simloop.harness.adapters.registry import find_adapter
from simloop.harness.planning.plan import EpisodeSpec
from simloop.harness.planning.policy_names import parse
from simloop.harness.planning.protocol import Protocol
from simloop.harness.planning.seeding import derive
from simloop.harness.rollout.loop import run_episode
from simloop.harness.rollout.result import RolloutResult
from simloop.policies.files.manifest import MANIFEST
from simloop.policies.interface import BatchedPolicy
from simloop.untrusted import file_sha256

Make: TypeAlias = Callable[[str, str, RenderSettings], Env]


@dataclass(frozen=True)
class RollIn:
    """Which policy plays before the expert, and for how long."""

    policy: str
    """Name of a policy, with its checkpoint if it needs one."""
    max_steps: int
    """The number of control steps is uniform on 0 to `max_steps`."""
    replan_steps: int
    """Actions of a chunk that are executed before the policy is queried again."""

    def weights_sha256(self) -> str:
        """Return the hash of the checkpoint's manifest, which has the hashes of all arrays; "" without a manifest."""
        checkpoint = parse(self.policy).checkpoint
        manifest = None if checkpoint is None else checkpoint / MANIFEST
        return file_sha256(manifest) if manifest and manifest.is_file() else ""

    def steps(self, seed: int) -> int:
        """Return the number of control steps that the policy plays in the episode of this seed."""
        return derive("roll-in steps", seed, bits=31) % (self.max_steps + 1)


class RolledInEnv(Env):
    """An environment whose `reset` lets a policy play before it returns.

    If the policy solves the task, it plays only half of the steps to the success, which leaves the expert something to
    demonstrate.
    """

    def __init__(
        self, env: Env, render: RenderSettings, policy: BatchedPolicy, adapter: Adapter, roll_in: RollIn
    ):
        """Wrap `env`, which was made with `render` and must not be used directly any more."""
        self._env, self._render = env, render
        self._policy, self._adapter, self._roll_in = policy, adapter, roll_in
        self.spec = dataclasses.replace(env.spec, max_steps=env.spec.max_steps - roll_in.max_steps)

    def reset(self, seed: int) -> None:
        played = self._roll(seed, self._roll_in.steps(seed))
        if played is not None and played.ended_by == "success":
            self._roll(seed, played.steps // 2)

    def step(self, action: Float32[np.ndarray, "a"] | Float64[np.ndarray, "a"]) -> StepResult:
        return self._env.step(action)

    def state(self) -> Float32[np.ndarray, "s"]:
        return self._env.state()

    def privileged(self) -> Float64[np.ndarray, "p"]:
        return self._env.privileged()

    def render(self, camera: str) -> UInt8[np.ndarray, "h w 3"]:
        return self._env.render(camera)

    def snapshot(self) -> Float64[np.ndarray, "_"]:
        return self._env.snapshot()

    def save(self) -> EnvState:
        return self._env.save()

    def restore(self, state: EnvState) -> None:
        self._env.restore(state)

    def close(self) -> None:
        self._env.close()

    def _roll(self, seed: int, steps: int) -> RolloutResult | None:
        """Reset, and let the policy play for `steps` steps; returns None for 0 steps."""
        if steps == 0:
            self._env.reset(seed)
            return None
        task = self._env.spec
        protocol = Protocol(
            task.suite,
            "roll-in",
            render=self._render,
            replan_steps=self._roll_in.replan_steps,
            max_steps=steps,
        )
        spec = EpisodeSpec(
            policy=self._policy.spec.name,
            suite=task.suite,
            protocol=protocol.label,
            task=task.name,
            episode=0,
            seed=seed,
            key=derive("roll-in noise", seed, bits=64),
        )
        return run_episode(self._env, spec, self._policy, self._adapter, protocol)


def rolled_in(roll_in: RollIn, make: Make = make_env) -> Make:
    """Return a factory of rolled-in environments, for `Factories.env`, that wraps another factory."""
    return functools.partial(_make, roll_in, make)


def _make(roll_in: RollIn, make: Make, suite: str, task: str, render: RenderSettings) -> Env:
    policy = _loaded(roll_in.policy)
    return RolledInEnv(make(suite, task, render), render, policy, find_adapter(suite, policy.spec), roll_in)


@functools.lru_cache(maxsize=1)
def _loaded(name: str) -> BatchedPolicy:
    """Load a policy once per process."""
    policy = parse(name).load()
    policy.prepare(1)
    return policy
