#!/usr/bin/env bash
# Meta-World 3.1.1: positions that are stored as initial ones follow the simulation.
#
# `init_left_pad` and `init_right_pad` of every task, and `obj_init_pos` of door-lock-v3 and door-unlock-v3, are views
# of MuJoCo's `data.xpos`, not copies. Rewards that measure a distance from the initial pads (pick-place-v3,
# push-back-v3, sweep-v3, sweep-into-v3, soccer-v3, door-lock-v3) therefore measure it from the present ones.
#
# Seen with metaworld 3.1.1, mujoco 3.3.0, numpy 2.2.6, gymnasium 1.4.0, Python 3.11, Linux:
#   pick-place-v3 init_left_pad shares memory with data.xpos: True, moved by 0.27 m in 20 steps
#   door-lock-v3 init_left_pad shares memory with data.xpos: True, moved by 0.07 m in 20 steps
#   door-lock-v3 obj_init_pos shares memory with data.xpos: True
# Fails if this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet metaworld==3.1.1 mujoco==3.3.0 numpy==2.2.6 packaging==25.0
"$folder/venv/bin/python" - <<'PYTHON'
import metaworld
import numpy as np


def made(name):
    benchmark = metaworld.MT1(name, seed=0)
    env = benchmark.train_classes[name]()
    env.set_task(benchmark.train_tasks[0])
    env.reset()
    return env


def check(name, attribute, moves):
    env = made(name)
    before = getattr(env, attribute).copy()
    shares = np.shares_memory(getattr(env, attribute), env.data.xpos)
    for _ in range(20):
        env.step(np.array([1.0, 1.0, 1.0, 0.0], dtype=np.float32))
    moved = float(np.linalg.norm(getattr(env, attribute) - before))
    end = f", moved by {moved:.2f} m in 20 steps" if moves else ""
    print(f"{name} {attribute} shares memory with data.xpos: {shares}{end}")
    assert shares, f"{name}: {attribute} is a copy now"
    assert not moves or moved > 0.05, f"{name}: {attribute} no longer moves"


check("pick-place-v3", "init_left_pad", moves=True)
check("door-lock-v3", "init_left_pad", moves=True)
check("door-lock-v3", "obj_init_pos", moves=False)
PYTHON
