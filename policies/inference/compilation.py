"""Programs compiled ahead of time, one for each shape of what they are called with."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import jax

from simloop.policies.interface import CompilationProgress

COMPILED_AT_ONCE = 4
"""XLA compiles beside Python. Each compilation of a full-size model takes gigabytes while it lasts."""

CompilerOptions = Mapping[str, str | bool]


class Programs:
    """A compiled function of arguments whose program for each shape of them is made once, ahead of the first call.

    `jax.jit` keeps its programs too, but makes each at its first call, one after the other and in silence.

    Args:
      function: As `inference.compiled` returns it: a jitted function whose first arguments are given.
      described: Says in a few words which program answers these arguments.
      options: For XLA, by name, such as xla_gpu_graph_min_graph_size; one that XLA does not know is an error.
    """

    def __init__(
        self,
        function: functools.partial,
        described: Callable[..., str],
        options: CompilerOptions | None = None,
    ):
        self._jitted: Any = function.func
        self._given = function.args
        self._described = described
        self._options = dict(options or {})
        self._made: dict[Hashable, jax.stages.Compiled] = {}
        self._prepared = False

    def __len__(self) -> int:
        """How many there are."""
        return len(self._made)

    def __call__(self, *arguments: Any) -> Any:
        """Call the program for these shapes. If there is none it is compiled now, and the log says so."""
        program = self._made.get(_shapes(arguments))
        if program is None:
            program = self._surprised(arguments)
        return program(*self._given, *arguments)

    def prepare(
        self,
        calls: Sequence[tuple],
        on_progress: Callable[[CompilationProgress], None] | None = None,
    ) -> None:
        """Compile what calls with these arguments will need, several at a time; nothing is called.

        Args:
          calls: Arguments, placed as they will be.
          told: Told how many programs are done, before the first and after each. Nothing if all are there.

        Raises:
          Exception: What XLA raises, once those under way have ended.
        """
        self._prepared = True
        missing = {
            shapes: arguments
            for arguments in calls
            if (shapes := _shapes(arguments)) not in self._made
        }  # fmt: skip
        if not missing:
            return
        began = time.perf_counter()
        under_way = {shapes: self._described(*arguments) for shapes, arguments in missing.items()}

        def tell() -> None:
            if on_progress is not None:
                done = len(missing) - len(under_way)
                seconds = time.perf_counter() - began
                on_progress(CompilationProgress(done, len(missing), tuple(under_way.values()), seconds))

        tell()
        with ThreadPoolExecutor(COMPILED_AT_ONCE, "compile") as pool:
            # Tracing is Python's, and stays in this thread and its settings.
            compiling = {
                pool.submit(self._lowered(arguments).compile, self._options or None): shapes
                for shapes, arguments in missing.items()
            }
            for done in as_completed(compiling):
                shapes = compiling[done]
                self._made[shapes] = done.result()
                del under_way[shapes]
                tell()

    def _lowered(self, arguments: tuple) -> jax.stages.Lowered:
        lowered: jax.stages.Lowered = self._jitted.lower(*self._given, *arguments)
        return lowered

    def _surprised(self, arguments: tuple) -> jax.stages.Compiled:
        """A program that nobody has asked for ahead of time."""
        began = time.perf_counter()
        program = self._lowered(arguments).compile(self._options or None)
        self._made[_shapes(arguments)] = program
        logging.getLogger(__name__).log(
            logging.WARNING if self._prepared else logging.INFO,
            "Compiled for %s when it was first asked for, in %.1f s.",
            self._described(*arguments),
            time.perf_counter() - began,
        )
        return program


def _shapes(arguments: tuple) -> Hashable:
    """What decides which program answers these arguments."""
    leaves, structure = jax.tree.flatten(arguments)
    return structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
