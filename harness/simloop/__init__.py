"""Robot policies of the pi0 family, evaluated closed-loop in simulation.

>>> import simloop
>>> result = simloop.evaluate(["expert", "random"], ["reach", "push"], episodes=5)  # doctest: +SKIP
>>> result.success_rates()  # doctest: +SKIP

Everything named in `__all__` is imported when first used, so that `import simloop` itself is immediate.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simloop.harness.debugging.session import Session
    from simloop.harness.evaluate import Evaluation, evaluate, load_policy, load_runs, make
    from simloop.policies.function_policy import policy
    from simloop.results.tables.run_tables import table

    __version__: str

__all__ = [
    "Evaluation",
    "Session",
    "__version__",
    "evaluate",
    "load_policy",
    "load_runs",
    "make",
    "policy",
    "table",
]

_MODULES = {
    "Session": "simloop.harness.debugging.session",
    "policy": "simloop.policies.function_policy",
    "table": "simloop.results.tables.run_tables",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("simloop")
    if name in __all__:
        return getattr(importlib.import_module(_MODULES.get(name, "simloop.harness.evaluate")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
