"""Times of a policy by stage, batch size by batch size."""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass

import jax

from simloop.policies.bench import stages
from simloop.policies.bench.counts import Count, counts
from simloop.policies.bench.devices import in_turns, median_of
from simloop.policies.bench.random_weights import queries
from simloop.policies.bench.roofline import Ceilings, QueryWorkload
from simloop.policies.bench.roofline import stages as floor_stages
from simloop.policies.inference.model_policy import ModelPolicy, batch_of
from simloop.policies.inference.sampling import compiled_for_inference


@dataclass(frozen=True)
class StageTime:
    """One stage of a batch: what it took, what it had to take, and what XLA counts in it."""

    name: str
    times: int
    """How often a query runs it."""
    seconds: float
    """All of these together; the median."""
    floor_s: float | None = None
    """None for stages of the host."""
    gigaflops: float | None = None
    """By the formulas, all runs together."""
    counted: Count | None = None
    """By XLA, all runs together."""


@dataclass(frozen=True)
class BatchTime:
    """A batch of one size."""

    rows: int
    devices: int
    """That rows are split over, where they divide them."""
    prepared_s: float
    """Compiling and warming up."""
    seconds: float
    """From queries to chunks; the median."""
    p90_s: float
    calls: int
    device_s: float
    """In the compiled program; the median."""
    outside_s: float
    """Of a batch beside the program: the median of the differences of both, in turns."""
    floor_s: float
    """The least time on the device."""
    stages: tuple[StageTime, ...] = ()
    """Nothing where they were not measured."""


AT_LEAST = 5


def measure(
    policy: ModelPolicy,
    work: QueryWorkload,
    rows: int,
    ceilings: Ceilings,
    *,
    seconds: float,
    count: str,
    by_stage: bool = True,
) -> BatchTime:
    """Time whole batches of queries, then the stages of the device one by one.

    Args:
      policy: What answers.
      work: What its queries ask, for floor and counts.
      rows: Queries of a batch.
      ceilings: Of one device. The floor is that of a device's share of the rows: what devices say to each other
        is not in it.
      seconds: Each part is measured for so long, and at least five times.
      count: `lowered`, `compiled` or `no`: what XLA counts in.
      by_stage: Whether to time the stages, which are compiled one by one.
    """
    config = policy.preset.model
    asked = queries(policy.preset, config.cameras[: work.cameras], rows)
    prepared_s = policy.prepare(rows)
    batch, keys = batch_of([policy.encoder.encode(query) for query in asked])
    where = policy.placement(rows)
    copy_s = median_of(jax.device_put, (batch, keys), where, at_least=AT_LEAST, seconds=seconds / 4)
    batch, keys = jax.device_put((batch, keys), where)
    answers = []
    taken, bare = in_turns(
        lambda: answers.append(policy.infer(asked, rows)),
        lambda: policy.programs(batch, keys),
        at_least=AT_LEAST,
        seconds=2 * seconds,
    )
    host_s = statistics.median(answer.host_s for answer in answers)
    post_s = statistics.median(answer.post_s for answer in answers)
    device_s = statistics.median(bare)

    devices = 1 if policy.mesh is None else policy.mesh.size
    share = rows // devices if rows % devices == 0 else rows
    least = floor_stages(work, share)
    p90_s = statistics.quantiles(taken, n=10, method="inclusive")[-1]
    whole = BatchTime(
        rows,
        devices,
        prepared_s,
        statistics.median(taken),
        p90_s,
        len(taken),
        device_s,
        statistics.median(whole - program for whole, program in zip(taken, bare, strict=True)),
        sum(stage.times * stage.seconds(ceilings) for stage in least),
    )
    if not by_stage:
        return whole

    embed = compiled_for_inference(policy.model, stages.embed)
    prefix = embed(batch)
    read = compiled_for_inference(
        policy.model, lambda model, prefix: stages.prefill(model, prefix, work.answer_tokens)
    )
    images_s = median_of(embed, batch, at_least=AT_LEAST, seconds=seconds)
    read_s = median_of(read, prefix, at_least=AT_LEAST, seconds=seconds)
    # The loop is compiled as a whole, so it is what is left of the query.
    loop_s = max(device_s - images_s - read_s, 0.0)

    found = {} if count == "no" else counts(work, rows, compiled=count == "compiled")
    parts = [StageTime("host", 1, host_s), StageTime("copy", 1, copy_s)]
    for stage, of_device, spent in zip(
        floor_stages(work, rows), least, (images_s, read_s, loop_s), strict=True
    ):
        one = found.get(stage.name)
        parts.append(
            StageTime(
                stage.name,
                stage.times,
                spent,
                floor_s=of_device.times * of_device.seconds(ceilings),
                gigaflops=stage.times * stage.flops / 1e9,
                counted=one and Count(stage.times * one.flops, stage.times * one.bytes),
            )
        )
    parts.append(StageTime("post", 1, post_s))
    return dataclasses.replace(whole, stages=tuple(parts))
