"""The real server, asked over the network as anybody could ask it."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from head3d import cli, web
from head3d.study.server import HEADERS
from head3d.study.store import DATABASE, VIDEOS, Study

from .conftest import METHODS, Reply, Server, given

SECRETS = (*METHODS, "broken", "head3d", "mini-seen", "p00", "clip-a")  # what a rater must not learn
ANSWER = {"item": 1, "criterion": "overall", "choice": "left", "seconds": 2.0}


@pytest.fixture(scope="module")
def server(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a study that these tests share: each starts by what it needs itself."""
    with Server(shutil.copytree(built, tmp_path_factory.mktemp("served") / "study")) as running:
        yield running


@pytest.fixture
def own(study: Study) -> Iterator[Server]:
    """A server of a study that nobody has answered."""
    with Server(study.folder) as running:
        yield running


def test_a_rater_is_told_what_is_next(own: Server, study: Study) -> None:
    path = own.path(0)
    assert own.ask(f"{path}answer", ANSWER).status == 403  # not before consent
    assert own.ask(f"{path}consent", {}).json()["consented"]
    told = own.ask(f"{path}answer", ANSWER).json()
    assert (told["done"], told["total"], told["next"]["item"]) == (1, 8, 2)
    assert own.ask(f"{path}answer", {**ANSWER, "choice": "right"}).json() == told  # a second tab: nothing new
    assert own.ask(f"{path}answer", {**ANSWER, "item": 5}).json()["next"]["item"] == 2  # out of order
    assert own.ask(f"{path}state").json()["done"] == 2
    assert own.ask(f"{own.path(1)}state").json() | {"next": None} == {
        "consented": False, "done": 0, "total": 8, "next": None
    }  # fmt: skip
    own.kill()
    own.start()
    assert own.ask(f"{path}state").json()["done"] == 2
    for item in (2, 3, 4, 6, 7, 8):
        told = own.ask(f"{path}answer", {**ANSWER, "item": item}).json()
    assert told == {"consented": True, "done": 8, "total": 8, "next": None}
    assert given(study) == {(1, item, "overall"): "left" for item in range(1, 9)}


def everything(server: Server) -> list[Reply]:
    """Every kind of answer that the server gives."""
    path = server.path(0)
    replies = [server.ask(f"{path}{rest}") for rest in ("", "state", "answer", "video/1/middle", "video/99/left", "x")]
    replies += [server.ask(one) for one in ("/", "/page.js", "/r/unknown/", path.rstrip("/"))]
    replies += [server.ask(f"{path}consent", {}), server.ask(f"{path}answer", ANSWER)]
    replies += [server.ask(f"{path}answer", body) for body in ({}, b"{", b"x" * 9999)]
    slots = [f"{path}video/{item}/{slot}" for item in range(1, 9) for slot in ("subject", "driving", "left", "right")]
    replies += [server.ask(slot) for slot in slots]
    return replies


def test_no_answer_tells_a_method_or_leaves_a_header_out(server: Server) -> None:
    replies = everything(server)
    assert {reply.status for reply in replies} >= {200, 307, 400, 404, 405, 413, 422}
    videos = [reply for reply in replies if reply.headers.get("content-type") == "video/mp4"]
    assert len(videos) == 32
    for reply in replies:
        assert {name: reply.headers.get(name.lower()) for name in HEADERS} == HEADERS
        said = (str(reply.headers).encode() + reply.body).lower()
        for secret in SECRETS:
            assert secret.encode() not in said, secret
        assert "server" not in reply.headers and "set-cookie" not in reply.headers
    assert len({reply.headers["last-modified"] for reply in videos}) == 1
    assert "content-disposition" not in videos[0].headers
    assert {reply.headers["cache-control"] for reply in videos} == {"private, max-age=3600"}
    for reply in replies:
        if reply not in videos:
            assert reply.headers["cache-control"] == "no-store", reply


