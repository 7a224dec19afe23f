"""The runs that are served: found in folders, loaded on demand, and loaded again when episodes have finished."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from simloop.harness.errors import SimloopError
from simloop.harness.recording.run_status import Status, is_stale, read_status
from simloop.harness.viewing.images import recorded_images, recorded_trajectories
from simloop.results.records.ledger import LedgerError
from simloop.results.records.paths import file_name
from simloop.results.records.records import EPISODES, run_folder
from simloop.results.records.runs import load_runs
from simloop.results.report.page_data import number, text
from simloop.results.report.site import Site
from simloop.results.statistics.intervals import wilson

LOADED = 4
"""Runs that are kept in memory."""


class Shelf:
    """Runs by the names under which their pages are served.

    Args:
      folders: Run folders, or folders that hold run folders; runs may be added to those at any time.
    """

    def __init__(self, folders: Sequence[Path]):
        self.folders = tuple(folders)
        self._sites: OrderedDict[Path, tuple[str, Site]] = OrderedDict()

    def runs(self) -> dict[str, Path]:
        """Run folders by name; names hold for as long as the folder stays where it is."""
        return {_name(folder): folder for folder in dict.fromkeys(self._found())}

    def _found(self) -> Iterator[Path]:
        for folder in self.folders:
            if _is_run(folder):
                yield folder
            elif folder.is_dir():
                yield from (below for below in sorted(folder.iterdir()) if _is_run(below))

    def site(self, folder: Path) -> Site:
        """The pages of a run, with the episodes that have finished.

        Raises:
          LedgerError: If its records were altered.
        """
        stamp = _stamp(folder)
        known = self._sites.pop(folder, None)
        entry = known if known and known[0] == stamp else (stamp, self._new_site(folder))
        self._sites[folder] = entry
        while len(self._sites) > LOADED:
            self._sites.popitem(last=False)
        return entry[1]

    def _new_site(self, folder: Path) -> Site:
        runs = load_runs([folder])
        return Site(runs, recorded_images, draw_images=True, read_trajectories=recorded_trajectories)

    def warm(self, folder: Path) -> None:
        """Prepare the first screen of a run before it is asked for; what is wrong with it is said when it is."""
        with contextlib.suppress(LedgerError):
            self.site(folder).content("data/overview.js")

    def live(self, folder: Path) -> dict[str, Any]:
        """Progress of a run, and a stamp that changes when an episode has finished."""
        status = _status(folder)
        going = status is not None and status.in_progress and not is_stale(status)
        return {"stamp": _stamp(folder), "going": going, "status": status and _status_data(status)}

    def list(self) -> dict[str, Any]:
        """What is known of every run without reading its records."""
        runs = [_row(name, folder) for name, folder in self.runs().items()]
        return {"folders": [text(str(folder)) for folder in self.folders], "runs": runs}


def _is_run(folder: Path) -> bool:
    try:
        return folder.is_dir() and run_folder(folder) is not None
    except (LedgerError, OSError):
        return False


def _name(folder: Path) -> str:
    place = str(folder.resolve())
    return f"{file_name(folder.resolve().name)}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


def _stamp(folder: Path) -> str:
    try:
        found = (folder / EPISODES).stat()
    except OSError:
        return ""
    return f"{found.st_mtime_ns}-{found.st_size}"


def _status(folder: Path) -> Status | None:
    try:
        return read_status(folder)
    except (SimloopError, LedgerError):
        return None


def _status_data(status: Status) -> dict[str, Any]:
    engine = status.engine
    return {
        "state": status.state,
        "stale": is_stale(status),
        "doing": text(status.doing),
        "done": status.done,
        "planned": status.planned,
        "episodes_per_h": number(status.episodes_per_h),
        "left_s": number(status.left_s),
        "engine": {
            "simulators": engine.simulators,
            "places": engine.places,
            "simulator_share": number(engine.simulator_share),
            "device_share": number(engine.device_share),
            "queue": engine.queue,
            "starting": text(engine.starting),
            "slow": text(engine.slow),
        },
    }


def _row(name: str, folder: Path) -> dict[str, Any]:
    status = _status(folder)
    row: dict[str, Any] = {"path": name, "name": text(folder.resolve().name), "folder": text(str(folder))}
    if status is None:
        return row | {
            "state": "–",
            "done": None,
            "planned": None,
            "policies": [],
            "written": _changed(folder),
        }
    state = "no report any more" if is_stale(status) else status.state
    return row | {
        "state": state,
        "done": status.done,
        "planned": status.planned,
        "policies": [
            _policy(policy, counts.successes, counts.done - counts.errors)
            for policy, counts in status.policies.items()
        ],
        "written": status.written[:19].replace("T", " "),
    }


def _policy(name: str, successes: int, completed: int) -> dict[str, Any]:
    interval = wilson(successes, completed) if completed else None
    return {
        "name": text(name),
        "rate": number(successes / completed) if completed else None,
        "low": number(interval.low) if interval else None,
        "high": number(interval.high) if interval else None,
        "successes": successes,
        "completed": completed,
    }


def _changed(folder: Path) -> str:
    """When the folder last changed, as `Status.written` says it."""
    changed = datetime.datetime.fromtimestamp(folder.stat().st_mtime, datetime.UTC)
    return changed.isoformat(sep=" ", timespec="seconds")[:19]
