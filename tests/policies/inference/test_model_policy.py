import dataclasses
import functools

import jax
import numpy as np
import pytest

from simloop.policies.inference.host_memory import share_memory
from simloop.policies.inference.loading import load_tokenizers
from simloop.policies.inference.model_policy import ModelPolicy
from simloop.policies.interface import Guidance, Query, QueryError
from simloop.policies.models.inference_plan import InferencePlan
from simloop.policies.models.parameters import flatten
from simloop.policies.presets import PRESETS
from simloop.policies.transforms.normalization import identity_stats, load_norm_stats
from tests.helpers.small_models import small_model

NAMES = ("pi0-tiny", "pi05-tiny", "pi0_fast-tiny")
BUCKET = 4
PLAN = InferencePlan().on("cpu", unroll_on_cpu=True)
"""Fused projections and separate layers, as on accelerators."""


@functools.cache
def small(name):
    """The preset with one layer of everything, which compiles faster."""
    whole = PRESETS[name]
    expert = whole.model.action_expert and dataclasses.replace(whole.model.action_expert, depth=1)
    model = dataclasses.replace(
        whole.model,
        language=dataclasses.replace(whole.model.language, depth=1),
        action_expert=expert,
        image_encoder=dataclasses.replace(whole.model.image_encoder, depth=1),
    )
    preset = dataclasses.replace(whole, model=model, answer_tokens=12)
    stats = load_norm_stats(whole.untrained_stats)
    return ModelPolicy(preset, preset.spec(), small_model(model), stats, load_tokenizers(preset), plan=PLAN)


def with_preset(policy, **changes):
    preset = dataclasses.replace(policy.preset, **changes)
    return ModelPolicy(preset, policy.spec, policy.model, policy.stats, policy.tokenizers, plan=PLAN)


@pytest.fixture(scope="module", params=NAMES)
def policy(request):
    return small(request.param)


@pytest.fixture(scope="module")
def pi0():
    return small("pi0-tiny")


@pytest.fixture(scope="module")
def two_lengths(pi0):
    return with_preset(pi0, prompt_lengths=(12, 24))


def queries(count, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Query(
            task="",
            instruction=("Open a drawer", "Press a button from the top")[i % 2],
            key=int(rng.integers(0, 2**63)),
            state=rng.uniform(-0.2, 0.9, 4).astype(np.float32),
            images={
                camera: rng.integers(0, 255, (100, 120, 3)).astype(np.uint8)
                for camera in ("base_0_rgb", "left_wrist_0_rgb")
            },
        )
        for i in range(count)
    ]


def same(a, b):
    return np.array_equal(a.actions, b.actions) and a.undecodable == b.undecodable


def test_answers_do_not_depend_on_place_or_neighbours(policy):
    asked = queries(BUCKET)
    alone = [policy.infer([query], BUCKET).chunks[0] for query in asked]
    together = policy.infer(asked, BUCKET).chunks
    order = [2, 0, 3, 1]
    shuffled = policy.infer([asked[i] for i in order], BUCKET).chunks
    for i in range(BUCKET):
        assert same(alone[i], together[i])
        assert same(shuffled[order.index(i)], together[i])


def test_answers_have_the_promised_shape(policy):
    answer = policy.infer(queries(2), BUCKET)
    for chunk in answer.chunks:
        if chunk.undecodable is None:
            assert chunk.actions.shape == (policy.spec.chunk_steps, policy.spec.action_size)
            assert np.isfinite(chunk.actions).all()
        else:
            assert chunk.actions.shape == (0, policy.spec.action_size)
    assert min(answer.host_s, answer.device_s, answer.post_s) > 0


def test_the_key_decides_the_noise_and_nothing_else_does(pi0):
    (query,) = queries(1)
    again = pi0.infer([query], BUCKET).chunks[0]
    other = pi0.infer([dataclasses.replace(query, key=query.key + 1)], BUCKET).chunks[0]
    high = pi0.infer([dataclasses.replace(query, key=query.key ^ 1 << 40)], BUCKET).chunks[0]
    assert same(pi0.infer([query], BUCKET).chunks[0], again)
    assert np.abs(other.actions - again.actions).max() > 0.1
    assert np.abs(high.actions - again.actions).max() > 0.1


def test_preparing_leaves_nothing_to_compile(pi0):
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event))
    assert pi0.prepare(3) > 0
    assert any("backend_compile" in event for event in compiled)
    compiled.clear()
    pi0.infer(queries(2), 3)
    assert not any("backend_compile" in event for event in compiled)


