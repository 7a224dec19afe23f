"""Firefox without a driver program: commands of WebDriver BiDi (www.w3.org/TR/webdriver-bidi) over its websocket."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

KEYS = {"ArrowRight": "\ue014", "ArrowLeft": "\ue012", "Shift": "\ue008", "Escape": "\ue00c", "End": "\ue010"}
START_S, ANSWER_S = 120, 60


class Page:
    """A tab, and what its scripts complained about."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self.problems: list[str] = []
        self.send("session.new", capabilities={})
        self.send("session.subscribe", events=["log.entryAdded"])
        self._tab = self.send("browsingContext.getTree")["contexts"][0]["context"]

    def send(self, method: str, **parameters: Any) -> Any:
        """Send a command, and return its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(ANSWER_S))
            if answer.get("method") == "log.entryAdded" and answer["params"]["level"] == "error":
                self.problems.append(answer["params"]["text"])
            if answer.get("id") == number:
                if answer["type"] == "error":
                    raise AssertionError(f"{method}: {answer['error']}: {answer['message']}")
                return answer["result"]

    def resize(self, width: int, height: int) -> None:
        """Set the size of the visible part in pixels."""
        self.send(
            "browsingContext.setViewport", context=self._tab, viewport={"width": width, "height": height}
        )

    def open(self, url: str) -> None:
        """Open an address."""
        self.send("browsingContext.navigate", context=self._tab, url=url, wait="interactive")

    def evaluate(self, expression: str) -> Any:
        """Evaluate JavaScript, and return its value, which JSON can hold."""
        found = self.send(
            "script.evaluate",
            expression=f"JSON.stringify({expression})",
            target={"context": self._tab},
            awaitPromise=True,
        )
        if found["type"] == "exception":
            raise AssertionError(f"{expression}: {found['exceptionDetails']['text']}")
        return json.loads(found["result"].get("value", "null"))

    def until(self, expression: str) -> None:
        """Wait until an expression of JavaScript holds."""
        deadline = time.monotonic() + ANSWER_S
        while not self.evaluate(expression):
            assert time.monotonic() < deadline, expression
            time.sleep(0.1)

    def click(self, selector: str) -> None:
        """Click the middle of the first element that a selector finds."""
        self.until(f"document.querySelector({selector!r}) !== null")
        script = (
            f"(() => {{ const one = document.querySelector({selector!r}); one.scrollIntoView({{block: 'center'}}); "
            "const {x, y, width, height} = one.getBoundingClientRect(); return [x + width / 2, y + height / 2]; })()"
        )
        x, y = map(round, self.evaluate(script))
        button = {"button": 0}
        actions = [
            {"type": "pointerMove", "x": x, "y": y},
            {"type": "pointerDown", **button},
            {"type": "pointerUp", **button},
        ]
        self._act({"type": "pointer", "id": "mouse", "actions": actions})

    def press(self, *keys: str) -> None:
        """Press keys together, and release them."""
        values = [KEYS.get(key, key) for key in keys]
        down = [{"type": "keyDown", "value": value} for value in values]
        up = [{"type": "keyUp", "value": value} for value in reversed(values)]
        self._act({"type": "key", "id": "keyboard", "actions": down + up})

    def _act(self, source: dict[str, Any]) -> None:
        self.send("input.performActions", context=self._tab, actions=[source])

    def screenshot(self, file: Path) -> None:
        """Write what is visible as PNG."""
        shot = self.send("browsingContext.captureScreenshot", context=self._tab)
        file.write_bytes(base64.b64decode(shot["data"]))


@contextlib.contextmanager
def firefox(program: str, profile: Path) -> Iterator[Page]:
    """Start Firefox with a profile of its own, and end it."""
    profile.mkdir(parents=True, exist_ok=True)
    log = profile / "log"
    command = [
        program,
        "--headless",
        "--remote-debugging-port",
        "0",
        "--profile",
        str(profile),
        "--no-remote",
    ]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        with connect(f"{_address(process, log)}/session", max_size=None) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        process.wait(30)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Address that a starting Firefox prints."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(rb"WebDriver BiDi listening on (ws://\S+)", log.read_bytes()):
            return found[1].decode()
        time.sleep(0.1)
    raise AssertionError(f"Firefox did not start: {log.read_text(errors='replace')[-500:]}")
