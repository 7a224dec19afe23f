"""What the names of policies on the command line denote."""

import json
import pickle
import shutil

import pytest

from simloop.harness.planning.experiment import (
    Experiment,
    ExperimentError,
    experiment_from_json,
    with_checkpoint,
)
from simloop.harness.planning.policy_names import (
    NamedPolicy,
    PolicyLoader,
    UnknownPolicyError,
    is_policy,
    parse,
)
from simloop.harness.recording.run_folder import RunFolder, RunFolderError
from simloop.policies.presets import PRESETS
from simloop.results.records.planned import PlannedEpisodes
from simloop.results.records.written_policies import policy_identity, policy_name

BUNDLED = PRESETS["pi0-tiny"].bundled


def experiment(*policies):
    return Experiment("", "metaworld", ("reach-v3",), policies, 1)


@pytest.fixture
def checkpoint(tmp_path):
    return shutil.copytree(BUNDLED, tmp_path / "a=b")


def test_reads_a_name_in_front_of_a_policy(checkpoint):
    assert parse(f"mine=pi0-tiny@{checkpoint}") == NamedPolicy("mine", "pi0-tiny", checkpoint)
    assert parse("best=expert") == NamedPolicy("best", "expert")
    assert parse("noise=pi0_libero@random") == NamedPolicy("noise", "pi0_libero", random=True)
    assert parse("best=expert").spec().name == "best"
    assert parse(f"mine=pi0-tiny@{checkpoint}").spec().weights == "trained"
    assert is_policy("mine=pi0-tiny@/no/such/folder")
    assert not is_policy("mine=demo")


def test_names_a_policy_as_written_where_no_name_is_given(checkpoint):
    written = f"pi0-tiny@{checkpoint}"
    assert policy_name(written) == parse(written).name == written
    assert parse("expert").name == "expert"


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("my policy=expert", "letters, digits"),
        ("=expert", "letters, digits"),
        ("runs/a=expert", "letters, digits"),
        ("random=expert", "'random' is the name of another policy"),
        ("mine=exprt", "no policy 'exprt'. Did you mean 'expert'"),
        ("mine=pi0-tiny@/no/such/folder", "/no/such/folder, which does not exist"),
        ("mine=expert@random", "'expert' takes no checkpoint"),
        ("mine=pi0-tiny-int8", "name the folder: pi0-tiny-int8@FOLDER"),
    ],
)
def test_refuses_names_that_cannot_be_used(written, complaint):
    with pytest.raises(UnknownPolicyError, match=complaint):
        parse(written)


def test_a_policy_may_be_named_as_its_preset(checkpoint):
    assert parse(f"pi0-tiny=pi0-tiny@{checkpoint}").name == "pi0-tiny"


def test_an_experiment_uses_the_names_in_its_plan_and_specs(checkpoint):
    named = experiment("best=expert", f"mine=pi0-tiny@{checkpoint}")
    assert {spec.policy for spec in named.plan().episodes} == {"best", "mine"} == named.policy_specs().keys()
    assert PlannedEpisodes.from_config({"experiment": named.to_dict()}).policies == ("best", "mine")


def test_refuses_two_policies_of_one_name():
    with pytest.raises(ExperimentError, match="names mine twice"):
        experiment("mine=expert", "mine=random")


def test_adds_a_checkpoint_to_a_named_policy(tmp_path):
    bare = experiment("best=expert", "mine=pi05_libero")
    assert with_checkpoint(bare, tmp_path).policies == ("best=expert", f"mine=pi05_libero@{tmp_path}")


def test_a_loader_is_picklable_and_gives_policies_their_names(checkpoint, tmp_path):
    loader = pickle.loads(pickle.dumps(PolicyLoader.of(["best=expert", "mine=pi0-tiny@/elsewhere"])))
    assert loader("best").spec.name == "best"
    assert loader("hold").spec.name == "hold"
    with pytest.raises(UnknownPolicyError, match="/elsewhere, which does not exist"):
        loader.parse("mine")
    fetched = PolicyLoader(loader.written, {"mine": checkpoint})
    assert fetched.parse("mine") == NamedPolicy("mine", "pi0-tiny", checkpoint)


def test_the_identity_of_a_named_policy_leaves_out_the_folder():
    assert policy_identity("mine=pi0-tiny@/a") == policy_identity("mine=pi0-tiny") == "mine=pi0-tiny"
    assert policy_identity("mine=pi0-tiny-int8@/a") == "mine=pi0-tiny-int8"
    assert policy_identity("mine=pi0-tiny@random") == "mine=pi0-tiny@random"
    for unnamed in ("expert", "pi0-tiny@/a", "pi0-tiny@/a=b"):
        assert policy_identity(unnamed) == unnamed


def test_a_run_goes_on_with_the_named_checkpoint_at_another_path(checkpoint, tmp_path):
    moved = shutil.copytree(checkpoint, tmp_path / "moved")
    first, second = experiment(f"mine=pi0-tiny@{checkpoint}"), experiment(f"mine=pi0-tiny@{moved}")
    assert first.plan().sha256 == second.plan().sha256
    assert first.short_hash == second.short_hash
    RunFolder(tmp_path / "run", first, first.plan()).close()
    shutil.rmtree(checkpoint)
    RunFolder(tmp_path / "run", second, second.plan()).close()
    for other in (f"mine=pi05-tiny@{moved}", f"yours=pi0-tiny@{moved}", f"pi0-tiny@{moved}"):
        with pytest.raises(RunFolderError, match=r"cannot be resumed: .*policies"):
            RunFolder(tmp_path / "run", experiment(other), experiment(other).plan())


def test_reads_configurations_of_runs_on_checkpoints_that_are_gone():
    old = experiment("pi0-tiny@/gone", "expert").to_dict()
    assert experiment_from_json(json.dumps(old), "here").policy_names == (
        "pi0-tiny@/gone",
        "expert",
    )


def test_a_horizon_follows_the_name_of_a_preset_and_precedes_its_folder(tmp_path):
    named = parse(f"mine=pi0-tiny@h50@{tmp_path}")
    assert (named.name, named.base, named.checkpoint) == ("mine", "pi0-tiny@h50", tmp_path)
    assert parse("pi0-tiny@h50").spec().chunk_steps == 50
    assert parse("pi0-tiny@h50@random").random
