"""The study's database: plan, raters' links and answers in one SQLite file that never leaves the server.

Every answer is committed to the disk before the browser hears of it (WAL, ``synchronous=FULL``), so a kill of the
server loses none; the primary key (rater, item, criterion) keeps the first answer and drops every later one.
"""

from __future__ import annotations

import csv
import io
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from head3d.errors import UserError
from head3d.study.plan import OURS
from head3d.study.session import SLOTS, Answer

DATABASE = "study.sqlite"
VIDEOS = "videos"
FORMAT = "1"
BUSY_S = 30.0  # seconds that one writer waits for another
SCHEMA = """
CREATE TABLE study (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE rater (rater INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, consented TEXT);
CREATE TABLE video (
    video INTEGER PRIMARY KEY, file TEXT NOT NULL UNIQUE, dataset TEXT NOT NULL, pair TEXT NOT NULL,
    role TEXT NOT NULL, UNIQUE (dataset, pair, role)
);
CREATE TABLE item (
    rater INTEGER NOT NULL REFERENCES rater, item INTEGER NOT NULL, dataset TEXT NOT NULL, pair TEXT NOT NULL,
    subject INTEGER NOT NULL REFERENCES video, driving INTEGER NOT NULL REFERENCES video,
    "left" INTEGER NOT NULL REFERENCES video, "right" INTEGER NOT NULL REFERENCES video,
    PRIMARY KEY (rater, item)
) WITHOUT ROWID;
CREATE TABLE answer (
    rater INTEGER NOT NULL, item INTEGER NOT NULL, criterion TEXT NOT NULL,
    choice TEXT NOT NULL CHECK (choice IN ('left', 'right')), seconds REAL, given TEXT NOT NULL,
    PRIMARY KEY (rater, item, criterion), FOREIGN KEY (rater, item) REFERENCES item
) WITHOUT ROWID;
"""
VOTES = """
SELECT (SELECT value FROM study WHERE key = 'digest') AS study, rater, item, item.dataset, item.pair, criterion,
    l.role AS "left", r.role AS "right", choice, seconds
FROM answer JOIN item USING (rater, item) JOIN video AS l ON l.video = "left" JOIN video AS r ON r.video = "right"
ORDER BY rater, item, criterion
"""
SHOWN = """
SELECT DISTINCT item.dataset, CASE l.role WHEN :ours THEN r.role ELSE l.role END AS method
FROM item JOIN video AS l ON l.video = "left" JOIN video AS r ON r.video = "right"
WHERE :ours IN (l.role, r.role) ORDER BY item.dataset, method
"""


@dataclass(frozen=True)
class Rater:
    """One rater: number from 1, the secret part of the link, whether consent was given."""

    number: int
    token: str
    consented: bool


