"""`recorded_guidance.npz` holds what LeRobot 0.6.1 and the authors' own code of real-time chunking (Kinetix, cc6c5f5)
gave for two analytic velocity fields."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simloop.policies.guidance import prefix_weights
from simloop.policies.models.guidance import (
    FullGuidance,
    IdentityGuidance,
    guidance_scale,
    guided_velocity,
)

RECORDED = np.load(Path(__file__).with_name("recorded_guidance.npz"))
CASES = json.loads(RECORDED["cases"].tobytes())
FIELD = {name.removeprefix("field/"): RECORDED[name] for name in RECORDED.files if name.startswith("field/")}


def linear(x, time):
    return x @ FIELD["linear/A"] + time * FIELD["linear/b"]


def mlp(x, time):
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
