"""Provenance is recorded per start, and incompatible starts are refused."""

import json
import subprocess

import pytest

from simloop.envs import registry
from simloop.harness.recording import provenance
from simloop.harness.recording.provenance import Provenance
from simloop.harness.recording.run_folder import RunFolderError


def start(folder, renderer="software GL"):
    return Provenance(folder, "metaworld", "plan", "protocol", renderer)


def read(folder):
    return json.loads((folder / "provenance.json").read_text())


def test_records_versions_machine_and_end_of_each_start(tmp_path):
    start(tmp_path).finish("interrupted")
    start(tmp_path).finish("complete")
    content = read(tmp_path)
    assert [entry["outcome"] for entry in content["starts"]] == ["interrupted", "complete"]
    assert content["starts"][0]["packages"]["mujoco"] == "3.3.0"
    assert content["starts"][0]["renderer"] == "software GL"
    assert content["starts"][0]["host"]["cpus"] >= 1
    assert content["plan_sha256"] == "plan"


def test_records_compile_times_and_fingerprints_of_policies(tmp_path):
    provenance = start(tmp_path)
    provenance.add_policy("pi0-tiny", device="cpu", fingerprint={"weights": "abc"}, load_s=1.0, compile_s=2.5)
    assert read(tmp_path)["compile_s"] == {"pi0-tiny": 2.5}
    assert read(tmp_path)["policies"]["pi0-tiny"]["fingerprint"] == {"weights": "abc"}


def test_refuses_to_resume_with_another_renderer(tmp_path):
    start(tmp_path).finish("interrupted")
    with pytest.raises(RunFolderError, match="renderer: software GL -> a GPU"):
        start(tmp_path, "a GPU")
    assert len(read(tmp_path)["starts"]) == 1


def test_refuses_to_resume_with_another_version_of_the_simulator(tmp_path):
    start(tmp_path)
    content = read(tmp_path)
    content["starts"][0]["packages"]["mujoco"] = "3.2.0"
    (tmp_path / "provenance.json").write_text(json.dumps(content))
    with pytest.raises(RunFolderError, match=r"packages\.mujoco: 3\.2\.0 -> 3\.3\.0"):
        start(tmp_path)


@pytest.mark.parametrize("suite", registry.suites())
def test_records_the_version_of_everything_that_decides_results(tmp_path, suite):
    Provenance(tmp_path, suite, "plan", "protocol", "none")
    (entry,) = read(tmp_path)["starts"]
    wanted = {
        "simloop",
        "mujoco",
        "jax",
        "jaxlib",
        "flax",
        "numpy",
        "tokamax",
        *registry.suite(suite).versions(),
    }
    assert wanted <= entry["packages"].keys()
    assert entry["suite_packages"] == list(registry.suite(suite).versions())


@pytest.mark.parametrize(
    ("variable", "value"), [("XLA_FLAGS", "--xla_cpu_enable_fast_math=true"), ("JAX_ENABLE_X64", "1")]
)
def test_refuses_to_resume_with_other_settings(tmp_path, monkeypatch, variable, value):
    monkeypatch.delenv(variable, raising=False)
    start(tmp_path)
    monkeypatch.setenv(variable, value)
    with pytest.raises(RunFolderError, match=f'{variable}: null -> "{value}" because they change how'):
        start(tmp_path)


def test_refuses_to_resume_with_other_settings_of_the_process_of_a_policy(tmp_path):
    start(tmp_path).add_policy("pi0", device="cpu", fingerprint={}, settings={"jax_enable_x64": "False"})
    with pytest.raises(RunFolderError, match='pi0: jax_enable_x64: "False" -> "True"'):
        start(tmp_path).add_policy("pi0", device="cpu", fingerprint={}, settings={"jax_enable_x64": "True"})


def test_refuses_to_resume_with_edited_files_of_the_suite(tmp_path, monkeypatch):
    start(tmp_path)
    edited = {"metaworld": {"metaworld/env.py": "ab12"}}
    monkeypatch.setattr(provenance, "edited_files", lambda packages: edited)
    with pytest.raises(RunFolderError, match="edited files of metaworld: null -> "):
        start(tmp_path)


