"""Check that this machine can run evaluations: one line per check, with a remedy for each failure."""

from __future__ import annotations

import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from simloop.envs import golden, registry
from simloop.envs.interface import Suite, SuiteNotInstalledError, install_command
from simloop.harness import machine

MEMORY_NEEDED_GIB = 3.0  # Ray, two env actors with software rendering, and one small policy.
DISK_NEEDED_GIB = 2.0


class CheckFailed(Exception):
    """Raised by a failed check, with the remedy."""


def main(console: Console, suites: Sequence[str] = (), dataset: Path | None = None) -> int:
    """Run all checks, compare suites with their golden recordings, or check a dataset; return 0 if all pass, else 1."""
    checks: Iterable[tuple[str, Callable[[], str]]] = [
        ("Python", _python),
        ("Ray", _ray),  # Before JAX: Ray forks, which is unsafe with the threads of JAX.
        ("JAX", _jax),
        ("OpenGL", _gl),
        ("memory", _memory),
        ("disk", _disk),
        *_suites(),
    ]
    if suites:
        checks = (check for name in suites for check in _golden(registry.suite(name)))
    if dataset is not None:
        checks = _dataset(dataset)
    failed = done = 0
    for name, check in checks:
        done += 1
        try:
            line, mark = check(), Text("ok", "green")
        except SuiteNotInstalledError as error:
            failed += bool(suites)  # A suite may be absent unless it was requested.
            line, mark = str(error), Text("FAIL", "red") if suites else Text("--", "dim")
        except Exception as error:
            failed += 1
            line, mark = (
                (str(error) if isinstance(error, CheckFailed) else f"{type(error).__name__}: {error}"),
                Text("FAIL", "red"),
            )
        mark.pad_right(4 - len(mark))
        console.print(Text.assemble(mark, " ", (f"{name:<18}", "bold"), " "), end="")
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(
        "All checks passed." if not failed else f"{failed} of {done} checks failed.", highlight=False
    )
    return 1 if failed else 0


def _python() -> str:
    if not (3, 11) <= sys.version_info[:2] <= (3, 12):
        raise CheckFailed(
            f"Python 3.11 or 3.12 is needed, got {platform.python_version()}. Install simloop with one of them."
        )
    return f"{platform.python_version()} at {sys.executable}"


def _jax() -> str:
    import jax
    import jax.numpy as jnp

    devices = jax.devices()
    if int(jnp.arange(4).sum()) != 6:
        raise CheckFailed(
            f"{devices[0]} adds 0+1+2+3 to {int(jnp.arange(4).sum())}. Reinstall jax and jaxlib."
        )
    kinds = [" ".join(dict.fromkeys((device.platform, device.device_kind))) for device in devices]
    has_gpu = any(device.platform == "gpu" for device in devices)
    advice = "" if has_gpu else f"; for a GPU: {install_command('cuda')}"
    return f"{jax.__version__} on {', '.join(kinds)}{advice}"


def _gl() -> str:
    from simloop.envs.interface import RenderSettings
    from simloop.envs.rendering import RenderingError, render_test_frame

    try:
        render_test_frame(RenderSettings("official", 224, 224))
        began = time.perf_counter()
        frame = render_test_frame(RenderSettings("official", 224, 224))
    except RenderingError as error:
        raise CheckFailed(str(error)) from error
    took_ms = 1e3 * (time.perf_counter() - began)
    return f"{frame.backend}, {frame.gl_renderer}; test frame as expected in {took_ms:.0f} ms"


def _ray() -> str:
    import ray

    from simloop.harness.engine.ray_cluster import start_ray

    began = time.perf_counter()
    start_ray(num_cpus=1)
    try:
        answer = ray.get(ray.remote(lambda: 6 * 7).remote(), timeout=120)
    finally:
        ray.shutdown()
    if answer != 42:
        raise CheckFailed(f"A Ray task answered {answer!r} instead of 42. Reinstall ray.")
    return f"{ray.__version__} starts and runs a task in {time.perf_counter() - began:.1f} s"


def _memory() -> str:
    here = machine.memory()
    free = here.free / 2**30
    if free < MEMORY_NEEDED_GIB:
        raise CheckFailed(
            f"{free:.1f} GiB free; {MEMORY_NEEDED_GIB:g} GiB are needed for two env actors and a small policy. "
            "Close other programs or use --env-actors 1."
        )
    return f"{free:.1f} GiB free of {here.total / 2**30:.1f} GiB, {machine.usable_cores()} cores"


