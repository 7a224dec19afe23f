"""Complete training runs of a tiny model on a tiny dataset."""

import dataclasses
import json
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest

from simloop.harness.planning.policy_names import parse
from simloop.policies.checkpoints import CheckpointError, open_checkpoint
from simloop.policies.inference.loading import load_policy
from simloop.policies.interface import Guidance, Query
from simloop.policies.models.parameters import flatten
from simloop.policies.presets import PRESETS
from simloop.policies.training import loop, setup
from simloop.policies.training.config import TrainConfig
from simloop.policies.training.dataset_writer import write_dataset
from simloop.policies.training.errors import TrainingError
from simloop.policies.training.export import export
from simloop.policies.training.loop import train
from simloop.policies.training.metric_writers import MetricWriters
from simloop.policies.training.prepared import prepare
from simloop.policies.training.state_checkpoints import StateCheckpoints
from simloop.policies.training.step import Metrics, initial_state
from tests.helpers.demonstrations import (
    CAMERAS,
    INSTRUCTIONS,
    demonstration,
    header,
    picture,
    small_dataset,
)
from tests.helpers.families import first_of


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_dataset(tmp_path_factory.mktemp("data") / "points", episodes=2)


@pytest.fixture(autouse=True, scope="module")
def smaller_presets():
    """The tiny presets with one layer of everything and 32 pixels."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("pi0-tiny", "pi05-tiny", "pi0_fast-tiny"):
            whole = PRESETS[name]
            model = whole.model
            sizes = {
                "width": 32,
                "depth": 1,
                "mlp_dim": 64,
                "num_heads": 2,
                "num_kv_heads": 1,
                "head_dim": 16,
            }
            small = dataclasses.replace(
                model,
                image_size=32,
                language=dataclasses.replace(model.language, **sizes),
                action_expert=model.action_expert and dataclasses.replace(model.action_expert, **sizes),
                image_encoder=dataclasses.replace(
                    model.image_encoder, width=32, depth=1, mlp_dim=64, num_heads=2, patch_size=8
                ),
            )
            patch.setitem(PRESETS, name, dataclasses.replace(whole, model=small))
        yield


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """Folder of a complete run of pi0."""
    out = tmp_path_factory.mktemp("runs") / "pi0"
    train(config(data, out))
    return out


@pytest.fixture(scope="module")
def trained(run):
    """Checkpoint that `run` exported."""
    return run / "exports" / "step-0000008"


def config(data, out, preset="pi0-tiny", **changes) -> TrainConfig:
    sizes = {"steps": 8, "batch": 4, "warmup_steps": 2, "log_every": 1, "save_every": 3}
    return TrainConfig(preset=preset, data=(data,), out=out, **{**sizes, **changes})


def losses(out) -> list[float]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["loss"] for line in lines]


def test_an_interrupted_run_keeps_every_step_and_resumes_with_the_same_losses_and_weights(
    run, trained, data, tmp_path
):
    asked = iter([False] * 3 + [True])
    with pytest.raises(KeyboardInterrupt):
        train(config(data, tmp_path / "stopped"), interrupted=lambda: next(asked))
    assert len(losses(tmp_path / "stopped")) == 4
    assert StateCheckpoints(tmp_path / "stopped").latest() == 4
    resumed = train(config(data, tmp_path / "stopped"))
    assert losses(tmp_path / "stopped") == losses(run)
    assert open_checkpoint(resumed).weights_sha256() == open_checkpoint(trained).weights_sha256()


@pytest.mark.parametrize("preset", first_of("pi0_fast-tiny", "pi05-tiny"))
def test_exports_a_policy_with_its_own_statistics_and_tokenizer(data, tmp_path, preset):
    delay = 3 if preset == "pi05-tiny" else 0
    options = {"steps": 3, "ema_decay": 0.0, "action_vocabulary": 400, "max_delay": delay}
    folder = train(config(data, tmp_path / "run", preset, **options))
    opened = open_checkpoint(folder)
    assert opened.preset == preset
    assert opened.settings["demonstrations"] == {"points/task-0": [1000], "points/task-1": [1001]}
    policy = load_policy(preset, folder)
    assert policy.spec.max_delay == parse(f"{preset}@{folder}").spec().max_delay == delay
    np.testing.assert_allclose(policy.stats["actions"].mean, opened.norm_stats()["actions"].mean)
    assert policy.image_stats.keys() == set(CAMERAS)
    if preset == "pi0_fast-tiny":
        fitted = setup.load_fast_actions(tmp_path / "run" / "action_tokens")
        assert policy.fingerprint()["action_tokenizer"] == fitted.sha256
    state = np.zeros(4, np.float32)
    query = Query(
        task="task-0",
        instruction=INSTRUCTIONS[0],
        key=3,
        state=state,
        images={camera: picture(state, camera, 32) for camera in CAMERAS},
    )
    (chunk,) = policy.infer([query], 1).chunks
    assert chunk.actions.shape == (policy.spec.chunk_steps, 4)
    if delay:
        left = chunk.actions + np.float32(0.1)
        committed = dataclasses.replace(query, guidance=Guidance(left, 5, "trained"))
        (continued,) = policy.infer([committed], 1).chunks
        np.testing.assert_allclose(continued.actions[:delay], left[:delay], atol=1e-5)
        assert np.abs(continued.actions[delay] - left[delay]).max() > 1e-3


@pytest.mark.slow
def test_reproduces_an_overfitted_episode(tmp_path):
    data = small_dataset(tmp_path / "one", episodes=1)
    folder = train(
        config(data, tmp_path / "run", steps=400, batch=16, learning_rate=3e-3, ema_decay=0.9, save_every=400)
    )
    policy = load_policy("pi0-tiny", folder)
    cameras = {camera: f"observation.images.{camera}" for camera in CAMERAS}
    recorded = prepare(data, cameras, 32)
    errors = []
    for row in range(8):
        state = recorded.states[row]
        query = Query(
            task="task-0",
            instruction=INSTRUCTIONS[0],
            key=row,
            state=state,
            images={camera: np.asarray(recorded.frames[camera][row]) for camera in CAMERAS},
        )
        (chunk,) = policy.infer([query], 1).chunks
        errors.append(np.abs(chunk.actions - recorded.actions[row : row + len(chunk.actions)]).mean())
    spread = np.abs(recorded.actions - recorded.actions.mean(axis=0)).mean()
    assert np.mean(errors) < 0.35 * spread


def test_rejects_options_and_data_that_do_not_fit(data, tmp_path):
    with pytest.raises(TrainingError, match="warmup_steps must be less than steps"):
        config(data, tmp_path / "a", warmup_steps=8)
    with pytest.raises(TrainingError, match="micro_batches must divide the batch of 4; got 3"):
        config(data, tmp_path / "a", micro_batches=3)
    with pytest.raises(TrainingError, match="need a checkpoint; name it with init"):
        config(data, tmp_path / "a", lora_rank=4)
    with pytest.raises(TrainingError, match="cameras lacks left_wrist_0_rgb"):
        train(config(data, tmp_path / "a", cameras=("base_0_rgb=observation.images.base_0_rgb",)))
    with pytest.raises(TrainingError, match="answers in tokens, each of which depends on all steps"):
        train(config(data, tmp_path / "a", "pi0_fast-tiny", max_delay=2))
    with pytest.raises(
        TrainingError, match=r"max_delay must be at most 5, half a chunk of pi0-tiny.*; got 6"
    ):
        train(config(data, tmp_path / "d", max_delay=6))
    wide = tmp_path / "wide"
    write_dataset(wide, header(state_size=5), [demonstration(0, state_size=5)])
    with pytest.raises(TrainingError, match=r"has state of 4 numbers .*; the dataset has 5"):
        train(config(wide, tmp_path / "b"))
    wordy = tmp_path / "wordy"
    long = dataclasses.replace(demonstration(0), instruction="Push the puck slowly to the far goal " * 4)
    write_dataset(wordy, header(), [long])
    with pytest.raises(TrainingError, match=r"takes \d+ tokens; pi0-tiny has room for 16"):
        train(config(wordy, tmp_path / "c"))


def test_state_prediction_needs_recorded_states(tmp_path):
    bare = dataclasses.replace(demonstration(0), environment_states=np.zeros((24, 0), np.float32))
    write_dataset(tmp_path / "data", dataclasses.replace(header(), environment_size=0), [bare])
    with pytest.raises(TrainingError, match="Collect demonstrations with simloop"):
        train(config(tmp_path / "data", tmp_path / "out", objective="state"))


def test_rejects_the_folder_of_another_run(data, tmp_path):
    setup.set_up(config(data, tmp_path / "run"), str)
    with pytest.raises(TrainingError, match=r"another training run: learning_rate: 0.0005 -> 0.1"):
        setup.set_up(config(data, tmp_path / "run", learning_rate=0.1), str)
    setup.set_up(config(data, tmp_path / "run", log_every=7), str)


def test_stops_at_a_loss_that_is_not_finite(data, tmp_path):
    chosen = config(data, tmp_path)
    curves = MetricWriters(tmp_path, 0)
    fine, broken = (Metrics(*map(jnp.float32, (loss, 0.0, 1.0, 1.0, 1e-3))) for loss in (0.5, np.nan))
    assert loop.write_metrics([(1, fine)], curves, 1.0, chosen) == 0.5
    with pytest.raises(TrainingError, match=r"At step 3 the loss is nan.*Lower learning_rate \(now 0.0005\)"):
        loop.write_metrics([(2, fine), (3, broken)], curves, 1.0, chosen)
    curves.close()


def test_old_option_names_are_read(data, tmp_path):
    setup.set_up(config(data, tmp_path, state_loss_weight=0.5), str)
    file = tmp_path / "config.json"
    text = file.read_text().replace("state_loss_weight", "locate_weight").replace('"actions"', '"act"')
    file.write_text(text)
    assert "locate_weight" in text
    setup.set_up(config(data, tmp_path, state_loss_weight=0.5), str)


@pytest.mark.slow
def test_merges_adapters_into_the_weights_of_the_initial_checkpoint(trained, data, tmp_path):
    folder = train(
        config(
            data,
            tmp_path / "adapted",
            init=trained,
            lora_rank=2,
            ema_decay=0.0,
            steps=8,
            statistics="init",
            learning_rate=0.03,
        )
    )
    before, after = load_policy("pi0-tiny", trained), load_policy("pi0-tiny", folder)
    np.testing.assert_array_equal(before.stats["actions"].mean, after.stats["actions"].mean)
    old, new = flatten(before.model), flatten(after.model)
    assert old.keys() == new.keys(), "no adapter is left"
    name = "PaliGemma/llm/layers/attn/q_einsum_1/w"  # In a model of one layer, the prefix makes no queries.
    change = np.asarray(new[name], np.float64) - np.asarray(old[name], np.float64)
    for layer, heads in enumerate(change):
        for head in heads:
            singular = np.linalg.svd(head, compute_uv=False)
            assert singular[0] > 0, (layer, "an adapter changes its weight")
            # Two directions, and what rounding to bfloat16 adds.
            assert singular[2] < 0.2 * singular[0]
    embedding = "PaliGemma/llm/embedder/input_embedding"
    np.testing.assert_array_equal(old[embedding], new[embedding])


def test_starts_from_the_fitting_arrays_of_another_model(trained, data, tmp_path):
    fast = config(data, tmp_path / "all", "pi0_fast-tiny", init=trained)
    with pytest.raises(CheckpointError, match="action_out_proj"):
        setup.initial_parameters(setup.set_up(fast, str), str)
    fast = dataclasses.replace(fast, out=tmp_path / "fitting", init_takes="fitting")
    new, frozen = setup.initial_parameters(setup.set_up(fast, str), str)
    old = flatten(load_policy("pi0-tiny", trained).model)
    assert not frozen
    assert new.keys() < old.keys()
    for name, value in new.items():
        np.testing.assert_array_equal(value, old[name], err_msg=name)
    with pytest.raises(TrainingError, match="name a checkpoint"):
        config(data, tmp_path, init_takes="fitting")


def test_names_arrays_that_the_initial_checkpoint_lacks(trained, data, tmp_path):
    messages: list[str] = []
    chosen = config(data, tmp_path / "flow", "pi05-tiny", init=trained, init_takes="fitting")
    ready = setup.set_up(chosen, str)
    parameters = setup.initial_parameters(ready, messages.append)
    assert "time_mlp_in/kernel" in messages[-1].rpartition(" initialized: ")[2]
    folder = export(ready, initial_state(*parameters, ready.rules), tmp_path / "exported")
    recorded = json.loads((folder / "simloop_checkpoint.json").read_text())["config"]["training"]["init"]
    assert recorded == {
        "preset": "pi0-tiny",
        "weights_sha256": open_checkpoint(trained).weights_sha256(),
        "objective": "actions",
        "steps": 8,
        "batch": 4,
    }
    assert str(tmp_path) not in (folder / "simloop_checkpoint.json").read_text()


def test_exports_the_seeds_of_earlier_runs_too(trained, tmp_path):
    other = small_dataset(tmp_path / "other", episodes=4)
    ready = setup.set_up(config(other, tmp_path / "second", init=trained), str)
    state = initial_state(*setup.initial_parameters(ready, str), ready.rules)
    exported = open_checkpoint(export(ready, state, tmp_path / "exported"))
    assert exported.settings["demonstrations"] == {
        "points/task-0": [1000, 1002],
        "points/task-1": [1001, 1003],
    }


def test_state_prediction_trains_the_image_encoder_alone(trained, data, tmp_path):
    sizes = {"steps": 40, "save_every": 40, "learning_rate": 3e-3}
    chosen = config(data, tmp_path / "state", objective="state", init=trained, **sizes)
    after = flatten(load_policy("pi0-tiny", train(chosen)).model)
    before = flatten(load_policy("pi0-tiny", trained).model)
    assert after.keys() == before.keys()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("PaliGemma/img/") for name in changed)
    values = losses(tmp_path / "state")
    assert np.mean(values[-5:]) < 0.5 * np.mean(values[:5])


@pytest.mark.slow
def test_state_prediction_ignores_cameras_that_the_data_lack(data, tmp_path, monkeypatch):
    whole = PRESETS["pi0-tiny"]
    model = dataclasses.replace(whole.model, cameras=(*whole.model.cameras, "right_wrist_0_rgb"))
    monkeypatch.setitem(PRESETS, "pi0-tiny", dataclasses.replace(whole, model=model))
    train(config(data, tmp_path / "state", objective="state", steps=3))
    assert np.isfinite(losses(tmp_path / "state")).all()


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["pi0-tiny", "pi0_fast-tiny"])
def test_learns_states_beside_actions(data, tmp_path, preset):
    sizes = {"steps": 120, "save_every": 120, "learning_rate": 3e-3, "batch": 16, "flow_samples": 2}
    folder = train(
        config(data, tmp_path / "run", preset, state_loss_weight=1.0, action_vocabulary=0, **sizes)
    )
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    state_losses = [line["state_loss"] for line in lines]
    assert np.mean(state_losses[-20:]) < 0.7 * np.mean(state_losses[:20])
    assert lines[-1]["loss"] < lines[0]["loss"], "the curve of the actions alone"
    assert load_policy(preset, folder).spec.weights == "trained", "nothing is left over"


@pytest.mark.slow
def test_resumes_after_its_process_was_killed(data, tmp_path):
    def command(out) -> list[str]:
        sizes = [
            "--steps",
            "16",
            "--batch",
            "2",
            "--warmup-steps",
            "2",
            "--log-every",
            "1",
            "--save-every",
            "4",
        ]
        where = ["--preset", "pi0-tiny", "--data", str(data), "--out", str(out)]
        return [sys.executable, "-c", "from simloop.harness.cli import main; main()", "train", *where, *sizes]

    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    metrics = tmp_path / "killed" / "metrics.jsonl"
    with subprocess.Popen(command(tmp_path / "killed"), stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") >= 6):
            time.sleep(0.02)
        process.kill()
    assert process.returncode != 0, "it was killed before its end"
    subprocess.run(command(tmp_path / "killed"), check=True, capture_output=True)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    ends = [open_checkpoint(tmp_path / run / "exports" / "step-0000016") for run in ("killed", "whole")]
    assert ends[0].weights_sha256() == ends[1].weights_sha256()
