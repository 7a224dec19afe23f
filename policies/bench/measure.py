"""Time whole batches of queries and the stages of a policy."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from simloop.policies.bench import stages
from simloop.policies.bench.counts import Count, counts
from simloop.policies.bench.devices import alternating_seconds, median_seconds
from simloop.policies.bench.random_weights import random_queries
from simloop.policies.bench.roofline import Ceilings, QueryWorkload, roofline_stages
from simloop.policies.inference.model_policy import ModelPolicy, batch_of
from simloop.policies.inference.sampling import compiled_for_inference
from simloop.policies.interface import Guidance, GuidanceMethod, Query
from simloop.policies.models.model_input import ModelInput


@dataclass(frozen=True)
class StageTime:
    """Time of one stage of a batch, beside its roofline and the FLOPs of the formulas and of XLA."""

    name: str
    times: int
    """Runs per query; times and counts are those of all runs."""
    seconds: float
    """Median."""
    roofline_s: float | None = None
    """Least time on the device; None for stages on the host."""
    gigaflops: float | None = None
    counted: Count | None = None
    """Counted by XLA."""


@dataclass(frozen=True)
class BatchTime:
    """Times of batches of one size."""

    rows: int
    devices: int
    """Devices that the rows are split over, if they divide them."""
    prepare_s: float
    """Compilation and warm-up."""
    seconds: float
    """From queries to chunks; median."""
    p90_s: float
    calls: int
    device_s: float
    """The compiled program; median."""
    outside_s: float
    """Time beside the program: median of the differences between alternating calls of both."""
    roofline_s: float
    """Least time on the device."""
    guided: float | None = None
    """Time of the program with guided rows, as a multiple of that without: median of alternating calls."""
    stages: tuple[StageTime, ...] = ()
    """Empty if stages are not measured."""


MIN_CALLS = 5


def measure(
    policy: ModelPolicy,
    work: QueryWorkload,
    rows: int,
    ceilings: Ceilings,
    *,
    seconds: float,
    count: str,
    by_stage: bool = True,
    guidance: GuidanceMethod | None = None,
) -> BatchTime:
    """Time whole batches of queries, then the stages on the device one by one.

    Args:
      policy: Policy to time.
      work: Workload of its queries, for roofline and counts.
      rows: Batch size.
      ceilings: Limits of one device. The roofline is that of a device's share of the rows, without communication
        between devices.
      seconds: Duration of each measurement; at least `MIN_CALLS` calls are made.
      count: Program in which XLA counts FLOPs: `lowered`, `compiled` or `no`.
      by_stage: Whether to time the stages, which compiles each of them.
      guidance: Also time guided rows.
    """
    queries = random_queries(policy.preset, policy.preset.model.cameras[: work.cameras], rows)
    prepare_s = policy.prepare(rows)
    batch, keys = batch_of([policy.encoder.encode(query) for query in queries])[:2]
    where = policy.placement(rows)
    copy_s = median_seconds(
        lambda: jax.device_put((batch, keys), where), min_calls=MIN_CALLS, seconds=seconds / 4
    )
    batch, keys = jax.device_put((batch, keys), where)
    answers = []
    whole_s, program_s = alternating_seconds(
        lambda: answers.append(policy.infer(queries, rows)),
        lambda: policy.programs(batch, keys),
        min_calls=MIN_CALLS,
        seconds=2 * seconds,
    )
    devices = 1 if policy.mesh is None else policy.mesh.size
    share = rows // devices if rows % devices == 0 else rows
    whole = BatchTime(
        rows,
        devices,
        prepare_s,
        statistics.median(whole_s),
        statistics.quantiles(whole_s, n=10, method="inclusive")[-1],
        len(whole_s),
        statistics.median(program_s),
        statistics.median(whole - program for whole, program in zip(whole_s, program_s, strict=True)),
        sum(stage.times * stage.seconds(ceilings) for stage in roofline_stages(work, share)),
    )
    if guidance is not None:
        ratio = _guided_ratio(policy, queries, guidance, seconds=seconds)
        whole = dataclasses.replace(whole, guided=ratio)
    if not by_stage:
        return whole
    on_host = {
        "host": statistics.median(answer.host_s for answer in answers),
        "copy": copy_s,
        "post": statistics.median(answer.post_s for answer in answers),
    }
    before, copy, after = (StageTime(name, 1, spent) for name, spent in on_host.items())
    on_device = _device_stages(policy, work, batch, whole, ceilings, share, seconds=seconds, count=count)
    return dataclasses.replace(whole, stages=(before, copy, *on_device, after))


def _guided_ratio(
    policy: ModelPolicy, queries: Sequence[Query], method: GuidanceMethod, *, seconds: float
) -> float:
    """Time of guided rows with different delays, as a multiple of that of the same rows without guidance."""
    steps, size = policy.preset.model.action_horizon, policy.preset.action_size
    left = np.zeros((steps // 2, size), np.float32)
    rows = [policy.encoder.encode(query) for query in queries]
    guided = [
        policy.encoder.encode(dataclasses.replace(query, guidance=Guidance(left, i % (steps // 2), method)))
        for i, query in enumerate(queries)
    ]
    plain_inputs, guided_inputs = policy.placed(rows), policy.placed(guided)
    plain_s, guided_s = alternating_seconds(
        lambda: policy.programs(*plain_inputs),
        lambda: policy.programs(*guided_inputs),
        min_calls=MIN_CALLS,
        seconds=2 * seconds,
    )
    return statistics.median(after / before for before, after in zip(plain_s, guided_s, strict=True))


def _device_stages(
    policy: ModelPolicy,
    work: QueryWorkload,
    batch: ModelInput,
    whole: BatchTime,
    ceilings: Ceilings,
    share: int,
    *,
    seconds: float,
    count: str,
) -> list[StageTime]:
    embed = compiled_for_inference(policy.model, stages.embed, policy.plan)
    prefix = embed(batch)
    prefill = compiled_for_inference(
        policy.model, lambda model, prefix: stages.prefill(model, prefix, work.answer_tokens), policy.plan
    )
    embed_s = median_seconds(lambda: embed(batch), min_calls=MIN_CALLS, seconds=seconds)
    prefill_s = median_seconds(lambda: prefill(prefix), min_calls=MIN_CALLS, seconds=seconds)
    # The loop over flow steps or tokens is compiled as a whole, so its time is the remainder.
    loop_s = max(whole.device_s - embed_s - prefill_s, 0.0)
    counted = {} if count == "no" else counts(work, whole.rows, compiled=count == "compiled")
    times = []
    for stage, of_share, spent in zip(
        roofline_stages(work, whole.rows),
        roofline_stages(work, share),
        (embed_s, prefill_s, loop_s),
        strict=True,
    ):
        one = counted.get(stage.name)
        times.append(
            StageTime(
                stage.name,
                stage.times,
                spent,
                roofline_s=of_share.times * of_share.seconds(ceilings),
                gigaflops=stage.times * stage.flops / 1e9,
                counted=one and Count(stage.times * one.flops, stage.times * one.bytes),
            )
        )
    return times
