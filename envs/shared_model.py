"""Compiled models with their renderers, shared by the environments of a thread.

A compiled model and the textures and meshes in a GL context take most of the memory of an environment, and are the same
for all environments of a task. Each environment has MuJoCo's data for itself, and values of its own for those arrays
of the model that episodes change, such as the poses of fixtures. They are in the model while it computes.

A model without environments is freed when another one is made, so that environments that follow each other share it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Hashable, Mapping

import mujoco
import numpy as np

from simloop.envs.interface import RenderSettings
from simloop.envs.rendering import Renderer

Values = dict[str, np.ndarray]


class SharedModel:
    """A compiled model, its renderers, and who uses them."""

    def __init__(self, model: mujoco.MjModel, changed: tuple[str, ...], *, kept: bool = False) -> None:
        """Remember the compiled values of the arrays that episodes change.

        Args:
          kept: Whether the renderers outlive the last use.
        """
        self.model = model
        self._kept = kept
        self.arrays: Values = {name: getattr(model, name) for name in changed}
        self.compiled: Values = {name: array.copy() for name, array in self.arrays.items()}
        self.uses: weakref.WeakSet[ModelUse] = weakref.WeakSet()
        self._present: Values | None = None
        self._renderers: dict[Hashable, tuple[Renderer, weakref.WeakSet[ModelUse]]] = {}

    def exchange(self, values: Values) -> None:
        """Store the present values of the arrays where they belong, and put other ones into the model."""
        if values is self._present:
            return
        for name, array in self.arrays.items():
            if self._present is not None:
                self._present[name][:] = array
            array[:] = values[name]
        self._present = values

    def renderer(
        self,
        use: ModelUse,
        settings: RenderSettings,
        upside_down: frozenset[str],
        hidden_geom_groups: tuple[int, ...],
    ) -> Renderer:
        """Return the renderer of these settings for this thread; see `Renderer`."""
        key = threading.get_ident(), settings, upside_down, hidden_geom_groups
        if key not in self._renderers:
            for other in [other for other, (_, uses) in self._renderers.items() if not uses]:
                _close(self._renderers.pop(other)[0])
            made = Renderer(
                self.model, settings, upside_down=upside_down, hidden_geom_groups=hidden_geom_groups
            )
            self._renderers[key] = made, weakref.WeakSet()
        renderer, uses = self._renderers[key]
        uses.add(use)
        return renderer

    def leave(self, use: ModelUse) -> None:
        """End the use by an environment."""
        self.uses.discard(use)
        for _, uses in self._renderers.values():
            uses.discard(use)
        if not self.uses and not self._kept:
            self.close()

    def close(self) -> None:
        """Free the renderers."""
        for renderer, _ in self._renderers.values():
            _close(renderer)
        self._renderers.clear()


class ModelUse:
    """The use of a shared model by one environment, with the environment's own values."""

    def __init__(self, shared: SharedModel) -> None:
        """Begin with the compiled values."""
        self._shared = shared
        self._values = {name: array.copy() for name, array in shared.compiled.items()}
        shared.uses.add(self)

    @property
    def model(self) -> mujoco.MjModel:
        """The compiled model. Call `enter` before its changed arrays are read or written."""
        return self._shared.model

    @property
    def changed(self) -> Mapping[str, np.ndarray]:
        """The arrays of the model that episodes change, by name."""
        return self._shared.arrays

    def enter(self) -> None:
        """Put this environment's values into the model, until another environment enters."""
        self._shared.exchange(self._values)

    def reset(self) -> None:
        """Set the changed arrays to their compiled values."""
        self.enter()
        for name, array in self._shared.arrays.items():
            array[:] = self._shared.compiled[name]

    def renderer(
        self,
        settings: RenderSettings,
        upside_down: frozenset[str] = frozenset(),
        hidden_geom_groups: tuple[int, ...] = (),
    ) -> Renderer:
        """Return the renderer that environments with these settings share; see `Renderer`."""
        return self._shared.renderer(self, settings, upside_down, hidden_geom_groups)

    def close(self) -> None:
        """End the use. Closing twice is allowed."""
        self._shared.leave(self)


_MODELS: dict[tuple[int, int, Hashable], SharedModel] = {}
"""By process, thread and key. A forked process must not use the GL contexts of its parent."""


def share_model(key: Hashable, changed: tuple[str, ...], make: Callable[[], mujoco.MjModel]) -> ModelUse:
    """Begin to use the model of a key.

    Args:
      key: Everything that the model depends on.
      changed: Names of the arrays that episodes change.
      make: Compiles the model; called unless this thread has it already.
    """
    here = os.getpid(), threading.get_ident()
    if (*here, key) not in _MODELS:
        for other in [other for other, shared in _MODELS.items() if other[:2] == here and not shared.uses]:
            _MODELS.pop(other).close()
        _MODELS[*here, key] = SharedModel(make(), changed, kept=True)
    return ModelUse(_MODELS[*here, key])


def _close(renderer: Renderer) -> None:
    with contextlib.suppress(Exception):  # Contexts of other threads cannot be closed here.
        renderer.close()
