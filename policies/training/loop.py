"""A training from its first step, or from where it was killed, to its last.

    order of frames -> batch (host, ahead of time) -> step (device) -> curves, checkpoints, export

Everything random is a function of the seed and the step, and nothing else is carried over: a training
that is killed and started again computes the losses that it would have computed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from simloop.policies.models.sharding import (
    DevicesError,
    batch_sharding,
    make_mesh,
    replicated,
    state_sharding,
)
from simloop.policies.training.config import TrainConfig
from simloop.policies.training.curves import MetricWriters
from simloop.policies.training.errors import TrainingError
from simloop.policies.training.examples import Shuffle
from simloop.policies.training.export import export, why_not
from simloop.policies.training.saving import Saver
from simloop.policies.training.setup import Setup, initial_parameters, set_up
from simloop.policies.training.step import Metrics, TrainingBatch, TrainState, initial_state, make_step
from simloop.policies.training.training_progress import TrainingProgress

BATCHES_AHEAD = 2
EXPORTS = "exports"

Evaluate = Callable[[int, Path], dict[str, float]]
"""From steps done and an exported checkpoint to numbers for the curves."""


@dataclass(frozen=True)
class Evaluation:
    """Something that is measured with exported weights while training goes on afterwards."""

    every: int
    evaluate: Evaluate


def train(config: TrainConfig, evaluation: Evaluation | None = None) -> Path:
    """Train, or go on training; returns the folder of the exported checkpoint.

    Raises:
      TrainingError: Before the first step if something does not fit; later if the loss is not finite.
      DatasetError: If the data cannot be read.
    """
    progress = TrainingProgress(config.steps, 0, config.batch)
    try:
        return _train(config, evaluation, progress)
    finally:
        progress.close()


def _train(config: TrainConfig, evaluation: Evaluation | None, progress: TrainingProgress) -> Path:
    try:
        mesh = make_mesh(config.fsdp_devices)
    except DevicesError as error:
        raise TrainingError(f"fsdp_devices: {error}") from error
    if config.batch % (len(jax.devices()) * config.micro_batches):
        raise TrainingError(
            f"The batch of {config.batch} must be a multiple of devices x micro_batches, "
            f"{len(jax.devices())} x {config.micro_batches}."
        )
    setup = set_up(config, progress.say)
    placed = batch_sharding(mesh)
    step = _compiled_step(setup, mesh)
    saver = Saver(config.out)
    state = _state(setup, mesh, saver, progress.say)
    first = int(state.step)
    if first:
        progress.say(f"Going on from step {first}.")
    curves = MetricWriters(config.out, first, config.wandb, config.decisive())
    for note in (*curves.notes, why_not()):
        if note is not None:
            progress.say(note)
    key = jax.device_put(jax.random.split(jax.random.key(config.seed))[0], replicated(mesh))
    try:
        waiting: list[tuple[int, Metrics]] = []
        began = time.monotonic()
        for done, batch in _batches(setup, first, placed):
            state, metrics = step(state, batch, key)
            waiting.append((done, metrics))
            if done == first + 1:
                jax.block_until_ready(metrics)
                progress.say(f"First step after {time.monotonic() - began:.1f} s")
                progress.advance(done, None)
                progress.compiled()
            last = done == config.steps
            saves = last or done % config.save_every == 0
            loss = None
            if saves or done % config.log_every == 0:
                loss = written(waiting, curves, progress, config)
                waiting = []
            progress.advance(done, loss)
            if saves:
                saver.save(done, state)
            if evaluation is not None and (last or done % evaluation.every == 0):
                folder = export(setup, state, config.out / EXPORTS / f"step-{done:07d}")
                curves.add(done, evaluation.evaluate(done, folder))
        folder = export(setup, state, config.out / EXPORTS / f"step-{config.steps:07d}")
    finally:
        saver.close()
        curves.close()
    progress.say(f"Trained {config.steps} steps; the weights are in {folder}.")
    return folder


def _compiled_step(setup: Setup, mesh: Any) -> Callable[[TrainState, TrainingBatch, Any], Any]:
    states = state_sharding(_abstract_state(setup), mesh)
    return jax.jit(
        make_step(setup.preset.model, setup.rules),
        in_shardings=(states, batch_sharding(mesh), replicated(mesh)),
        out_shardings=(states, replicated(mesh)),
        donate_argnums=0,
    )


def _abstract_state(setup: Setup) -> TrainState:
    """The shapes and dtypes of a state."""
    trained: Any = {}
    frozen: Any = {}
    for name, shape in setup.shapes().items():
        if setup.trains(name):
            trained[name] = jax.ShapeDtypeStruct(shape, jnp.float32)
        else:
            frozen[name] = jax.ShapeDtypeStruct(shape, setup.preset.model.dtype)
    return jax.eval_shape(partial(initial_state, rules=setup.rules), trained, frozen)


def _state(setup: Setup, mesh: Any, saver: Saver, on_progress: Callable[[str], None]) -> TrainState:
    if saver.latest() is not None:
        abstract = _abstract_state(setup)
        like = jax.tree.map(
            lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
            abstract,
            state_sharding(abstract, mesh),
        )
        return saver.restore(like)
    state = initial_state(*initial_parameters(setup, on_progress), setup.rules)
    # A copy: the step gives away the memory of its state, which arrays of a checkpoint may share.
    return jax.device_put(jax.tree.map(lambda x: x.copy(), state), state_sharding(state, mesh))


def _batches(setup: Setup, first: int, placed: Any) -> Iterator[tuple[int, TrainingBatch]]:
    """Batches with the number of steps that will be done after them; made ahead in a thread."""
    config = setup.config
    order = Shuffle(setup.examples.usable, config.batch, config.seed)

    def make(step: int) -> TrainingBatch:
        return jax.device_put(setup.examples.batch(order.frames_of(step)), placed)

    with ThreadPoolExecutor(1, "batches") as pool:
        steps = range(first, config.steps)
        ahead = [pool.submit(make, step) for step in steps[:BATCHES_AHEAD]]
        for step in steps:
            batch = ahead.pop(0).result()
            if step + BATCHES_AHEAD < config.steps:
                ahead.append(pool.submit(make, step + BATCHES_AHEAD))
            yield step + 1, batch


def written(
    waiting: list[tuple[int, Metrics]], curves: MetricWriters, progress: TrainingProgress, config: TrainConfig
) -> float:
    """Write a point of every curve from the steps since the last one; returns their mean loss.

    Raises:
      TrainingError: If a loss is not finite.
    """
    fetched = [(done, jax.device_get(metrics)) for done, metrics in waiting]
    for done, metrics in fetched:
        if not math.isfinite(metrics.loss) or not math.isfinite(metrics.gradient_norm):
            raise TrainingError(
                f"At step {done} the loss is {float(metrics.loss)} and the norm of its gradient "
                f"{float(metrics.gradient_norm)}. The checkpoint before it is kept. Lower learning_rate (now "
                f"{config.learning_rate:g}), raise warmup_steps, or look for outliers in the data."
            )
    done, last = fetched[-1]
    loss = sum(float(metrics.loss) for _, metrics in fetched) / len(fetched)
    curves.add(
        done,
        {
            "loss": loss,
            **({"location_loss": float(last.location_loss)} if config.locate_weight else {}),
            "gradient_norm": float(last.gradient_norm),
            "parameter_norm": float(last.parameter_norm),
            "learning_rate": float(last.learning_rate),
            "samples_per_s": progress.samples_per_s(),
        },
    )
    return loss
