"""`simloop bench`. Each command imports its modules when it is called, to keep the help fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from simloop.harness.bench.peers.catalogue import Name
from simloop.harness.bench.serving_bench import ServingBench
from simloop.harness.bench.workload import Workload
from simloop.policies.bench.bench_config import BenchConfig
from simloop.terminal import Terminal

command = SubcommandApp()

Seconds = Annotated[float, arg(metavar="S")]


@command.command(name="engine")
def engine(work: Annotated[Workload, arg(name="")], *, seconds: Seconds = 20.0, compare: bool = True) -> int:
    """Measure which part of this machine's capacity the engine achieves, and what it costs.

    Prints Markdown tables: queries per second of simulation alone, of the policy alone and of both together, with
    either of them as the bottleneck; the cost of a query without simulation and model; and steps per second beside
    gymnasium's AsyncVectorEnv. The policy is a stub that takes a fixed time per batch.

    Args:
      seconds: Duration of each measurement; there are about twenty.
      compare: Whether to measure AsyncVectorEnv as well.
    """
    from simloop.harness.bench.engine_throughput import run

    return run(work, seconds, Terminal(), compare=compare)


@command.command(name="query")
def query(work: Annotated[Workload, arg(name="")], *, seconds: Seconds = 20.0) -> int:
    """Measure the CPU time of a query, which does not need an idle machine.

    Args:
      seconds: Duration of the measurement.
    """
    from simloop.harness.bench.query_latency import ENVIRONMENTS, run

    return run(work, ENVIRONMENTS, seconds, Terminal())


@command.command(name="serve")
def serve(bench: Annotated[ServingBench, arg(name="")]) -> int:
    """Measure what openpi's protocol adds to a query, and what batching gives to several clients of simloop serve.

    The comparison is a server of the same policy that answers one query at a time. The two take turns.
    """
    from simloop.harness.bench.serving import run

    return run(bench, Terminal())


@command.command(name="driver")
def driver(*, seconds: Seconds = 20.0) -> int:
    """Measure how many episodes per second one driver can start, take back and record.

    Args:
      seconds: Duration of each measurement.
    """
    from simloop.harness.bench.driver_load import run

    return run(seconds, Terminal())


@command.command(name="tables")
def tables(*, policies: int = 30, tasks: int = 100, episodes: int = 10) -> int:
    """Measure processor time and memory of simloop table on a made-up run, and of simloop --help and list tasks.

    Args:
      policies: Number of policies.
      tasks: Number of tasks.
      episodes: Episodes of each policy and task.
    """
    from simloop.harness.bench.table_cost import run

    return run(policies, tasks, episodes, Terminal())


@command.command(name="start")
def start(
    *,
    task: str = "reach-v3",
    policy: str = "pi0-tiny",
    rounds: int = 3,
    against: Annotated[Path | None, arg(metavar="FOLDER")] = None,
) -> int:
    """Measure a run of one episode from the command to its first executed action: time and memory of all processes.

    Compiled programs and models are cached; that first run is not counted.

    Args:
      task: A task of Meta-World.
      rounds: Runs of each checkout, in turns; the medians are printed.
      against: Another checkout of simloop that was set up.
    """
    from simloop.harness.bench.run_start import run

    return run(task, policy, rounds, against, Terminal())


@command.command(name="peers")
def peers(
    *,
    peers: Annotated[tuple[Name, ...], arg(metavar="NAME [...]")] = get_args(Name),
    tasks: Annotated[tuple[str, ...], arg(metavar="T [...]")] = ("reach-v3", "push-v3"),
    steps: Annotated[int, arg(metavar="N")] = 100,
    folder: Annotated[
        Path | None, arg(metavar="FOLDER", help_behavior_hint="(default: SIMLOOP_HOME/peers)")
    ] = None,
) -> int:
    """Measure the same episodes in simloop and in other evaluation tools, side by side.

    Every tool plays one episode of each task of Meta-World, with cameras of 224 pixels, fast rendering and a policy
    that answers chunks of ten random actions at once: simloop as simloop run and as simloop.evaluate in one process,
    the others by their own command or function. Prints a Markdown table with the processor time of all processes of a
    tool, the images that it draws and moves, and its memory. A tool that cannot be installed is named with the reason,
    and the exit status is 1.

    The first call installs each tool into an environment of its own, from locked versions with hashes, by uv where it
    is found, else by pip. lerobot-eval needs Python 3.12 and, with PyTorch, 5 GB.

    Args:
      peers: Tools to measure.
      tasks: Exact names of tasks of Meta-World.
      steps: Control steps per episode, from 2 to 500.
      folder: Folder of the environments, one per tool; they can be deleted.
    """
    from simloop.harness.bench.peers.side_by_side import run

    return run(peers, tasks, steps, folder, Terminal())


@command.command(name="suite")
def suite(
    name: Annotated[Positional[str], arg(metavar="SUITE")] = "metaworld",
    *,
    tasks: Annotated[tuple[str, ...], arg(metavar="T [...]", help_behavior_hint="")] = (),
    steps: Annotated[int, arg(metavar="N")] = 60,
    rounds: Annotated[int, arg(metavar="N")] = 2,
    against: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None,
) -> int:
    """Measure start, memory and control steps of environments, each in a fresh process.

    With --against, the same is measured in another checkout of simloop in turns, and the states are compared; the exit
    status is 1 if they differ.

    Args:
      name: Suite, such as libero.
      tasks: Exact names of tasks; by default ten tasks of five scenes of LIBERO, or the golden tasks of another suite.
      steps: Control steps per task.
      rounds: Repetitions, of which the mean is printed.
      against: Folder of the other checkout, set up with its own .venv.
    """
    from simloop.harness.bench.suite_cost import run

    return run(name, tasks, steps, rounds, against, Terminal())


@command.command(name="served")
def served(task: Annotated[Positional[str], arg(metavar="TASK")] = "reach-v3", *, steps: int = 300) -> int:
    """Measure what a step costs more when a child process simulates, with an environment that can be both.

    Args:
      task: Task of Meta-World, which the child simulates under the same interpreter.
      steps: Steps of each measurement.
    """
    from simloop.harness.bench.served_cost import run

    return run(task, steps, Terminal())


@command.command(name="debug")
def debug(*, task: str = "pick-place-v3", policy: str = "pi0-tiny") -> int:
    """Measure the CPU time until the first answer of a policy, at the prompt of simloop debug and in a run.

    Args:
      task: Task of Meta-World.
      policy: Policy, as in simloop run.
    """
    from simloop.harness.bench.first_query import first_query_cost

    print(first_query_cost(task, policy))
    return 0


@command.command(name="recording")
def recording(
    task: Annotated[Positional[str], arg(metavar="TASK")] = "pick-place-v3",
    *,
    suite: Annotated[str, arg(metavar="S")] = "metaworld",
    policy: Annotated[str, arg(metavar="P")] = "pi0-tiny",
    steps: Annotated[int, arg(metavar="N")] = 200,
    rounds: Annotated[int, arg(metavar="N")] = 3,
) -> int:
    """Measure processor time and size of step records (simloop run --record).

    Args:
      task: Task that is played.
      suite: Suite of the task.
      policy: Policy that plays it.
      steps: Control steps of the episode, at most.
      rounds: Episodes per level of records, of which the fastest counts.
    """
    from simloop.harness.bench.recording_cost import run

    return run(suite, task, policy, steps, rounds, Terminal())


@command.command(name="forks")
def forks(
    run: Annotated[Positional[Path], arg(metavar="RUN")],
    episodes: Annotated[Positional[tuple[str, ...]], arg(metavar="EPISODE [...]")],
    *,
    at: Annotated[int | None, arg(metavar="QUERY", help_behavior_hint="")] = None,
    samples: Annotated[int, arg(metavar="N")] = 32,
) -> int:
    """Compare forks with nothing changed with the recorded episodes; the run needs step records.

    With --at, prints the processor time of forks of that query and of as many episodes from their beginning. Without,
    forks each episode at every query, and prints how many of the forks equal it; the exit status is 1 if one differs.

    Args:
      run: Run folder.
      episodes: Episodes, as POLICY/TASK/NUMBER.
      at: Query at which to measure.
      samples: Forks, each with other noise.
    """
    from simloop.harness.bench.fork_cost import equal_forks, fork_cost

    differing = 0
    for name in episodes:
        if at is not None:
            print(fork_cost(run, name, at, samples))
            continue
        equal, count = equal_forks(run, name)
        differing += count - equal
        print(f"{name}: {equal} of {count} forks equal the original to the last bit")
    return 1 if differing else 0


@command.command(name="policy")
def policy(
    preset: Annotated[Positional[str], arg(metavar="PRESET")], config: Annotated[BenchConfig, arg(name="")]
) -> int:
    """Measure latency and throughput of a policy, and each stage beside its roofline.

    Example:

      simloop bench policy pi05_libero --random-weights --batches 1 8 32

    Prints Markdown tables: latency and throughput by batch size; time, roofline and XLA's FLOPs by stage.

    Args:
      preset: Preset, such as pi0-tiny.
    """
    from simloop.policies.bench.benchmark import benchmark_policy

    return benchmark_policy(preset, config)


@command.command(name="attention")
def attention(
    policy: Annotated[Positional[str], arg(metavar="POLICY")] = "pi0-tiny",
    *,
    tasks: Annotated[tuple[str, ...], arg(metavar="T [...]")] = ("pick-place", "push", "peg-insert-side"),
    episodes: Annotated[int, arg(metavar="N")] = 50,
) -> int:
    """Measure whether a policy attends to the thing that it is to grasp, at the first query of episodes.

    Prints the share of the attention to a camera that the patch with the middle of the thing gets, beside that of all
    patches and beside that of the same patch in episodes whose thing is elsewhere.

    Args:
      policy: Policy of the pi0 family, as in simloop run.
      tasks: Tasks of Meta-World with a thing to grasp.
      episodes: Episodes in all, in turns over the tasks.
    """
    from simloop.harness.bench.attention_on_things import run

    return run(policy, tasks, episodes, Terminal())
