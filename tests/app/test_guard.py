"""Which requests are ours, over real HTTP too, and what every answer carries."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.datastructures import Headers

from head3d.app.guard import is_ours, same_origin
from head3d.app.server import PAGE
from head3d.app.studio import Studio

from .conftest import Client


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:8001", True),
        ("127.0.0.1", True),
        ("localhost:9000", True),
        ("LOCALHOST", True),
        ("[::1]:8001", True),
        ("192.168.1.5:8001", True),
        ("lab.example:8001", True),
        ("evil.example:8001", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example@127.0.0.1.nip.example", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_hosts(host: str, expected: bool) -> None:
    assert is_ours(host, "Lab.example") is expected


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://localhost:8001", True),
        ("https://localhost:8001", True),  # behind a tunnel
        ("http://localhost:8002", False),
        ("http://evil.example", False),
        ("null", False),
        ("file://localhost:8001", False),
        ("", False),
    ],
)
def test_origins(origin: str, expected: bool) -> None:
    assert same_origin(Headers({"host": "localhost:8001", "origin": origin})) is expected


def test_no_origin_is_none_of_ours() -> None:
    assert not same_origin(Headers({"host": "localhost:8001"}))
    assert not same_origin(Headers({"host": "null", "origin": "null"}))


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/settings/../jobs.py",
        "/page.js",
        "/jobs.py",
        "/page/index.html",
        "/videos/..%2f..%2fetc%2fpasswd/file",
        "/videos/%2e%2e/file",
        "/videos//etc/passwd",
        "/jobs/../result",
        "/heads/..%2fx",
        "//etc/passwd",
        "/%00",
    ],
)
def test_nothing_else_can_be_read(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status == 404
    assert b"root:" not in answer.body and b"import" not in answer.body


def test_every_answer_has_the_headers(client: Client, clips: Path) -> None:
    video = client.send(clips / "subject.mp4")
    good = ["/", "/settings", f"/videos/{video}/file", f"/videos/{video}/thumbnail"]
    for path, status in [*((path, 200) for path in good), ("/none", 404), ("/videos", 405)]:
        answer = client.get(path)
        assert answer.status == status, path
        for name, value in PAGE.headers.items():
            assert answer.headers[name.lower()] == value, (path, name)
    refused = client.ask("POST", "/jobs", {}, {"Origin": "http://evil.example"})
    assert refused.headers["x-content-type-options"] == "nosniff"


def test_other_sites_are_refused(client: Client, studio: Studio, clips: Path) -> None:
    data = (clips / "subject.mp4").read_bytes()
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"}):
        assert client.ask("POST", "/videos?name=a.mp4", data, headers).status == 403
        assert client.ask("POST", "/jobs", {"kind": "head"}, headers).status == 403
    for host in ("evil.example", f"evil.example:{client.port}"):
        own = {"Host": host, "Origin": f"http://{host}"}
        assert client.ask("GET", "/settings", headers=own).status == 421
        assert client.ask("POST", "/videos?name=a.mp4", data, own).status == 421
    assert list(studio.folder.iterdir()) == []
    same = {"Host": f"localhost:{client.port}", "Origin": f"http://localhost:{client.port}"}
    assert client.ask("POST", "/videos?name=a.mp4", data, same).status == 200
