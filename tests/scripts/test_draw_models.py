"""The figures of the documentation show what the models compute."""

import re
from collections.abc import Mapping

import pytest

from scripts import draw_models
from scripts.draw_models import DIAGRAMS, FIGURES, NAMES, observe, texts_of
from tests.helpers.families import first_of

# As counted in the published checkpoints.
TOTALS = {"pi0": "3.24 B", "pi05": "3.35 B", "pi0_fast": "2.92 B"}


@pytest.fixture(scope="module", params=first_of("pi05", *(name for name in DIAGRAMS if name != "pi05")))
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def numbers(family: str) -> Mapping[str, str]:
    return observe(DIAGRAMS[family][0]())


def test_committed_figures_show_what_is_observed_in_the_models(family: str, numbers: Mapping[str, str]):
    config, diagram_of = DIAGRAMS[family]
    assert texts_of(FIGURES / f"{family}.svg") == sorted(diagram_of(config()).texts(numbers))


def test_totals_are_those_of_the_published_checkpoints(family: str, numbers: Mapping[str, str]):
    assert numbers["total"] == TOTALS[family]


@pytest.mark.parametrize("name", DIAGRAMS)
def test_texts_contain_no_number_of_their_own(name: str):
    class Blank(dict):
        def __missing__(self, _: str) -> str:
            return ""

    config, diagram_of = DIAGRAMS[name]
    diagram = diagram_of(config())
    texts = [box.text for box in diagram.boxes.values()] + [text for _, _, text in diagram.notes]
    for text in texts:
        assert not re.search(r"\d", text.format_map(Blank()).replace(NAMES[name], "")), text


def test_refuses_a_parameter_that_belongs_to_no_box(monkeypatch):
    parts = {"pi0_fast": {"encoder": ("image_encoder",), "language": ("transformer/experts/0",)}}
    monkeypatch.setattr(draw_models, "PARTS", parts)
    with pytest.raises(ValueError, match=r"transformer/token_table of pi0_fast belongs to \[\]"):
        observe(DIAGRAMS["pi0_fast"][0]())
