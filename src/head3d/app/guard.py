"""What stands before every route: headers that confine the page, and refusal of requests that other sites send."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; media-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


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
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        app = self._app
        if not is_ours(headers.get("host", ""), self._host):
            line = "This server answers to numbers, as 127.0.0.1, and localhost; for a name start it with --host NAME."
            app = PlainTextResponse(line, 421)
        elif scope["method"] not in ("GET", "HEAD") and not same_origin(headers):
            app = PlainTextResponse("Only the page of this server may ask for that.", 403)
        await app(scope, receive, with_headers)


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
