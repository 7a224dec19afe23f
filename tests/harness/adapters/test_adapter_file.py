"""An adapter from a file replaces the registered one, in every process, and its hash stays with the results."""

import dataclasses
import json
import pickle
from functools import partial

import numpy as np
import pytest

from simloop.harness.adapters.adapter_file import (
    REGISTERED,
    AdapterFile,
    adapter_file_in_use,
    use_adapter_file,
    use_adapter_files_of,
)
from simloop.harness.adapters.base import AdapterError
from simloop.harness.adapters.registry import ADAPTERS, find_adapter
from simloop.harness.engine.resources import Resources
from simloop.harness.planning.experiment import Experiment, ExperimentError, experiment_from_json
from simloop.harness.planning.policy_names import parse
from simloop.harness.planning.protocol import Protocol, named_protocol
from simloop.harness.preparation import RunSettings
from simloop.harness.run import run
from simloop.results.records.runs import load_runs
from simloop.terminal import Terminal
from tests.helpers.fresh_python import run_python
from tests.helpers.run_folders import write_run

SOURCE = """
import dataclasses
from simloop.harness.adapters.metaworld import METAWORLD_HAND

ADAPTER = dataclasses.replace(METAWORLD_HAND, image=lambda image: image[::-1])
"""
TINY = parse("pi0-tiny").spec()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "flipped.py"
    path.write_text(SOURCE)
    yield path
    use_adapter_file(None)


def test_the_adapter_of_the_file_replaces_that_of_its_suite_and_robot(file):
    identity = use_adapter_file(f"{file}:ADAPTER")
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(find_adapter("metaworld", TINY).image(image), image[::-1])
    other = dataclasses.replace(TINY, robot="metaworld")
    assert find_adapter("metaworld", other) is ADAPTERS["metaworld/metaworld"]
    assert identity.startswith("flipped.py:ADAPTER@")
    use_adapter_file(None)
    assert find_adapter("metaworld", TINY) is ADAPTERS["metaworld/metaworld_hand"]


def test_other_processes_find_the_adapter_without_the_file(file, tmp_path):
    find = partial(find_adapter, file=AdapterFile.read(f"{file}:ADAPTER"))
    (tmp_path / "find.pickle").write_bytes(pickle.dumps((find, TINY)))
    file.unlink()
    code = (
        "import pickle, sys, numpy\n"
        f"find, policy = pickle.load(open({str(tmp_path / 'find.pickle')!r}, 'rb'))\n"
        "print(find('metaworld', policy).image(numpy.arange(2)))"
    )
    assert run_python(code).strip() == "[1 0]"


@pytest.mark.parametrize(
    ("written", "content", "message"),
    [
        ("flipped.py", SOURCE, r"takes FILE:NAME, such as my_adapter.py:ADAPTER; got '.*flipped.py'"),
        ("other.py:ADAPTER", SOURCE, r"other.py, which does not exist"),
        ("flipped.py:OTHER", SOURCE, r"flipped.py:OTHER must be a simloop.*Adapter; got nothing"),
        ("flipped.py:ADAPTER", "ADAPTER = 3", r"must be a .*Adapter; got 3"),
        (
            "flipped.py:ADAPTER",
            "import nowhere",
            r"cannot be executed: ModuleNotFoundError: No module named 'nowhere'",
        ),
        ("flipped.py:ADAPTER", "a b", r"cannot be executed: SyntaxError"),
        ("flipped.py:ADAPTER", b"\xff", r"is no Python file"),
    ],
)
def test_a_file_without_the_adapter_is_refused_in_a_sentence(file, written, content, message):
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(AdapterError, match=message):
        use_adapter_file(f"{file.parent}/{written}")
    assert adapter_file_in_use() is None


def test_the_protocol_names_the_file_and_other_protocols_keep_their_hashes(file):
    plain = named_protocol("metaworld")
    changed = dataclasses.replace(plain, adapter=use_adapter_file(f"{file}:ADAPTER"))
    assert changed.label == f"metaworld/default-v1 with adapter {changed.adapter}"
    assert changed.sha256 != plain.sha256
    assert "adapter" not in plain.to_dict()
    assert plain.sha256 == "1632ba8e35e1c2a3639f2d9516d5baf5bf018872e4e711561deb2322bd4bdffe"


