"""The pages of runs: what they load, and that they show what there is."""

import dataclasses
import json
import re

import numpy as np
import pytest

from simloop.results.records.explanations import explanation_path
from simloop.results.records.paths import step_records_path, trajectories_path
from simloop.results.records.runs import load_runs
from simloop.results.records.step_records import load_steps
from simloop.results.records.trajectories import Trajectories
from simloop.results.report.page_data import number, script
from simloop.results.report.site import Site
from simloop.results.report.sprites import columns_of, sheet
from tests.helpers.explanations import STORED
from tests.helpers.run_folders import EPISODE, broken, episodes, failed, with_queries, write_run
from tests.helpers.scripted_records import recorded

KEY = ("policy", "suite", "protocol", "task", "episode")
HOSTILE = "</script><img src=x onerror=alert(1)>"


def value(content):
    """What a data file hands to the page."""
    return json.loads(re.fullmatch(rb"simloop\.put\(\"[\w/]+\", (.*)\);\n", content, re.DOTALL)[1])


def episode_of(site, position=0):
    name = value(site.content("data/overview.js"))["episodes"]["id"][position]
    return value(site.content(f"episodes/{name}/data.js"))


@pytest.fixture
def run(tmp_path):
    records = [
        *episodes(3, 1, policy="a"),
        *episodes(1, 3, policy="b"),
        broken(dataclasses.replace(EPISODE, policy=HOSTILE)),
    ]
    config = {
        "experiment": {"suite": "metaworld", "policies": ["a", "b"], "episodes": 5, "seed": 3},
        "tasks": ["reach-v3"],
    }
    made = [with_queries(record, [20.0, 30.0] if record.outcome != "error" else []) for record in records]
    return write_run(tmp_path / "run", [record for record, _ in made], made, config)


def test_the_first_screen_has_means_with_intervals_and_every_outcome(run):
    found = value(Site(load_runs(run)).content("data/overview.js"))
    assert found["policies"][:2] == ["a", "b"]
    assert [(mean["rate"], mean["successes"], mean["completed"]) for mean in found["means"][:2]] == [
        (0.75, 3, 4),
        (0.25, 1, 4),
    ]
    assert found["means"][0]["low"] < 0.75 < found["means"][0]["high"]
    assert len(found["episodes"]["id"]) == len(set(found["episodes"]["id"])) == 9
    assert sorted(found["episodes"]["outcome"]) == [0] * 4 + [1] * 4 + [2]
    assert found["plans"] == [{"policies": [0, 1], "tasks": [0], "protocol": 0, "episodes": 5}], (
        "cells of episodes to come"
    )


def test_a_run_without_a_finished_episode_has_a_page(tmp_path):
    config = {"experiment": {"suite": "metaworld", "policies": ["a"], "episodes": 2}, "tasks": ["reach-v3"]}
    site = Site(load_runs(write_run(tmp_path / "run", [], config=config)))
    assert value(site.content("data/overview.js"))["episodes"]["id"] == []
    assert value(site.content("data/losses.js"))["failed"] == 0
    assert value(site.content("data/details.js"))["headlines"] == []


def test_names_with_markup_are_data_and_nothing_else(run):
    site = Site(load_runs(run))
    assert HOSTILE in value(site.content("data/overview.js"))["names"]
    assert all(b"onerror" not in site.content(path) for path in ("index.html",))


def test_an_episode_without_step_records_shows_its_latencies(run):
    found = episode_of(Site(load_runs(run)), 1)  # The first has the hostile name.
    assert (found["records"], found["unreadable"], found["images"]) == (None, "", False)
    assert [sum(stages) for stages in found["latency"]] == [20.0, 30.0]


def test_step_records_become_curves_contacts_and_the_moment_of_the_loss(tmp_path):
    failure = dataclasses.replace(failed(EPISODE), steps=8)
    records = recorded("..th..L.", dx=[0.5] * 8, episode=failure)
    run = write_run(tmp_path / "run", [failure])
    file = run / step_records_path(failure.key)
    file.parent.mkdir(parents=True)
    file.write_bytes(records.to_bytes())
    found = episode_of(Site(load_runs(run)))
    assert found["ending"] == {"name": "lifted, dropped", "step": 6, "query": 3}
    steps = found["records"]
    assert [action[0] for action in steps["actions"]] == [0.5] * 8
    assert steps["executed"] is None, "nothing was perturbed"
    assert steps["contacts"]["cup"] == [[2, 3], [6, 6]]
    assert steps["held"] == {"cup": [[3, 3], [6, 6]]}
    assert steps["heights"]["cup"][6] == 0.05
    assert [query["step"] for query in steps["queries"]] == [0, 2, 4, 6]


def test_an_episode_shows_attention_and_spread_of_its_explained_queries(tmp_path):
    run = write_run(tmp_path / "run", [dataclasses.replace(EPISODE, steps=4)])
    records, explanation = run / step_records_path(EPISODE.key), run / explanation_path(EPISODE.key, 1)
    explanation.parent.mkdir(parents=True)
    records.write_bytes(recorded("....").to_bytes())
    assert episode_of(Site(load_runs(run)))["explained"] == {}
    explanation.write_text(STORED.to_json())
    found = episode_of(Site(load_runs(run)))["explained"]
    assert found["1"]["cameras"] == {"top": {"side": 2, "weights": [0.1, 0.2, 0.3, 0.4]}}
    assert (found["1"]["spread"], found["1"]["draws"]) == ([[0.1, 0.2], [0.3, 0.4]], 4)
    assert found["1"]["shares"]["prompt"] == 0.25


