import pytest

from simloop.results.report import figure_style


@pytest.fixture
def svg_only(monkeypatch):
    """Write figures in one format: three take most of the time of a report."""
    monkeypatch.setattr(figure_style, "FORMATS", ("svg",))
