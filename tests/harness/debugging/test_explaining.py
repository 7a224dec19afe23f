"""What cannot be explained is said, with what to do instead."""

import dataclasses
import re

import numpy as np
import pytest

from simloop.harness.debugging.episodes import find_episode
from simloop.harness.debugging.explaining import (
    ExplanationError,
    explained_queries,
    explainer_of,
    other_prompts,
)
from simloop.harness.debugging.explanation_files import arrays_of, stored_explanation, write_explanation
from simloop.harness.debugging.explanation_tables import explanation_grids
from simloop.harness.debugging.lazy_policy import LazyPolicy
from simloop.harness.planning.changes import ChangeError, query_numbers
from simloop.policies.explaining.attention import Attention, TokenLayout
from simloop.policies.explaining.distances import ImageDistance
from simloop.policies.explaining.explanation import Explanation, Flow, Sensitivity
from simloop.policies.interface import Query
from simloop.results.records.explanations import read_explanation
from simloop.results.records.step_records import StepRecordsError
from simloop.results.tables.typesetting import to_text
from tests.helpers.point_policies import PointPolicy
from tests.helpers.recorded_run import NAME
from tests.helpers.scripted_records import recorded


def made_up() -> Explanation:
    """An explanation of a model with one camera of four patches, two words, and three steps of two actions."""
    layout = TokenLayout(("top",), 2, ("go", "▁up"), state_token=True, actions=3)
    weights = np.full((2, 2, 3, layout.size), 1 / layout.size)
    draws = np.random.default_rng(0).normal(size=(4, 2, 2)).astype(np.float32)
    x = np.zeros((3, 2, 2), np.float32)
    return Explanation(
        query=Query("reach-v3", "go up", 0, np.zeros(1, np.float32)),
        images={"top": np.zeros((8, 8, 3), np.uint8)},
        chunk=draws[0],
        attention=Attention(layout, weights, weights[0, 0]),
        draws=draws,
        flow=Flow(x, np.array([1.0, 0.5, 0.0]), np.array([2.0, 1.0])),
        answer=None,
        sensitivities=(Sensitivity("no prompt", 2.5, (1.0, 4.0)), Sensitivity("top dropped", None, ())),
        state=(),
        actions=(),
        cameras=(ImageDistance("top", 1.25, 97.5, 1.0, 2.0),),
    )


def test_policies_without_a_model_are_refused():
    with pytest.raises(ExplanationError, match=r"cannot be explained.*simloop fork"):
        explainer_of(PointPolicy(), 4)
    with pytest.raises(ExplanationError, match="2 draws at least; got 1"):
        explainer_of(PointPolicy(), 1)
    with pytest.raises(ExplanationError, match="expert cannot be explained"):
        LazyPolicy("expert").explainer(4)


def test_an_episode_of_a_scripted_policy_is_refused_and_one_without_records_says_how_to_record(run):
    with pytest.raises(ExplanationError, match="random cannot be explained"):
        list(explained_queries(find_episode(run, NAME), [0]))
    with pytest.raises(StepRecordsError, match="--record queries"):
        list(explained_queries(find_episode(run, "random/reach-v3/1"), [0]))


def test_queries_are_numbers_or_all():
    assert query_numbers(("all",), 3) == [0, 1, 2]
    assert query_numbers(("2", "0"), 3) == [2, 0]
    for wrong in ((), ("-1",), ("first",)):
        with pytest.raises(ChangeError, match="numbers of queries or all"):
            query_numbers(wrong, 3)


def test_the_other_prompt_is_that_of_another_task_or_the_given_one():
    ((name, prompt),) = other_prompts("metaworld", "pick-place-v3").items()
    assert name.startswith("prompt of ")
    assert prompt != "pick up the puck and move it to the goal"
    assert other_prompts("metaworld", "reach-v3", "wave") == {"prompt 'wave'": "wave"}


def test_tables_say_what_varies_and_what_the_inputs_change():
    text = "\n".join(to_text(grid) for grid in explanation_grids(made_up(), differs=0.5))
    assert re.search(r"no prompt +2\.50 +1\.00 +4\.00", text)
    assert "The recorded chunk is 0.5 spreads away" in text
    assert re.search(r"top +1\.25 +97\.5 +1\.00 +2\.00", text)
    for words in ("Attention of the answer", "Spread of the answer", "From noise", "Sensitivity", "velocity"):
        assert words in text


def test_a_checkpoint_without_statistics_of_images_is_said_to_have_none():
    grids = explanation_grids(dataclasses.replace(made_up(), cameras=()))
    assert "Not recorded: the checkpoint has no image_stats.json" in "\n".join(map(to_text, grids))


def test_files_hold_numbers_arrays_and_pictures(tmp_path):
    explanation, query = made_up(), recorded("..").queries[0]
    files = write_explanation(explanation, query, "a", tmp_path / "new" / "query-0000")
    assert all(file.is_file() for file in files)
    assert {file.suffix for file in files} == {".json", ".npz", ".png"}
    stored = read_explanation(files[0])
    assert stored == dataclasses.replace(
        stored_explanation(explanation, query, "a"), sensitivities=stored.sensitivities
    )
    assert stored.explains(query)
    with np.load(files[1]) as arrays:
        assert {*arrays.files} >= {*arrays_of(explanation)}
        np.testing.assert_array_equal(arrays["draws"], explanation.draws)