def test_no_mix_of_buckets_and_prompt_lengths_compiles_after_warm_up(two_lengths):
    batch_sizes = (1, BUCKET)
    for batch_size in batch_sizes:
        two_lengths.prepare(batch_size)
    assert len(two_lengths.programs) == 4
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event))
    rng = np.random.default_rng(0)
    for _ in range(12):
        batch_size = int(rng.choice(batch_sizes))
        asked = queries(int(rng.integers(1, batch_size + 1)), seed=int(rng.integers(99)))
        words = [("go", "go " * 10)[rng.integers(2)] for _ in asked]
        two_lengths.infer(
            [dataclasses.replace(query, instruction=text) for query, text in zip(asked, words, strict=True)],
            batch_size,
        )
    assert len(two_lengths.programs) == 4
    assert not [event for event in compiled if "compile" in event or "trace" in event], (
        "nor is anything traced"
    )


def test_it_tells_how_far_compiling_is(two_lengths):
    on_progress = []
    two_lengths.prepare(2, on_progress.append)
    assert [(one.done, one.programs, len(one.under_way)) for one in on_progress] == [
        (0, 2, 2),
        (1, 2, 1),
        (2, 2, 0),
    ]
    assert "2 rows with 2 cameras and prompts of 24 tokens" in on_progress[0].under_way
    assert str(on_progress[1]) == "compiling, 1 of 2 programs done"
    on_progress.clear()
    two_lengths.prepare(2, on_progress.append)
    assert not on_progress, "all is there"


def test_a_camera_more_than_usual_is_answered_and_said(pi0, caplog):
    pi0.prepare(1)
    (query,) = queries(1)
    more = dataclasses.replace(pi0.preset.model, cameras=(*pi0.preset.model.cameras, "right_wrist_0_rgb"))
    policy = ModelPolicy(
        dataclasses.replace(pi0.preset, model=more),
        pi0.spec,
        small_model(more),
        pi0.stats,
        pi0.tokenizers,
        plan=PLAN,
    )
    policy.prepare(1)
    assert not caplog.records
    query = dataclasses.replace(
        query, images={**query.images, "right_wrist_0_rgb": query.images["base_0_rgb"]}
    )
    for _ in range(2):
        policy.infer([query], 1)
    (record,) = caplog.records
    assert "1 rows with 3 cameras and prompts of 16 tokens at its first call" in record.message


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_that_does_not_keep_its_model_answers_and_calls_itself_the_same(name):
    def made(**options):
        model = small_model(small(name).preset.model)
        policy = small(name)
        return ModelPolicy(
            policy.preset, policy.spec, model, policy.stats, policy.tokenizers, plan=PLAN, **options
        ), model

    (keeps, model), (consumes, gone) = made(), made(keep_model=False)
    asked = queries(1)
    assert same(keeps.infer(asked, 1).chunks[0], consumes.infer(asked, 1).chunks[0])
    assert keeps.fingerprint() == consumes.fingerprint()
    used = jax.tree.leaves(consumes.programs.arguments)
    for key, array in flatten(gone).items():  # Memory holds each weight once.
        assert array.is_deleted() or any(array is one or share_memory(array, one) for one in used), key
    assert sum(array.is_deleted() for array in flatten(gone).values()) > 4
    assert not any(array.is_deleted() for array in flatten(model).values())
    assert keeps.model is model
    with pytest.raises(ValueError, match=r"laid out for inference\. Load the policy with keep_model=True"):
        consumes.model  # noqa: B018


def test_queries_of_different_shapes_are_answered_in_one_call(two_lengths):
    asked = [
        dataclasses.replace(q, instruction=text)
        for q, text in zip(queries(3), ("go", "go " * 10, "go"), strict=True)
    ]
    together = two_lengths.infer(asked, BUCKET).chunks
    for query, chunk in zip(asked, together, strict=True):
        assert same(two_lengths.infer([query], BUCKET).chunks[0], chunk)


def test_filling_up_prompts_changes_rounding_only(pi0, two_lengths):
    (query,) = queries(1)
    short, filled = (p.infer([query], BUCKET).chunks[0].actions for p in (two_lengths, pi0))
    np.testing.assert_allclose(short, filled, atol=1e-3)
    assert two_lengths.encoder.encode(query).shape != pi0.encoder.encode(query).shape


