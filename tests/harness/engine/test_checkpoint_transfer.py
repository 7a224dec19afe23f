"""Transfer of checkpoints that only the driver's machine has."""

import os
import threading

import pytest
import ray

from simloop.harness.actors.factories import REGISTERED, Factories
from simloop.harness.engine import checkpoint_transfer
from simloop.harness.engine.checkpoint_transfer import (
    Listing,
    Sender,
    TransferError,
    TransferringLoader,
    local_copy,
    with_transfer,
)
from simloop.harness.planning.policy_names import PolicyLoader
from simloop.policies.presets import PRESETS

PART = 1000


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A folder of files that are smaller than, larger than and as large as a part, and one that is empty."""
    monkeypatch.setattr(checkpoint_transfer, "PART_BYTES", PART)
    monkeypatch.setattr(ray, "get", lambda part: part)
    folder = tmp_path / "checkpoint"
    for name, size in {"a": 0, "params/b": 2500, "params/deep/c": PART, "assets/d": 1, "e": 9999}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(os.urandom(size))
    return folder


def never(number, offset):
    raise AssertionError("a part was requested")


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class Elsewhere:
    """The driver's machine as seen from another node: its files can be read only through a sender."""

    def __init__(self, folder):
        self.listing = Listing.of(folder)
        self.before = content(folder)
        self.hidden = folder.rename(folder.with_name("of-another-node"))
        self.requested = []
        self._sender = Sender(self.listing)
        self._sender._listing = Listing(self.hidden, self.listing.files)

    def read(self, number, offset):
        self.requested.append((number, offset))
        return self._sender.read(number, offset)


def test_uses_a_folder_that_the_node_can_see_in_place(checkpoint, tmp_path):
    listing = Listing.of(checkpoint)
    assert local_copy(listing, never, tmp_path / "cache") == checkpoint
    assert not (tmp_path / "cache").exists()


def test_copies_a_folder_that_the_node_cannot_see_once(checkpoint, tmp_path):
    other = Elsewhere(checkpoint)
    folder = local_copy(other.listing, other.read, tmp_path / "cache")
    assert content(folder) == other.before
    assert len(other.requested) == 3 + 1 + 1 + 10
    assert local_copy(other.listing, other.read, tmp_path / "cache") == folder
    assert len(other.requested) == 15


def test_does_not_use_another_checkpoint_at_the_same_path(checkpoint, tmp_path):
    other = Elsewhere(checkpoint)
    checkpoint.mkdir()
    for name, data in other.before.items():
        (checkpoint / name).parent.mkdir(parents=True, exist_ok=True)
        (checkpoint / name).write_bytes(bytes(len(data)))  # The same names and sizes.
    assert content(local_copy(other.listing, other.read, tmp_path / "cache")) == other.before


def test_workers_of_one_node_share_one_copy(checkpoint, tmp_path):
    other = Elsewhere(checkpoint)
    fetch = [
        threading.Thread(target=local_copy, args=(other.listing, other.read, tmp_path / "cache"))
        for _ in range(4)
    ]
    for thread in fetch:
        thread.start()
    for thread in fetch:
        thread.join(60)
    assert len(other.requested) == 15


def test_restarts_an_interrupted_transfer(checkpoint, tmp_path):
    other = Elsewhere(checkpoint)

    def interrupted(number, offset):
        if len(other.requested) == 8:
            raise KeyboardInterrupt
        return other.read(number, offset)

    with pytest.raises(KeyboardInterrupt):
        local_copy(other.listing, interrupted, tmp_path / "cache")
    assert content(local_copy(other.listing, other.read, tmp_path / "cache")) == other.before


def test_rejects_a_checkpoint_that_changes_during_the_transfer(checkpoint, tmp_path):
    other = Elsewhere(checkpoint)
    (other.hidden / "e").write_bytes(bytes(9999))
    with pytest.raises(TransferError, match=r"of-another-node/e has changed since the run began"):
        local_copy(other.listing, other.read, tmp_path / "cache")


def test_starts_senders_only_for_policies_with_a_checkpoint_folder(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_transfer, "start_sender", lambda listing: f"sender of {listing.folder}")
    monkeypatch.chdir(tmp_path)
    names = ["expert", "pi0-tiny", "pi0-tiny@random", "pi0-tiny@checkpoint"]
    sources, senders = with_transfer(REGISTERED, dict.fromkeys(names))
    assert senders == [f"sender of {checkpoint}"], "relative to where the driver was started"
    assert isinstance(sources.policy, TransferringLoader)
    assert set(sources.policy.checkpoints) == {"pi0-tiny@checkpoint"}
    assert sources.policy("expert").spec.name == "expert"
    own = Factories(policy=lambda name, options: None)
    assert with_transfer(own, dict.fromkeys(names)) == (own, [])


def test_keeps_the_name_of_a_policy_whose_checkpoint_was_transferred():
    name = "pi0-tiny@/nowhere/at/all"
    listing = Listing.of(PRESETS["pi0-tiny"].bundled)
    policy = TransferringLoader(PolicyLoader(), {name: (listing, _NeverAsked())})(name)
    assert policy.spec.name == name
    assert policy.spec.weights == "trained"


class _NeverAsked:
    class read:
        remote = staticmethod(never)
