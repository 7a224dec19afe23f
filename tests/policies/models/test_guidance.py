"""`recorded_guidance.npz` holds what LeRobot 0.6.1 (for trained conditioning 7427f31) and the authors' own code of
real-time chunking (Kinetix, cc6c5f5) gave for two analytic velocity fields."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simloop.policies.guidance import prefix_weights
from simloop.policies.models.flow_matching import committed_times, flow_target, training_delays
from simloop.policies.models.guidance import (
    CommittedPrefix,
    FullGuidance,
    IdentityGuidance,
    guidance_scale,
    guided_velocity,
)

RECORDED = np.load(Path(__file__).with_name("recorded_guidance.npz"))
CASES = json.loads(RECORDED["cases"].tobytes())
FIELD = {name.removeprefix("field/"): RECORDED[name] for name in RECORDED.files if name.startswith("field/")}


def linear(x, time):
    """Every step has its own flow time, if `time` is [b, c, 1]."""
    return x @ FIELD["linear/A"] + time * FIELD["linear/b"]


def mlp(x, time):
    """The flow time is a number, or [b, 1]."""
    hidden = jnp.tanh(x.reshape(len(x), -1) @ FIELD["mlp/W1"].T + FIELD["mlp/wt"] * time + FIELD["mlp/c1"])
    return (hidden @ FIELD["mlp/W2"].T + FIELD["mlp/c2"]).reshape(x.shape)


@jax.jit(static_argnames=("field", "steps", "cap"))
def sampled(field, steps, guidance, noise, cap):
    x = noise
    for step in range(steps):
        time = jnp.float32(1 - step / steps)
        velocity = lambda x, time=time: ({"linear": linear, "mlp": mlp}[field](x, time), None)  # noqa: E731
        x = x - guided_velocity(guidance, velocity, x, time, cap)[0] / steps
    return x


@pytest.mark.parametrize("program", ["lerobot", "kinetix"])
def test_guides_as_the_recorded_program_does(program):
    found = {}
    for case in CASES:
        if not case["name"].startswith(program) or case["leftover"] is None:
            continue
        rows = case["leftover"]
        target = np.zeros_like(FIELD["prev"])
        target[:, :rows] = FIELD["prev"][:, :rows]
        end = min(case["end"], rows) if program == "lerobot" else case["end"]
        weights = prefix_weights(case["delay"], end, target.shape[1], case["schedule"])
        kind = IdentityGuidance if program == "lerobot" else FullGuidance
        guidance = kind(target, np.broadcast_to(weights, target.shape[:2]))
        noise = FIELD["noise"] if program == "lerobot" else RECORDED["kinetix_noise"]
        with jax.default_matmul_precision("highest"):
            actions = sampled(case["velocity"], case["steps"], guidance, noise, case["cap"])
        recorded = RECORDED[case["name"]]
        found[case["name"]] = np.sqrt(np.mean((actions - recorded) ** 2) / np.mean(recorded**2))
    assert len(found) > 40
    assert max(found.values()) < 1e-5, max(found, key=found.get)


def test_continues_given_actions_as_the_recorded_program_does():
    found = {}
    for case in CASES:
        if not case["name"].startswith("trained"):
            continue
        weights = prefix_weights(case["delay"], case["leftover"], FIELD["prev"].shape[1], "zeros")
        prefix = CommittedPrefix(
            jnp.asarray(FIELD["prev"]), jnp.broadcast_to(weights, FIELD["prev"].shape[:2])
        )
        x = jnp.asarray(FIELD["noise"])
        for step in range(case["steps"]):
            times = prefix.times(jnp.full(len(x), 1 - step / case["steps"]))
            fields = {
                "linear": lambda x, t=times: (linear(x, t[..., None]), None),
                "mlp": lambda x, t=times: (mlp(x, t.mean(axis=1, keepdims=True)), None),
            }
            x, _ = prefix.step(fields[case["velocity"]], x, jnp.float32(-1 / case["steps"]))
        assert (x[:, : case["delay"]] == FIELD["prev"][:, : case["delay"]]).all()
        recorded = RECORDED[case["name"]]
        found[case["name"]] = np.sqrt(np.mean((x - recorded) ** 2) / np.mean(recorded**2))
    assert len(found) == 16
    assert max(found.values()) < 1e-5, max(found, key=found.get)


def test_trains_on_the_steps_behind_a_given_prefix_as_the_recorded_program_does():
    recorded = {name: RECORDED[f"train/{name}"] for name in ("time", "model_time", "x_t", "prefix_mask")}
    delays = recorded["prefix_mask"].sum(axis=1)
    times = committed_times(jnp.asarray(recorded["time"]), jnp.asarray(delays), 10)
    np.testing.assert_array_equal(times, recorded["model_time"])
    x, _ = flow_target(jnp.asarray(FIELD["prev"]), jnp.asarray(FIELD["noise"]), times)
    np.testing.assert_allclose(x, recorded["x_t"], atol=1e-6)


def test_delays_to_train_for_follow_their_distribution():
    shares = {
        distribution: np.bincount(training_delays(jax.random.key(0), (20_000,), 4, distribution)) / 20_000
        for distribution in ("uniform", "exponential")
    }
    np.testing.assert_allclose(shares["uniform"], np.full(5, 0.2), atol=0.01)
    # As in the authors' simulations with `simulated_delay=5`.
    np.testing.assert_allclose(shares["exponential"], [0.636, 0.234, 0.086, 0.032, 0.012], atol=0.01)


@pytest.mark.parametrize("total", [8, 10, 50])
@pytest.mark.parametrize("program", ["lerobot", "kinetix"])
def test_weights_equal_those_of_the_recorded_programs(program, total):
    rows = zip(
        *(RECORDED[f"weights/total{total}/{name}"] for name in ("start", "end", "schedule", program)),
        strict=True,
    )
    compared = 0
    for delay, end, schedule, recorded in rows:
        if end > total:
            continue  # There the programs differ; a run refuses such an end.
        weights = prefix_weights(int(delay), int(end), total, str(schedule))
        np.testing.assert_allclose(weights, recorded, rtol=0, atol=1e-6 if total == 50 else 2e-7)
        compared += 1
    assert compared > 40


def test_rows_with_zero_weights_are_not_guided():
    x, zeros = jnp.asarray(FIELD["noise"]), np.zeros(FIELD["noise"].shape[:2], np.float32)
    for kind in (FullGuidance, IdentityGuidance):
        guided, _ = guided_velocity(
            kind(FIELD["prev"], zeros), lambda x: (mlp(x, 0.7), None), x, jnp.float32(0.7)
        )
        np.testing.assert_array_equal(guided, mlp(x, 0.7))


def test_the_correction_is_capped_at_both_ends_and_symmetric():
    scale = [float(guidance_scale(jnp.float32(t), 5.0)) for t in (1.0, 0.8, 0.5, 0.2, 0.001)]
    np.testing.assert_allclose(scale, [5, 4.25, 2, 4.25, 5], rtol=1e-5)
