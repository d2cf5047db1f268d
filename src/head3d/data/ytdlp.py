"""The one place that calls yt-dlp, as a program of its own: nothing else needs it, and the project does not install it.

What is asked of it is some seconds of the picture of one video. ffmpeg copies them without encoding them again and
marks where they begin, so that they come out as they are there and begin at the very frame.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from head3d.data.video import ffmpeg_exe
from head3d.errors import UserError
from head3d.files import expanded

OK, GONE, PRIVATE, BLOCKED, REGION, BROKEN, LATER = (
    "ok",
    "gone",
    "private",
    "blocked",
    "region",
    "broken",
    "retry later",
)
# What yt-dlp says -> what it means; the first that fits counts. Worded as yt-dlp 2026.10 and YouTube word it.
_MEANINGS = (
    # of this machine or account, whatever the video
    (BLOCKED, r"not a bot|HTTP Error 429|Too Many Requests|has been rate-limited|captcha"),
    (
        PRIVATE,
        r"private video|video is private|confirm your age|age.restricted|members.only|to this channel's members"
        r"|join this channel|login required|only available (for|to) registered|requires payment|Sign in if you",
    ),
    (REGION, r"in your (country|location)|geo.?restrict|from your location"),
    (
        GONE,
        r"HTTP Error 4(04|10)|has been removed|has been terminated|no longer available|Video unavailable"
        r"|video is (not available|unavailable)|does not exist|Incomplete YouTube ID|account.*closed",
    ),
    (BROKEN, r"DRM protected|live event|Unsupported URL|Premieres in"),
)
# ffmpeg fetches the bytes themselves and says it in words of its own, among much else
_MEDIA_BLOCKED = re.compile(r"^.*(HTTP error 429|Server returned 429|429 Too Many).*$", re.MULTILINE)
_LONGEST_REASON = 160  # letters that are kept of an error


@dataclass(frozen=True)
class Outcome:
    """What one call brought: files by their section, and what stands for the sections that are missing."""

    files: dict[tuple[float, float], Path]
    status: str = OK
    reason: str = ""


def find() -> str:
    """Path of yt-dlp: beside this Python, or on the PATH."""
    search = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])
    found = shutil.which("yt-dlp", path=search)
    if found is None:
        raise UserError("yt-dlp was not found on the PATH", fix="pip install yt-dlp")
    return found


def check_cookies(path: str | None) -> None:
    """Refuse a file of cookies that is not there or not readable; what is in it is not looked at."""
    if path is not None and not os.access(expanded(path), os.R_OK):
        raise UserError(
            f"params.yaml: download.cookies is '{path}', which cannot be read",
            allowed="a file of cookies in Netscape's format, or null",
        )


def fetch(video: str, sections: Sequence[tuple[float, float]], folder: Path, settings: Any) -> Outcome:
    """Fetch sections of one video into an empty folder.

    Args:
        video: YouTube's name of it.
        sections: begins and ends in seconds; no two of the same begin.
        folder: where the files are written.
        settings: the section ``download`` of the parameters.

    Returns:
        Files that yt-dlp calls complete, of which none was looked into yet; the status is that of the others.
    """
    with tempfile.TemporaryFile() as log, _cookies(settings.cookies) as (cookies, secrets):
        command = _command(video, sections, folder, settings, cookies)
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        except OSError as error:
            raise UserError(f"{command[0]}: cannot be run ({error})", fix="pip install yt-dlp") from error
        code: int | None = None
        try:
            code = process.wait(settings.timeout_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if code is None:  # too late, or interrupted
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # its ffmpeg, too
                process.wait()
        log.seek(0)
        said = log.read().decode(errors="replace")
    files = {}
    for section in sections:
        for path in folder.glob(f"{_stem(section)}.*"):
            if path.suffix not in (".part", ".ytdl", ".temp"):
                files[section] = path
    if code is None:
        return Outcome(files, LATER, f"nothing complete within {settings.timeout_s:g} s")
    if code == 0:
        return Outcome(files, LATER, "yt-dlp made no file of it")
    for secret in secrets:  # yt-dlp quotes a line of the file that it cannot read
        said = said.replace(secret, "…")
    return Outcome(files, *meaning(said))


def meaning(said: str) -> tuple[str, str]:
    """Status and reason, one line, of what yt-dlp wrote to stderr when it failed."""
    if media := _MEDIA_BLOCKED.search(said):
        return BLOCKED, _one_line(media[0])
    errors = re.findall(r"^(?:yt-dlp: error|ERROR): (.*(?:\n(?!ERROR:|WARNING:|\[).*)*)", said, re.MULTILINE)
    last = _one_line(errors[-1]) if errors else "yt-dlp failed and did not say why"
    for status, words in _MEANINGS:
        if re.search(words, last, re.IGNORECASE):
            return status, last[:_LONGEST_REASON]
    return LATER, last[:_LONGEST_REASON]


def _one_line(text: str) -> str:
    text = re.sub(r"^\[\w+\] \S+: ", "", " ".join(text.split()))  # [youtube] abc: reason
    # advice on cookies is long and ours is in docs/data.md
    return re.split(r"\.? +Use --cookies|; please report this issue", text)[0][: 4 * _LONGEST_REASON]


def _stem(section: tuple[float, float]) -> str:
    return f"{section[0]:09.3f}"


def _command(
    video: str, sections: Sequence[tuple[float, float]], folder: Path, settings: Any, more: list[str]
) -> list[str]:
    if os.path.expandvars(folder) != str(folder):
        raise UserError(
            f"{folder}: yt-dlp takes a part of it for a variable of the environment",
            fix="choose a data.voxceleb.videos without $",
        )
    literal = str(folder).replace("%", "%%")  # yt-dlp takes % for the beginning of a name of its own
    ranges = [word for begin, end in sections for word in ("--download-sections", f"*{begin:.3f}-{end:.3f}")]
    return [
        find(),
        *("--no-playlist", "--no-simulate", "--no-progress", "--no-download-archive", "--no-mtime"),
        # the picture alone, in a container whose marks of begin and end every reader obeys
        *("--format", "bv*[ext=mp4]/b[ext=mp4]/bv*/b", "--format-sort", f"res:{settings.height},vcodec:h264"),
        *("--ffmpeg-location", ffmpeg_exe(), "--retries", "3", "--socket-timeout", "30"),
        *("--output", f"{literal}/%(section_start)09.3f.%(ext)s"),
        *ranges,
        *more,
        "--",
        settings.address.replace("{id}", video),
    ]


@contextlib.contextmanager
def _cookies(path: str | None):
    """The options for a file of cookies, and its values, which must never be shown.

    yt-dlp writes the file that it is given, and two processes would spoil it for each other: each call gets a copy that
    only this user can read.
    """
    if path is None:
        yield [], []
        return
    with tempfile.TemporaryDirectory(prefix="head3d-") as private:
        copy = Path(private) / "cookies.txt"
        try:
            shutil.copyfile(expanded(path), copy)
        except OSError as error:
            raise UserError(f"params.yaml: download.cookies, {path}, cannot be read ({error.strerror})") from None
        lines = [line.split() for line in copy.read_text(errors="replace").splitlines() if line[:2] != "# "]
        yield ["--cookies", str(copy)], [words[-1] for words in lines if words and len(words[-1]) > 3]
