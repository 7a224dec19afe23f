"""Everything in a LeRobot policy that decides its answers is taken over or refused by name."""

import json

import pytest

from simloop.policies.checkpoints import CheckpointError
from simloop.policies.checkpoints.lerobot_options import read_options
from simloop.policies.presets import preset
from simloop.policies.presets.recorded import fitted, taken_over, with_fields

NAMES = ["x", "y", "z", "gripper"]
CAMERAS = ("observation.images.base_0_rgb", "observation.images.left_wrist_0_rgb")
NORM = {"norm_map": {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"}}


def features(cameras=CAMERAS, state=4):
    images = {camera: {"type": "VISUAL", "shape": [3, 96, 96]} for camera in cameras}
    return {**images, "observation.state": {"type": "STATE", "shape": [state]}}


def step(name, **config):
    return {"registry_name": name, "config": config}


def options(folder, config=None, before=(), after=(), rename=None):
    """Options of a policy of four state and action entries, with further entries and steps."""
    steps = [
        step("rename_observations_processor", rename_map=rename or {}),
        step("to_batch_processor"),
        *before,
    ]
    content = {
        "policy_preprocessor": [*steps, step("normalizer_processor", **NORM)],
        "policy_postprocessor": [step("unnormalizer_processor", **NORM), *after],
    }
    for name, one in content.items():
        (folder / f"{name}.json").write_text(json.dumps({"name": name, "steps": one}))
    plain = {
        "type": "pi0", "n_obs_steps": 1, "chunk_size": 10, "n_action_steps": 10, "num_inference_steps": 10,
        "max_state_dim": 4, "max_action_dim": 4, "image_resolution": [96, 96], "tokenizer_max_length": 16,
        "input_features": features(), "output_features": {"action": {"type": "ACTION", "shape": [4]}},
        "use_relative_actions": False, "relative_exclude_joints": ["gripper"], "optimizer_lr": 2.5e-5,
    }  # fmt: skip
    return read_options(folder, plain | (config or {}))


def taken(folder, *args, name="pi0-tiny", **kwargs):
    return taken_over(fitted(preset(name), options(folder, *args, **kwargs), "p"))


def test_a_policy_like_its_preset_changes_its_resizing_alone(tmp_path):
    assert taken(tmp_path) == {"resizing": "bilinear"}


def test_takes_over_horizon_flow_steps_and_prompt_length(tmp_path):
    config = {"chunk_size": 50, "n_action_steps": 50, "num_inference_steps": 4, "tokenizer_max_length": 32}
    found = taken(tmp_path, config)
    assert found["model.action_horizon"] == 50
    assert found["flow_steps"] == 4
    assert found["prompt_lengths"] == [32]


def test_takes_over_the_delay_that_the_weights_were_trained_for(tmp_path):
    trained = fitted(preset("pi0-tiny"), options(tmp_path, {"rtc_training_max_delay": 4}), "p").spec()
    assert (trained.max_delay, "trained" in trained.guidance) == (4, True)
    plain = fitted(preset("pi0-tiny"), options(tmp_path, {"rtc_training_max_delay": 0}), "p").spec()
    assert (plain.max_delay, "trained" in plain.guidance) == (0, False)


def test_takes_over_relative_actions_but_for_excluded_joints(tmp_path):
    relative = step("relative_actions_processor", enabled=True, exclude_joints=["grip"], action_names=NAMES)
    found = taken(
        tmp_path,
        {"use_relative_actions": True},
        [relative],
        [step("absolute_actions_processor", enabled=True)],
    )
    assert found["relative"] == [True, True, True, False]


def test_disabled_steps_change_nothing_whatever_their_name(tmp_path):
    before = [step("relative_actions_processor", enabled=False), step("of_a_plugin", enabled=False)]
    assert "relative" not in taken(
        tmp_path, None, before, [step("absolute_actions_processor", enabled=False)]
    )


def test_a_policy_with_absolute_actions_overrides_a_preset_with_relative_ones(tmp_path):
    sizes = {"max_state_dim": 32, "max_action_dim": 32, "image_resolution": [224, 224]}
    absolute = options(tmp_path, {"output_features": {}, "input_features": {}, **sizes})
    assert preset("pi0_libero").relative
    assert fitted(preset("pi0_libero"), absolute, "p").relative == ()


def test_takes_over_the_order_of_cameras(tmp_path):
    found = fitted(preset("pi0-tiny"), options(tmp_path, {"input_features": features(CAMERAS[::-1])}), "p")
    assert found.model.cameras == ("left_wrist_0_rgb", "base_0_rgb")


def test_follows_renamed_cameras_to_those_of_the_robot(tmp_path):
    swapped = {CAMERAS[0]: CAMERAS[1], CAMERAS[1]: CAMERAS[0]}
    found = fitted(preset("pi0-tiny"), options(tmp_path, rename=swapped), "p")
    assert found.model.cameras == ("left_wrist_0_rgb", "base_0_rgb")


def test_knows_the_usual_names_of_cameras(tmp_path):
    named = features(
        ("observation.images.image2", "observation.images.image", "observation.images.empty_camera_0")
    )
    found = fitted(preset("pi0-tiny"), options(tmp_path, {"input_features": named}), "p")
    assert found.model.cameras == ("left_wrist_0_rgb", "base_0_rgb")


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"n_obs_steps": 3}, r"config\.json: n_obs_steps is 3; simloop's models have 1"),
        ({"a_new_option": "on"}, r"config\.json: a_new_option is 'on'"),
        ({"adapt_to_pi_aloha": True}, "adapt_to_pi_aloha is True"),
        ({"min_period": 0.1}, "min_period is 0.1"),
        ({"max_state_dim": 8}, "max_state_dim is 8"),
        ({"image_resolution": [224, 224]}, r"image_resolution is \(224, 224\); preset pi0-tiny has \(96, 96\)"),
        ({"type": "pi05"}, "preset pi0-tiny has 'pi0'"),
        ({"input_features": features(state=2)}, r"input_features\.observation\.state is 2; preset pi0-tiny has 4"),
        ({"input_features": features(("observation.images.attic",))}, "attic"),
        ({"output_features": {"action": {"type": "ACTION", "shape": [3]}}}, r"output_features\.action is 3"),
        ({"use_relative_actions": True}, "does not add the state"),
        ({"normalization_mapping": {"VISUAL": "MEAN_STD"}}, "images as they are"),
        ({"normalization_mapping": {"STATE": "QUANTILES"}}, "normalize STATE by MEAN_STD"),
        ({"chunk_size": "many"}, "chunk_size is 'many'"),
        ({"input_features": [1]}, "wanted an object"),
    ],
)  # fmt: skip
def test_refuses_an_option_with_file_key_and_value(tmp_path, config, named):
    with pytest.raises(CheckpointError, match=named):
        taken(tmp_path, config)


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ([], [step("my_gripper_inverter")], r"policy_postprocessor\.json: a step is 'my_gripper_inverter'"),
        ([], [step("map_delta_action_to_robot_action")], "map_delta_action_to_robot_action"),
        ([step("image_crop_resize_processor")], [], r"policy_preprocessor\.json"),
        ([step("tokenizer_processor", max_length=48)], [], "pads prompts to 48 tokens"),
        ([step("tokenizer_processor", tokenizer_name="gpt2")], [], "tokenizer_name is 'gpt2'"),
        ([step("relative_actions_processor", enabled=True)], [], "only one of"),
        ([], [step("absolute_actions_processor", enabled=True)], "use_relative_actions is False"),
        ([step("normalizer_processor", **NORM)], [], "occurs twice"),
        ([{"class": "my_robot.Step"}], [], "my_robot.Step"),
    ],
)
def test_refuses_a_step_that_may_change_answers(tmp_path, before, after, named):
    with pytest.raises(CheckpointError, match=named):
        taken(tmp_path, None, before, after)


