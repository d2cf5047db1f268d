"""A network between a browser and the study's server that loses what it is told to lose."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType


class Lossy:
    """Listens at :attr:`port` and passes on to ``server_port``, one reply at a time.

    Args:
        server_port: of this machine.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._to_cut = self._to_swallow = b""
        self.cuts = self.swallowed = 0

    def cut(self, request: bytes) -> None:
        """Of the next reply to a request that starts so, let the headers through and then drop the connection."""
        self._to_cut = request

    def swallow(self, request: bytes) -> None:
        """The next request that starts so is never answered, and its connection stays."""
        self._to_swallow = request

    def __enter__(self) -> Lossy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                browser, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(browser,), daemon=True).start()

    def _serve(self, browser: socket.socket) -> None:
        """Every request on a connection of its own to the server, which is told to close it after its reply."""
        with browser, suppress(OSError):
            while data := browser.recv(65536):
                while not _whole(data):
                    data += browser.recv(65536)
                if self._to_swallow and data.startswith(self._to_swallow):
                    self._to_swallow, self.swallowed = b"", self.swallowed + 1
                    browser.recv(1)  # until the browser gives up
                    return
                with socket.create_connection(("127.0.0.1", self._server_port)) as server:
                    server.sendall(data.replace(b"Connection: keep-alive", b"Connection: close"))
                    reply = b"".join(iter(lambda: server.recv(65536), b""))
                if self._to_cut and data.startswith(self._to_cut):
                    self._to_cut, self.cuts = b"", self.cuts + 1
                    browser.sendall(reply[: reply.index(b"\r\n\r\n") + 4])
                    return
                browser.sendall(reply)
                if b"connection: close" in reply.lower():
                    return


def _whole(request: bytes) -> bool:
    """Whether the headers are there and as much after them as they say."""
    head, end, body = request.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    return bool(end) and len(body) >= length
