"""The report: reproducible bytes, no network, and a page that works."""

import dataclasses
import errno
import os
import re
import shutil
import subprocess
import sys

import av
import numpy as np
import pytest

from simloop.results.errors import ResultsError
from simloop.results.report.html_report import MARK, write_report
from tests.helpers.run_folders import EPISODE, broken, episodes, with_queries, write_run

HOSTILE = "</script><img src=x onerror=alert(1)>"


def film(file, grey):
    """A second of one grey, as small as a video can be."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), grey, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture
def run(tmp_path):
    """Two policies on two tasks, with videos of the first; an error, and a policy with a hostile name."""
    folder = tmp_path / "run"
    records = []
    for policy in ("expert", "pi0 #1"):
        for task in ("push-v3", "reach-v3"):
            counts = (3, 1) if policy == "expert" else (1, 3)
            for record in episodes(*counts, task=task, policy=policy, weights="trained"):
                video = f"videos/{policy}/{task}-{record.episode}.mp4"
                film(folder / video, 50 * record.episode)
                records.append(dataclasses.replace(record, video=video))
    records.append(broken(dataclasses.replace(EPISODE, policy=HOSTILE, weights="trained"), error=HOSTILE))
    made = [
        with_queries(record, [20.0, 30.0]) if record.outcome != "error" else (record, [])
        for record in records
    ]
    config = {
        "experiment": {
            "suite": "metaworld",
            "policies": ["expert", "pi0 #1", HOSTILE],
            "episodes": 4,
            "seed": 3,
        }
    }
    return write_run(
        folder, [record for record, _ in made], made, config, {"starts": [{"packages": {"mujoco": "3.3.0"}}]}
    )


def content(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_reports_of_the_same_runs_are_identical_and_complete(run, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    page = write_report([run], one)
    call = f"write_report([Path({str(run)!r})], Path({str(two)!r}))"
    script = f"from pathlib import Path; from simloop.results.report.html_report import write_report; {call}"
    another_order_of_sets = {**os.environ, "PYTHONHASHSEED": "1"}
    subprocess.run([sys.executable, "-c", script], check=True, env=another_order_of_sets)
    first = content(one)
    assert first == content(two)
    assert {name for name in first if name.startswith("tables/")} == {
        f"tables/{t}.{f}" for t in ("success", "time", "latency") for f in ("md", "csv", "tex")
    }, "none without content"
    assert {
        f"figures/{n}.{f}" for n in ("success", "differences", "pareto") for f in ("svg", "pdf", "png")
    } <= first.keys()
    assert len([name for name in first if name.endswith(".mp4")]) == 16
    text = page.read_text()
    assert not re.search(r"(src|href)=\"(https?:)?//", text), "nothing is loaded from elsewhere"
    for name in re.findall(r'(?:src|href)="([^"#:]+)"', text):
        assert (one / name).is_file(), name
    assert not list(one.rglob("page.html"))


@pytest.mark.usefixtures("svg_only")
def test_page_states_results_and_methods(run, tmp_path):
    write_report([run], tmp_path / "report")
    text = (tmp_path / "report" / "data" / "details.js").read_text()
    assert "The best policy on 2 tasks of metaworld is undetermined: expert and pi0 #1" in text
    assert "expert and pi0 #1: inconclusive, neither different nor equivalent" in text
    methods = (tmp_path / "report" / "methods.tex").read_text()
    assert r"\cite{wilson1927}" in methods
    assert r"The software was MuJoCo 3.3.0~\cite{simloop,todorov2012}." in methods
    assert "sequentially" not in methods, "only what was done"
    cited = set(re.findall(r"\w+", " ".join(re.findall(r"\\cite\{([^}]+)\}", methods))))
    entries = set(re.findall(r"@\w+\{(\w+),", (tmp_path / "report" / "references.bib").read_text()))
    assert cited == entries


@pytest.mark.usefixtures("svg_only")
def test_replaces_only_a_report(run, tmp_path):
    out = tmp_path / "report"
    write_report([run], out)
    (out / "left over").touch()
    write_report([run], out)
    assert not (out / "left over").exists()
    (out / MARK).unlink()
    with pytest.raises(ResultsError, match="files other than a report"):
        write_report([run], out)
    with pytest.raises(ResultsError, match="nothing to report yet"):
        write_report([write_run(tmp_path / "none", [])], tmp_path / "other")


@pytest.mark.usefixtures("svg_only")
def test_a_full_disk_leaves_the_earlier_report_and_no_part_of_the_new_one(run, tmp_path, monkeypatch):
    out = tmp_path / "report"
    write_report([run], out)
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    found = set(tmp_path.iterdir())

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(ResultsError, match=r"report is unchanged: .*No space left on device"):
        write_report([run], out)
    with pytest.raises(ResultsError, match="No space left on device"):
        write_report([run], tmp_path / "first")
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before
    assert set(tmp_path.iterdir()) == found
