"""Where a run comes from is written down, and unlike software does not go on with it."""

import json

import pytest

from simloop.harness.recording.provenance import Provenance
from simloop.harness.recording.run_folder import RunFolderError
from simloop.policies.models.kernels import Kernels


def start(folder, renderer="software GL"):
    return Provenance(folder, "plan", "protocol", renderer)


def read(folder):
    return json.loads((folder / "provenance.json").read_text())


def test_every_start_is_noted_with_versions_machine_and_end(tmp_path):
    start(tmp_path).finish("interrupted")
    start(tmp_path).finish("complete")
    content = read(tmp_path)
    assert [entry["outcome"] for entry in content["starts"]] == ["interrupted", "complete"]
    assert content["starts"][0]["packages"]["mujoco"] == "3.3.0"
    assert content["starts"][0]["renderer"] == "software GL"
    assert content["starts"][0]["host"]["cpus"] >= 1
    assert content["plan_sha256"] == "plan"


def test_compile_times_and_hashes_of_policies_are_kept_apart_from_the_queries(tmp_path):
    provenance = start(tmp_path)
    provenance.add_policy("pi0-tiny", "cpu", {"weights": "abc"}, load_s=1.0, compile_s=2.5)
    assert read(tmp_path)["compile_s"] == {"pi0-tiny": 2.5}
    assert read(tmp_path)["policies"]["pi0-tiny"]["fingerprint"] == {"weights": "abc"}


def test_a_run_is_not_continued_with_another_renderer(tmp_path):
    start(tmp_path).finish("interrupted")
    with pytest.raises(RunFolderError, match="renderer: software GL -> a GPU"):
        start(tmp_path, "a GPU")
    assert len(read(tmp_path)["starts"]) == 1


def test_a_run_is_not_continued_with_another_version_of_the_simulator(tmp_path):
    start(tmp_path)
    content = read(tmp_path)
    content["starts"][0]["packages"]["mujoco"] = "3.2.0"
    (tmp_path / "provenance.json").write_text(json.dumps(content))
    with pytest.raises(RunFolderError, match=r"packages\.mujoco: 3\.2\.0 -> 3\.3\.0"):
        start(tmp_path)


def test_a_run_is_not_continued_with_other_weights(tmp_path):
    start(tmp_path).add_policy("pi0-tiny", "cpu", {"weights": "abc"}, 1.0, 1.0)
    with pytest.raises(RunFolderError, match=r"'pi0-tiny' has other weights"):
        start(tmp_path).add_policy("pi0-tiny", "cpu", {"weights": "abd"}, 1.0, 1.0)


def test_a_run_is_not_continued_on_another_device(tmp_path):
    start(tmp_path).add_policy("pi0-tiny", "H200", {}, 1.0, 1.0)
    start(tmp_path).add_policy("pi0-tiny", "H200", {}, 1.0, 1.0)
    with pytest.raises(
        RunFolderError, match=r"answered on H200 when .* now on 2 x H200, whose answers differ"
    ):
        start(tmp_path).add_policy("pi0-tiny", "2 x H200", {}, 1.0, 1.0)
    assert read(tmp_path)["policies"]["pi0-tiny"]["device"] == "H200"


def test_a_run_is_not_continued_with_other_kernels(tmp_path):
    kernels = Kernels(prompt_attention="cudnn")
    start(tmp_path).add_policy("pi0", "H200", {}, 1.0, 1.0, kernels=kernels)
    start(tmp_path).add_policy("pi0", "H200", {}, 1.0, 1.0, kernels=kernels)
    assert read(tmp_path)["policies"]["pi0"]["kernels"]["prompt_attention"] == "cudnn"
    with pytest.raises(RunFolderError, match=r"by the kernels .*cudnn.* Use the same --kernels"):
        start(tmp_path).add_policy("pi0", "H200", {}, 1.0, 1.0, kernels=Kernels())


def test_a_provenance_without_kernels_is_continued_with_the_default(tmp_path):
    start(tmp_path).add_policy("pi0", "H200", {}, 1.0, 1.0)
    with pytest.raises(RunFolderError, match="would now by"):
        start(tmp_path).add_policy("pi0", "H200", {}, 1.0, 1.0, kernels=Kernels(action_attention="cudnn"))
