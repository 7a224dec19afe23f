"""Episode records, statistics, tables, figures and reports; independent of JAX and Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simloop.results.tables.run_tables import table

__all__ = ["table"]


def __getattr__(name: str) -> Any:
    if name == "table":  # Imported when first used: pandas takes a second.
        from simloop.results.tables.run_tables import table

        return table
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
