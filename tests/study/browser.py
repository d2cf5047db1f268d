"""Chromium without a window, driven by chromedriver's own HTTP interface (W3C WebDriver): what a person would do."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
MISSING = "needs chromium and chromedriver (CONTRIBUTING.md says how to install them)"
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync")
QUIET += ("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage")
KEYS = {"left": "\ue012", "right": "\ue014", "space": " ", "tab": "\ue004", "enter": "\ue007"}
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element's id in WebDriver's answers
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Browser:
    """One window of a browser with a profile of its own."""

    def __init__(self, driver: str, profile: Path, width: int = 1280, height: int = 800, phone: bool = False) -> None:
        options: dict[str, Any] = {
            "binary": CHROMIUM,
            "args": [*QUIET, f"--user-data-dir={profile}", f"--window-size={width},{height}"],
        }
        if phone:
            metrics = {"width": width, "height": height, "pixelRatio": 2.0, "touch": True, "mobile": True}
            options["mobileEmulation"] = {"deviceMetrics": metrics}
        self._driver = driver
        wanted = {"browserName": "chrome", "goog:chromeOptions": options}
        self._session = f"{driver}/session/" + _send("POST", f"{driver}/session", {
            "capabilities": {"alwaysMatch": wanted}
        })["sessionId"]  # fmt: skip

    def close(self) -> None:
        _send("DELETE", self._session)

    def open(self, url: str) -> None:
        self._post("url", {"url": url})

    def reload(self) -> None:
        self._post("refresh", {})

    def run(self, script: str, *values: Any) -> Any:
        """What ``script`` returns in the page."""
        return self._post("execute/sync", {"script": script, "args": list(values)})

    def click(self, css: str, times: int = 1) -> None:
        """A click where the element is, if it can be clicked; ``times`` in the shortest time."""
        found = self._post("element", {"using": "css selector", "value": css})[ELEMENT]
        if times == 1:
            self._post(f"element/{found}/click", {})
            return
        presses = [{"type": kind, "button": 0} for kind in ("pointerDown", "pointerUp")] * times
        to = {"type": "pointerMove", "duration": 0, "x": 0, "y": 0, "origin": {ELEMENT: found}}
        self._post("actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": [to, *presses]}]})

    def press(self, key: str) -> None:
        """A key that is pressed and let go."""
        value = KEYS.get(key, key)
        pair = [{"type": kind, "value": value} for kind in ("keyDown", "keyUp")]
        self._post("actions", {"actions": [{"type": "key", "id": "keyboard", "actions": pair}]})

    def new_tab(self) -> str:
        """Another tab of the same browser, in front now; its handle."""
        handle = self._post("window/new", {"type": "tab"})["handle"]
        self.show_tab(handle)
        return handle

    def tab(self) -> str:
        """Handle of the tab in front."""
        return _send("GET", f"{self._session}/window")

    def show_tab(self, handle: str) -> None:
        self._post("window", {"handle": handle})

    def wait(self, script: str, seconds: float = 20.0) -> Any:
        """Wait until what ``script`` returns is true; that value."""
        end = time.monotonic() + seconds
        while not (found := self.run(script)):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.03)
        return found

    def shot(self, path: Path) -> None:
        """A picture of what is seen, as png."""
        path.write_bytes(base64.b64decode(_send("GET", f"{self._session}/screenshot")))

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return _send("POST", f"{self._session}/{path}", body)


@contextmanager
def chromedriver() -> Iterator[str]:
    """Address of a chromedriver of our own."""
    assert DRIVER is not None
    command = [DRIVER, "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            port = next(filter(None, (re.search(r"success.* on port (\d+)", line) for line in process.stdout)))
            yield f"http://127.0.0.1:{port[1]}"
        finally:
            process.terminate()


def _send(method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with _OPENER.open(request, timeout=120) as reply:
            return json.load(reply)["value"]
    except urllib.error.HTTPError as error:
        with error:
            raise AssertionError(f"{method} {url}: {json.load(error)['value']['message']}") from None