def test_filling_up_prompts_does_not_change_generated_tokens():
    fast = small("pi0_fast-tiny")
    (query,) = queries(1)
    short = with_preset(fast, prompt_lengths=(36, 48), decoding="free").infer([query], BUCKET).chunks[0]
    filled = with_preset(fast, decoding="free").infer([query], BUCKET).chunks[0]
    assert filled.undecodable is not None
    assert short.undecodable == filled.undecodable


def test_guided_answers_of_random_weights_are_whole_chunks():
    fast = small("pi0_fast-tiny")
    assert fast.preset.decoding == "constrained"
    for chunk in fast.infer(queries(BUCKET), BUCKET).chunks:
        assert chunk.undecodable is None
        assert chunk.actions.shape == (fast.spec.chunk_steps, fast.spec.action_size)


def test_relative_entries_are_added_to_the_state(pi0):
    stats = {"state": identity_stats(4), "actions": identity_stats(4)}
    relative = dataclasses.replace(pi0.preset, relative=(True, True, False))
    policy = ModelPolicy(relative, pi0.spec, pi0.model, stats, pi0.tokenizers)
    (query,) = queries(1)
    steps = policy.spec.chunk_steps
    output = np.full((steps, 4), 0.25, np.float32)
    wanted = np.tile(0.25 + query.state * [1, 1, 0, 0], (steps, 1))
    np.testing.assert_allclose(policy.chunk_from(query, output).actions, wanted, atol=1e-5)


def test_generated_actions_are_unnormalized_and_bad_tokens_handed_back():
    fast = small("pi0_fast-tiny")
    (query,) = queries(1)
    answer = fast.tokenizers.answer
    shape = (fast.spec.chunk_steps, fast.spec.action_size)
    normalized = np.sin(np.linspace(0, 3, shape[0] * shape[1])).reshape(shape)
    chunk = fast.chunk_from(query, np.array(answer.encode_answer(normalized), np.int32))
    stats = fast.stats["actions"]
    wanted = (normalized + 1) / 2 * (stats.q99 - stats.q01) + stats.q01
    assert np.abs(chunk.actions - wanted).max() < 0.15
    garbage = np.array([300, 301, 1, 5], np.int32)
    assert fast.chunk_from(query, garbage).undecodable == (300, 301)


def test_more_queries_than_the_bucket_are_refused(pi0):
    with pytest.raises(ValueError, match=r"1 to 2 queries; got 3"):
        pi0.infer(queries(3), 2)
    with pytest.raises(ValueError, match="got 0"):
        pi0.infer([], 2)


def test_fingerprints_tell_weights_statistics_and_presets_apart(pi0):
    def variant(model=pi0.model, stats=pi0.stats):
        return ModelPolicy(pi0.preset, pi0.spec, model, stats, pi0.tokenizers)

    one = pi0.fingerprint()
    changed = {
        "weights": variant(model=small_model(pi0.preset.model, seed=1)),
        "norm_stats": variant(stats={**pi0.stats, "state": identity_stats(4)}),
        "preset": with_preset(pi0, flow_steps=5),
    }
    for name, policy in changed.items():
        other = policy.fingerprint()
        assert {key for key in one if one[key] != other[key]} == {name}


def test_the_device_is_named(pi0):
    assert pi0.device() == jax.devices()[0].device_kind


@pytest.mark.parametrize("method", ["full", "identity"])
def test_guidance_pulls_the_start_of_a_chunk_to_the_actions_that_are_left_and_nothing_else(pi0, method):
    (query,) = queries(1)
    left = pi0.infer([dataclasses.replace(query, key=9)], BUCKET).chunks[0].actions[4:]
    guided = dataclasses.replace(query, guidance=Guidance(left, 2, method))
    unguided = dataclasses.replace(query, guidance=Guidance(left[:0], 2, method))
    first, second = pi0.infer([guided, unguided], BUCKET).chunks
    plain = pi0.infer([query], BUCKET).chunks[0]
    np.testing.assert_allclose(second.actions, plain.actions, rtol=0, atol=2e-6)
    apart = [np.abs(chunk.actions[:2] - left[:2]).mean() for chunk in (first, plain)]
    assert apart[0] < 0.7 * apart[1]


def test_a_policy_that_answers_in_tokens_cannot_be_guided():
    policy = small("pi0_fast-tiny")
    (query,) = queries(1)
    assert policy.spec.guidance == ()
    with pytest.raises(QueryError, match="cannot be guided"):
        policy.encode(dataclasses.replace(query, guidance=Guidance(np.zeros((3, 4), np.float32), 1, "full")))
