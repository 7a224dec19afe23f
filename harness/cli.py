"""Robot policies of the pi0 family, evaluated closed-loop in simulation."""

from __future__ import annotations

import sys

import tyro
from rich.console import Console
from tyro.extras import SubcommandApp

from simloop.harness.commands import learning, looking, playing, reading
from simloop.harness.commands.bench import bench
from simloop.harness.commands.options import INTERRUPTED, MISUSED

app = SubcommandApp()
app.command(
    bench, name="bench", help="Measure how fast parts of simloop are, beside what this machine could do."
)
for command in (
    playing.run,
    reading.table,
    playing.status,
    playing.merge,
    reading.compare,
    reading.report,
    reading.plan,
    learning.collect,
    learning.train,
    learning.quantize,
):
    app.command(command)
app.command(name="list")(looking.list_)
app.command(looking.doctor)
app.command(looking.parity)


def main() -> None:
    """Entry point: what a user did wrong is said in a sentence, without a trace of our insides."""
    try:
        sys.exit(app.cli(prog="simloop", description=__doc__, config=(tyro.conf.AvoidSubcommands,)))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        if not isinstance(error, _spoken_errors()):
            raise
        Console(stderr=True).print(f"simloop: {error}", highlight=False, markup=False, soft_wrap=True)
        sys.exit(MISUSED)


def _spoken_errors() -> tuple[type[Exception], ...]:
    """Errors whose text is written for the person at the keyboard. Imported when there is one."""
    from simloop.envs.interface import SuiteNotInstalledError
    from simloop.envs.registry import UnknownNameError
    from simloop.envs.rendering import RenderingError
    from simloop.harness.errors import SimloopError
    from simloop.policies.bench.bench_config import BenchError
    from simloop.policies.presets import UnknownPresetError
    from simloop.policies.training.errors import TrainingError
    from simloop.policies.training.layout import DatasetError
    from simloop.results.errors import ResultsError
    from simloop.results.records.ledger import LedgerError

    spoken = (SimloopError, LedgerError, ResultsError, RenderingError, UnknownNameError)
    return (*spoken, TrainingError, DatasetError, SuiteNotInstalledError, BenchError, UnknownPresetError)
