"""Which figures there are, and whether a folder holds them as they are."""

from __future__ import annotations

from pathlib import Path

from simloop.policies.models import configs

from .flow_figure import flow_figure
from .observed import observe
from .token_figure import token_figure


def draw_all() -> dict[str, str]:
    """Every figure of the family at full size, as SVG by file name; the same bytes each time.

    Raises:
      DrawingError: If a figure would leave out a parameter or is not legible.
    """
    pi0, pi05 = observe(configs.pi0()), observe(configs.pi05())
    return {
        "pi0.svg": flow_figure(pi0, other=pi05),
        "pi05.svg": flow_figure(pi05, other=pi0),
        "pi0_fast.svg": token_figure(observe(configs.pi0_fast())),
    }


def stale_figures(folder: Path, *, rewrite: bool) -> list[str]:
    """Names of the figures that a folder lacks or has in another form; `rewrite` puts them right."""
    stale = []
    for name, svg in draw_all().items():
        path = folder / name
        if path.exists() and path.read_text(encoding="utf-8") == svg:
            continue
        stale.append(name)
        if rewrite:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(svg, encoding="utf-8")
    return stale
