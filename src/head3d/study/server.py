"""The page that raters see: a few routes over :mod:`head3d.study.store`, and what every response must carry.

A rater enters by a link with a secret token. Videos are asked for by the rater's own item and place, never by a file
name, so that no path from a browser ever touches the disk. No address and no cookie is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from head3d import web
from head3d.study import session
from head3d.study.store import Rater, Study

PAGE = web.Page(Path(__file__).parent / "page", images="data:")
HEADERS = PAGE.headers | {"X-Robots-Tag": "noindex"}


def application(study: Study) -> ASGIApp:
    """The web application of one study."""

    def rater_of(request: Request) -> Rater:
        rater = study.rater(request.path_params["token"])
        if rater is None:
            raise HTTPException(404, "This link is not known. Please check that it was copied whole.")
        return rater

    def told(rater: Rater) -> JSONResponse:
        number = rater.number
        known = session.state(study.items(number), study.criteria, study.answered(number), rater.consented)
        return JSONResponse(known, headers=web.NO_STORE)

    def page(request: Request) -> Response:
        rater_of(request)
        return HTMLResponse(PAGE.html, headers=web.NO_STORE)

    def enter(request: Request) -> Response:
        return RedirectResponse(f"{rater_of(request).token}/", headers=web.NO_STORE)

    def state(request: Request) -> Response:
        return told(rater_of(request))

    def consent(request: Request) -> Response:
        study.consent(rater_of(request).number)
        return told(rater_of(request))

    def keep(request: Request, body: Any) -> Response:
        rater = rater_of(request)
        answer = session.read_answer(body, study.items(rater.number), study.criteria, rater.consented)
        study.keep(rater.number, answer)
        return told(rater)

    async def answer(request: Request) -> Response:
        # Browsers send this type across sites only after asking, and nobody here says yes.
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise HTTPException(415, "an answer is sent as application/json")
        return await run_in_threadpool(keep, request, await web.json_body(request, "an answer"))

    def video(request: Request) -> Response:
        rater = rater_of(request)
        item = request.path_params["item"]
        known = item in study.items(rater.number)  # asked in Python first: SQLite knows no number above 2^63
        path = study.video(rater.number, item, request.path_params["slot"]) if known else None
        if path is None or not path.is_file():
            raise HTTPException(404, "no such video")
        return FileResponse(path, media_type="video/mp4", headers={"Cache-Control": "private, max-age=3600"})

    def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, session.Refused)
        return JSONResponse({"error": str(error)}, status_code=error.status, headers=web.NO_STORE)

    def failed(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return PlainTextResponse(error.detail, error.status_code, headers={**(error.headers or {}), **web.NO_STORE})

    routes = [
        Route("/r/{token}", enter),
        Route("/r/{token}/", page),
        Route("/r/{token}/state", state),
        Route("/r/{token}/consent", consent, methods=["POST"]),
        Route("/r/{token}/answer", answer, methods=["POST"]),
        Route("/r/{token}/video/{item:int}/{slot}", video),
    ]
    handlers: Any = {session.Refused: refused, HTTPException: failed}
    return web.WithHeaders(Starlette(routes=routes, exception_handlers=handlers), HEADERS)


def serve(study: Study, host: str, port: int) -> None:
    """Print the raters' links and answer them until the process is stopped.

    Raises:
        UserError: the address cannot be listened at.
    """
    with web.listen(host, port) as listener:
        base = f"http://{web.reached_by(host)}:{listener.getsockname()[1]}"
        server = web.server(application(study))
        try:
            for rater, done, total in study.progress():
                print(f"rater {rater.number:3d}  {done:4d} of {total}  {base}/r/{rater.token}/")
            print("Each link is for one person and is their key. Stop with Ctrl-C; every answer is kept.", flush=True)
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            pass
        # Not only then: an interrupt while the server is starting ends it without this exception.
        print(f"stopped; the answers are in {study.folder}")