def test_an_experiment_with_an_adapter_file_is_read_back(file):
    protocol = Protocol("metaworld", adapter=use_adapter_file(f"{file}:ADAPTER"))
    experiment = Experiment("", "metaworld", ("reach-v3",), ("hold",), 1, protocol=protocol)
    assert experiment_from_json(json.dumps(experiment.to_dict()), "text") == experiment


def test_episodes_of_a_run_need_the_adapter_that_they_were_played_with(file, tmp_path):
    played = AdapterFile.read(f"{file}:ADAPTER").identity
    run_folder = write_run(tmp_path / "run", [], config={"experiment": {"protocol": {"adapter": played}}})
    assert use_adapter_files_of(run_folder, [f"{file}:ADAPTER"]) is None
    with pytest.raises(
        AdapterError, match=rf"were played with the adapter {played}; got none. Name that file"
    ):
        use_adapter_files_of(run_folder, [])
    file.write_text(SOURCE + "# changed")
    with pytest.raises(AdapterError, match=r"got flipped.py:ADAPTER@"):
        use_adapter_files_of(run_folder, [f"{file}:ADAPTER"])
    plain = write_run(tmp_path / "plain", [])
    with pytest.raises(AdapterError, match=r"with the registered adapters; got flipped.*Leave --adapter out"):
        use_adapter_files_of(plain, [f"{file}:ADAPTER"])


def test_another_adapter_than_that_of_the_run_may_be_tried(file, tmp_path):
    played = AdapterFile.read(f"{file}:ADAPTER")
    repaired = tmp_path / "repaired.py"
    repaired.write_text(SOURCE + "# repaired")
    run_folder = write_run(
        tmp_path / "run", [], config={"experiment": {"protocol": {"adapter": played.identity}}}
    )
    tried = use_adapter_files_of(run_folder, [f"{repaired}:ADAPTER", f"{file}:ADAPTER"], another=True)
    assert tried == AdapterFile.read(f"{repaired}:ADAPTER")
    assert adapter_file_in_use() == played
    assert use_adapter_files_of(run_folder, [f"{file}:ADAPTER", "registered"], another=True) == REGISTERED
    assert find_adapter("metaworld", TINY, REGISTERED) is ADAPTERS["metaworld/metaworld_hand"]
    with pytest.raises(AdapterError, match=r"Name that file.*, and at most one other to try"):
        use_adapter_files_of(run_folder, [f"{repaired}:ADAPTER"], another=True)


def test_a_run_none_of_whose_policies_uses_the_adapter_is_refused(file, tmp_path):
    protocol = Protocol("metaworld", adapter=use_adapter_file(f"{file}:ADAPTER"))
    experiment = Experiment("", "metaworld", ("reach-v3",), ("hold",), 1, protocol=protocol)
    with pytest.raises(
        ExperimentError, match=r"No policy of the run uses flipped.py:ADAPTER, which is for metaworld/"
    ):
        run(experiment, tmp_path / "run", RunSettings(), Terminal())


@pytest.mark.slow
def test_env_actors_play_through_the_adapter_of_the_file(file, tmp_path):
    protocol = Protocol("metaworld", max_steps=10, adapter=use_adapter_file(f"{file}:ADAPTER"))
    settings = RunSettings(Resources(env_actors=1), gate="warn")
    hashes = []
    for rules in (protocol, dataclasses.replace(protocol, adapter="")):
        if not rules.adapter:
            use_adapter_file(None)
        experiment = Experiment("", "metaworld", ("reach-v3",), ("pi0-tiny",), 1, protocol=rules)
        run(experiment, tmp_path / f"run-{len(hashes)}", settings, Terminal())
        hashes.append(load_runs(tmp_path / f"run-{len(hashes)}").episodes["actions_sha256"][0])
    assert hashes[0] != hashes[1]
    assert load_runs(tmp_path / "run-0").episodes["protocol"][0] == protocol.label
