"""Episodes that begin where a learned policy got to, so that an expert shows the way back from there.

Demonstrations of an expert alone never show the states that a policy's own mistakes lead to (S. Ross et al., DAgger,
arXiv:1011.0686). Here the policy plays first, for a number of steps that belongs to the seed, and the expert takes
over: what follows is a demonstration like any other, whose chunks of actions are the expert's to their end.

Axis letters: h image height, w image width, s state size, a action size, p privileged size.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
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
from simloop.harness.planning.seed_overlap import MANIFEST
from simloop.harness.planning.seeding import derive
from simloop.harness.rollout.loop import run_episode
from simloop.harness.rollout.result import RolloutResult
from simloop.policies.interface import BatchedPolicy

Make: TypeAlias = Callable[[str, str, RenderSettings], Env]


@dataclass(frozen=True)
class RollIn:
    """Who plays first, and for how long."""

    policy: str
    """Name of a policy, with its checkpoint where it needs one."""
    most_steps: int
    """Each episode is rolled in for 0 to so many control steps, every number as likely."""
    replan_steps: int
    """Actions of a chunk that are executed before the policy is asked again."""

    def weights_sha256(self) -> str:
        """Hash of the checkpoint's manifest, which holds the hashes of all its arrays; "" where there is none."""
        checkpoint = parse(self.policy).checkpoint
        manifest = None if checkpoint is None else checkpoint / MANIFEST
        return hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest and manifest.is_file() else ""

    def steps(self, seed: int) -> int:
        """For how long the episode of this seed is rolled in."""
        return derive("roll-in steps", seed, bits=31) % (self.most_steps + 1)


class RolledInEnv(Env):
    """An environment whose `reset` plays a policy before it returns.

    A policy that solves the task on its way is stopped after half of the steps which that took, so that there is
    something left to show.
    """

    def __init__(self, env: Env, policy: BatchedPolicy, adapter: Adapter, roll_in: RollIn):
        """`env` belongs to this one from now on."""
        self._env, self._policy, self._adapter, self._roll_in = env, policy, adapter, roll_in
        self.spec = dataclasses.replace(env.spec, max_steps=env.spec.max_steps - roll_in.most_steps)

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
        """Reset, and let the policy play for so many steps; None if that is none."""
        if steps == 0:
            self._env.reset(seed)
            return None
        task = self._env.spec
        protocol = Protocol(task.suite, "roll-in", replan_steps=self._roll_in.replan_steps, max_steps=steps)
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
    """A maker of such environments, for `Factories.env`, around another."""
    return functools.partial(_make, roll_in, make)


def _make(roll_in: RollIn, make: Make, suite: str, task: str, render: RenderSettings) -> Env:
    policy = _loaded(roll_in.policy)
    return RolledInEnv(make(suite, task, render), policy, find_adapter(suite, policy.spec), roll_in)


@functools.lru_cache(maxsize=1)
def _loaded(name: str) -> BatchedPolicy:
    """The policy, once per process."""
    policy = parse(name).load()
    policy.prepare(1)
    return policy
