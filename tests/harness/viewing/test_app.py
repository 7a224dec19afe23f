"""The served pages: only to those who know the token, and nothing but what a run shows."""

import random
import string

import pytest
from starlette.testclient import TestClient

from simloop.harness.viewing.app import application
from simloop.harness.viewing.shelf import Shelf
from tests.helpers.run_folders import episodes, with_queries, write_run

SECRET = "not for readers of the page"


@pytest.fixture
def runs(tmp_path):
    made = [with_queries(record, [20.0]) for record in episodes(2, 1)]
    write_run(tmp_path / "runs" / "first", [record for record, _ in made], made)
    (tmp_path / "runs" / "first" / "private.txt").write_text(SECRET)
    (tmp_path / "outside.txt").write_text(SECRET)
    return tmp_path / "runs"


@pytest.fixture
def client(runs):
    return TestClient(application(Shelf([runs]), "token"), follow_redirects=False)


@pytest.fixture
def first(runs):
    (name,) = Shelf([runs]).runs()
    return f"/token/{name}/"


def test_the_list_and_the_pages_of_a_run_are_served_below_the_token(client, first):
    assert b'data-page="list"' in client.get("/token/").content
    assert b'data-page="run"' in client.get(first).content
    assert client.get(first + "data/overview.js").text.startswith('simloop.put("overview", ')
    assert client.get("/token/assets/core.js").content == client.get(first + "assets/core.js").content
    moved = client.get(first.rstrip("/"))
    assert (moved.status_code, moved.headers["location"]) == (307, first)


@pytest.mark.parametrize(
    "address", ["/", "/wrong/", "/data/runs.js", "/token", "/token/none/", "/token/none/data/overview.js"]
)
def test_without_the_token_or_a_run_there_is_nothing(client, address):
    assert client.get(address).status_code in (404, 307)
    assert client.get(address, follow_redirects=True).status_code == (200 if address == "/token" else 404)


def test_pages_may_load_nothing_from_elsewhere_and_nobody_may_frame_them(client, first):
    headers = client.get(first).headers
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed(client, first, method):
    assert client.request(method, first).status_code == 405


@pytest.mark.parametrize(
    "path",
    ["private.txt", "config.json", "episodes.jsonl", "../outside.txt", "%2e%2e/outside.txt", "..%2f..%2foutside.txt",
     "data/%2e%2e/%2e%2e/private.txt", "assets/..%2f..%2fsite.py", "assets/page.html", "episodes/000000000000/data.js"],
)  # fmt: skip
def test_files_that_no_page_loads_are_not_served(client, first, path):
    answer = client.get(first + path)
    assert answer.status_code == 404
    assert SECRET not in answer.text


def test_an_altered_run_says_why_it_shows_nothing(client, first, runs):
    (runs / "first" / "episodes.jsonl").write_text("altered\n")
    assert client.get(first).status_code == 200
    assert '"problem"' in client.get(first + "data/overview.js").text


def test_episodes_appear_as_they_finish(client, first, runs):
    before = client.get(first + "data/live.js").text
    count = client.get(first + "data/overview.js").text.count('"failure"')
    made = [with_queries(record, [20.0]) for record in episodes(4, 1)]
    write_run(runs / "first", [record for record, _ in made], made)
    assert client.get(first + "data/live.js").text != before
    assert '"successes":4' in client.get(first + "data/overview.js").text
    assert count == 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fuzzed_addresses_and_queries_never_leave_the_pages(client, first):
    rng = random.Random(0)
    parts = [
        "..",
        ".",
        "%2e%2e",
        "%2f",
        "%00",
        "//",
        "data",
        "episodes",
        "assets",
        "figures",
        "tables",
        "videos",
        "config.json",
        "private.txt",
        "success.md",
        "index.html",
        "overview.js",
        "%c0%ae",
        "etc",
        "passwd",
        "~",
        "\\",
        "%5c",
    ]
    known = {200: 0, 307: 0}
    for _ in range(100_000):
        words = [
            rng.choice(parts) if rng.random() < 0.8 else "".join(rng.choices(string.printable[:94], k=5))
            for _ in range(rng.randint(1, 6))
        ]
        prefix = rng.choice([first, "/token/", "/", "/other/"])
        query = "?" + "".join(rng.choices(string.printable[:94], k=8)) if rng.random() < 0.5 else ""
        try:
            answer = client.get(prefix + "/".join(words).replace("#", "%23") + query)
        except ValueError:  # No address at all, which the client refuses to send.
            continue
        assert SECRET not in answer.text
        if answer.status_code in known:
            known[answer.status_code] += 1
        else:
            assert 400 <= answer.status_code < 500
