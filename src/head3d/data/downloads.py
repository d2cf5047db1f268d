"""``head3d data download``: a shard of VoxCeleb, video by video, and the table of what became of each.

A file under its final name is complete and was opened; that is what tells that a stretch is there. The table tells why
the others are not: a line is appended for every try, so that nothing that ends a run, not even SIGKILL, costs more than
the video that was under way. Tables of all shards are read together: other numbers of shards lose nothing.
"""

import csv
import os
import shutil
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import AcquireReturnProxy, FileLock, Timeout
from tqdm import tqdm

from head3d.data import video, voxceleb, voxceleb_files, ytdlp
from head3d.data.voxceleb import Order, Stretch
from head3d.data.voxceleb_files import DOWNLOADED, Library
from head3d.data.ytdlp import BLOCKED, BROKEN, GONE, LATER, OK, PRIVATE, REGION
from head3d.errors import UserError

if TYPE_CHECKING:
    from head3d.params import Params

STATUSES = (OK, GONE, PRIVATE, REGION, BROKEN, LATER, BLOCKED)
_OF_VIDEO = frozenset({GONE, PRIVATE, REGION})  # true of all stretches of a video
_FINAL = _OF_VIDEO | {BROKEN}  # not tried again, unless asked for
_BARREN = 5  # so many times `give_up_after` videos in a row without one that is there end a shard
_SHORT_S = 0.5  # by so much a video may end early
_TRIES = 3  # times that a file arrives broken until it is given up
_ARRIVED = "arrived, but "  # how the reasons of those begin, as the table has no column for it


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the table: the last try of a stretch."""

    name: str
    video: str
    status: str
    tries: int
    when: str
    reason: str


_COLUMNS = [field.name for field in fields(Entry)]


class Table:
    """What became of every stretch that was tried: ``downloaded/status/shard-K.csv``, one file a shard."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._last: dict[str, Entry] = {}
        self._lost: dict[str, Entry] = {}  # by video
        self._arrived_broken: Counter[str] = Counter()
        # By time and not by file: a stretch may have been another shard's before.
        found = [entry for path in sorted(folder.glob("shard-*.csv")) for entry in _lines(path)]
        for entry in sorted(found, key=lambda one: one.when):
            self._take(entry)

    def _take(self, entry: Entry) -> None:
        self._arrived_broken[entry.name] += entry.reason.startswith(_ARRIVED)
        before = self._last.get(entry.name)
        if before is None or before.when <= entry.when:
            self._last[entry.name] = entry
        lost = self._lost.get(entry.video)
        if entry.status in _OF_VIDEO:
            self._lost[entry.video] = entry
        elif lost is not None and lost.when <= entry.when:
            del self._lost[entry.video]

    def last(self, one: Stretch) -> Entry | None:
        """The last try of a stretch, or of another one of its video if that settles it for both."""
        return self._lost.get(one.video) or self._last.get(one.name)

    def own(self, one: Stretch) -> Entry | None:
        """The last try of just this stretch."""
        return self._last.get(one.name)

    def arrived_broken(self, one: Stretch) -> int:
        """How often a file of this stretch has come that was of no use; a network that failed brings none."""
        return self._arrived_broken[one.name]

    def add(self, shard: int, one: Stretch, status: str, reason: str) -> Entry:
        """Append a line; it is on the disk on return."""
        before = self._last.get(one.name)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = Entry(one.name, one.video, status, (before.tries if before else 0) + 1, now, " ".join(reason.split()))
        path = self.folder / f"shard-{shard}.csv"
        try:
            with path.open("a+b") as file:
                size = file.seek(0, os.SEEK_END)
                start = b""
                if size == 0:
                    start = (",".join(_COLUMNS) + "\n").encode()
                else:
                    file.seek(size - 1)
                    start = b"" if file.read(1) == b"\n" else b"\n"  # a line that a killed run left unfinished
                file.write(start + _as_csv(entry))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})", fix="make room, then go on") from error
        self._take(entry)
        return entry


def _as_csv(entry: Entry) -> bytes:
    values = [str(getattr(entry, name)) for name in _COLUMNS]
    return (",".join('"' + value.replace('"', '""') + '"' for value in values) + "\n").encode()


def _lines(path: Path) -> Iterable[Entry]:
    """The complete lines of a table; what a killed run left of a line is passed over."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            # each by itself: the open quote of a torn line must not take in the next one
            row = next(csv.reader([line.replace("\0", "")]), []) if line.endswith('"\n') else []
            if len(row) == len(_COLUMNS) and row[2] in STATUSES and row[3].isdigit():
                yield Entry(row[0], row[1], row[2], int(row[3]), row[4], row[5])


@dataclass
class Plan:
    """One shard's part of one split: its stretches in the drawn order, of which ``wanted`` are to be had."""

    stretches: list[Stretch]
    wanted: int

    def todo(self, library: Library, table: Table, tried: set[str], again: bool) -> list[Stretch]:
        """What is to be tried next, as many as are missing; who is lost makes the next in line move up."""
        found, missing = [], self.wanted - self.there(library)
        for one in self.stretches:
            if missing <= 0:
                break
            if library.has(one):
                continue
            entry = table.last(one)
            if entry and entry.status in _FINAL and not (again and one.name not in tried):
                continue
            missing -= 1  # also for one that was tried in this run: it may work in the next
            if one.name not in tried:
                found.append(one)
        return found

    def there(self, library: Library) -> int:
        """How many of the wanted are there; wherever in line they stand."""
        return min(self.wanted, sum(library.has(one) for one in self.stretches))


