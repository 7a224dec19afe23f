"""The runs that are served."""

import pytest

from simloop.harness.viewing.serve import PortError, serve
from simloop.harness.viewing.shelf import LOADED, Shelf
from tests.helpers.run_folders import episodes, write_run


def test_runs_are_found_in_folders_and_appear_by_themselves(tmp_path):
    alone = write_run(tmp_path / "alone", episodes(1))
    shelf = Shelf([tmp_path / "runs", alone])
    (tmp_path / "runs" / "no run").mkdir(parents=True)
    assert list(shelf.runs().values()) == [alone]
    new = write_run(tmp_path / "runs" / "new run", episodes(1))
    assert list(shelf.runs().values()) == [new, alone]
    assert all("/" not in name and " " not in name for name in shelf.runs())


def test_runs_of_one_name_are_told_apart(tmp_path):
    same = [write_run(tmp_path / parent / "run", episodes(1)) for parent in "ab"]
    assert len(Shelf(same).runs()) == 2


def test_a_run_is_loaded_again_only_if_an_episode_has_finished(tmp_path):
    run = write_run(tmp_path / "run", episodes(1))
    shelf = Shelf([run])
    site = shelf.site(run)
    assert shelf.site(run) is site
    write_run(run, episodes(2))
    assert len(shelf.site(run).runs.episodes) == 2


def test_a_few_runs_are_kept_in_memory(tmp_path):
    runs = [write_run(tmp_path / str(i), episodes(1)) for i in range(LOADED + 1)]
    shelf = Shelf(runs)
    sites = [shelf.site(run) for run in runs]
    assert shelf.site(runs[-1]) is sites[-1]
    assert shelf.site(runs[0]) is not sites[0]


def test_the_list_tells_what_is_known_without_reading_records(tmp_path):
    run = write_run(tmp_path / "run", episodes(1))
    (run / "episodes.jsonl").write_text("altered\n")
    (row,) = Shelf([run]).list()["runs"]
    assert (row["name"], row["done"], row["policies"]) == ("run", None, [])


@pytest.mark.parametrize(("host", "port"), [("203.0.113.1", 0), ("127.0.0.1", 1 << 20)])
def test_an_address_of_another_machine_or_no_port_is_refused_in_a_sentence(tmp_path, host, port):
    with pytest.raises(PortError, match="Choose another --port"):
        serve(Shelf([write_run(tmp_path / "run", episodes(1))]), host, port, print)
