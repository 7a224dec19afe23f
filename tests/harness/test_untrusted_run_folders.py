"""A run folder from elsewhere cannot lead a command out of the folder, into a traceback or into the terminal."""

import dataclasses
import io
import json
import os
import re
import sys
import tempfile
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simloop.harness import cli
from simloop.harness.planning.experiment import Experiment
from simloop.harness.recording.run_status import RunStatus
from simloop.results.records.records import EpisodeRecord
from tests.helpers.attacks import FIRST_MUTATION, MUTATIONS, NAMES, PATHS, mutations
from tests.helpers.run_folders import EPISODE, broken, failed, with_queries, write_run

CANARY = b"the content of a file outside"
EXPERIMENT = Experiment("e", "metaworld", ("reach-v3",), ("expert", "random"), 3)
FILES = ("config.json", "provenance.json", "episodes.jsonl", "queries.jsonl", "status.json")
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")

names = st.sampled_from(NAMES)
edits = st.fixed_dictionaries(
    {},
    optional={
        "policy": names, "task": names, "protocol": names, "suite": names, "error": names, "weights": names,
        "video": st.sampled_from(PATHS), "steps": st.sampled_from([-1, 0, 2**63, 2**62]),
        "outcome": st.sampled_from(["success", "failure", "error"]), "episode": st.sampled_from([-1, 2**62]),
    },
)  # fmt: skip


def record_with(change: dict) -> EpisodeRecord:
    made = dataclasses.replace(EPISODE, **change)
    if "outcome" not in change and "error" in change:
        return dataclasses.replace(broken(made), error=change["error"])
    return failed(made) if change.get("outcome") == "failure" else made


def stranger(parent: Path, changes: list[dict], damage=None) -> Path:
    """A run folder with such records, and with links and damaged files."""
    (parent / "canary").write_bytes(CANARY)
    plan = EXPERIMENT.plan()
    config = {"experiment": EXPERIMENT.to_dict(), "tasks": ["reach-v3"], "plan_sha256": plan.sha256}
    records = [
        with_queries(record_with({"episode": i} | change), [20.0, 30.0]) for i, change in enumerate(changes)
    ]
    run = write_run(parent / "run", [record for record, _ in records], records, config)
    status = RunStatus(run, {record.policy: 1 for record, _ in records}, [])
    status.end("complete")
    (run / "videos").mkdir()
    (run / "videos" / "link").symlink_to(parent)
    (run / "videos" / "canary-link").symlink_to(parent / "canary")
    (run / "videos" / "loop").symlink_to("loop")
    if damage is not None:
        name, kind = damage
        (run / name).unlink()
        if kind == "link":
            (run / name).symlink_to(parent / "canary")
        elif kind == "pipe":
            os.mkfifo(run / name)
        elif kind == "folder":
            (run / name).mkdir()
        else:
            (run / name).write_bytes(kind)
    return run


def call(*arguments: object) -> str:
    """Run a command in this process; returns what it printed, and raises what is no sentence."""
    out, argv = io.StringIO(), sys.argv
    sys.argv = ["simloop", *map(str, arguments)]
    try:
        with redirect_stdout(out), redirect_stderr(out), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cli.main()
    except SystemExit as stop:
        if stop.code not in (None, 0, 1, 2):
            raise
    finally:
        sys.argv = argv
    return out.getvalue()


def commands(run: Path, out: Path) -> list[tuple[object, ...]]:
    tables = [("table", run, "--format", format) for format in ("terminal", "md", "csv", "tex", "html")]
    more = [("table", run, "--only", table) for table in ("time", "published", "perturbations")]
    return [
        *tables,
        *more,
        ("compare", "--run", run),
        ("status", run),
        ("diagnose", run),
        ("merge", run, "--out", out / "merged"),
        ("report", run, "--out", out / "report"),
    ]


def outside(parent: Path) -> dict[str, bytes]:
    return {
        p.name: p.read_bytes() if p.is_file() else b""
        for p in parent.iterdir()
        if p.name not in ("run", "out")
    }


