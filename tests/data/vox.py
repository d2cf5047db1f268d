"""A stand-in for YouTube on this machine, and one for yt-dlp that fetches from it, for the tests of VoxCeleb."""

from __future__ import annotations

import contextlib
import csv
import http.server
import re
import sys
import threading
import time
from pathlib import Path

from head3d.params import Params

from .conftest import ffmpeg, with_data

# Words of YouTube, as yt-dlp hands them on.
REASONS = {
    "private": "Private video. Sign in if you've been granted access to this video. Use --cookies-from-browser or "
    "--cookies for the authentication. See  https://github.com/yt-dlp/yt-dlp/wiki/FAQ#how-do-i-pass-cookies-to-yt-dlp",
    "agelimit": "Sign in to confirm your age. This video may be inappropriate for some users. Use --cookies",
    "region": "Video unavailable. The uploader has not made this video available in your country",
    "claimed": "Video unavailable. This video contains content from ZDF, who has blocked it in your country on "
    "copyright grounds",
    "ended": "Video unavailable. This video is no longer available because the YouTube account associated with this "
    "video has been terminated.",
    "removed": "Video unavailable. This video has been removed by the uploader",
    "robot": "Sign in to confirm you’re not a bot. Use --cookies-from-browser or --cookies for the authentication.",
    "limited": "Video unavailable. This content isn't available, try again later. The current session has been "
    "rate-limited by YouTube for up to an hour.",
    "formats": "Requested format is not available. Use --list-formats for a list of available formats",
    "drm": "This video is DRM protected",
}

# name of the video -> its status after the first try
TOLD = {
    "good": "ok", "moved": "ok", "gone": "gone", "private": "private", "agelimit": "private", "region": "region",
    "claimed": "region", "ended": "gone", "removed": "gone", "drm": "broken", "formats": "retry later",
    "refused": "retry later", "broken": "retry later", "hangsup": "retry later", "page": "retry later",
    "cut": "retry later",
}  # fmt: skip

# Behaves like yt-dlp 2026.10 as far as it is asked to: the same options, exit status, words on stderr, files.
STAND_IN = """#!{python} -IS
import os, subprocess, sys, time, urllib.error, urllib.request
words, sections, options = sys.argv[1:], [], {{}}
url = words.pop()
while words:
    word = words.pop(0)
    if word == "--download-sections":
        sections.append([float(part) for part in words.pop(0).lstrip("*").split("-")])
    elif word in ("--format", "--format-sort", "--ffmpeg-location", "--retries", "--socket-timeout", "--output",
                  "--cookies"):
        options[word] = words.pop(0)
    elif not word.startswith("--no-") and word != "--":
        sys.exit("yt-dlp: error: no such option: " + word)
name = url.rpartition("/")[2]
if "--cookies" in options:
    text = open(options["--cookies"]).read()
    open(options["--cookies"], "a").write("# written back\\n")
    os.environ["COOKIES_SEEN"] = text
    if "quoted" in text:
        sys.exit("ERROR: invalid Netscape format cookies file: " + text)
def end(text):
    sys.stderr.write("WARNING: [youtube] No supported JavaScript runtime could be found\\n")
    sys.stderr.write("ERROR: " + text + "\\n")
    sys.exit(1)
try:
    request = urllib.request.Request(url, headers={{"Cookie": os.environ.get("COOKIES_SEEN", "").split("\\n")[0]}})
    with urllib.request.urlopen(request, timeout=60) as page:
        reason = page.headers.get("X-Reason")
        page.read(1)
except urllib.error.HTTPError as error:
    end(f"[generic] {{name}}: Unable to download webpage: HTTP Error {{error.code}}: {{error.reason}} "
        f"(caused by <HTTPError {{error.code}}: {{error.reason}}>)")
except OSError as error:
    end(f"[generic] {{name}}: Unable to download webpage: {{error}} (caused by TransportError({{str(error)!r}}))")
if reason:
    end(f"[youtube] {{name}}: " + reason.encode("latin-1").decode())
for begin, stop in sections:
    path = (options["--output"] % {{"section_start": begin}}).replace("%(ext)s", "mp4")
    command = [options["--ffmpeg-location"], "-y", "-hide_banner", "-ss", str(begin), "-t", str(stop - begin)]
    done = subprocess.run([*command, "-i", url, "-c", "copy", "-f", "mp4", "file:" + path + ".part"])
    if done.returncode:
        end(f"ffmpeg exited with code {{done.returncode}}")
    os.replace(path + ".part", path)
"""
# `%(section_start)09.3f` and `%(ext)s` are filled in by the real one at once; Python needs two steps
STAND_IN = STAND_IN.replace(
    '(options["--output"] % {{"section_start": begin}}).replace("%(ext)s", "mp4")',
    'options["--output"] % {{"section_start": begin, "ext": "mp4"}}',
)


