import pytest

from simloop.results.figures import style
from simloop.results.report import site


@pytest.fixture
def svg_only(monkeypatch):
    """Write figures in one format: three take most of the time of a report."""
    for module in (style, site):
        monkeypatch.setattr(module, "FORMATS", ("svg",))
