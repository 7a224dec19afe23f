"""The training loop, from the first step or from the latest checkpoint.

    frame order -> batch (host, ahead of time) -> step (device) -> curves, checkpoints, export

All randomness is a function of the seed and the step, so a run that is killed and restarted computes the losses
that it would have computed without interruption.
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
from simloop.policies.training.errors import TrainingError
from simloop.policies.training.examples import Shuffle
from simloop.policies.training.export import export
from simloop.policies.training.metric_writers import MetricWriters
from simloop.policies.training.progress import TrainingProgress
from simloop.policies.training.setup import Setup, initial_parameters, set_up
from simloop.policies.training.state_checkpoints import StateCheckpoints
from simloop.policies.training.step import Metrics, TrainingBatch, TrainState, initial_state, make_step

BATCHES_AHEAD = 2
EXPORTS = "exports"

Evaluate = Callable[[int, Path], dict[str, float]]
"""Maps completed steps and an exported checkpoint to values for the curves."""


@dataclass(frozen=True)
class PeriodicEvaluation:
    """Evaluation of exported weights between training steps."""

    every: int
    """Steps between two evaluations."""
    evaluate: Evaluate


def train(
    config: TrainConfig,
    evaluation: PeriodicEvaluation | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Path:
    """Train, or resume; returns the folder of the exported checkpoint.

    Args:
      config: Model, data and options.
      evaluation: Evaluation of exported weights between steps.
      interrupted: Whether to end after the present step; asked after each.

    Raises:
      KeyboardInterrupt: When `interrupted`, with the step saved to resume from.
      TrainingError: Before the first step if options, data and devices do not fit; later if the loss is not finite.
      DatasetError: If the data cannot be read.
      CheckpointError: If the checkpoint to start from does not fit.
      UnknownPresetError: If there is no such preset.
    """
    with TrainingProgress(config.steps, config.batch) as progress:
        mesh = _mesh(config)
        setup = set_up(config, progress.log)
        checkpoints = StateCheckpoints(config.out)
        state = _initial_or_restored_state(setup, mesh, checkpoints, progress.log)
        first = int(state.step)
        if first:
            progress.log(f"Resuming from step {first}.")
        curves = MetricWriters(config.out, first, config.wandb, config.decisive())
        try:
            state = _run_steps(setup, mesh, state, evaluation, checkpoints, curves, progress, interrupted)
            folder = export(setup, state, _export_folder(config, config.steps))
        finally:
            checkpoints.close()
            curves.close()
        progress.log(f"Trained {config.steps} steps; the weights are in {folder}.")
        return folder


def _run_steps(
    setup: Setup,
    mesh: Any,
    state: TrainState,
    evaluation: PeriodicEvaluation | None,
    checkpoints: StateCheckpoints,
    curves: MetricWriters,
    progress: TrainingProgress,
    interrupted: Callable[[], bool],
) -> TrainState:
    config, first = setup.config, int(state.step)
    step = _compiled_step(setup, mesh)
    key = jax.device_put(jax.random.split(jax.random.key(config.seed))[0], replicated(mesh))
    pending: list[tuple[int, Metrics]] = []
    started = time.monotonic()
    for done, batch in _batches(setup, first, batch_sharding(mesh)):
        state, metrics = step(state, batch, key)
        pending.append((done, metrics))
        if done == first + 1:
            jax.block_until_ready(metrics)
            progress.log(f"First step after {time.monotonic() - started:.1f} s.")
            progress.start_timing(done)
        last = done == config.steps
        stops = not last and interrupted()
        saves = last or stops or done % config.save_every == 0
        loss = None
        if saves or done % config.log_every == 0:
            loss = write_metrics(pending, curves, progress.samples_per_s(), config)
            pending = []
        progress.advance(done, loss)
        if saves:
            checkpoints.save(done, state)
        if stops:
            progress.log(f"Interrupted after step {done}, which is saved. The same command resumes.")
            raise KeyboardInterrupt
        if evaluation is not None and (last or done % evaluation.every == 0):
            folder = export(setup, state, _export_folder(config, done))
            curves.add(done, evaluation.evaluate(done, folder))
    return state


def _mesh(config: TrainConfig) -> Any:
    try:
        mesh = make_mesh(config.fsdp_devices)
    except DevicesError as error:
        raise TrainingError(f"fsdp_devices: {error}") from error
    if config.batch % (len(jax.devices()) * config.micro_batches):
        raise TrainingError(
            f"The batch of {config.batch} must be a multiple of devices x micro_batches, "
            f"{len(jax.devices())} x {config.micro_batches}."
        )
    return mesh


def _export_folder(config: TrainConfig, step: int) -> Path:
    return config.out / EXPORTS / f"step-{step:07d}"


def _compiled_step(setup: Setup, mesh: Any) -> Callable[[TrainState, TrainingBatch, Any], Any]:
    states = state_sharding(_abstract_state(setup), mesh)
    return jax.jit(
        make_step(setup.preset.model, setup.rules),
        in_shardings=(states, batch_sharding(mesh), replicated(mesh)),
        out_shardings=(states, replicated(mesh)),
        donate_argnums=0,
    )


def _abstract_state(setup: Setup) -> TrainState:
    """Shapes and dtypes of the state."""
    trained: Any = {}
    frozen: Any = {}
    for name, shape in setup.shapes().items():
        if setup.trains(name):
            trained[name] = jax.ShapeDtypeStruct(shape, jnp.float32)
        else:
            frozen[name] = jax.ShapeDtypeStruct(shape, setup.preset.model.dtype)
    return jax.eval_shape(partial(initial_state, rules=setup.rules), trained, frozen)


def _initial_or_restored_state(
    setup: Setup, mesh: Any, checkpoints: StateCheckpoints, log: Callable[[str], None]
) -> TrainState:
    if checkpoints.latest() is not None:
        abstract = _abstract_state(setup)
        like = jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            abstract,
            state_sharding(abstract, mesh),
        )
        return checkpoints.restore(like)
    state = initial_state(*initial_parameters(setup, log), setup.rules)
    # A copy, because the step donates its state, whose memory loaded arrays may share.
    return jax.device_put(jax.tree.map(lambda x: x.copy(), state), state_sharding(state, mesh))


def _batches(setup: Setup, first: int, sharding: Any) -> Iterator[tuple[int, TrainingBatch]]:
    """Batches with the number of steps completed after each; prepared ahead in a thread."""
    config = setup.config
    order = Shuffle(setup.examples.usable, config.batch, config.seed)

    def make(step: int) -> TrainingBatch:
        return jax.device_put(setup.examples.batch(order.frames_of(step)), sharding)

    with ThreadPoolExecutor(1, "batches") as pool:
        steps = range(first, config.steps)
        ahead = [pool.submit(make, step) for step in steps[:BATCHES_AHEAD]]
        for step in steps:
            batch = ahead.pop(0).result()
            if step + BATCHES_AHEAD < config.steps:
                ahead.append(pool.submit(make, step + BATCHES_AHEAD))
            yield step + 1, batch


def write_metrics(
    pending: list[tuple[int, Metrics]], curves: MetricWriters, samples_per_s: float, config: TrainConfig
) -> float:
    """Write a point of every curve from the steps since the last one; returns their mean loss.

    Raises:
      TrainingError: If a loss or a gradient is not finite.
    """
    fetched = [(done, jax.device_get(metrics)) for done, metrics in pending]
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
            **({"state_loss": float(last.state_loss)} if config.state_loss_weight else {}),
            "gradient_norm": float(last.gradient_norm),
            "parameter_norm": float(last.parameter_norm),
            "learning_rate": float(last.learning_rate),
            "samples_per_s": samples_per_s,
        },
    )
    return loss