def _disk() -> str:
    free = shutil.disk_usage(".").free / 2**30
    if free < DISK_NEEDED_GIB:
        raise CheckFailed(
            f"{free:.1f} GiB free in this folder; {DISK_NEEDED_GIB:g} GiB are needed for videos and records."
        )
    return f"{free:.0f} GiB free in this folder"


def _suites() -> list[tuple[str, Callable[[], str]]]:
    def check(suite: Suite) -> Callable[[], str]:
        def run() -> str:
            from simloop.envs.interface import RenderSettings

            env = suite.make(suite.tasks()[0].name, RenderSettings("fast", 64, 64))
            try:
                env.reset(0)
            finally:
                env.close()
            return f"{suite.source}, {len(suite.tasks())} tasks, {env.spec.name} resets"

        return run

    return [(f"suite {suite.name}", check(suite)) for suite in map(registry.suite, registry.suites())]


def _dataset(folder: Path) -> list[tuple[str, Callable[[], str]]]:
    """Checks of a dataset: its tables, and the statistics that it states."""
    from simloop.policies.training import dataset_layout as layout
    from simloop.policies.training.dataset_reader import open_dataset
    from simloop.policies.training.quantile_check import outside_quantiles, stated_statistics

    def tables() -> str:
        data = open_dataset(folder)
        cameras = ", ".join(f"{key} {height} x {width}" for key, (height, width) in data.cameras.items())
        return (
            f"{len(data.episodes)} episodes, {len(data.states)} frames at {data.fps:g} per second, state of "
            f"{data.states.shape[1]}, actions of {data.actions.shape[1]}, {len(data.instructions)} instructions; "
            f"{cameras or 'no cameras'}"
        )

    def statistics() -> str:
        stated = stated_statistics(folder, {"state": layout.STATE_KEY, "actions": layout.ACTION_KEY})
        if not stated:
            return f"none in {layout.STATS}; training computes them"
        data = open_dataset(folder)
        columns = {"state": data.states, "actions": data.actions}
        found = [
            text for key, stats in stated.items() for text in outside_quantiles(key, columns[key], stats)
        ]
        if found:
            raise CheckFailed(
                " ".join(found)
                + " simloop train takes them from the data (--statistics data); do not train elsewhere "
                "with the stated ones."
            )
        return "the stated quantiles are those of the data, where they are stated"

    return [("tables", tables), ("statistics", statistics)]


def _golden(suite: Suite) -> Iterator[tuple[str, Callable[[], str]]]:
    """A check of the origin of the golden recordings, then one per recorded moment."""

    def origin() -> str:
        suite.require_installed()
        return f"{suite.source}, rendered by {golden.origin_here(suite).renderer}"

    yield f"suite {suite.name}", origin
    for task in suite.golden_tasks if suite.is_installed() else ():
        try:
            for found in golden.compare(suite, task):
                yield _label(task, found.moment), lambda found=found: _judged(suite, found)  # type: ignore[misc]
        except Exception as error:
            yield _label(task, "played"), lambda error=error: _raise(error)  # type: ignore[misc]


def _raise(error: Exception) -> str:
    raise error


def _label(task: str, moment: str) -> str:
    return f"{task if len(task) < 40 else task[:18] + '...' + task[-18:]}, {moment}"


def _judged(suite: Suite, found: golden.GoldenComparison) -> str:
    """Compare one moment with its golden recording; name differing software if they disagree."""
    physics = "to the last bit" if found.identical_physics else f"within {found.state_difference:.1g}"
    line = (
        f"state agrees {physics}; image differs by {found.image_difference:.2f} of 255 on average "
        f"(tolerance {golden.IMAGE_TOLERANCE})"
    )
    if found.agrees:
        return line
    there, here = golden.origin(suite), golden.origin_here(suite)
    versions = [
        f"{name} {there.packages.get(name)} -> {here.packages.get(name)}"
        for name in there.packages
        if there.packages.get(name) != here.packages.get(name)
    ]
    others = [
        f"{what}: {a} -> {b}"
        for what, a, b in (
            ("renderer", there.renderer, here.renderer),
            ("machine", there.machine, here.machine),
        )
        if a != b
    ]
    raise CheckFailed(
        f"the robot's state differs by {found.state_difference:.2g} (tolerance {golden.STATE_TOLERANCE:g}), the "
        f"image by {found.image_difference:.2f} of 255 (tolerance {golden.IMAGE_TOLERANCE}). Differences from "
        f"the machine of the recording: {'; '.join(versions + others) or 'none known'}. Results of this machine are "
        "not comparable with published ones; install the versions of requirements.lock with scripts/setup."
    )
