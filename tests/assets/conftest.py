"""A real HTTP server of good and bad ways, and a cache of a test's own."""

import bz2
import contextlib
import hashlib
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from head3d.assets import download
from head3d.assets.catalogue import ASSETS, Asset, Https, Package

CONTENT = bytes(np.random.default_rng(0).integers(0, 256, 300_000, np.uint8))
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def leave_part(cache: Path, content: bytes) -> None:
    """What a killed fetch of ``toy`` has left."""
    part = cache / "parts" / "toy" / "toy.bin"
    part.parent.mkdir(parents=True)
    part.write_bytes(content)


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT in good and bad ways, and remembers what was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str | None]] = []
        self.dripping, self.cut = threading.Event(), threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        wanted = self.headers.get("Range")
        server.asked.append((self.path, wanted))
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        body = {"/wrong": b"not what you think", "/packed.bz2": bz2.compress(CONTENT)}.get(self.path, CONTENT)
        if self.path == "/garbage":
            self.wfile.write(b"what is this\r\n\r\n")
            self.close_connection = True
            return
        if self.path == "/missing":
            self.send_error(404)
            return
        if first >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body) - first))
        self.end_headers()
        if self.path == "/slow":
            time.sleep(0.5)
        if self.path == "/drips":
            server.dripping.set()
            try:
                for byte in body[:300]:  # half a minute
                    self.wfile.write(bytes((byte,)))
                    time.sleep(0.1)
            except OSError:
                server.cut.set()
            return
        if self.path in ("/breaks", "/stalls") and len(server.asked) < 3:
            self.wfile.write(body[first : first + 100_000])
            self.wfile.flush()
            if self.path == "/stalls":
                time.sleep(5)
            self.close_connection = True
            return
        with contextlib.suppress(BrokenPipeError):
            self.wfile.write(body[first:])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEAD3D_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "CONNECT_S", 20.0)
    return tmp_path / "cache"


def add(monkeypatch: pytest.MonkeyPatch, *sources: Https | Package, name: str = "toy", digest: str = DIGEST) -> None:
    asset = Asset(name, f"{name}.bin", digest, len(CONTENT), "none", "tests", sources)
    monkeypatch.setitem(ASSETS, name, asset)


def leftovers(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock")
