"""The served pages: only to those who know the token, and nothing but what a run shows."""

import random
import string
import urllib.parse

import anyio
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


ODD = [
    *(
        "..",
        ".",
        "%2e%2e",
        "%2f",
        "%00",
        "data",
        "episodes",
        "assets",
        "figures",
        "tables",
        "videos",
        "config.json",
    ),
    *(
        "private.txt",
        "success.md",
        "index.html",
        "overview.js",
        "%c0%ae",
        "etc",
        "passwd",
        "~",
        "%5c",
        "",
        "\\",
        "\0",
    ),
]


async def ask(app, path, query):
    """Status and content of what the application answers, for any path whatever."""
    sent = []
    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "server": ("127.0.0.1", 1),
        "root_path": "",
        "path": urllib.parse.unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [],
    }

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fuzzed_addresses_and_queries_never_leave_the_pages(runs, first):
    app, rng = application(Shelf([runs]), "token"), random.Random(0)
    pages = {first, "/token/"} | {f"/token/{name}" for name in ("index.html", "data/runs.js")}

    async def fuzz():
        for _ in range(100_000):
            words = [
                "".join(rng.choices(string.printable, k=5)) if rng.random() < 0.2 else rng.choice(ODD)
                for _ in range(rng.randint(1, 6))
            ]
            path = rng.choice([first, "/token/", "/", "/other/"]) + "/".join(words)
            status, content = await ask(
                app, path, "".join(rng.choices(string.printable, k=rng.randint(0, 8)))
            )
            assert SECRET.encode() not in content
            if status == 200:
                shown = urllib.parse.unquote(path)
                assert shown in pages or shown.removeprefix(first) in SHOWN, path
            else:
                assert status == 307 or 400 <= status < 500, path

    anyio.run(fuzz)


SHOWN = ("", "index.html", "data/overview.js", "tables/success.md")
