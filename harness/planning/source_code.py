"""Python source that a command names: `FILE.py:ATTRIBUTE` or `PACKAGE.MODULE:ATTRIBUTE`.

It travels to the processes of a run by value, with the modules beside it that it imports, and is executed there
only. What is read from a run folder is never executed: names come from the command line.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from simloop.cache_folder import simloop_home
from simloop.harness.errors import SpecificationError
from simloop.untrusted import read_bytes

MAX_BYTES = 16 << 20
"""Largest source with its imports."""


@dataclass(frozen=True)
class SourceCode:
    """Source files and the object in them that is meant. Picklable."""

    module: str
    """File name such as `my_policy.py`, or dotted name of a module."""
    attribute: str
    """Name of the object; empty for the module itself."""
    folder: Path
    """Folder of the file, or the folder that contains the package, on the machine that read it."""
    files: tuple[tuple[str, bytes], ...]
    """Paths relative to `folder` with their contents: first the module itself, then what it imports from there."""

    @classmethod
    def read(cls, module: str, attribute: str = "") -> SourceCode:
        """Read the source of a file or module; nothing of it is executed.

        Raises:
          SpecificationError: If there is no such file or module, or it is no Python source of moderate size.
        """
        path = Path(module).expanduser().resolve() if module.endswith(".py") else _module_file(module)
        if not path.is_file():
            raise SpecificationError(f"There is no file {module}.")
        if module.endswith(".py"):
            return cls(path.name, attribute, path.parent, tuple(_read(path.parent, [path], True)))
        root = path.parents[module.count(".") + (path.name == "__init__.py")]
        top = root / module.partition(".")[0]
        others = sorted(top.rglob("*.py")) if top.is_dir() else []
        return cls(module, attribute, root, tuple(_read(root, [path, *others], not others)))

    @property
    def sha256(self) -> str:
        """Hash of all files."""
        return _digest(self.files)

    @property
    def identity(self) -> str:
        """Name and start of the hash."""
        name = f"{self.module}:{self.attribute}" if self.attribute else self.module
        return f"{name}@{self.sha256[:12]}"

    def fingerprint(self) -> dict[str, str]:
        """Hash of the file, as sha256sum prints it, and of the modules that it imports from beside it."""
        (_, content), *others = self.files
        hashes = {self.module: hashlib.sha256(content).hexdigest()}
        return hashes | ({f"imports of {self.module}": _digest(others)} if others else {})

    def execute(self) -> ModuleType:
        """Execute the source, once in a process for each content.

        Raises:
          SpecificationError: If it fails.
        """
        return _execute(self)

    def path(self) -> Path:
        """The file itself, on this machine."""
        return _materialized(self) / self.files[0][0]

    def load(self) -> Any:
        """The attribute of the executed source.

        Raises:
          SpecificationError: If it fails, or has no such attribute.
        """
        module = self.execute()
        try:
            return getattr(module, self.attribute)
        except AttributeError as error:
            public = [name for name in vars(module) if not name.startswith("_")]
            raise SpecificationError(
                f"{self.module} has no {self.attribute!r}; it has {', '.join(public) or 'nothing'}."
            ) from error


def _module_file(name: str) -> Path:
    """File of a module that can be imported here, or from the present folder; no module is executed."""
    path: Sequence[str] | None = [*sys.path, os.getcwd()]
    spec = None
    for end in range(name.count(".") + 1):
        if path is None:
            spec = None
            break
        part = ".".join(name.split(".")[: end + 1])
        spec = importlib.machinery.PathFinder.find_spec(part, list(path))
        path = None if spec is None else spec.submodule_search_locations
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise SpecificationError(
            f"There is no Python module {name!r} here. Install it, start in its folder, or name the file FILE.py:NAME."
        )
    return Path(spec.origin).resolve()


def _read(folder: Path, paths: Sequence[Path], follow: bool) -> Iterator[tuple[str, bytes]]:
    """Read files below a folder, each once and, with `follow`, the modules in it that they import."""
    wanted, seen, left = list(paths), set[Path](), MAX_BYTES
    while wanted:
        path = wanted.pop(0)
        if path in seen:
            continue
        seen.add(path)
        content = read_bytes(path, left, error=SpecificationError)
        left -= len(content)
        yield path.relative_to(folder).as_posix(), content
        if follow:
            wanted += _imported(folder, path, content)


def _imported(folder: Path, path: Path, content: bytes) -> Iterator[Path]:
    """Files in a folder that a source imports from it, packages as a whole."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError) as error:
        raise SpecificationError(f"{path} is no Python source: {error}.") from error
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [
        node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level
    ]
    for top in sorted({name.partition(".")[0] for name in names} - sys.stdlib_module_names):
        if (folder / f"{top}.py").is_file():
            yield folder / f"{top}.py"
        elif (folder / top / "__init__.py").is_file():
            yield from sorted((folder / top).rglob("*.py"))


