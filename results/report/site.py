"""The pages of runs as files by path: `simloop report` writes them to disk, and `simloop view` serves them."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from simloop.results.diagnosis import EndingReader
from simloop.results.endings import by_ledger
from simloop.results.errors import ResultsError
from simloop.results.figures.style import FORMATS, figure_bytes
from simloop.results.records.explanations import explanations_of
from simloop.results.records.frames import load
from simloop.results.records.ledger import LedgerError
from simloop.results.records.paths import step_records_path, trajectories_path
from simloop.results.records.records import FIELD_TYPES, EpisodeRecord, QueryRecord, video_of
from simloop.results.records.runs import Runs, RunSource
from simloop.results.records.step_records import StepRecords, StepRecordsError, load_steps
from simloop.results.records.trajectories import Trajectories, read_trajectories
from simloop.results.report.details import Details
from simloop.results.report.episode_data import (
    explanation_data,
    failure_data,
    fork_data,
    latency_data,
    ledger_data,
    step_data,
)
from simloop.results.report.losses import losses
from simloop.results.report.overview import overview
from simloop.results.report.page_data import episode_id, script, text
from simloop.results.report.sprites import sheet
from simloop.results.statistics.contrasts import MARGIN
from simloop.results.tables.fork_table import ForkPoint, fork_points
from simloop.results.tables.latex import escape_tex
from simloop.results.tables.run_tables import table
from simloop.untrusted import UntrustedInputError, inside

ASSETS = Path(__file__).parent / "assets"
PAGE = "index.html"
PAGE_ASSETS = tuple(
    f"assets/{file.name}" for file in sorted(ASSETS.iterdir()) if file.suffix in (".css", ".js")
)
TABLE_FORMATS = ("md", "csv", "tex")

Content = bytes | Path
"""Bytes, or a file that holds them."""
ReadImages = Callable[[Path, StepRecords], Iterable[dict[str, np.ndarray]]]
"""Images of every query of an episode by camera, from a run folder and the step records of the episode."""
ReadTrajectories = Callable[[Path, StepRecords], Trajectories | None]
"""Trajectories of an episode, from a run folder and the step records of the episode; None if there are none."""
SHEETS = 8
"""Episodes whose images are kept in memory: the page loads one camera after the other."""


class Site:
    """Pages of runs. Every file is known by its path; no path is joined with a folder of a run.

    Args:
      read_images: Reader of the images that the policy was given; None to leave them out.
      draw_images: Also show images that the records do not store, for which the reader draws them again.
      read_trajectories: Reader of trajectories; by default of those that lie beside the step records.
      margin, alpha, looked_at: As of `Details`.
    """

    def __init__(
        self,
        runs: Runs,
        read_images: ReadImages | None = None,
        *,
        draw_images: bool = False,
        read_trajectories: ReadTrajectories = read_trajectories,
        margin: float = MARGIN,
        alpha: float = 0.05,
        looked_at: int | None = None,
    ):
        self.runs = runs
        self.details = Details(runs, margin, alpha, looked_at)
        self._read_images = read_images
        self._draw_images = draw_images
        self._read_trajectories = read_trajectories
        self._sheets: OrderedDict[tuple[Any, ...], list[bytes]] = OrderedDict()
        self._drawing = threading.Lock()
        self._slow = (
            threading.Lock()
        )  # Of what takes seconds, and of Matplotlib, which has one style per process.

    def content(self, path: str) -> Content | None:
        """The content of a file; None if there is no such file."""
        if make := self._files.get(path):
            return make()
        if match := _EPISODE.fullmatch(path):
            return self._episode_file(match["id"], match["file"])
        if match := _FIGURE.fullmatch(path):
            with self._slow:
                drawn = self.details.figures.get(match["name"])
                return figure_bytes(drawn.figure()[0], match["format"]) if drawn else None
        if (match := _TABLE.fullmatch(path)) and match["name"] in self.details.tables:
            with self._slow:
                return table(self.runs, only=match["name"]).text(match["format"]).encode()  # type: ignore[arg-type]
        return None

    def paths(self) -> Iterator[str]:
        """Paths of all files; those of sheets of images may turn out to have no content."""
        yield from self._files
        yield from (f"figures/{name}.{format}" for name in self.details.figures for format in FORMATS)
        yield from (f"tables/{name}.{format}" for name in self.details.tables for format in TABLE_FORMATS)
        for name, row in self._rows.items():
            yield f"episodes/{name}/data.js"
            if self._video(row) is not None:
                yield f"episodes/{name}/video.mp4"
            records, _ = self._records(row)
            if records is not None and self._has_trajectories(row):
                yield f"episodes/{name}/trajectories.js"
            if records is not None and self._shows_images(records):
                yield from (f"episodes/{name}/{i}.webp" for i in range(len(records.header.cameras)))

    @cached_property
    def _files(self) -> dict[str, Callable[[], Content]]:
        files: dict[str, Callable[[], Content]] = {PAGE: lambda: page("run")}
        for asset in PAGE_ASSETS:
            files[asset] = (ASSETS / asset.removeprefix("assets/")).resolve
        return files | {
            "data/overview.js": lambda: self._overview,
            "data/losses.js": lambda: script("losses", self._losses()),
            "data/details.js": self._details,
            "methods.tex": lambda: self.details.methods.tex(escape_tex).encode(),
            "references.bib": lambda: self.details.methods.bibtex.encode(),
        }

    @cached_property
    def _overview(self) -> bytes:
        return script("overview", overview(self.runs))

    def _details(self) -> bytes:
        with self._slow:
            return script("details", self.details.data())

    @cached_property
    def _rows(self) -> dict[str, dict[str, Any]]:
        rows = [
            {str(name): value for name, value in row.items()} for row in self.runs.episodes.to_dict("records")
        ]
        return {
            episode_id((r["policy"], r["suite"], r["protocol"], r["task"], r["episode"])): r for r in rows
        }

    def _source(self, row: Mapping[str, Any]) -> RunSource:
        source: RunSource = self.runs.sources[row["run"]]
        return source

    def _record(self, row: Mapping[str, Any]) -> EpisodeRecord:
        """The row of the ledger, with the policy as the run itself names it."""
        fields = {name: row[name] for name in FIELD_TYPES[EpisodeRecord]}
        return EpisodeRecord(**fields | {"policy": self._source(row).own_name(row["policy"])})

    def _video(self, row: Mapping[str, Any]) -> Path | None:
        try:
            return video_of(self._source(row).folder, row["video"])
        except LedgerError:  # The name leads out of the folder.
            return None

    def _records(self, row: Mapping[str, Any]) -> tuple[StepRecords | None, str]:
        """Step records of an episode; None if there are none, with the reason if they cannot be read."""
        record, folder = self._record(row), self._source(row).folder
        try:
            path = inside(folder, step_records_path(record.key))
            return (load_steps(folder, record.key), "") if path.is_file() else (None, "")
        except (StepRecordsError, UntrustedInputError) as error:
            return None, str(error)

    @cached_property
    def _readers(self) -> dict[int, EndingReader]:
        records: dict[int, list[EpisodeRecord]] = {i: [] for i in range(len(self.runs.sources))}
        for row in self._rows.values():
            records[row["run"]].append(self._record(row))
        return {i: EndingReader(self.runs.sources[i].folder, of_run) for i, of_run in records.items()}

    def _losses(self) -> dict[str, Any]:
        order = {name: i for i, name in enumerate(self.runs.policies)}
        rows = sorted(
            self._rows.values(), key=lambda row: (order[row["policy"]], row["task"], row["episode"])
        )
        failed = [
            (row["run"], row["policy"], record)
            for row in rows
            if (record := self._record(row)).outcome == "failure" or by_ledger(record)
        ]
        return losses(failed, self._readers)

    @cached_property
    def _forks(self) -> dict[int, list[ForkPoint]]:
        """Forks by index of the run that holds the episode from which they began."""
        found: dict[int, list[ForkPoint]] = {}
        for index, source in enumerate(self.runs.sources):
            found[index] = []
            for ledger in sorted(source.folder.glob("forks/*/episodes.jsonl")):
                try:
                    inside(source.folder, ledger.relative_to(source.folder).as_posix())
                    found[index] += fork_points(load(ledger.parent))
                except (ResultsError, LedgerError, UntrustedInputError):
                    continue
        return found

    def _episode_file(self, name: str, file: str) -> Content | None:
        row = self._rows.get(name)
        if row is None:
            return None
        if file == "video.mp4":
            return self._video(row)
        if file == "data.js":
            return script(f"episodes/{name}/data", self._episode(row))
        if file == "trajectories.js":
            return script(f"episodes/{name}/trajectories", self._trajectories(row))
        return self._sheet(row, int(file.removesuffix(".webp")))

    def _episode(self, row: Mapping[str, Any]) -> dict[str, Any]:
        record, (records, problem) = self._record(row), self._records(row)
        source = f"{record.policy}/{record.task}/{record.episode}"
        data = ledger_data(record, row["policy"]) | {
            "run": str(self._source(row).folder),
            "command_name": source,
            "video": self._video(row) is not None,
            "images": records is not None and self._shows_images(records),
            "trajectories": records is not None and self._has_trajectories(row),
            "unreadable": problem,
            "ending": None,
            "forks": fork_data([point for point in self._forks[row["run"]] if point.source == source]),
            "records": records and step_data(records),
            "explained": records
            and explanation_data(explanations_of(self._source(row).folder, record.key, records.queries)),
            "latency": latency_data(self._queries(row)) if records is None else None,
        }
        if record.outcome == "failure" or by_ledger(record):
            data["ending"] = failure_data(self._readers[row["run"]].failure(record, source))
        return data

    def _has_trajectories(self, row: Mapping[str, Any]) -> bool:
        """Whether they have been computed, or are when they are asked for."""
        computed = self._source(row).folder / trajectories_path(self._record(row).key)
        return self._read_trajectories is not read_trajectories or computed.is_file()

    def _trajectories(self, row: Mapping[str, Any]) -> dict[str, Any]:
        records, problem = self._records(row)
        try:
            found = records and self._read_trajectories(self._source(row).folder, records)
        except Exception as error:
            if not isinstance(error, ValueError) and not getattr(error, "user_facing", False):
                raise
            found, problem = None, str(error)
        return (
            dataclasses.asdict(found)
            if found
            else {"problem": text(problem or "they have not been computed")}
        )

    def _queries(self, row: Mapping[str, Any]) -> Sequence[QueryRecord]:
        """Latencies from the ledger of queries, which may be lost."""
        try:
            frame = self.runs.queries
        except LedgerError:
            return []
        for name in ("policy", "suite", "protocol", "task", "episode"):
            frame = frame[frame[name] == row[name]]
        rows = frame[list(FIELD_TYPES[QueryRecord])].to_dict("records")
        return [QueryRecord(**{str(name): value for name, value in row.items()}) for row in rows]

    def _shows_images(self, records: StepRecords) -> bool:
        return self._read_images is not None and (records.header.stores_images or self._draw_images)

    def _sheet(self, row: Mapping[str, Any], camera: int) -> bytes | None:
        """All images of a camera; None if they cannot be shown."""
        key = row["run"], *self._record(row).key
        with self._drawing:  # The cameras of an episode are asked for at once, and drawn together.
            if key not in self._sheets:
                self._sheets[key] = self._sheets_of(row)
            while len(self._sheets) > SHEETS:
                self._sheets.popitem(last=False)
            sheets = self._sheets[key]
        return sheets[camera] if camera < len(sheets) else None

    def _sheets_of(self, row: Mapping[str, Any]) -> list[bytes]:
        """A sheet for each camera; none if the images cannot be read or drawn."""
        records, _ = self._records(row)
        if records is None or self._read_images is None or not self._shows_images(records):
            return []
        try:
            images = list(self._read_images(self._source(row).folder, records))
            return [sheet([of_query[camera] for of_query in images]) for camera in records.header.cameras]
        except Exception as error:
            if not isinstance(error, ValueError) and not getattr(error, "user_facing", False):
                raise
            return []


def page(kind: str) -> bytes:
    """The page that shows a run (`run`) or lists runs (`list`)."""
    template = (ASSETS / "page.html").read_text(encoding="utf-8")
    return template.replace("PAGE_KIND", kind).encode()


_EPISODE = re.compile(
    r"episodes/(?P<id>[0-9a-f]{12})/(?P<file>(?:data|trajectories)\.js|video\.mp4|[0-9]{1,2}\.webp)"
)
_FIGURE = re.compile(rf"figures/(?P<name>[a-z0-9-]+)\.(?P<format>{'|'.join(('svg', 'pdf', 'png'))})")
_TABLE = re.compile(rf"tables/(?P<name>[a-z]+)\.(?P<format>{'|'.join(TABLE_FORMATS)})")
