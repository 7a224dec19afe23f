import dataclasses

import numpy as np
import pytest

from simloop.policies.inference import query_encoder
from simloop.policies.inference.query_encoder import QueryEncoder
from simloop.policies.interface import Query, QueryError
from simloop.policies.presets import PRESETS
from simloop.policies.tokenizers.sentencepiece_model import load_sentencepiece
from simloop.policies.transforms.normalization import Normalizer, load_norm_stats

IMAGE = np.random.default_rng(0).integers(0, 255, (96, 96, 3)).astype(np.uint8)
STATE = np.array([0.0, 0.6, 0.2, 0.9], np.float32)


def encoder_of(preset):
    stats = load_norm_stats(PRESETS["pi0-tiny"].untrained_stats)
    state = Normalizer(preset.normalization, stats["state"])
    return QueryEncoder(preset, load_sentencepiece(PRESETS["pi0-tiny"].text_model), state, state)


@pytest.fixture
def query():
    images = {"base_0_rgb": IMAGE, "left_wrist_0_rgb": IMAGE[::-1]}
    return Query(
        task="reach-v3", instruction="Reach a goal position", key=2**63 + 5, state=STATE, images=images
    )


def test_the_state_is_normalized_then_padded(query):
    preset = PRESETS["pi0-tiny"]
    wide = dataclasses.replace(preset, model=dataclasses.replace(preset.model, action_dim=9))
    row = encoder_of(wide).encode(query)
    stats = load_norm_stats(preset.untrained_stats)["state"]
    np.testing.assert_allclose(row.state[:4], (STATE - stats.mean) / stats.std, rtol=1e-4)
    assert not row.state[4:].any()


def test_both_halves_of_the_key_are_kept(query):
    assert encoder_of(PRESETS["pi0-tiny"]).encode(query).key.tolist() == [2**31, 5]


def test_prompts_take_the_shortest_length_that_fits(query):
    encoder = encoder_of(dataclasses.replace(PRESETS["pi0-tiny"], prompt_lengths=(8, 24)))
    long = dataclasses.replace(query, instruction="Bypass a wall and press a button from the top")
    assert encoder.encode(query).shape.prompt_tokens == 8
    assert encoder.encode(long).shape.prompt_tokens == 24


def test_a_missing_camera_is_an_error(query):
    without = dataclasses.replace(query, images={"base_0_rgb": IMAGE})
    with pytest.raises(QueryError, match="'left_wrist_0_rgb'"):
        encoder_of(PRESETS["pi0-tiny"]).encode(without)


def test_an_unknown_camera_is_an_error(query):
    with_another = dataclasses.replace(query, images={**query.images, "corner2": IMAGE})
    with pytest.raises(QueryError, match="'corner2'"):
        encoder_of(PRESETS["pi0-tiny"]).encode(with_another)


def test_a_state_of_another_size_is_an_error(query):
    with pytest.raises(QueryError, match=r"4 numbers .*shape \(7,\)"):
        encoder_of(PRESETS["pi0-tiny"]).encode(dataclasses.replace(query, state=np.zeros(7, np.float32)))


def test_cameras_that_the_robot_lacks_are_left_out_or_black(query):
    model = dataclasses.replace(
        PRESETS["pi0-tiny"].model, cameras=("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
    )
    masked = dataclasses.replace(PRESETS["pi0-tiny"], model=model)
    assert list(encoder_of(masked).encode(query).images) == ["base_0_rgb", "left_wrist_0_rgb"]
    black = encoder_of(dataclasses.replace(masked, absent_cameras="black")).encode(query)
    assert not black.images["right_wrist_0_rgb"].any()


def test_images_are_resized_to_the_models_size(query):
    large = dataclasses.replace(query, images=dict.fromkeys(query.images, np.zeros((240, 320, 3), np.uint8)))
    row = encoder_of(PRESETS["pi0-tiny"]).encode(large)
    assert {image.shape for image in row.images.values()} == {(96, 96, 3)}


def test_names_camera_dtype_and_shape_of_an_array_that_is_no_image():
    with pytest.raises(QueryError, match=r"camera 'base_0_rgb' .* float64 \(96, 96, 3\)"):
        query_encoder._pixels("base_0_rgb", np.full((96, 96, 3), 128.0))


def test_names_an_entry_of_the_state_that_is_not_finite(query):
    with pytest.raises(QueryError, match="Entry 1 of the state is nan"):
        encoder_of(PRESETS["pi0-tiny"]).encode(
            dataclasses.replace(query, state=np.array([0, np.nan, 0, 0], np.float32))
        )
