"""Google Drive's pages before a file, each made by a server here: confirmations are given, other pages are one line."""

from __future__ import annotations

import contextlib
import http.server
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from head3d.assets import cache as assets
from head3d.assets import download
from head3d.assets.catalogue import ASSETS, Asset, GoogleDrive
from head3d.errors import UserError

CONTENT = b"weights" * 20_000
TEXT = {"Content-Type": "text/html; charset=utf-8"}
FILE = {"Content-Type": "application/octet-stream", "Content-Disposition": 'attachment; filename="f.pth"'}
FORM = """<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title><style>p{{}}</style></head><body>
<form id="download-form" action="{action}" method="get"><input type="submit" value="Download anyway">
<input type="hidden" name="id" value="ID"><input type="hidden" name="export" value="download">
<input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="u-1"></form></body></html>"""
POST = """<html><title>Google Drive - Virus scan warning</title><form id="download-form" method="post"
action="/uc?export=download&amp;id=ID&amp;confirm=t&amp;uuid=u-1"><input type="submit"></form></html>"""
LINK = (
    '<html><a id="uc-download-link" href="/uc?export=download&amp;confirm=t&amp;uuid=u-1&amp;id=ID">Download</a></html>'
)
QUOTA = "<html><title>Google Drive - Quota exceeded</title><p>Sorry, you can't view or download this file at this time."
QUOTA += "<p>Too many users have viewed or downloaded this file recently.</html>"


class Drive(http.server.ThreadingHTTPServer):
    """Answers as Google Drive does; ``page`` is what stands before the file."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.page, self.status, self.cookie, self.breaks = "", 200, "", 0
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        drive = self.server
        assert isinstance(drive, Drive)
        drive.asked.append(self.path)
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        if self.path.startswith("/ServiceLogin"):
            self.answer(200, TEXT, b"<html><title>Google Drive: Sign-in</title></html>")
        elif query.get("id") != "ID":
            self.answer(404, TEXT, b"<html>The file you have requested does not exist.</html>")
        elif drive.page == "sign-in":
            self.answer(302, {"Location": "/ServiceLogin?continue=there"}, b"")
        elif drive.cookie and f"download_warning_1={drive.cookie}" in self.headers.get("Cookie", ""):
            good = query.get("confirm") == drive.cookie
            self.answer(200, FILE if good else TEXT, CONTENT if good else b"<html>no</html>")
        elif drive.page and not (query.get("confirm") == "t" and query.get("uuid") == "u-1"):
            headers = TEXT | ({"Set-Cookie": f"download_warning_1={drive.cookie}"} if drive.cookie else {})
            self.answer(drive.status, headers, drive.page.encode())
        else:
            self.answer(200, FILE, CONTENT)

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        wanted = self.headers.get("Range")
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        drive = self.server
        assert isinstance(drive, Drive)
        self.send_response(206 if wanted and status == 200 else status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) - first))
        self.end_headers()
        if body == CONTENT and drive.breaks > 0:
            drive.breaks -= 1
            body = body[: first + 50_000]
        with contextlib.suppress(OSError):  # the file is looked at before it is fetched
            self.wfile.write(body[first:])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def drive(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Drive]:
    running = Drive()
    monkeypatch.setattr(download, "DRIVE", f"http://127.0.0.1:{running.server_port}")
    monkeypatch.setattr(download, "CONNECT_S", 20.0)
    monkeypatch.setenv("HEAD3D_CACHE", str(in_tmp / "cache"))
    page = "https://example.org/weights"
    asset = Asset("toy", "toy.pth", "", 0, "none", "tests", (GoogleDrive("ID"),), True, page=page)
    monkeypatch.setitem(ASSETS, "toy", asset)
    yield running
    running.shutdown()
    running.server_close()


@pytest.mark.parametrize(
    "page", ["", FORM.format(action="/download"), POST, LINK], ids=["file", "form", "post", "link"]
)
def test_confirmations_are_given(page: str, drive: Drive, in_tmp: Path) -> None:
    drive.page = page
    download.google_drive("ID", in_tmp / "part")
    assert (in_tmp / "part").read_bytes() == CONTENT
    assert drive.asked[0] == "/uc?export=download&id=ID"
    assert all("confirm=t" in path and "uuid=u-1" in path for path in drive.asked[1:]) == bool(page)


def test_the_older_cookie_is_sent_back(drive: Drive, in_tmp: Path) -> None:
    drive.page, drive.cookie = "<html>Google Drive can't scan this file for viruses.</html>", "k7Qz"
    download.google_drive("ID", in_tmp / "part")
    assert (in_tmp / "part").read_bytes() == CONTENT


def test_a_broken_transfer_goes_on(drive: Drive, in_tmp: Path) -> None:
    drive.page, drive.breaks = FORM.format(action="/download"), 3  # the look at the file counts as well
    arrived = []
    download.google_drive("ID", in_tmp / "part", lambda new, _total: arrived.append(new))
    assert (in_tmp / "part").read_bytes() == CONTENT
    assert sum(arrived) >= len(CONTENT)


@pytest.mark.parametrize(
    ("page", "status", "said"),
    [
        (QUOTA, 200, "download quota is used up"),
        (QUOTA, 403, "download quota is used up"),
        ("sign-in", 200, "wants a sign-in"),
        ("<html><p>You need access</p></html>", 200, "is not shared with everybody"),
        (
            "<html><title>Sorry</title><script>too many users</script></html>",
            200,
            r"a page instead of the file \(Sorry\)",
        ),
        (FORM.format(action="https://evil.example/x"), 200, "leads away from Google, to evil.example"),
        (FORM.format(action="/nothing?id=other").replace('name="id"', 'name="none"'), 200, "HTTP 404"),
    ],
    ids=["quota", "quota-403", "sign-in", "access", "unknown", "elsewhere", "gone"],
)
def test_other_pages_are_one_line_and_never_the_file(
    page: str, status: int, said: str, drive: Drive, in_tmp: Path
) -> None:
    drive.page, drive.status = page, status
    with pytest.raises(UserError, match=said) as error:
        assets.fetch("toy")
    assert "\n" not in str(error.value)
    assert "get toy.pth from https://example.org/weights by hand, then head3d assets add toy FILE" in str(error.value)
    assert [path for path in (in_tmp / "cache").rglob("*") if path.suffix == ".pth"] == []


def test_a_form_that_leads_to_itself_ends(drive: Drive, in_tmp: Path) -> None:
    drive.page = FORM.format(action="/uc").replace("u-1", "another")
    with pytest.raises(download.SourceError, match="again and again"):
        download.google_drive("ID", in_tmp / "part")
    assert len(drive.asked) == download.CONFIRMATIONS + 1
