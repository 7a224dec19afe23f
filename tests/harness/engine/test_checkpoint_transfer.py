"""Checkpoints that only the driver's machine has."""

import os
import threading

import pytest
import ray

from simloop.harness.actors.factories import REGISTERED, Factories
from simloop.harness.engine import checkpoint_transfer
from simloop.harness.engine.checkpoint_transfer import (
    FetchedPolicies,
    Listing,
    Sender,
    TransferError,
    fetched,
    travelling,
)
from simloop.harness.planning.policy_names import PolicyLoader
from simloop.policies.presets import PRESETS

PIECE = 1000


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A folder of files that are smaller, larger and as large as a piece, and one that is empty."""
    monkeypatch.setattr(checkpoint_transfer, "PIECE_BYTES", PIECE)
    monkeypatch.setattr(ray, "get", lambda piece: piece)
    folder = tmp_path / "checkpoint"
    for name, size in {"a": 0, "params/b": 2500, "params/deep/c": PIECE, "assets/d": 1, "e": 9999}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(os.urandom(size))
    return folder


def never(number, offset):
    raise AssertionError("nothing has to be sent")


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class Elsewhere:
    """The driver's machine as another one sees it: its files can be read only through a sender."""

    def __init__(self, folder):
        self.listing = Listing.of(folder)
        self.before = content(folder)
        self.hidden = folder.rename(folder.with_name("of-another-machine"))
        self.asked = []
        self._sender = Sender(self.listing)
        self._sender._listing = Listing(self.hidden, self.listing.files)

    def read(self, number, offset):
        self.asked.append((number, offset))
        return self._sender.read(number, offset)


def test_a_folder_that_is_there_is_used_where_it_is(checkpoint, tmp_path):
    listing = Listing.of(checkpoint)
    assert fetched(listing, never, tmp_path / "kept") == checkpoint
    assert not (tmp_path / "kept").exists()


def test_one_that_is_not_is_fetched_once_byte_for_byte(checkpoint, tmp_path):
    other = Elsewhere(checkpoint)
    folder = fetched(other.listing, other.read, tmp_path / "kept")
    assert content(folder) == other.before
    assert len(other.asked) == 3 + 1 + 1 + 10
    assert fetched(other.listing, other.read, tmp_path / "kept") == folder
    assert len(other.asked) == 15


def test_another_one_under_the_same_path_is_not_mistaken_for_it(checkpoint, tmp_path):
    other = Elsewhere(checkpoint)
    checkpoint.mkdir()
    for name, data in other.before.items():
        (checkpoint / name).parent.mkdir(parents=True, exist_ok=True)
        (checkpoint / name).write_bytes(bytes(len(data)))  # The same names and sizes.
    assert content(fetched(other.listing, other.read, tmp_path / "kept")) == other.before


def test_workers_of_one_machine_fetch_it_once_between_them(checkpoint, tmp_path):
    other = Elsewhere(checkpoint)
    fetch = [
        threading.Thread(target=fetched, args=(other.listing, other.read, tmp_path / "kept"))
        for _ in range(4)
    ]
    for thread in fetch:
        thread.start()
    for thread in fetch:
        thread.join(60)
    assert len(other.asked) == 15


def test_what_a_killed_process_had_begun_is_begun_again(checkpoint, tmp_path):
    other = Elsewhere(checkpoint)

    def interrupted(number, offset):
        if len(other.asked) == 8:
            raise KeyboardInterrupt
        return other.read(number, offset)

    with pytest.raises(KeyboardInterrupt):
        fetched(other.listing, interrupted, tmp_path / "kept")
    assert content(fetched(other.listing, other.read, tmp_path / "kept")) == other.before


def test_a_checkpoint_that_is_written_to_meanwhile_is_refused_and_named(checkpoint, tmp_path):
    other = Elsewhere(checkpoint)
    (other.hidden / "e").write_bytes(bytes(9999))
    with pytest.raises(TransferError, match=r"of-another-machine/e has changed since the run began"):
        fetched(other.listing, other.read, tmp_path / "kept")


def test_only_policies_with_a_folder_have_one_sent(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_transfer, "start_sender", lambda listing: f"sender of {listing.folder}")
    monkeypatch.chdir(tmp_path)
    names = ["expert", "pi0-tiny", "pi0-tiny@random", "pi0-tiny@checkpoint"]
    sources, senders = travelling(REGISTERED, dict.fromkeys(names))
    assert senders == [f"sender of {checkpoint}"], "relative to where the driver was started"
    assert isinstance(sources.policy, FetchedPolicies)
    assert set(sources.policy.checkpoints) == {"pi0-tiny@checkpoint"}
    assert sources.policy("expert").spec.name == "expert"
    own = Factories(policy=lambda name, serving: None)
    assert travelling(own, dict.fromkeys(names)) == (own, [])


def test_a_policy_keeps_its_name_wherever_its_weights_lie():
    name = "pi0-tiny@/nowhere/at/all"
    listing = Listing.of(PRESETS["pi0-tiny"].bundled)
    policy = FetchedPolicies(PolicyLoader(), {name: (listing, _NeverAsked())})(name)
    assert policy.spec.name == name
    assert policy.spec.weights == "trained"


class _NeverAsked:
    class read:
        remote = staticmethod(never)
