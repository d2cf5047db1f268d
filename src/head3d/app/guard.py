"""What stands before every route: refusal of requests that other sites send."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class Guard:
    """Lets through what this server's own page sends.

    A name of somebody else's that is made to point at this machine (DNS rebinding) is refused by the Host header; what
    another site's page sends by the Origin header, which browsers set on every POST.

    Args:
        app: what is guarded.
        host: the address that is listened at; as a name, it is one of ours.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app, self._host = app, host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if not is_ours(headers.get("host", ""), self._host):
                line = (
                    "This server answers to numbers, as 127.0.0.1, and localhost; for a name start it with --host NAME."
                )
                app = PlainTextResponse(line, 421)
            elif scope["method"] not in ("GET", "HEAD") and not same_origin(headers):
                app = PlainTextResponse("Only the page of this server may ask for that.", 403)
        await app(scope, receive, send)


def is_ours(host: str, listened: str) -> bool:
    """Whether a Host header names this server: by number, as localhost, or as it was told to listen.

    The port is not compared, so that a tunnel may have another one; a number cannot be made to point elsewhere.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name in ("localhost", listened.lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def same_origin(headers: Headers) -> bool:
    """Whether a request was made by a page of the address that it is sent to."""
    origin = urlsplit(headers.get("origin", ""))
    return origin.scheme in ("http", "https") and origin.netloc == headers.get("host")