def plans(params: "Params", drawn: Order) -> dict[int, list[Plan]]:
    """The plans of all shards, for training and for testing: all stretches of a video fall to one shard."""
    settings, shards = params.data.voxceleb, list(params.shards)
    made: dict[int, list[Plan]] = {shard: [] for shard in shards}
    for stretches, most in ((drawn.train, settings.train), (drawn.test, settings.test)):
        hands: dict[int, Plan] = {shard: Plan([], 0) for shard in shards}
        for index, one in enumerate(stretches):
            hand = hands[shards[zlib.crc32(one.video.encode()) % len(shards)]]
            hand.stretches.append(one)
            hand.wanted += index < most
        for shard in shards:
            made[shard].append(hands[shard])
    return made


def download(params: "Params", shards: Iterable[int], again: bool = False) -> None:
    """Download what is missing of some shards; prints a line for each.

    Args:
        params: all parameters.
        shards: numbers of shards, done one after the other.
        again: also try what was found gone, private, blocked for the region or broken before.

    Raises:
        UserError: yt-dlp is missing, the machine or account is blocked, or nothing works any more.
    """
    if params.data.voxceleb.metadata is None:
        raise UserError(
            "params.yaml: data.voxceleb.metadata is null, so there is nothing to download from",
            allowed="vox-metadata.csv or a directory of VoxCeleb's txt files",
            fix="docs/data.md says where they are",
        )
    ytdlp.find()
    ytdlp.check_cookies(params.download.cookies)
    root = voxceleb_files.videos_folder(params)
    library = Library(root)
    planned = plans(params, voxceleb_files.drawn(params, library))
    for shard in shards:
        try:
            lock = _acquire(_folder(root) / f"shard-{shard}.lock", timeout=0)
        except Timeout:
            raise UserError(
                f"voxceleb, shard {shard}: another process is downloading it", fix="wait for it, or take another shard"
            ) from None
        with lock:
            print(_shard(params, root, shard, planned[shard], library, again), flush=True)


def _acquire(path: Path, timeout: float = -1) -> AcquireReturnProxy:
    """A file that is locked until the block ends; -1 waits for ever.

    Raises:
        Timeout: another process has it.
        UserError: there cannot be such a file.
    """
    try:
        return FileLock(path).acquire(timeout=timeout)
    except Timeout:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror})", fix="remove it, or see who owns it") from None


def _folder(root: Path) -> Path:
    folder = root / DOWNLOADED / "status"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be made ({error.strerror})", fix="choose another data.voxceleb.videos"
        ) from None
    return folder


def _shard(params: "Params", root: Path, shard: int, planned: list[Plan], library: Library, again: bool) -> str:
    """Download one shard; returns what to print."""
    table, in_a_row, barren = Table(_folder(root)), 0, 0
    tried: set[str] = set()
    work = root / DOWNLOADED / f".work-{shard}"  # what a killed run left in it is thrown away
    counts: Counter[str] = Counter()
    with tqdm(desc=f"voxceleb {shard}", unit="stretch", disable=None) as bar:
        while batch := [one for plan in planned for one in plan.todo(library, table, tried, again)]:
            bar.total = bar.n + len(batch)
            for group in _by_video(batch):
                tried |= {one.name for one in group}
                entries = list(_one_video(params, root, work, shard, group, library, table))
                counts.update(entry.status for entry in entries)
                bar.update(len(entries))
                last, blocked = entries[-1], next((one for one in entries if one.status == BLOCKED), None)
                in_a_row = in_a_row + 1 if all(entry.status == LATER for entry in entries) else 0
                barren = 0 if again or OK in (entry.status for entry in entries) else barren + 1
                if blocked:
                    raise _stop(shard, planned, library, "this machine or account is blocked", blocked.reason)
                if in_a_row >= params.download.give_up_after:
                    raise _stop(shard, planned, library, f"{in_a_row} videos in a row failed", last.reason)
                if barren >= _BARREN * params.download.give_up_after:  # a wrong address makes all of them gone
                    raise _stop(shard, planned, library, f"{barren} videos in a row were not to be had", last.reason)
    shutil.rmtree(work, ignore_errors=True)
    there = _there(planned, library)
    lost = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status]) or "nothing to do"
    return f"voxceleb, shard {shard}: {there} of {sum(plan.wanted for plan in planned)} there; this run: {lost}"


