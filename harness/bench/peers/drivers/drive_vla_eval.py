"""Play a random policy on tasks of Meta-World with `vla-eval run` and a model server in a process of its own.

Arguments: folder for the results, control steps per episode, tasks. With `serve PORT`, the model server.
"""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from drawn_task import CAMERAS, CHUNK_STEPS, DrawnTask, RandomChunks
from vla_eval.benchmarks.base import StepBenchmark, StepResult
from vla_eval.model_servers.predict import PredictModelServer
from vla_eval.model_servers.serve import serve
from vla_eval.specs import IMAGE_RGB, LANGUAGE, RAW

HOST = "127.0.0.1"
START_S = 120


class MetaWorld(StepBenchmark):
    """Tasks of Meta-World."""

    def __init__(self, tasks, max_steps):
        super().__init__()
        self._names, self._max_steps = tasks, max_steps
        self._drawn = None

    def get_tasks(self):
        """Return the tasks by name."""
        return [{"name": name, "suite": "metaworld"} for name in self._names]

    def reset(self, task):
        """Make the task."""
        self.cleanup()
        self._drawn = DrawnTask(task["name"], task.get("episode_idx", 0))
        return self._drawn.reset(0)

    def step(self, action):
        """Execute one action."""
        state, reward, success = self._drawn.step(action["actions"])
        return StepResult(state, reward, success, {"success": success})

    def make_obs(self, raw_obs, task):
        """Draw, and describe what the policy sees."""
        return {"images": self._drawn.images(), "task_description": task["name"], "state": raw_obs}

    def get_step_result(self, step_result):
        """Return the outcome of the episode."""
        return {"success": bool(step_result.info.get("success", False))}

    def get_metadata(self):
        """Return the limit of steps."""
        return {"max_steps": self._max_steps}

    def get_action_spec(self):
        """Describe actions."""
        return {"action": RAW}

    def get_observation_spec(self):
        """Describe observations."""
        return {**dict.fromkeys(CAMERAS, IMAGE_RGB), "language": LANGUAGE, "state": RAW}

    def cleanup(self):
        """Free the task."""
        if self._drawn is not None:
            self._drawn.close()
            self._drawn = None


class RandomServer(PredictModelServer):
    """Chunks of random actions, taken apart by the server."""

    def __init__(self):
        super().__init__(chunk_size=CHUNK_STEPS)
        self._chunks = RandomChunks()

    def predict(self, obs, ctx):
        """Answer one observation."""
        return {"actions": self._chunks()}

    def get_action_spec(self):
        """Describe actions."""
        return {"action": RAW}

    def get_observation_spec(self):
        """Describe observations."""
        return {"language": LANGUAGE}


def main(folder, steps, *tasks):
    """Start the server, play one episode of every task, and end the server; returns the exit status."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    benchmark = {
        "benchmark": "drive_vla_eval:MetaWorld",
        "params": {"tasks": tasks, "max_steps": int(steps)},
        "max_steps": int(steps),
    }
    config = {"server": {"url": f"ws://{HOST}:{port}"}, "output_dir": folder, "benchmarks": [benchmark]}
    file = Path(folder) / "config.yaml"
    file.write_text(json.dumps(config))  # JSON is YAML.
    server = subprocess.Popen([sys.executable, __file__, "serve", str(port)])
    try:
        _wait_for(f"http://{HOST}:{port}/health", server)
        command = Path(sys.executable).parent / "vla-eval"
        return subprocess.run([command, "run", "--no-docker", "--config", file]).returncode
    finally:
        server.terminate()
        server.wait()


def _wait_for(url, server):
    until = time.monotonic() + START_S
    while time.monotonic() < until and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    sys.exit("The model server of vla-eval did not start.")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        sys.exit(serve(RandomServer(), host=HOST, port=int(sys.argv[2])))
    sys.exit(main(*sys.argv[1:]))