def check(changes: list[dict], damage=None, only: int | None = None) -> None:
    """Run every command, or only one of them, on a folder with such records and damage."""
    with tempfile.TemporaryDirectory() as name:
        parent = Path(name)
        run, out = stranger(parent, changes, damage), parent / "out"
        out.mkdir()
        before = outside(parent)
        for arguments in commands(run, out) if only is None else [commands(run, out)[only]]:
            printed = call(*arguments)
            assert not CONTROL.search(printed), (arguments, printed)
            assert CANARY.decode() not in printed
        assert outside(parent) == before
        assert not any(CANARY in file.read_bytes() for file in out.rglob("*") if file.is_file())


one_command = st.integers(0, 11)  # All but the report, which draws for seconds.


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(st.lists(edits, min_size=1, max_size=3), one_command)
def test_no_record_of_a_run_leads_out_of_it_or_into_the_terminal(changes, command):
    check(changes, only=command)


damages = st.tuples(
    st.sampled_from(FILES),
    st.sampled_from(["link", "pipe", "folder", b"", b"[]", b"[" * 100_000, b'{"starts": 1}']),
)


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(damages, one_command)
def test_no_file_of_a_run_leads_out_of_it_or_into_a_traceback(damage, command):
    check([{}, {"policy": "random"}], damage, only=command)


@pytest.mark.slow
@pytest.mark.timeout(0)
@settings(max_examples=max(1, MUTATIONS // 100), suppress_health_check=list(HealthCheck))
@given(st.lists(edits, min_size=1, max_size=3), st.none() | damages)
def test_no_command_is_led_astray(changes, damage):
    check(changes, damage)


def mutated_run_folders(count: int, first: int = 0) -> None:
    """Run every command on folders of which one file is mutated, mostly with checksums that are right again."""
    faults: list[Exception] = []
    with tempfile.TemporaryDirectory() as name:
        parent = Path(name)
        run = stranger(parent, [{}, {"policy": "random"}, {"error": "broke"}])
        whole = {file: (run / file).read_bytes() for file in FILES}
        for number in range(first, first + count):
            file = FILES[number % len(FILES)]
            (mutated,) = mutations(whole[file], 1, seed=number)
            (run / file).write_bytes(checksummed(mutated) if file.endswith("l") and number % 3 else mutated)
            chosen = commands(run, parent / "out" / str(number))[number // len(FILES) % 11]
            try:
                assert not CONTROL.search(call(*chosen))
            except Exception as error:
                error.add_note(f"mutation {number} of {file}: simloop {' '.join(map(str, chosen))}")
                faults.append(error)
            (run / file).write_bytes(whole[file])
    if faults:
        raise ExceptionGroup(f"{len(faults)} of {count} mutations ended in no sentence", faults[:5])


def checksummed(content: bytes) -> bytes:
    """The lines with the checksums of what they hold."""
    from simloop.results.records.ledger import _checksum

    lines = []
    for line in content.decode("ascii", "replace").split("\n"):
        text = line.rpartition(', "checksum": ')[0]
        lines.append(f'{text}, "checksum": "{_checksum(text)}"}}' if text else line)
    return "\n".join(lines).encode("ascii", "replace")


def test_some_mutated_run_folders_end_in_sentences():
    mutated_run_folders(15)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_mutated_run_folders_end_in_sentences():
    mutated_run_folders(MUTATIONS, FIRST_MUTATION)


def test_the_commands_are_also_a_module():
    import subprocess

    asked = [[sys.executable, "-m", "simloop.harness.cli"], [str(Path(sys.executable).with_name("simloop"))]]
    said = [
        subprocess.run([*how, "--version"], capture_output=True, text=True, check=True).stdout
        for how in asked
    ]
    assert said[0] == said[1] != ""


def test_statuses_are_written_and_read_alike(tmp_path):
    run = stranger(tmp_path, [{}])
    assert json.loads((run / "status.json").read_text())["state"] == "complete"
    assert "complete" in call("status", run)