def _digest(files: Sequence[tuple[str, bytes]]) -> str:
    total = hashlib.sha256()
    for path, content in sorted(files):
        total.update(f"{path} {hashlib.sha256(content).hexdigest()}\n".encode())
    return total.hexdigest()


@functools.cache
def _execute(code: SourceCode) -> ModuleType:
    folder = _materialized(code)
    own = code.module.endswith(".py")
    _BESIDE.provide(folder, code.files[1:] if own else code.files)
    try:
        if not own:
            return importlib.import_module(code.module)
        path, content = code.files[0]
        module = ModuleType(f"simloop_code_{code.sha256[:16]}")
        module.__file__ = str(folder / path)
        sys.modules[module.__name__] = module  # Dataclasses and pickle look their module up.
        exec(compile(content, module.__file__, "exec"), vars(module))
    except Exception as error:
        raise SpecificationError(
            f"{code.folder / code.files[0][0]} cannot be executed: {type(error).__name__}: {error}."
        ) from error
    return module


def _materialized(code: SourceCode) -> Path:
    """The folder of the source if it holds these files, as on the machine that read it; else a copy in the cache."""
    if _holds(code.folder, code):
        return code.folder
    folder = simloop_home() / "code" / code.sha256
    if not _holds(folder, code):
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder.parent))
        for path, content in code.files:
            (part / path).parent.mkdir(parents=True, exist_ok=True)
            (part / path).write_bytes(content)
        try:
            part.rename(folder)
        except OSError:  # Another process was faster.
            return part
    return folder


def _holds(folder: Path, code: SourceCode) -> bool:
    try:
        return all((folder / path).read_bytes() == content for path, content in code.files)
    except OSError:
        return False


class _Beside(importlib.abc.MetaPathFinder):
    """Finds the modules that travel with a source, and no others in their folder."""

    def __init__(self) -> None:
        self._folders: dict[str, Path] = {}
        self._digests: dict[str, str] = {}

    def provide(self, folder: Path, files: Sequence[tuple[str, bytes]]) -> None:
        """Make files of a folder importable, anew where a process holds an earlier content of the same file."""
        by_top: dict[str, list[tuple[str, bytes]]] = {}
        for path, content in files:
            by_top.setdefault(path.partition("/")[0].removesuffix(".py"), []).append((path, content))
        for top, members in by_top.items():
            if self._digests.get(top) == _digest(members):
                continue
            self._refuse_another(top, folder)
            for name in [name for name in sys.modules if name == top or name.startswith(f"{top}.")]:
                del sys.modules[name]
            self._folders[top], self._digests[top] = folder, _digest(members)
        if by_top and self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def _refuse_another(self, top: str, folder: Path) -> None:
        """Raise `SpecificationError` if a module of that name comes from another place."""
        loaded = sys.modules.get(top)
        file = getattr(loaded, "__file__", None)
        known = self._folders.get(top) or (Path(file).parent if file else None)
        if loaded is not None and known not in (folder, folder / top):
            raise SpecificationError(
                f"Two modules are called {top!r}: one in {known} and one in {folder}. Rename one of them, or evaluate "
                "the policies in two runs and join their tables."
            )

    def find_spec(
        self, fullname: str, path: Iterable[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find a top-level module that travels with a source; its submodules are found by its path."""
        if path is not None or fullname not in self._folders:
            return None
        return importlib.machinery.PathFinder.find_spec(fullname, [str(self._folders[fullname])])


_BESIDE = _Beside()
