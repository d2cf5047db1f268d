"""A small study with real videos, and its real server."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest

from head3d.data.video import write_video
from head3d.study.build import build
from head3d.study.store import DATABASE, Study, connect

from . import browser

METHODS = ("full", "fomm", "mraa", "dagan", "facev2v")
ROLES = ("subject", "driving", *METHODS)
SRC = Path(__file__).resolve().parents[2] / "src"


def frames(shade: int, length: int = 10, size: int = 32) -> Iterator[np.ndarray]:
    """A bar that wanders over a grey ground, uint8 (size, size, 3)."""
    for number in range(length):
        picture = np.full((size, size, 3), shade, np.uint8)
        place = (size - size // 8) * number // max(1, length - 1)
        picture[:, place : place + size // 8] = (250, 200, 30)
        yield picture


def make_videos(
    folder: Path, dataset: str = "mini-seen", pairs: int = 3, roles: tuple[str, ...] = ROLES, **size: int
) -> Path:
    """A test set's transferred videos as the pipeline's stages leave them: ``pairs.csv`` and ``<role>/<pair>.mp4``."""
    names = [f"p{number:02}" for number in range(pairs)]
    for number, pair in enumerate(names):
        for place, role in enumerate(roles):
            write_video(folder / role / f"{pair}.mp4", frames(20 * place + 5 * number, **size), fps=25, crf=12)
    lines = ["pair,dataset,subject_clip,driving_clip", *(f"{pair},{dataset},clip-a,clip-b" for pair in names)]
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of three pairs."""
    return make_videos(tmp_path_factory.mktemp("transfer") / "mini-seen")


@pytest.fixture(scope="session")
def built(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two raters that nobody has answered: six comparisons and two checks each."""
    return build([videos], tmp_path_factory.mktemp("built") / "study", raters=2, per_rater=6, checks=2, seed=0)


@pytest.fixture
def study(built: Path, tmp_path: Path) -> Study:
    """A test's own copy of that study."""
    return Study(shutil.copytree(built, tmp_path / "study"))


@dataclass(frozen=True)
class Reply:
    """What a server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """``head3d study serve`` as a process of its own."""

    folder: Path
    port: int = 0
    links: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, again at the same port if there was one before."""
        command = [sys.executable, "-m", "head3d.cli", "study", "serve", str(self.folder), "--port", str(self.port)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(SRC)}
        )
        assert self.process.stdout is not None
        self.links = []
        for line in self.process.stdout:
            if not line.startswith("rater"):
                break
            self.links.append(line.split()[-1])
        assert self.links, "the server did not start"
        self.port = int(urlsplit(self.links[0]).port or 0)

    def kill(self) -> None:
        """SIGKILL: nothing is said goodbye to."""
        assert self.process is not None and self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def ask(self, path: str, body: Any = None, method: str | None = None, **headers: str) -> Reply:
        """One request; ``path`` is sent as it is, ``body`` as JSON unless it is bytes already."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            known = {"Content-Type": "application/json"} if data is not None else {}
            known |= {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method or ("GET" if data is None else "POST"), path, data, known)
            reply = connection.getresponse()
            return Reply(reply.status, {n.lower(): v for n, v in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def path(self, rater: int) -> str:
        """Path of a rater's link, rater counted from 0; it ends with a slash."""
        return urlsplit(self.links[rater]).path


@pytest.fixture(scope="session")
def driver() -> Iterator[str]:
    """Address of a chromedriver, where there is one."""
    if not (browser.CHROMIUM and browser.DRIVER):
        pytest.skip(browser.MISSING)
    with browser.chromedriver() as address:
        yield address


def sides(study: Study) -> dict[tuple[int, int], tuple[str, str]]:
    """Left and right role of every rater's every item."""
    with connect(study.folder / DATABASE) as database:
        rows = database.execute(
            'SELECT rater, item, l.role, r.role FROM item JOIN video AS l ON l.video = "left" '
            'JOIN video AS r ON r.video = "right"'
        )
        return {(rater, item): (left, right) for rater, item, left, right in rows}


def given(study: Study) -> dict[tuple[int, int, str], str]:
    """Choice of every answer that is kept, by rater, item and criterion."""
    with connect(study.folder / DATABASE) as database:
        rows = database.execute("SELECT rater, item, criterion, choice FROM answer").fetchall()
    assert len({row[:3] for row in rows}) == len(rows)
    return {(rater, item, criterion): choice for rater, item, criterion, choice in rows}


def rows_of(path: Path) -> dict[str, dict[Any, Any]]:
    """Rows of a table2.csv by the name of the method that Head3D is compared with."""
    return {row["against"]: row for row in pd.read_csv(path).to_dict("records")}