def _stop(shard: int, planned: list[Plan], library: Library, what: str, reason: str) -> UserError:
    there, wanted = _there(planned, library), sum(plan.wanted for plan in planned)
    return UserError(
        f"voxceleb, shard {shard}: stopped with {there} of {wanted} there, {what} ({reason.rstrip('.')})",
        fix="wait some hours, then run the same command again; docs/data.md has more on it",
    )


def _there(planned: list[Plan], library: Library) -> int:
    return sum(plan.there(library) for plan in planned)


def _by_video(batch: list[Stretch]) -> list[list[Stretch]]:
    """Stretches of one video together: one request brings them all."""
    groups: dict[str, list[Stretch]] = {}
    for one in batch:
        groups.setdefault(one.video, []).append(one)
    return list(groups.values())


def _one_video(
    params: "Params", root: Path, work: Path, shard: int, group: list[Stretch], library: Library, table: Table
) -> Iterable[Entry]:
    """Try some stretches of one video with one request; gives an entry for each."""
    wanted: dict[tuple[float, float], Stretch] = {}
    shortest = voxceleb.shortest_cut(params.data.clip_length, params.data.fps)
    for one in group:
        try:
            known = voxceleb.detailed(one)
        except UserError as error:
            yield table.add(shard, one, BROKEN, error.what)
            continue
        if known.end - known.start < shortest:  # its end is not used: no clip could be taken of it
            yield table.add(shard, one, BROKEN, f"{known.end - known.start} frames, of {shortest} that a clip wants")
            continue
        section = voxceleb.window(known, params.data.voxceleb.seconds, params.seed)
        while any(begin == section[0] for begin, _ in wanted):  # two people side by side: files are told by their begin
            section = round(section[0] + 0.001, 3), section[1]
        wanted[section] = one
    if not wanted:
        return
    folder = _new_folder(work)
    _wait_for_turn(_folder(root), params.download.pause_s)
    outcome = ytdlp.fetch(group[0].video, list(wanted), folder, params.download)
    for section, one in wanted.items():
        if section not in outcome.files:
            yield table.add(shard, one, outcome.status, outcome.reason)
            continue
        if wrong := _wrong(outcome.files[section], section[1] - section[0]):
            often = table.arrived_broken(one) + 1 >= _TRIES
            yield table.add(shard, one, BROKEN if often else LATER, _ARRIVED + wrong)
            continue
        library.note(one, _accept(outcome.files[section], root, one))
        yield table.add(shard, one, OK, "")


def _new_folder(work: Path) -> Path:
    """An empty folder below ``work``, which holds nothing else then.

    No two calls get the same: the yt-dlp of a run that was killed may live on, and would drop its files among those of
    the next video.
    """
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=work))
    except OSError as error:
        raise UserError(f"{work}: cannot be made ({error.strerror})") from None


def _wrong(part: Path, seconds: float) -> str:
    """Why a file cannot be used, or nothing: it is opened, and must be about as long as was asked for.

    A shorter one broke off on the way, or the video is another one now.
    """
    try:
        info = video.probe(part)
    except UserError as error:
        return error.what.replace(f"{part}: ", "")[:160]
    return f"only {info.duration:.1f} of {seconds:.1f} s" if info.duration < seconds - _SHORT_S else ""


def _accept(part: Path, root: Path, one: Stretch) -> Path:
    """Give a complete file its final name."""
    target = root / DOWNLOADED / f"{one.name}{part.suffix}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(part, target)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror})") from error
    return target


def _wait_for_turn(folder: Path, pause: float) -> None:
    """Wait until ``pause`` seconds after the last request of any shard; the wait is agreed on through a file."""
    note = folder / "turn"
    with _acquire(folder / "turn.lock"):
        now = time.time()
        try:
            last = float(note.read_text())
        except (OSError, ValueError):
            last = 0.0
        turn = max(now, last + pause)
        if turn > now + 1000 * pause:  # a clock that was wrong
            turn = now + pause
        try:
            note.write_text(repr(turn))
        except OSError as error:
            raise UserError(f"{note}: cannot be written ({error.strerror})", fix="make room, then go on") from error
    time.sleep(max(0.0, turn - time.time()))


def status(params: "Params", library: Library, drawn: Order) -> str:
    """How far the download is, as a text: a line a shard, and the sum."""
    table, planned = Table(library.root / DOWNLOADED / "status"), plans(params, drawn)
    head = ["shard", "wanted", "there", *STATUSES[1:], "not tried"]
    lines, total = [head], Counter[str]()
    for shard, parts in planned.items():
        counts: Counter[str] = Counter(wanted=sum(part.wanted for part in parts), there=_there(parts, library))
        for one in (one for part in parts for one in part.stretches if not library.has(one)):
            if entry := table.own(one):
                counts[entry.status] += 1
        ahead = [table.own(one) for part in parts for one in part.todo(library, table, set(), again=False)]
        # a line that says ok while the file is gone is as good as none
        counts["not tried"] = sum(entry is None or entry.status == OK for entry in ahead)
        total += counts
        lines.append([str(shard), *(str(counts[name]) for name in head[1:])])
    lines.append(["all", *(str(total[name]) for name in head[1:])])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