def test_resumes_what_older_versions_recorded_without_settings_and_edited_files(tmp_path):
    start(tmp_path)
    content = read(tmp_path)
    for name in ("settings", "edited"):
        del content["starts"][0][name]
    (tmp_path / "provenance.json").write_text(json.dumps(content))
    start(tmp_path)
    assert len(read(tmp_path)["starts"]) == 2


def test_the_commit_of_an_edited_source_tree_tells_edits_apart(tmp_path, monkeypatch):
    root = tmp_path / "tree"
    (root / "harness" / "recording").mkdir(parents=True)
    source = root / "harness" / "recording" / "provenance.py"
    source.write_text("one")
    for command in ("init -q", "add .", "-c user.name=n -c user.email=e commit -qm first"):
        subprocess.run(["git", "-C", str(root), *command.split()], check=True)
    monkeypatch.setattr(provenance, "__file__", str(source))
    (root / "notes.md").write_text("not executed")
    found = [provenance._commit()]
    source.write_text("two")
    found.append(provenance._commit())
    (root / "harness" / "added.py").write_text("three")
    found.append(provenance._commit())
    assert len(found[0]) == 40
    assert len(set(found)) == 3
    assert all(commit.startswith(f"{found[0]}+changes.") for commit in found[1:])


def add(folder, fingerprint=None, device="cpu", kernels=None):
    start(folder).add_policy("pi0", device=device, fingerprint=fingerprint or {}, kernels=kernels)


def test_refuses_to_resume_with_other_weights(tmp_path):
    add(tmp_path, {"weights": "abc"})
    with pytest.raises(
        RunFolderError, match=r"weights of pi0: .*abc.* -> .*abd.* because a policy has other weights"
    ):
        add(tmp_path, {"weights": "abd"})


def test_refuses_a_second_worker_with_other_weights(tmp_path):
    provenance = start(tmp_path)
    provenance.add_policy("pi0", device="H200", fingerprint={"weights": "abc"})
    provenance.add_policy("pi0", device="H100", fingerprint={"weights": "abc"})
    with pytest.raises(RunFolderError, match="weights of pi0"):
        provenance.add_policy("pi0", device="H200", fingerprint={"weights": "abd"})


def test_refuses_to_resume_on_another_device(tmp_path):
    add(tmp_path, device="H200")
    add(tmp_path, device="H200")
    with pytest.raises(
        RunFolderError, match=r"device of pi0: H200 -> 2 x H200 because .* differ by rounding"
    ):
        add(tmp_path, device="2 x H200")
    assert read(tmp_path)["policies"]["pi0"]["device"] == "H200"


def test_refuses_to_resume_with_other_kernels(tmp_path):
    add(tmp_path, kernels={"prompt_attention": "cudnn"})
    add(tmp_path, kernels={"prompt_attention": "cudnn", "gated_product": "xla"})
    with pytest.raises(RunFolderError, match=r"kernels of pi0: .*cudnn.* -> {}"):
        add(tmp_path, kernels={"prompt_attention": "xla"})


def test_resumes_a_run_without_recorded_kernels_with_those_of_xla(tmp_path):
    add(tmp_path)
    add(tmp_path, kernels={"prompt_attention": "xla"})
    (tmp_path / "other").mkdir()
    add(tmp_path / "other")
    with pytest.raises(RunFolderError, match="kernels of pi0"):
        add(tmp_path / "other", kernels={"action_attention": "cudnn"})


def test_refuses_to_resume_with_or_without_throughput(tmp_path):
    Provenance(tmp_path, "metaworld", "plan", "protocol", "none", (4,))
    with pytest.raises(RunFolderError, match=r"batch sizes: 4 -> 1, 2, 4 \(--throughput\)"):
        Provenance(tmp_path, "metaworld", "plan", "protocol", "none", (1, 2, 4))