class Study:
    """A study folder that was built; each call is one transaction on a connection of its own, safe between threads."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / DATABASE).is_file():
            raise UserError(f"{folder}: no study there", fix="make one with head3d study build DIR --out STUDY")
        try:
            with self._open() as database:
                facts = dict(database.execute("SELECT key, value FROM study"))
        except sqlite3.DatabaseError as error:
            raise UserError(f"{self.folder / DATABASE}: not the database of a study ({error})") from error
        if facts.get("format") != FORMAT:
            raise UserError(
                f"{self.folder / DATABASE}: a study of format {facts.get('format')}", allowed=f"format {FORMAT}"
            )
        if missing := {"criteria", "digest"} - facts.keys():
            raise UserError(
                f"{self.folder / DATABASE}: damaged, without {', '.join(sorted(missing))}", fix="restore it"
            )
        self.criteria = tuple(facts["criteria"].split(","))
        self.digest = facts["digest"]

    def raters(self) -> list[Rater]:
        """All raters in order."""
        with self._open() as database:
            rows = database.execute("SELECT rater, token, consented FROM rater ORDER BY rater")
            return [Rater(number, token, consented is not None) for number, token, consented in rows]

    def rater(self, token: str) -> Rater | None:
        """The rater whose link holds ``token``."""
        with self._open() as database:
            found = database.execute("SELECT rater, token, consented FROM rater WHERE token = ?", (token,)).fetchone()
        return Rater(found[0], found[1], found[2] is not None) if found else None

    def consent(self, rater: int) -> None:
        """Keep that a rater agreed; the first time counts."""
        with self._open() as database:
            database.execute("UPDATE rater SET consented = ? WHERE rater = ? AND consented IS NULL", (_now(), rater))

    def items(self, rater: int) -> list[int]:
        """Numbers of a rater's items in the order in which they are shown."""
        with self._open() as database:
            return [row[0] for row in database.execute("SELECT item FROM item WHERE rater = ? ORDER BY item", (rater,))]

    def answered(self, rater: int) -> set[tuple[int, str]]:
        """(item, criterion) of all answers of a rater."""
        with self._open() as database:
            return set(database.execute("SELECT item, criterion FROM answer WHERE rater = ?", (rater,)))

    def keep(self, rater: int, answer: Answer) -> bool:
        """Keep an answer; False if this question has one already, which stays as it is."""
        with self._open() as database:
            done = database.execute(
                "INSERT INTO answer VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (rater, answer.item, answer.criterion, answer.choice, answer.seconds, _now()),
            )
            return done.rowcount == 1

    def video(self, rater: int, item: int, slot: str) -> Path | None:
        """File of a video of one of the rater's own items; ``slot`` is one of :data:`head3d.study.session.SLOTS`."""
        if slot not in SLOTS:
            return None
        with self._open() as database:
            found = database.execute(
                f'SELECT file FROM video JOIN item ON video = "{slot}" WHERE rater = ? AND item = ?', (rater, item)
            ).fetchone()
        return self.folder / VIDEOS / found[0] if found else None

    def votes_csv(self) -> str:
        """All answers as the lines of a votes file (:mod:`head3d.study.votes`), with the methods of both sides."""
        with self._open() as database:
            cursor = database.execute(VOTES)
            out = io.StringIO()
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow([column[0] for column in cursor.description])
            writer.writerows(cursor)
            return out.getvalue()

    def rows(self) -> list[tuple[str, str, str]]:
        """(data set, criterion, method) of everything that Head3D is compared with here, answered or not."""
        with self._open() as database:
            shown = database.execute(SHOWN, {"ours": OURS}).fetchall()
        return [(dataset, criterion, method) for dataset, method in shown for criterion in self.criteria]

    def progress(self) -> list[tuple[Rater, int, int]]:
        """(rater, answers, questions) of every rater."""
        return [
            (rater, len(self.answered(rater.number)), len(self.items(rater.number)) * len(self.criteria))
            for rater in self.raters()
        ]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with connect(self.folder / DATABASE) as database:
            yield database


@contextmanager
def connect(path: Path, create: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection with one transaction around the body: all of it is on the disk afterwards, or nothing."""
    mode = "rwc" if create else "rw"
    if not create and not os.access(path, os.W_OK) and not path.with_name(f"{path.name}-wal").exists():
        mode = "ro&immutable=1"  # put away: nobody can write to it, nor to what SQLite would lay beside it
    address = f"{path.absolute().as_uri()}?mode={mode}"
    database = sqlite3.connect(address, timeout=BUSY_S, uri=True)
    try:
        if create:
            database.execute("PRAGMA journal_mode = WAL")  # the file keeps it
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA foreign_keys = ON")
        with database:
            yield database
    finally:
        database.close()


def create(
    folder: Path,
    facts: dict[str, str],
    tokens: list[str],
    videos: Iterable[tuple[str, str, str, str]],
    items: Iterable[tuple[Any, ...]],
) -> None:
    """Write a new database.

    Args:
        facts: of the table ``study``: criteria, digest (of the videos, a dash, and the study's own), seed; format and
            time of making are added.
        tokens: secret part of each rater's link.
        videos: (file, dataset, pair, role) of every video; they are numbered from 1.
        items: (rater, item, dataset, pair, subject, driving, left, right), the last four as numbers of videos.
    """
    with connect(folder / DATABASE, create=True) as database:
        for statement in SCHEMA.split(";"):
            database.execute(statement)
        database.executemany("INSERT INTO study VALUES (?, ?)", {**facts, "format": FORMAT, "made": _now()}.items())
        database.executemany("INSERT INTO rater VALUES (?, ?, NULL)", enumerate(tokens, start=1))
        database.executemany(
            "INSERT INTO video VALUES (?, ?, ?, ?, ?)", ((number, *row) for number, row in enumerate(videos, start=1))
        )
        database.executemany("INSERT INTO item VALUES (?, ?, ?, ?, ?, ?, ?, ?)", items)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
