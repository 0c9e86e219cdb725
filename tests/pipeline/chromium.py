"""A headless Chromium, driven over its DevTools pipe: no further package is needed."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--remote-debugging-pipe", "--autoplay-policy=no-user-gesture-required", "--hide-scrollbars"),
)
PATIENCE = 30.0
CODES = {
    "Enter": 13,
    "Escape": 27,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
}


class Page:
    """One tab. Chromium reads commands from descriptor 3 and answers on 4, each ended by NUL."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._number, self._rest = 0, b""
        self.events: list[dict[str, Any]] = []
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        opened = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session: str | None = opened["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    _session: str | None = None

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._ask(method, **parameters)

    def open(self, url: str, width: int = 1280, height: int = 800) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        self.ask("Page.navigate", url=url)

    def value(self, expression: str) -> Any:
        """What an expression gives in the page; promises are waited for."""
        found = self._evaluated(expression)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def _evaluated(self, expression: str) -> dict[str, Any]:
        how = {"returnByValue": True, "awaitPromise": True}
        return self.ask("Runtime.evaluate", expression=expression, **how)

    def until(self, expression: str) -> Any:
        """Wait for an expression to be true; one that fails, in a page that loads, is not yet."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = self._evaluated(expression)
            if found["result"].get("value") and "exceptionDetails" not in found:
                return found["result"]["value"]
            time.sleep(0.05)
        raise AssertionError(
            f"{expression} did not come true: {self.value('document.body.innerText')}"
        )

    def press(self, key: str) -> None:
        """A key as a person presses it."""
        text = key if len(key) == 1 else "\r" if key == "Enter" else ""
        for kind in ("keyDown", "keyUp"):
            typed = {"text": text} if text and kind == "keyDown" else {}
            code = {"windowsVirtualKeyCode": CODES[key]} if key in CODES else {}
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, **typed, **code)

    def screenshot(self, path: Path) -> None:
        data = self.ask("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        command: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while True:
            answer = self._answer()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return dict(answer["result"])
            self.events.append(answer)

    def _answer(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._answers], [], [], PATIENCE)
            assert ready, "the browser says nothing: does a page ask whether to leave it?"
            part = os.read(self._answers, 1 << 20)
            assert part, "the browser is gone"
            self._rest += part
        text, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(text))


@contextmanager
def browser() -> Iterator[Page]:
    """A browser with one tab; skips the test where there is none."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on the PATH")
    their_in, our_out = os.pipe()
    our_in, their_out = os.pipe()

    def place() -> None:
        kept = [os.dup(their_in), os.dup(their_out)]
        os.dup2(kept[0], 3)
        os.dup2(kept[1], 4)

    with tempfile.TemporaryDirectory(prefix="tv2tv-chromium-") as folder:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={folder}"],
            preexec_fn=place,
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(their_in)
        os.close(their_out)
        try:
            yield Page(our_out, our_in)
        finally:
            process.kill()
            process.wait()
            os.close(our_out)
            os.close(our_in)
