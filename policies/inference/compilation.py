"""Programs compiled ahead of time, one per shape of their arguments."""

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
"""Compilations that run in parallel. Each one of a full-size model takes gigabytes of memory."""

CompilerOptions = Mapping[str, str | bool]


class Programs:
    """Function that is compiled once per shape of its arguments, ahead of the first call.

    `jax.jit` caches programs too, but compiles each at its first call, one after another and without progress.

    Args:
      function: A jitted function whose first arguments are given, as `flat_jit.compiled` returns it.
      describe: Describes the program for these arguments in a few words.
      options: XLA options by name, such as xla_gpu_graph_min_graph_size; an unknown name is an error.
    """

    def __init__(
        self,
        function: functools.partial,
        describe: Callable[..., str],
        options: CompilerOptions | None = None,
    ):
        self._jitted: Any = function.func
        self.arguments = function.args
        """The arguments that are given."""
        self._describe = describe
        self._options = dict(options or {})
        self._made: dict[Hashable, jax.stages.Compiled] = {}
        self._prepared = False

    def __len__(self) -> int:
        """Number of compiled programs."""
        return len(self._made)

    def __call__(self, *arguments: Any) -> Any:
        """Call the program for these shapes. A missing one is compiled now, and logged."""
        program = self._made.get(_shapes(arguments))
        if program is None:
            program = self._compile_late(arguments)
        return program(*self.arguments, *arguments)

    def prepare(
        self,
        calls: Sequence[tuple],
        on_progress: Callable[[CompilationProgress], None] | None = None,
    ) -> None:
        """Compile the programs for calls with these arguments, several at a time; nothing is called.

        Args:
          calls: Arguments, on the devices that calls will have them on.
          on_progress: Called before the first program and after each; never if all are compiled already.

        Raises:
          Exception: Raised by XLA, once the compilations under way have ended.
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
        under_way = {shapes: self._describe(*arguments) for shapes, arguments in missing.items()}

        def report() -> None:
            if on_progress is not None:
                done = len(missing) - len(under_way)
                seconds = time.perf_counter() - began
                on_progress(CompilationProgress(done, len(missing), tuple(under_way.values()), seconds))

        report()
        with ThreadPoolExecutor(COMPILED_AT_ONCE, "compile") as pool:
            # Tracing stays in this thread, whose JAX configuration applies.
            compiling = {
                pool.submit(self._lowered(arguments).compile, self._options or None): shapes
                for shapes, arguments in missing.items()
            }
            for done in as_completed(compiling):
                shapes = compiling[done]
                self._made[shapes] = done.result()
                del under_way[shapes]
                report()

    def _lowered(self, arguments: tuple) -> jax.stages.Lowered:
        lowered: jax.stages.Lowered = self._jitted.lower(*self.arguments, *arguments)
        return lowered

    def _compile_late(self, arguments: tuple) -> jax.stages.Compiled:
        """Compile a program that was not prepared."""
        began = time.perf_counter()
        program = self._lowered(arguments).compile(self._options or None)
        self._made[_shapes(arguments)] = program
        logging.getLogger(__name__).log(
            logging.WARNING if self._prepared else logging.INFO,
            "Compiled the program for %s at its first call, in %.1f s.",
            self._describe(*arguments),
            time.perf_counter() - began,
        )
        return program


def _shapes(arguments: tuple) -> Hashable:
    """Return the key of the program for these arguments."""
    leaves, structure = jax.tree.flatten(arguments)
    return structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
