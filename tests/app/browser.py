"""A headless Chromium, driven through chromedriver's own HTTP interface (W3C WebDriver)."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key that the standard gives to references of elements
SWITCHES = (
    "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update "
    "disable-sync disable-dev-shm-usage hide-scrollbars"
)


def found() -> bool:
    """Whether this machine has a browser and its driver."""
    return bool(shutil.which("chromium") and shutil.which("chromedriver"))


class Browser:
    """One browser with one window; a context manager that ends it.

    Args:
        folder: for its profile.
        width: of the window, pixels; so is ``height``.
    """

    def __init__(self, folder: Path, width: int = 1100, height: int = 900, **more: Any) -> None:
        port = _free_port()
        driver = shutil.which("chromedriver")
        assert driver is not None
        self._driver = subprocess.Popen(
            [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        self._base = f"http://127.0.0.1:{port}"
        try:
            wait_for(self._ready, 20)
            switches = [f"--{switch}" for switch in SWITCHES.split()]
            switches += [f"--user-data-dir={folder}", f"--window-size={width},{height}"]
            options = {"binary": shutil.which("chromium"), "args": switches, **more}
            capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            session = self._send("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        except BaseException:
            self._driver.kill()
            self._driver.wait()
            raise
        self._base += f"/session/{session['sessionId']}"

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._send("DELETE", "")
        finally:
            self._driver.terminate()
            self._driver.wait(20)

    def open(self, address: str) -> None:
        self._send("POST", "/url", {"url": address})

    def run(self, script: str, *arguments: Any) -> Any:
        """What a function body in the page returns; ``arguments[k]`` are its arguments."""
        return self._send("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def choose_file(self, selector: str, path: Path) -> None:
        found = self._send("POST", "/element", {"using": "css selector", "value": selector})
        self._send("POST", f"/element/{found[ELEMENT]}/value", {"text": str(path)})

    def click(self, selector: str) -> None:
        found = self._send("POST", "/element", {"using": "css selector", "value": selector})
        self._send("POST", f"/element/{found[ELEMENT]}/click", {})

    def drag(self, selector: str, x: int, y: int) -> None:
        """Press the mouse in the middle of an element, move it by so many pixels in two steps, and let go."""
        origin = self._send("POST", "/element", {"using": "css selector", "value": selector})
        steps = [
            {"type": "pointerMove", "duration": 0, "x": 0, "y": 0, "origin": origin},
            {"type": "pointerDown", "button": 0},
            *({"type": "pointerMove", "duration": 20, "x": x // 2, "y": y // 2, "origin": "pointer"} for _ in range(2)),
            {"type": "pointerUp", "button": 0},
        ]
        self._send("POST", "/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": steps}]})

    def text(self, selector: str) -> str:
        """Visible text of an element; empty where it is hidden."""
        return self.run("return document.querySelector(arguments[0]).innerText", selector).strip()

    def shown(self, selector: str) -> bool:
        return self.run("return document.querySelector(arguments[0]).getClientRects().length > 0", selector)

    def problems(self) -> list[str]:
        """Errors in the browser's console since the last call: of scripts, and what the policy blocked."""
        found = self._send("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in found if entry["level"] == "SEVERE"]

    def narrow(self, width: int | None, height: int = 800) -> None:
        """Show the page as on a phone of this width, pixels; None ends that."""
        values = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": True}
        command = "setDeviceMetricsOverride" if width else "clearDeviceMetricsOverride"
        self._send("POST", "/goog/cdp/execute", {"cmd": f"Emulation.{command}", "params": values if width else {}})

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._send("GET", "/screenshot")))

    def _ready(self) -> bool:
        try:
            return bool(self._send("GET", "/status")["ready"])
        except OSError:
            return False

    def _send(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(json.load(error)["value"]["message"]) from None


def wait_for(done: Callable[[], Any], seconds: float = 20.0) -> Any:
    """The first true value of a function that is asked again and again."""
    end = time.monotonic() + seconds
    while True:
        value = done()
        if value:
            return value
        assert time.monotonic() < end, f"nothing within {seconds:g} s"
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
