"""Every experiment that ships with simloop: it can be planned, says what to expect, and plays an episode."""

import importlib

import pytest
from rich.console import Console

from simloop.harness import experiments
from simloop.harness.adapters.registry import checked_adapter
from simloop.harness.engine.resources import Resources
from simloop.harness.planning.experiment import ExperimentError, with_checkpoint
from simloop.harness.planning.protocol import PROTOCOLS, Protocol, ProtocolError, named_protocol
from simloop.harness.preparation import RunSettings
from simloop.harness.run import run
from simloop.results.records.records import read_episodes
from simloop.results.statistics.intervals import wilson
from simloop.results.tables.published import PUBLISHED

NAMES = experiments.names()
PUBLISHED_BY_EXPERIMENT = {
    f"{one.policy.removesuffix('_libero')}_libero_{one.tasks.removeprefix('libero_')}": one
    for one in PUBLISHED
    if one.policy.endswith("_libero")
} | {"alam_mt50": PUBLISHED[-1]}
UNTRAINED = {
    "libero": "pi0_libero-tiny@random",
    "libero_pro": "pi0_libero-tiny@random",
    "libero_plus": "pi0_libero-tiny@random",
    "aloha_sim": "pi0_aloha_sim-tiny@random",
    "metaworld": "pi0-tiny@random",
}


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_is_called_as_its_file_and_can_be_planned(name):
    experiment = experiments.find(name)
    assert experiment.name == name
    assert len(experiment.plan().episodes) > 0
    assert PROTOCOLS[f"{experiment.suite}/{experiment.protocol.name}"] == experiment.protocol
    for policy in experiment.policy_specs().values():
        checked_adapter(policy, experiment.task_specs())
    assert f"simloop run {name}" in importlib.import_module(f"simloop.harness.experiments.{name}").__doc__


def test_every_published_number_has_its_experiment_which_says_what_to_expect():
    assert set(PUBLISHED_BY_EXPERIMENT) <= set(NAMES)
    for name, published in PUBLISHED_BY_EXPERIMENT.items():
        experiment = experiments.find(name)
        assert experiment.policies == (published.policy if "libero" in name else "expert",)
        assert experiment.tasks == (published.tasks,)
        assert experiment.protocol.label == published.rules
        assert len(experiment.plan().episodes) == published.episodes
        text = " ".join(importlib.import_module(f"simloop.harness.experiments.{name}").__doc__.split())
        interval = wilson(published.successes, published.episodes)
        assert f"{100 * published.rate:.1f} % = {published.successes} of {published.episodes}" in text
        assert f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]" in text
        assert published.source in text


def test_episodes_of_libero_start_from_the_recorded_states_in_their_order():
    episodes = experiments.find("pi05_libero_goal").plan().episodes
    assert [spec.seed for spec in episodes[:50]] == list(range(50))
    assert {spec.task for spec in episodes[:50]} == {episodes[0].task}


def test_the_checkpoint_belongs_to_the_only_policy_that_wants_one(tmp_path):
    experiment = experiments.find("pi05_libero_goal")
    assert with_checkpoint(experiment, tmp_path).policies == (f"pi05_libero@{tmp_path}",)
    with pytest.raises(ExperimentError, match=r"has 3 that could be meant \(pi0-tiny, "):
        with_checkpoint(experiments.find("demo"), tmp_path)


def test_rules_that_differ_from_the_named_ones_show_in_the_label():
    named = named_protocol("libero", "openpi-v1")
    assert named.label == "libero/openpi-v1"
    assert Protocol("libero", "openpi-v1").label.startswith("libero/openpi-v1+")
    assert len({protocol.sha256 for protocol in PROTOCOLS.values()}) == len(PROTOCOLS)
    with pytest.raises(
        ProtocolError, match=r"no protocol 'openpi-v1'; it has default-v1, alam-v1, lerobot-v1"
    ):
        named_protocol("metaworld", "openpi-v1")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_starts_and_finishes_one_episode(name, tmp_path):
    import dataclasses

    experiment = experiments.find(name)
    experiment = dataclasses.replace(experiment, policies=(UNTRAINED[experiment.suite],), limit=1)
    result = run(experiment, tmp_path / "run", RunSettings(Resources(env_actors=1)), Console(quiet=True))
    wanted = max(1, len(experiment.variants))
    assert (result.episodes, result.planned) == (wanted, wanted)
    for record in read_episodes(tmp_path / "run"):
        assert record.outcome in ("success", "failure")
        assert record.policy.endswith("@random")
