"""What the local pages of ``head3d app`` and ``head3d study`` share: one file with headers, an address, JSON bodies."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvicorn
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from head3d.errors import UserError

MOST_BYTES = 4096  # of a request's JSON
NO_STORE = {"Cache-Control": "no-store"}


class Page:
    """A page in one answer: a server that goes away between a page and its script would leave a dead page behind.

    Args:
        folder: has index.html, page.css and page.js.
        images: what the page's policy lets pictures come from.

    Attributes:
        html: index.html with the style and the script in it.
        headers: what confines the page to its own server, and to this very style and script.
    """

    def __init__(self, folder: Path, images: str) -> None:
        style, script, page = ((folder / name).read_text("utf-8") for name in ("page.css", "page.js", "index.html"))
        for link, inside in (
            ('<link rel="stylesheet" href="page.css">', f"<style>{style}</style>"),
            ('<script src="page.js"></script>', f"<script>{script}</script>"),
        ):
            before, found, after = page.partition(link)
            assert found, f"{folder}/index.html without {link}"
            page = before + inside + after
        self.html = page
        self.headers = {
            "Content-Security-Policy": f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; "
            f"media-src 'self'; connect-src 'self'; img-src {images}; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
            "Referrer-Policy": "no-referrer",  # a link may be a key
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
        }


def _source(text: str) -> str:
    """A policy's name for a style or script that stands in the page itself."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


class WithHeaders:
    """Adds headers to every response of an application, errors too.

    Args:
        app: answers.
        headers: what is added.
    """

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        self._app = app
        self._added = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *self._added]}
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


def check_port(port: int) -> None:
    """Raises UserError unless it can be listened at; 0 takes a free one."""
    if not 0 <= port <= 65535:
        raise UserError(f"--port is {port}", allowed="0 to 65535")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens already, so that an address that is told is true when it is read.

    Args:
        host: a name or a number of this machine.
        port: 0 takes a free one.

    Raises:
        UserError: that cannot be listened at.
    """
    if not host:  # which would be every address of this machine
        raise UserError("--host is empty", allowed="a name or a number of this machine, as 127.0.0.1")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except (OSError, UnicodeError, TypeError) as error:  # all but OSError: no name of a machine at all
        listener.close()
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"--host {host} --port {port}: cannot listen there ({why})",
            fix="choose another port with --port, or an address of this machine",
        ) from error
    return listener


def server(app: ASGIApp) -> uvicorn.Server:
    """What answers for an application, quietly, and waits a few seconds for answers under way when it is stopped."""
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=3
    )
    return uvicorn.Server(config)


def reached_by(host: str) -> str:
    """The name under which others reach an address; for all addresses at once, that of this machine in its network."""
    if host not in ("0.0.0.0", "::"):
        return f"[{host}]" if ":" in host else host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address for documentation; connecting a datagram socket sends nothing
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


async def json_body(request: Request, what: str) -> Any:
    """What a browser sent as JSON; ``what`` is its name in the line of an error.

    Raises:
        HTTPException: 413, over ``MOST_BYTES``; 400, no JSON.
    """
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > MOST_BYTES:
            raise HTTPException(413, f"too long for {what}")
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise HTTPException(400, f"{what} is sent as JSON") from None
