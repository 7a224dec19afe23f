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
    """Run the command line; exceptions marked `user_facing` are printed as one sentence without a traceback."""
    try:
        sys.exit(app.cli(prog="simloop", description=__doc__, config=(tyro.conf.AvoidSubcommands,)))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        if not getattr(error, "user_facing", False):
            raise
        Console(stderr=True).print(f"simloop: {error}", highlight=False, markup=False, soft_wrap=True)
        sys.exit(MISUSED)
