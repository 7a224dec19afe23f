import pytest

from simloop.results.figures import style


@pytest.fixture
def svg_only(monkeypatch):
    """Write figures in one format: three take most of the time of a report."""
    monkeypatch.setattr(style, "FORMATS", ("svg",))