def test_a_named_horizon_must_agree_with_that_of_the_policy(tmp_path):
    assert taken(tmp_path, {"chunk_size": 50}, name="pi0-tiny@h50")["model.action_horizon"] == 50
    with pytest.raises(CheckpointError, match="chunk_size is 50; preset pi0-tiny@h20 has 20"):
        taken(tmp_path, {"chunk_size": 50}, name="pi0-tiny@h20")


def test_training_starts_from_weights_of_another_robot_with_a_horizon_of_its_own(tmp_path):
    stated = options(tmp_path, {"chunk_size": 50, "input_features": features(state=2)})
    assert fitted(preset("pi0-tiny@h20"), stated, "p", as_start=True).model.action_horizon == 20


def test_what_was_taken_over_is_read_back_from_simloops_own_checkpoints(tmp_path):
    first = fitted(preset("pi0-tiny"), options(tmp_path, {"chunk_size": 50, "num_inference_steps": 4}), "p")
    assert with_fields(preset("pi0-tiny"), json.loads(json.dumps(taken_over(first))), "p") == first
    for wrong in ({"robots": "x"}, {"flow_steps": "4"}, {"model.cameras": [None]}, {"resizing": 1}):
        with pytest.raises(CheckpointError, match=r"states .*which is no field"):
            with_fields(preset("pi0-tiny"), wrong, "p")
