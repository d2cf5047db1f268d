"""The routes of the page over :mod:`head3d.app.studio`.

Videos, jobs, heads and results are asked for by unguessable ids that are looked up in memory, so that no path from a
browser ever touches the disk.
"""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from head3d import options
from head3d.app.guard import Guard
from head3d.app.jobs import Job
from head3d.app.studio import SHIFTS, Look, Studio, read
from head3d.app.videos import TooLarge, Video
from head3d.errors import UserError
from head3d.web import NO_STORE, Page, WithHeaders, json_body, listen, reached_by, server

if TYPE_CHECKING:
    from head3d.api import Head3D

PAGE = Page(Path(__file__).parent / "page", images="'self' data:")
MOST_DRAINED = 50_000_000  # bytes of a refused video that are still read: a browser that is sending hears nothing
THUMBNAIL = 480  # pixels of its longer side
TOLD = ("id", "state", "step", "done", "total", "error", "note", "head", "name", "beside")  # of a job
KINDS = ("head", "animate", "view")


def application(studio: Studio, host: str = "127.0.0.1") -> ASGIApp:
    """The web application of one studio; ``host`` is the address that it is served at."""

    def page(_: Request) -> Response:
        return HTMLResponse(PAGE.html, headers={"Cache-Control": "no-cache"})

    def settings(_: Request) -> Response:
        params = studio.model.params
        known = {
            "most_bytes": studio.videos.most_bytes,
            "motion": params.animate.motion,
            "references": params.model.references,
            "size": studio.model.image_size,
            "limits": {**options.LIMITS, **SHIFTS},
        }
        return JSONResponse(known, headers=NO_STORE)

    async def take(request: Request) -> Response:
        stated = request.headers.get("content-length", "")
        size = int(stated) if stated.isascii() and stated.isdigit() else None
        chunks, left = request.stream(), MOST_DRAINED
        try:
            found = await studio.videos.take(request.query_params.get("name", ""), chunks, size)
        except TooLarge:
            while left > 0 and (chunk := await anext(chunks, b"")):
                left -= len(chunk)
            raise
        return JSONResponse(_told_video(found), headers=NO_STORE)

    def video_of(request: Request) -> Video:
        found = studio.videos.get(request.path_params["video"])
        if found is None:
            raise HTTPException(404, "This video is not here any more.")
        return found

    def about_video(request: Request) -> Response:
        return JSONResponse(_told_video(video_of(request)), headers=NO_STORE)

    def video(request: Request) -> Response:
        return FileResponse(video_of(request).path, media_type="video/mp4", headers=NO_STORE)

    def thumbnail(request: Request) -> Response:
        return Response(_thumbnail(video_of(request).path), media_type="image/jpeg", headers=NO_STORE)

    async def submit(request: Request) -> Response:
        body = await json_body(request, "a wish")
        kind = body.pop("kind", None) if isinstance(body, dict) else None
        if kind not in KINDS:
            raise UserError(f"a job of kind {kind!r}", allowed=", ".join(KINDS))
        return told(await run_in_threadpool(studio.submit, kind, body))

    def job_of(request: Request) -> Job:
        job = studio.jobs.get(request.path_params["job"])
        if job is None:
            raise HTTPException(404, "This job is not known any more.")
        return job

    def told(job: Job) -> Response:
        known = {name: getattr(job, name) for name in TOLD}
        known |= {"ahead": studio.jobs.ahead(job), "result": job.state == "done" and job.result is not None}
        return JSONResponse(known, headers=NO_STORE)

    def about_job(request: Request) -> Response:
        return told(job_of(request))

    def cancel(request: Request) -> Response:
        studio.jobs.cancel(job_of(request))
        return told(job_of(request))

    def result(request: Request) -> Response:
        job = job_of(request)
        if job.state != "done" or job.result is None:
            raise HTTPException(404, "This job has no result.")
        name = job.name if "save" in request.query_params else None
        return FileResponse(job.result, media_type="video/mp4", headers=NO_STORE, filename=name)

    def picture(request: Request) -> Response:
        head = studio.head(request.path_params["head"])
        if head is None:
            raise HTTPException(404, "This head is not here any more. Make it again.")
        drawn = studio.picture(head, read(Look, dict(request.query_params)))
        return Response(drawn, media_type="image/png", headers=NO_STORE)

    def wrong(_: Request, error: Exception) -> Response:
        return PlainTextResponse(str(error), 413 if isinstance(error, TooLarge) else 422, headers=NO_STORE)

    def gone(_: Request, error: Exception) -> Response:
        return Response(status_code=400)  # the browser took its upload back; nobody reads this

    def failed(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return PlainTextResponse(error.detail, error.status_code, headers={**(error.headers or {}), **NO_STORE})

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(studio.jobs.close)

    routes = [
        Route("/", page),
        Route("/settings", settings),
        Route("/videos", take, methods=["POST"]),
        Route("/videos/{video}", about_video),
        Route("/videos/{video}/file", video),
        Route("/videos/{video}/thumbnail", thumbnail),
        Route("/jobs", submit, methods=["POST"]),
        Route("/jobs/{job}", about_job),
        Route("/jobs/{job}/cancel", cancel, methods=["POST"]),
        Route("/jobs/{job}/result", result),
        Route("/heads/{head}", picture),
    ]
    handlers: Any = {UserError: wrong, HTTPException: failed, ClientDisconnect: gone}
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
    return WithHeaders(Guard(app, host), PAGE.headers)


def serve(model: Head3D, host: str, port: int, most_bytes: int) -> None:
    """Serve the page until the process is stopped; videos and results are deleted then.

    Args:
        model: with a fusion network.
        host: address to listen at.
        port: 0 takes a free one.
        most_bytes: of one video.

    Raises:
        UserError: the address cannot be listened at.
    """
    with (
        listen(host, port) as listener,
        tempfile.TemporaryDirectory(prefix="head3d-app-", ignore_cleanup_errors=True) as folder,
    ):
        print(f"Head3D: http://{reached_by(host)}:{listener.getsockname()[1]}/")
        if not _is_loopback(host):
            print(f"Everybody who reaches this machine at {host} can use the page; nothing is encrypted.")
        print("Stop with Ctrl-C; videos and results are deleted then.", flush=True)
        answering = server(application(Studio(model, Path(folder), most_bytes), host))
        # uvicorn raises the signal that stopped it once more, and SIGTERM by itself would leave the folder behind
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            answering.run(sockets=[listener])
        except KeyboardInterrupt:
            pass
        finally:
            signal.signal(signal.SIGTERM, before)
    print("stopped; nothing is kept")


def _told_video(video: Video) -> dict[str, Any]:
    info = video.info
    return {"id": video.id, "name": video.name, "width": info.width, "height": info.height, "seconds": info.duration}


def _thumbnail(path: Path) -> bytes:
    """The first frame as JPEG: browsers do not play every kind of video."""
    from PIL import Image

    from head3d.data.video import read_frames

    picture = Image.fromarray(next(read_frames(path, count=1)))
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=85)
    return out.getvalue()


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
