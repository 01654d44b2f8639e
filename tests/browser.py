"""Chromium without a window, driven over its debugging pipe, for tests of pages."""

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WAIT_S = 30
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
    *("--autoplay-policy=no-user-gesture-required", "--remote-debugging-pipe"),
)


class Page:
    """One page of a browser."""

    downloads: Path

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = os.fdopen(commands, "wb"), os.fdopen(answers, "rb")
        self._ids, self._buffer, self._session = itertools.count(1), b"", ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(self, method: str, **params: Any) -> Any:
        """Send a command of the DevTools protocol and wait for its answer."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def _read(self) -> Any:
        while b"\0" not in self._buffer:
            got = os.read(self._answers.fileno(), 1 << 16)
            assert got, "the browser has ended"
            self._buffer += got
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def look(self, *, width: int = 1280, height: int = 1000, dark: bool = False, phone: bool = False) -> None:
        """Set the size of the window, the kind of screen and the colour scheme."""
        given = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", **given)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str, *, ready: str) -> None:
        """Open an address and wait until an expression is true there."""
        self.call("Page.navigate", url="about:blank")  # another fragment alone would not load the page
        self.call("Page.navigate", url=url)
        self.wait(ready)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + WAIT_S
        while not self.run(f"(() => {{ try {{ return Boolean({condition}); }} catch {{ return false; }} }})()"):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Press and release the mouse on the middle of an element."""
        self.drag(selector, (0.5, 0.5))

    def drag(self, selector: str, *shares: tuple[float, float], shift: bool = False) -> None:
        """Press the mouse at a place of an element, move it along others, and release it; places are shares of it."""
        self.run(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
        box = self.run(f"(({{x, y, width, height}}) => [x, y, width, height])"
                       f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())")  # fmt: skip
        places = [(box[0] + box[2] * x, box[1] + box[3] * y) for x, y in shares]
        mouse: dict[str, Any] = {"button": "left", "clickCount": 1, "modifiers": 8 if shift else 0}
        for kind, (x, y) in zip(
            ["mousePressed", *["mouseMoved"] * (len(places) - 1), "mouseReleased"], [*places, places[-1]], strict=True
        ):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, buttons=1, **mouse)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press and release a key by its name in JavaScript."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, modifiers=8 if shift else 0)

    def downloaded(self, name: str) -> Path:
        """Wait for a downloaded file; returns its path."""
        end = time.monotonic() + WAIT_S
        while not (self.downloads / name).exists():
            assert time.monotonic() < end, f"{name} is not downloaded"
            time.sleep(0.05)
        return self.downloads / name

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """Write a PNG of the page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        self._session = ""
        with contextlib.suppress(AssertionError, OSError):
            self.call("Browser.close")
        self._commands.close()
        self._answers.close()


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A page of a new browser whose profile and downloads are in a folder."""
    assert BROWSER is not None
    for_browser, commands = os.pipe()
    answers, from_browser = os.pipe()
    script = f'exec "$@" 3<&{for_browser} 4>&{from_browser}'
    arguments = ["bash", "-c", script, "bash", BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    process = subprocess.Popen(
        arguments, pass_fds=(for_browser, from_browser), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(for_browser)
    os.close(from_browser)
    try:
        page = Page(commands, answers)
        page.downloads = folder / "downloads"
        page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(page.downloads))
        yield page
    finally:
        page.close()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