def test_nothing_outside_the_page_and_the_videos_can_be_read(server: Server) -> None:
    path = server.path(0)
    file = next((server.folder / VIDEOS).iterdir()).name
    for asked in (
        f"/{DATABASE}",
        f"/{VIDEOS}/{file}",
        f"{path}{file}",
        f"{path}video/{file}",
        f"{path}video/1/{file}",
        f"{path}video/1/../../../../{DATABASE}",
        f"{path}video/1/..%2f..%2f{DATABASE}",
        f"{path}video/1/%2e%2e%2f%2e%2e%2f{DATABASE}",
        f"{path}video/1/left/../../../../../etc/passwd",
        f"{path}video/1/left%00.css",
        f"{path}video/-1/left",
        f"{path}video/1e0/left",
        f"{path}video/{2**70}/left",
        "/page.js",
        "/r/../server.py",
        "/%2e%2e/server.py",
        "/../server.py",
        "//etc/passwd",
        "/etc/passwd",
        "/index.html",
        "/page/index.html",
        "/r/",
        "/r/%00/",
        "/r/%27%20OR%201=1/state",
    ):
        reply = server.ask(asked)
        assert reply.status == 404, asked
        assert len(reply.body) < 100


def test_an_unknown_link_says_so(server: Server) -> None:
    for rest in ("", "state", "video/1/left"):
        reply = server.ask(f"/r/{server.path(0)[3:-2]}/{rest}")
        assert (reply.status, reply.body) == (404, b"This link is not known. Please check that it was copied whole.")
    assert server.ask("/r/nobody/consent", {}).status == 404
    assert server.ask("/r/nobody/answer", ANSWER).status == 404


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (b"{", {}, 400, "an answer is sent as JSON"),
        (b"\xff", {}, 400, "an answer is sent as JSON"),
        (b"[" * 4000, {}, 400, "an answer is sent as JSON"),
        (b" " * 5000, {}, 413, "too long for an answer"),
        (ANSWER, {"Content_Type": "text/plain"}, 415, "an answer is sent as application/json"),
        ({**ANSWER, "item": 9}, {}, 422, "no such item"),
        ({**ANSWER, "choice": "neither"}, {}, 422, "a choice is left or right"),
    ],
)
def test_wrong_answers_are_refused(
    server: Server, body: Any, headers: dict[str, str], status: int, message: str
) -> None:
    server.ask(f"{server.path(1)}consent", {})
    reply = server.ask(f"{server.path(1)}answer", body, **headers)
    assert reply.status == status and message in reply.body.decode()
    assert server.ask(f"{server.path(1)}state").json()["done"] == 0


def test_parts_of_a_video_can_be_asked_for(server: Server) -> None:
    """Phones play nothing else."""
    whole = server.ask(f"{server.path(0)}video/1/left")
    part = server.ask(f"{server.path(0)}video/1/left", Range="bytes=4-11")
    assert (part.status, part.body) == (206, whole.body[4:12])
    assert whole.body[4:8] == b"ftyp" and whole.headers["accept-ranges"] == "bytes"


def test_it_ends_at_a_wish(own: Server, capfd: pytest.CaptureFixture[str]) -> None:
    assert own.links[0].startswith("http://127.0.0.1:")
    process = own.process
    assert process is not None and process.stdout is not None
    assert own.ask(own.path(0)).status == 200  # before it is up, a shell's `&` would have it ignore an interrupt
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    said, errors = process.stdout.read(), capfd.readouterr().err
    assert f"stopped; the answers are in {own.folder}" in said
    assert "Traceback" not in errors
    assert "/r/" not in said + errors  # links are keys: no log of requests holds them


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "70000"], "--port is 70000; allowed: 0 to 65535"),
        (["--host", "192.0.2.1"], "--host 192.0.2.1 --port 8000: cannot listen there (Cannot assign"),
        (["--host", "no..name"], "cannot listen there"),
    ],
)
def test_addresses_that_do_not_work(
    built: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert cli.main(["study", "serve", str(built), *words]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1


def test_links_can_be_opened_on_another_machine() -> None:
    """What is listened at everywhere is reached by this machine's address in its network."""
    assert [web.reached_by(host) for host in ("127.0.0.1", "lab", "::1")] == ["127.0.0.1", "lab", "[::1]"]
    assert web.reached_by("0.0.0.0") == web.reached_by("::") not in ("0.0.0.0", "::", "[::]")


def test_a_port_that_is_taken(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["study", "serve", str(server.folder), "--port", str(server.port)]) == 2
    assert "Address already in use); choose another port" in capsys.readouterr().err