def with_images(tmp_path, stores_images):
    """A run of one episode, whose records name a camera."""
    episode = dataclasses.replace(EPISODE, steps=4)
    records = recorded("....", episode=episode)
    header = dataclasses.replace(records.header, cameras=("top",), stores_images=stores_images)
    run = write_run(tmp_path / "run", [episode])
    file = run / step_records_path(episode.key)
    file.parent.mkdir(parents=True)
    file.write_bytes(dataclasses.replace(records, header=header).to_bytes())
    return load_runs(run)


def test_images_of_a_policy_are_read_once_for_all_cameras_and_only_on_demand(tmp_path):
    reads = []

    def read(folder, records):
        reads.append(folder)
        return [{"top": np.zeros((4, 4, 3), np.uint8)} for _ in records.queries]

    site = Site(with_images(tmp_path, stores_images=True), read)
    assert episode_of(site)["images"]
    assert reads == []
    (path,) = [path for path in site.paths() if path.endswith("0.webp")]
    assert site.content(path) == site.content(path)
    assert len(reads) == 1
    assert site.content(path.replace("0.webp", "1.webp")) is None


def test_images_that_are_not_stored_are_drawn_only_where_that_is_wanted(tmp_path):
    runs = with_images(tmp_path, stores_images=False)
    assert not episode_of(Site(runs, lambda *_: []))["images"]
    assert episode_of(Site(runs, lambda *_: [], draw_images=True))["images"]


def test_an_episode_whose_images_cannot_be_read_still_has_a_page(tmp_path):
    def read(*_):
        raise ValueError("torn")

    site = Site(with_images(tmp_path, stores_images=True), read)
    assert episode_of(site)["records"]
    assert [site.content(path) for path in site.paths() if path.endswith(".webp")] == [None]


STILL = ((1.0, 0.0, 0.0, 0.5), (0.0, 1.0, 0.0, 0.5), (0.0, 0.0, 0.0, 1.0))


def test_trajectories_are_those_beside_the_records_or_of_a_reader(tmp_path):
    runs = with_images(tmp_path, stores_images=True)
    (row,) = runs.episodes.to_dict("records")
    records = load_steps(runs.sources[0].folder, tuple(row[name] for name in KEY))
    found = Trajectories(records.actions_sha256, [[(0.0,) * 4]] * 5, [], {"top": [STILL]}, {}, ["top"], 1.0)
    assert not episode_of(Site(runs))["trajectories"]
    computing = Site(runs, read_trajectories=lambda *_: found)
    assert episode_of(computing)["trajectories"]
    (path,) = [path for path in computing.paths() if path.endswith("trajectories.js")]
    assert value(computing.content(path))["video"] == ["top"]
    assert value(Site(runs).content(path)) == {"problem": "they have not been computed"}

    (runs.sources[0].folder / trajectories_path(records.header.key)).write_bytes(found.to_bytes())
    assert path in Site(runs).paths()
    assert value(Site(runs).content(path)) == value(computing.content(path))
    (runs.sources[0].folder / trajectories_path(records.header.key)).write_bytes(b"torn")
    assert "torn" not in value(Site(runs).content(path))["problem"]


def test_step_records_that_cannot_be_read_are_named_and_the_rest_still_shows(run):
    file = run / step_records_path(("a", "metaworld", "metaworld/default-v1", "reach-v3", 0))
    file.parent.mkdir(parents=True)
    file.write_bytes(b"torn")
    found = episode_of(Site(load_runs(run)), 1)  # The first has the hostile name.
    assert "cannot be read as step records" in found["unreadable"]
    assert found["outcome"] == "success"
    assert found["latency"]


def test_moments_of_failures_come_from_every_policy(run):
    found = value(Site(load_runs(run)).content("data/losses.js"))
    assert (found["failed"], found["examined"]) == (4, 4)
    assert {moment["ending"] for moment in found["moments"]} == {"no step records"}


@pytest.mark.parametrize(
    "path",
    ["", "..", "../config.json", "config.json", "episodes.jsonl", "data/../config.json",
     "episodes/aaaaaaaaaaaa/data.js",
     "episodes/../../config.json", "tables/none.md", "tables/success.html", "assets/page.html", "\0"],
)  # fmt: skip
def test_other_paths_have_no_content(run, path):
    assert Site(load_runs(run)).content(path) is None


def test_every_path_of_a_site_has_content(run):
    site = Site(load_runs(run))
    paths = list(site.paths())
    assert len(paths) == len(set(paths))
    assert all(site.content(path) for path in paths if not path.startswith("figures/"))
    assert {f"tables/{name}.csv" for name in ("success", "time", "latency")} <= set(paths)


def test_numbers_have_five_digits_and_no_nan():
    assert [number(x) for x in (1.23456789, float("nan"), float("inf"), None)] == [1.2346, None, None, None]
    assert script("a", {"b": [1.5]}) == b'simloop.put("a", {"b":[1.5]});\n'


def test_a_sheet_holds_every_image_to_the_last_bit():
    import io

    from PIL import Image

    images = [np.random.default_rng(i).integers(0, 256, (8, 12, 3), np.uint8) for i in range(5)]
    columns = columns_of(len(images))
    pixels = np.asarray(Image.open(io.BytesIO(sheet(images))))
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        assert np.array_equal(pixels[8 * row : 8 * row + 8, 12 * column : 12 * column + 12], image)