def put_on_path(folder: Path, monkeypatch) -> None:
    """Make the stand-in the `yt-dlp` that is found."""
    folder.mkdir()
    (folder / "yt-dlp").write_text(STAND_IN.format(python=sys.executable))
    (folder / "yt-dlp").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


class Server(http.server.ThreadingHTTPServer):
    """Serves one video under any name; what the name begins with says how. ``good`` names are served well.

    Attributes:
        asked: names that a page was asked for, one entry a call of yt-dlp.
        times: when.
        cookies: the cookies that came with them.
        healed: names that are served well although they begin otherwise.
    """

    def __init__(self, video: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = video.read_bytes()
        self.asked: list[str] = []
        self.times: list[float] = []
        self.cookies: list[str] = []
        self.healed: set[str] = set()
        self.slow_s = 0.0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{{id}}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # readers that go away are the point


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server, name = self.server, self.path.rpartition("/")[2]
        assert isinstance(server, Server)
        if self.headers.get("User-Agent", "").startswith("Python"):  # the stand-in's look at the page
            server.asked.append(name)
            server.times.append(time.monotonic())
            server.cookies.append(self.headers.get("Cookie", ""))
            time.sleep(server.slow_s)
        kind = "good" if name in server.healed else re.split(r"[-_\d]", name)[0]
        if kind in ("gone", "toomany", "refused", "broken"):
            self.send_error({"gone": 404, "toomany": 429, "refused": 403, "broken": 503}[kind])
            return
        if kind == "hangsup":
            self.close_connection = True
            return
        if kind == "moved":
            self.send_response(302)
            self.send_header("Location", f"/good-{name}")
            self.end_headers()
            return
        body = b"<html>no video</html>" * 100 if kind == "page" else server.content
        first, last = 0, len(body) - 1
        if wanted := re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(wanted[1]), int(wanted[2] or last)
        self.send_response(206 if wanted else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Content-Length", str(last + 1 - first))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(body)}")
        if kind in REASONS:
            self.send_header("X-Reason", REASONS[kind].encode().decode("latin-1"))
        self.end_headers()
        part = len(body) // 5
        with contextlib.suppress(OSError):
            if kind in ("cut", "stalls") and last >= part:
                self.wfile.write(body[first : max(first, part)])
                self.wfile.flush()
                if kind == "stalls":
                    time.sleep(30)
                self.close_connection = True
                return
            self.wfile.write(body[first : last + 1])

    def log_message(self, format: str, *args: object) -> None:
        pass


def film(path: Path, seconds: float = 12.0) -> Path:
    """A small video whose frames can be told apart, with few key frames, its index at the front."""
    source = f"testsrc2=size=160x90:rate=25:duration={seconds}"
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        source,
        "-c:v",
        "libx264",
        "-g",
        125,
        "-pix_fmt",
        "yuv420p",
        "-movflags",
        "+faststart",
        path,
    )
    return path


def write_csv(path: Path, rows: list[tuple[str, str, int, int, str]]) -> Path:
    """vox-metadata.csv of (video, person, start, end, partition)."""
    lines = ["video_id,start,end,bbox,fps,width,height,partition,person_id"]
    lines += [f"{video},{start},{end},40-10-80-60,25,160,90,{part},{who}" for video, who, start, end, part in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def settings(demo: Params, metadata: Path | None, videos: Path, address: str = "", **download: object) -> Params:
    """Parameters with VoxCeleb as the source, one shard, and no pauses."""
    own = demo.data.voxceleb.model_copy(
        update={"metadata": str(metadata) if metadata else None, "videos": str(videos), "seconds": 4.0}
    )
    params = with_data(demo, sources=("voxceleb",), voxceleb=own)
    values = {"pause_s": 0.0, "timeout_s": 20.0, "address": address or demo.download.address, **download}
    return params.model_copy(update={"shards": (0,), "download": demo.download.model_copy(update=values)})


def counts(params: Params, **values: object) -> Params:
    """The same with other values in ``data.voxceleb``."""
    return with_data(params, voxceleb=params.data.voxceleb.model_copy(update=values))


def put(path: Path, content: bytes = b"a video") -> Path:
    """Write a file, with its directories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def one_each(tmp_path: Path, *names: str) -> Path:
    """Metadata with one stretch, frames 30 to 130, of each video; each shows another person."""
    rows = [(name, f"id{index}", 30, 130, "train") for index, name in enumerate(names)]
    return write_csv(tmp_path / "vox-metadata.csv", rows)


def table(params: Params) -> dict[str, list[str]]:
    """Status of each try, by video, as the tables on the disk tell."""
    found: dict[str, list[str]] = {}
    for path in sorted(Path(params.data.voxceleb.videos or "").rglob("shard-*.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                found.setdefault(row["video"], []).append(row["status"])
    return found


def files(params: Params) -> list[str]:
    """The videos that were downloaded."""
    root = Path(params.data.voxceleb.videos or "") / "downloaded"
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.mp4"))
