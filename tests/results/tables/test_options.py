"""Options of tables mean the same on the command line, in an experiment file and in Python."""

import io
import re

import pandas as pd
import pytest

from simloop.harness.commands import table as command
from simloop.results.errors import ResultsError
from simloop.results.tables.options import TableOptions, read_table_options
from simloop.results.tables.run_tables import table
from tests.helpers.run_folders import episodes, write_run

EXPERIMENT = """[table]
rows = "policies"
cells = ["rate"]
decimals = 0
names = { "pi0-tiny" = "π₀" }
"""
QUOTED = """policy,tasks,rate,episodes,protocol,source
pi0-tiny,metaworld,0.5,100,metaworld/default-v1,doi:10.1/abc
"""


@pytest.fixture
def two(tmp_path):
    """Two policies on three tasks: 100, 75 and 50 % against 50, 25 and 0 %."""
    records = []
    for number, task in enumerate(("reach-v3", "push-v3", "pick-place-v3")):
        records += episodes(4 - number, number, task=task)
        records += episodes(2 - number, 2 + number, task=task, policy="pi0-tiny", weights="trained")
    return write_run(tmp_path / "run", records)


def rows(text):
    """Cells of the rows of a Markdown table, its heading first."""
    found = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [row for row in found if "---" not in row[0]]


def printed(capsys, *given, **options):
    command.command(*given, **options)
    return capsys.readouterr().out


def test_an_experiment_file_gives_the_options_that_the_command_line_does_not(two, tmp_path, capsys):
    file = tmp_path / "mine.toml"
    file.write_text(EXPERIMENT)
    printed_rows = rows(printed(capsys, (str(two),), format="md", experiment=file))
    assert [row[0] for row in printed_rows] == ["policy", "expert", "π₀"]
    assert printed_rows[2][1:] == ["0", "25", "50", "25"]
    over = printed(capsys, (str(two),), format="md", experiment=file, options=TableOptions(rows="tasks"))
    assert rows(over)[0] == ["task", "expert", "π₀"]
    assert rows(table(two, read_table_options(file)).to_markdown()) == printed_rows


def test_no_decimals_are_a_choice(two):
    assert TableOptions(decimals=0).over(TableOptions(decimals=2)).decimals == 0
    assert TableOptions().over(TableOptions(decimals=2)).decimals == 2
    assert rows(table(two, cells=["rate"], decimals=0).to_markdown())[1] == ["pick-place-v3", "50", "0"]


def test_columns_are_groups_of_tasks_with_their_means(two):
    groups = {"near": "reach* push-v3", "far": "pick-*"}
    made = table(two, per="group", groups=groups, rows="policies", cells=["rate"])
    assert rows(made.to_markdown()) == [
        ["policy", "near", "far", "mean of 3"],
        ["expert", "87.5", "50.0", "**75.0**"],
        ["pi0-tiny", "37.5", "0.0", "25.0"],
    ]
    with pytest.raises(ResultsError, match="The group none has no task"):
        table(two, per="group", groups={"none": "door*"}).to_markdown()


def test_suites_and_protocols_are_columns_of_one_table(two, tmp_path):
    other = write_run(
        tmp_path / "other", episodes(1, 3, protocol="metaworld/default-v1 with camera-noise=0.1")
    )
    made = rows(table([two, other], per="suite", rows="policies", cells=["rate"]).to_markdown())
    assert made[0] == ["policy", "metaworld/default-v1", "metaworld/default-v1 with camera-noise=0.1"]
    assert made[1][1:] == ["**75.0**", "25.0"]


def test_quoted_rates_stand_beside_measured_ones_with_their_source(two, tmp_path):
    (tmp_path / "published.csv").write_text(QUOTED)
    text = table(two, quote=True, published=tmp_path / "published.csv", cells=["rate"]).to_markdown()
    assert rows(text)[0] == ["task", "expert", "pi0-tiny", "pi0-tiny (quoted)"]
    assert rows(text)[-1][-1] == "50.0"
    assert "not measured here, without interval and in no comparison. Source: doi:10.1/abc" in text


def test_a_policy_that_is_left_out_by_choice_is_not_called_unfinished(tmp_path):
    config = {"experiment": {"suite": "metaworld", "policies": ["expert", "pi0", "late"], "episodes": 4}}
    both = [*episodes(4), *episodes(1, 3, policy="pi0", weights="trained")]
    text = table(write_run(tmp_path, both, config=config), policies=("pi0",)).to_markdown()
    assert "Evaluated and not shown: expert;" in text
    assert "Policies without a finished episode: late." in text


def test_a_spreadsheet_takes_tables_as_csv_and_by_copying(two):
    made = table(two, rows="policies", cells=["rate", "interval"])
    frame = pd.read_csv(io.StringIO(made.to_csv()))
    mean = frame[(frame.policy == "expert") & (frame.level == "mean")]
    assert mean.rate.item() == 0.75
    copied = made._repr_html_()
    (head,) = re.findall(r"<thead>.*?</thead>", copied, re.DOTALL)
    assert re.findall(r"<th[^>]*>([^<]*)</th>", head) == [
        "policy", "pick-place-v3", "push-v3", "reach-v3", "mean of 3"
    ]  # fmt: skip
    assert "<strong>75.0</strong><br><small>[46.8, 91.1]</small>" in copied
