"""The report: reproducible bytes, no network, and a page that works."""

import dataclasses
import errno
import http.server
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading

import av
import numpy as np
import pytest

from simloop.results.errors import ResultsError
from simloop.results.report.html_report import MARK, write_report
from tests.helpers.run_folders import EPISODE, broken, episodes, with_queries, write_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
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


@pytest.mark.usefixtures("svg_only")
def test_page_states_results_and_methods(run, tmp_path):
    text = write_report([run], tmp_path / "report").read_text()
    assert "The best policy on 2 tasks of metaworld is undetermined: expert and pi0 #1" in text
    assert "expert and pi0 #1: inconclusive, neither different nor equivalent" in text
    assert "17 episodes (8 success, 8 failure, 1 error)" in text
    methods = (tmp_path / "report" / "methods.tex").read_text()
    assert r"\cite{wilson1927}" in methods
    assert "The software was MuJoCo 3.3.0." in methods
    assert "sequentially" not in methods, "only what was done"
    cited = set(re.findall(r"\w+", " ".join(re.findall(r"\\cite\{([^}]+)\}", methods))))
    entries = set(re.findall(r"@article\{(\w+),", (tmp_path / "report" / "references.bib").read_text()))
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


SCRIPT = """<script>
const seen = {errors: []};
window.addEventListener("error", (event) => seen.errors.push(event.message || event.target.outerHTML), true);
window.addEventListener("unhandledrejection", (event) => seen.errors.push(String(event.reason)));
console.error = (...said) => seen.errors.push(said.join(" "));
window.addEventListener("load", async () => {
  const count = () => document.getElementById("count").textContent;
  const choose = (name, value) => {
    const filter = document.getElementById("filter-" + name);
    filter.value = value;
    filter.dispatchEvent(new Event("change"));
    return count();
  };
  seen.all = count();
  seen.expert = choose("policy", "expert");
  seen.failures = choose("outcome", "failure");
  choose("policy", "");
  seen.episode = choose("task", "reach-v3");
  choose("outcome", "");
  seen.side_by_side = document.querySelector(".episode .plays").children.length;
  document.querySelector(".episode button").click();
  const videos = [...document.querySelector(".episode").querySelectorAll("video")];
  const deadline = Date.now() + 8000;
  while (videos.some((video) => video.currentTime === 0) && Date.now() < deadline) {
    await new Promise((done) => setTimeout(done, 50));
  }
  seen.played = videos.map((video) => video.currentTime > 0);
  choose("task", "");
  document.getElementById("disagree").click();
  seen.disagree = count();
  location.hash = document.querySelector(".episode h3 a").getAttribute("href");
  await new Promise((done) => window.addEventListener("hashchange", done, {once: true}));
  seen.linked = document.querySelectorAll(".episode").length;
  seen.all_shown = document.getElementById("all").hidden;
  seen.too_wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  seen.width = document.documentElement.clientWidth;
  fetch("http://127.0.0.1:PORT", {method: "POST", mode: "no-cors", body: JSON.stringify(seen)});
});
</script>"""


def seen_in_browser(page, profile, width):
    """What the script found on the page, shown as wide as said."""
    found = queue.Queue()

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    script = SCRIPT.replace("PORT", str(server.server_port))
    page.with_name("probe.html").write_text(page.read_text().replace("<head>", f"<head>{script}", 1))
    # Headless windows are never as narrow as a phone: a frame is.
    frame = page.with_name("frame.html")
    frame.write_text(f'<iframe src="probe.html" width="{width}" height="900" style="border:0"></iframe>')
    arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    arguments += [
        "--autoplay-policy=no-user-gesture-required",
        "--hide-scrollbars",
        "--window-size=1300,1000",
    ]
    browser = subprocess.Popen([CHROMIUM, *arguments, frame.as_uri()], stderr=subprocess.DEVNULL)
    try:
        return found.get(timeout=40)
    finally:
        browser.terminate()
        browser.wait(timeout=30)
        server.shutdown()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page with")
@pytest.mark.parametrize("width", [1200, 375])
def test_page_filters_links_and_plays_in_a_browser(run, tmp_path, width):
    seen = seen_in_browser(write_report([run], tmp_path / "report"), tmp_path / "profile", width)
    assert seen["errors"] == []
    assert seen["width"] == width
    assert seen["all"] == "17 of 17 played episodes"
    assert seen["expert"] == "8 of 17 played episodes"
    assert seen["failures"] == "2 of 17 played episodes"
    assert seen["episode"] == "4 of 17 played episodes"
    assert seen["side_by_side"] == 3
    assert seen["played"] == [True, True]
    assert seen["disagree"] == "8 of 17 played episodes"
    assert (seen["linked"], seen["all_shown"]) == (1, False)
    assert seen["too_wide"] <= 0, "no part of the page is wider than the screen"
