"""Check that a policy keeps the contract of `simloop.policies.interface`, on observations of a real task."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from simloop.envs import registry
from simloop.envs.interface import Env, TaskSpec
from simloop.harness.adapters.base import Adapter
from simloop.harness.adapters.registry import checked_adapter
from simloop.harness.gate.findings import Finding
from simloop.harness.planning.protocol import Protocol
from simloop.policies.interface import (
    BatchedPolicy,
    Chunk,
    Query,
    require_actions,
    require_result,
)

ROUNDING = 1e-3
"""Differences of actions up to this share of their bounds are called rounding."""
GROWTH_MIB = 32.0
"""Growth of the process while the same queries are answered that is called a leak."""
REPEATS = 20


class PolicyFault(AssertionError):
    """A promise of the interface that a policy does not keep."""


class Remark(Exception):
    """A property that is allowed and worth knowing."""


def check_policy(
    policy: BatchedPolicy, task: str, protocol: Protocol, batch_size: int = 4
) -> Iterator[Finding]:
    """Check a policy on a task of the protocol's suite, one finding per promise.

    Raises:
      AdapterError: If no adapter connects the policy to the task.
    """
    (spec,) = registry.resolve_tasks(protocol.suite, [task])
    adapter = checked_adapter(policy.spec, [spec])
    prepared_s = policy.prepare(batch_size)
    yield Finding("prepare", "ok", f"{prepared_s:.2f} s for batches of {batch_size}")
    with contextlib.closing(registry.suite(protocol.suite).make(spec.name, protocol.render)) as env:
        queries = _queries(policy, adapter, env, batch_size)
    subject = _Subject(policy, spec, adapter, batch_size, queries)
    for check in _CHECKS:
        name = check.__name__.replace("_", " ")
        try:
            yield Finding(name, "ok", check(subject))
        except Remark as remark:
            yield Finding(name, "note", str(remark))
        except PolicyFault as fault:
            yield Finding(name, "FAIL", str(fault))
        except Exception as error:
            yield Finding(name, "FAIL", f"{type(error).__name__}: {error}")


@dataclass
class _Subject:
    """A policy with queries of one task."""

    policy: BatchedPolicy
    task: TaskSpec
    adapter: Adapter
    batch_size: int
    queries: Sequence[Query]

    def ask(self, queries: Sequence[Query]) -> Sequence[Chunk]:
        """Answer queries in one batch."""
        result = self.policy.infer(queries, self.batch_size)
        require_result(self.policy.spec, result, len(queries))
        return result.chunks

    def largest_difference(self, one: Sequence[Chunk], other: Sequence[Chunk]) -> float:
        """Over all actions, as a share of the bounds of the task; infinite for chunks of other shapes."""
        size = np.subtract(self.task.action_high, self.task.action_low)
        pairs = [(self._actions(a), self._actions(b)) for a, b in zip(one, other, strict=True)]
        if any(a.shape != b.shape for a, b in pairs):
            return float("inf")
        return max((float(np.max(np.abs(a - b) / size, initial=0.0)) for a, b in pairs), default=0.0)

    def _actions(self, chunk: Chunk) -> np.ndarray:
        return self.adapter.convention.robot_actions(np.asarray(chunk.actions, np.float64))


def _queries(policy: BatchedPolicy, adapter: Adapter, env: Env, count: int) -> list[Query]:
    """Queries from the initial states of as many seeds, each with a key of its own."""
    cameras = [adapter.cameras[name] for name in policy.spec.cameras]
    found = []
    for seed in range(count):
        env.reset(seed)
        images = {camera: env.render(camera) for camera in cameras}
        instruction = env.spec.instruction
        found.append(adapter.query(env, policy.spec, images, instruction, key=1000 + seed, episode=str(seed)))
    return found


def answers_have_the_promised_shape(of: _Subject) -> str:
    """Chunks of `chunk_steps` finite actions of the size of the task."""
    chunks = of.ask(of.queries)
    for chunk in chunks:
        if chunk.undecodable is None:
            require_actions(of.policy.spec, chunk.actions, of.task.action_size)
            if not np.isfinite(chunk.actions).all():
                raise PolicyFault("An answer has NaN or infinite actions, which end an episode as a failure.")
    undecodable = sum(chunk.undecodable is not None for chunk in chunks)
    said = f"; {undecodable} of {len(chunks)} were undecodable" if undecodable else ""
    return f"{of.policy.spec.chunk_steps} actions of {of.task.action_size} numbers{said}"


def actions_lie_within_the_bounds(of: _Subject) -> str:
    """Actions outside the bounds of the task are clipped, which is worth knowing."""
    chunks = [chunk for chunk in of.ask(of.queries) if chunk.undecodable is None]
    low, high = np.asarray(of.task.action_low, np.float32), np.asarray(of.task.action_high, np.float32)
    actions = np.concatenate([of._actions(chunk) for chunk in chunks] or [np.zeros((0, low.size))])
    outside = (actions < low) | (actions > high)
    if outside.any():
        worst = of.task.action_names[int(np.argmax(outside.mean(axis=0)))]
        raise Remark(
            f"{outside.mean():.0%} of the numbers are clipped to the bounds of the task, most in {worst}."
        )
    return "all"


def equal_queries_get_equal_answers(of: _Subject) -> str:
    """Whatever was asked before, and whatever the global random state."""
    first = of.ask(of.queries)
    of.ask(list(reversed(of.queries)))
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    difference = of.largest_difference(first, of.ask(of.queries))
    if difference:
        raise PolicyFault(
            f"The same queries, asked again, were answered with actions that differ by {difference:.2g} of their "
            "bounds. Draw all randomness from query.key, and keep nothing between queries."
        )
    return "bit for bit"


def the_key_decides_the_noise(of: _Subject) -> str:
    """Whether the policy samples at all."""
    others = [dataclasses.replace(query, key=query.key + 10**6) for query in of.queries]
    difference = of.largest_difference(of.ask(of.queries), of.ask(others))
    return (
        f"another key moves actions by up to {difference:.2g} of their bounds"
        if difference
        else "deterministic"
    )


def a_row_does_not_depend_on_its_neighbours(of: _Subject) -> str:
    """Nor on its place in the batch, nor on the number of queries in it."""
    together = of.ask(of.queries)
    alone = [of.ask([query])[0] for query in of.queries]
    turned = list(reversed(of.ask(list(reversed(of.queries)))))
    difference = max(of.largest_difference(together, alone), of.largest_difference(together, turned))
    if difference > ROUNDING:
        raise PolicyFault(
            f"An answer depends on the other queries of its batch: actions differ by {difference:.2g} of their bounds. "
            "Records then depend on how queries happen to meet."
        )
    if difference:
        raise Remark(
            f"Answers depend on the batch by rounding, {difference:.1g} of the bounds. For records that repeat to the "
            "last bit, pad every batch to batch_size rows (BatchedPolicy), or use --batch-size 1."
        )
    return "bit for bit"


def every_number_of_queries_is_answered(of: _Subject) -> str:
    """From one to the batch size; none and more are refused."""
    for count in range(1, of.batch_size + 1):
        of.ask(of.queries[:count])
    for refused in ([], [*of.queries, of.queries[0]]):
        try:
            of.policy.infer(refused, of.batch_size)
        except ValueError:
            continue
        raise PolicyFault(
            f"{len(refused)} queries in a batch of {of.batch_size} were answered; raise ValueError."
        )
    return f"1 to {of.batch_size}"


def queries_stay_as_they_are(of: _Subject) -> str:
    """A policy must not write to the arrays of a query, which may be shared."""
    copies = [
        dataclasses.replace(q, state=q.state.copy(), images={name: i.copy() for name, i in q.images.items()})
        for q in of.queries
    ]
    of.ask(copies)
    for copy, query in zip(copies, of.queries, strict=True):
        if not np.array_equal(copy.state, query.state):
            raise PolicyFault("The policy changed the state of a query; work on a copy.")
        for name, image in query.images.items():
            if not np.array_equal(copy.images[name], image):
                raise PolicyFault(f"The policy changed the image {name!r} of a query; work on a copy.")
    return "unchanged"


def answers_stay_as_they_are(of: _Subject) -> str:
    """An answer must not share memory that later answers overwrite."""
    first = of.ask(of.queries)
    copies = [chunk.actions.copy() for chunk in first]
    of.ask(list(reversed(of.queries)))
    if not all(np.array_equal(chunk.actions, copy) for chunk, copy in zip(first, copies, strict=True)):
        raise PolicyFault("An answer changed when the next queries were answered; return new arrays.")
    return "unchanged"


def time_and_memory(of: _Subject) -> str:
    """Duration of a full batch and of one query, and growth of the process over repeated batches."""
    seconds: dict[int, list[float]] = {1: [], of.batch_size: []}
    of.ask(of.queries)
    before = _resident_mib()
    for _ in range(REPEATS):
        for count, durations in seconds.items():
            began = time.perf_counter()
            of.ask(of.queries[:count])
            durations.append(time.perf_counter() - began)
    grown = _resident_mib() - before
    median = {count: 1000 * float(np.median(durations)) for count, durations in seconds.items()}
    text = ", ".join(f"{ms:.2f} ms for {n} quer{'y' if n == 1 else 'ies'}" for n, ms in median.items())
    if grown > GROWTH_MIB:
        raise PolicyFault(
            f"The process grew by {grown:.0f} MiB while {2 * REPEATS} equal batches were answered."
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"{text}; peak of the process {peak:.0f} MiB"


def _resident_mib() -> float:
    import psutil

    return float(psutil.Process().memory_info().rss) / 2**20


_CHECKS: tuple[Callable[[_Subject], str], ...] = (
    queries_stay_as_they_are,  # Before others ask the same arrays again.
    answers_have_the_promised_shape,
    actions_lie_within_the_bounds,
    equal_queries_get_equal_answers,
    the_key_decides_the_noise,
    a_row_does_not_depend_on_its_neighbours,
    every_number_of_queries_is_answered,
    answers_stay_as_they_are,
    time_and_memory,
)
