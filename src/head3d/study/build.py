"""``head3d study build``: a folder with the videos under random names, the plan and the raters' links."""

from __future__ import annotations

import csv
import hashlib
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from head3d.errors import UserError
from head3d.evaluation.pairs import COLUMNS
from head3d.study import store
from head3d.study.plan import BROKEN, OURS, TRUTH, Comparison, Item, make_plan
from head3d.study.session import QUESTIONS

if TYPE_CHECKING:
    import numpy as np

SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
MOST_RATERS = 10_000
CHECK_VIDEOS = 10  # at most so many driving videos of a data set get a broken twin
CHECK_EVERY = 10  # comparisons for each attention check, by default
LEAST_CHECKS = 5  # who clicks by chance passes five, one of which may fail, in 19 of 100 cases; of two, in 25
TILES = 4  # a broken video is cut into so many tiles a side

Key = tuple[str, str, str]  # data set, pair, role (subject, driving, broken or a method)


@dataclass(frozen=True)
class Pairs:
    """The transferred videos of one data set."""

    folder: Path
    dataset: str
    pairs: tuple[str, ...]

    def video(self, role: str, pair: str) -> Path:
        """File of one video; ``role`` is subject, driving or a method."""
        return self.folder / role / f"{pair}.mp4"

    def has(self, role: str) -> bool:
        """Whether there is a folder of that name."""
        return (self.folder / role).is_dir()


def build(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    raters: int = 10,
    per_rater: int | None = None,
    checks: int | None = None,
    criteria: Sequence[str] = ("overall",),
    against: Sequence[str] = (),
    every_pair: bool = False,
    seed: int | None = None,
) -> Path:
    """Make a study of Head3D against other methods.

    Args:
        folders: of transferred videos, each with ``pairs.csv`` and ``subject/``, ``driving/`` and a folder for each
            method, all holding ``<pair>.mp4``.
        out: folder to make; it appears when it is complete.
        raters: number of links.
        per_rater: comparisons that each rater sees; default all.
        checks: attention checks of each rater; default one in ten comparisons and at least five.
        criteria: questions asked of each comparison, keys of :data:`head3d.study.session.QUESTIONS`.
        against: methods to compare Head3D with; default the baselines that every folder has.
        every_pair: compare the methods among themselves too, for Bradley-Terry strengths.
        seed: of sides, orders and choices, 0 to 2**32 - 1; default drawn anew and kept in the study, so that a second
            study of the same videos adds other comparisons. Names of files and links are always fresh.

    Raises:
        UserError: a wrong number, a missing video, or videos that can't be shown in step.
    """
    target = Path(out)
    if target.exists():
        raise UserError(f"--out {out}: exists already", fix="choose another name; a study is never overwritten")
    _check_number("--raters", raters, 1, MOST_RATERS)
    seed = secrets.randbelow(2**32) if seed is None else seed
    _check_number("--seed", seed, 0, 2**32 - 1)
    unknown = [name for name in criteria if name not in QUESTIONS]
    if unknown or not criteria:
        raise UserError(f"--criteria has {', '.join(unknown) or 'nothing'}", allowed=", ".join(QUESTIONS))
    sets = _read_sets(folders)
    methods = (OURS, *_opponents(sets, against))
    _check_videos(sets, methods)
    duels = list(combinations(methods, 2)) if every_pair else [(OURS, method) for method in methods[1:]]
    comparisons = [Comparison(one.dataset, pair, *duel) for one in sets for duel in duels for pair in one.pairs]
    per_rater = len(comparisons) if per_rater is None else per_rater
    _check_number("--per-rater", per_rater, 1, len(comparisons))
    if checks is None:
        checks = min(per_rater, max(LEAST_CHECKS, round(per_rater / CHECK_EVERY)))
    _check_number("--checks", checks, 0, per_rater)
    check_pairs = [(one.dataset, pair) for one in sets for pair in one.pairs[:CHECK_VIDEOS]] if checks else []
    plan = make_plan(comparisons, raters, per_rater, check_pairs, checks, seed)

    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        (unfinished / store.VIDEOS).mkdir(parents=True)
        files, digest = _copy_videos(sets, methods, check_pairs, unfinished / store.VIDEOS, seed)
        # Two studies of the same videos are two: their raters are other people.
        facts = {"criteria": ",".join(criteria), "digest": f"{digest}-{secrets.token_hex(4)}", "seed": str(seed)}
        tokens = [secrets.token_urlsafe(16) for _ in range(raters)]
        store.create(unfinished, facts, tokens, [(file, *key) for key, file in files.items()], _items(plan, files))
        unfinished.replace(target)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def read_pairs(folder: Path) -> Pairs:
    """``pairs.csv`` of a folder of transferred videos, checked."""
    path = folder / "pairs.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(f"{path}: no column {', '.join(missing)}", allowed=", ".join(COLUMNS))
            rows = list(reader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", fix="name a folder of transferred videos") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if not rows:
        raise UserError(f"{path}: holds no pairs", fix="make the videos again")
    for line, row in enumerate(rows, start=2):
        for name in ("pair", "dataset"):
            if not SAFE.fullmatch(row[name] or ""):
                raise UserError(
                    f"{path}, line {line}: {name} is {row[name]!r}", allowed="letters, digits, dots, dashes"
                )
    if len({row["dataset"] for row in rows}) > 1:
        raise UserError(f"{path}: several data sets", fix="put each into a folder of its own")
    pairs = tuple(row["pair"] for row in rows)
    if len(set(pairs)) < len(pairs):
        raise UserError(f"{path}: a pair comes twice", fix="make the videos again")
    return Pairs(folder, rows[0]["dataset"], pairs)


def broken(first: np.ndarray, count: int, seed: int) -> Iterator[np.ndarray]:
    """Frames that nobody can take for good ones: tiles in a wrong order, every second in negative, nothing moving.

    Args:
        first: frame of the video, uint8 (H, W, 3) RGB.
        count: how many frames it has.
        seed: of the order of the tiles.
    """
    import numpy as np

    height, width = (side // TILES * TILES for side in first.shape[:2])
    picture = first.copy()
    tiles = [
        (slice(y, y + height // TILES), slice(x, x + width // TILES))
        for y in range(0, height, height // TILES)
        for x in range(0, width, width // TILES)
    ]
    # A cycle through all tiles leaves none of them where it was.
    order = np.random.default_rng(seed).permutation(len(tiles))
    for place, (here, there) in enumerate(zip(order, np.roll(order, 1), strict=True)):
        tile = first[tiles[there]]
        picture[tiles[here]] = 255 - tile if place % 2 else tile
    for _ in range(count):
        yield picture


def _read_sets(folders: Sequence[str | Path]) -> list[Pairs]:
    sets = [read_pairs(Path(folder)) for folder in folders]
    doubled = {one.dataset for one in sets if sum(one.dataset == other.dataset for other in sets) > 1}
    if doubled:
        raise UserError(f"data set {', '.join(sorted(doubled))} comes twice", fix="name each folder once")
    return sets


def _check_videos(sets: Sequence[Pairs], methods: Sequence[str]) -> None:
    for one in sets:
        for role in ("subject", "driving", *methods):
            for pair in one.pairs:
                if not one.video(role, pair).is_file():
                    raise UserError(f"{one.video(role, pair)}: no such video", fix=f"make {role}'s videos again")


def _items(plan: Sequence[Sequence[Item]], files: Mapping[Key, str]) -> list[tuple]:
    """Rows of the study's store, one for each thing that a rater is shown; videos by their number in ``files``."""
    number = {key: place for place, key in enumerate(files, start=1)}
    return [
        (
            rater, place, item.dataset, item.pair,
            # In a check one person plays both parts, so that the real video is right by every criterion.
            number[item.dataset, item.pair, "driving" if item.check else "subject"],
            *(number[item.dataset, item.pair, role] for role in ("driving", item.left, item.right)),
        )
        for rater, shown in enumerate(plan, start=1)
        for place, item in enumerate(shown, start=1)
    ]  # fmt: skip


def _opponents(sets: Sequence[Pairs], against: Sequence[str]) -> tuple[str, ...]:
    from head3d.baselines import NAMES

    common = sorted(
        path.name
        for path in sets[0].folder.iterdir()
        if path.name not in (OURS, "subject", "driving") and all(one.has(path.name) for one in sets)
    )
    if not all(one.has(OURS) for one in sets):
        raise UserError(f"{sets[0].folder}: no videos of Head3D", allowed=f"a folder {OURS} beside subject and driving")
    if not against:
        found = tuple(name for name in common if name in NAMES)
        if not found:
            raise UserError(
                f"{sets[0].folder}: no baseline's videos that all folders have",
                allowed=", ".join(NAMES),
                fix="name other methods with --against" if common else "make their videos first",
            )
        return found
    unknown = [name for name in against if name not in common]
    if unknown:
        raise UserError(
            f"--against has {', '.join(unknown)}", allowed=", ".join(common) or "nothing, no other is there"
        )
    return tuple(dict.fromkeys(against))


def _copy_videos(
    sets: Sequence[Pairs], methods: Sequence[str], checks: Sequence[tuple[str, str]], out: Path, seed: int
) -> tuple[dict[Key, str], str]:
    """Copy all videos under random names; file name of each (data set, pair, role), and a digest of what is shown."""
    from tqdm import tqdm

    from head3d.data import video
    from head3d.study.strip import Copied, copy_stripped

    files: dict[Key, str] = {}
    digest = hashlib.sha256()
    broken_twins = set(checks)
    jobs = [(one, pair) for one in sets for pair in one.pairs]
    for one, pair in tqdm(jobs, desc="videos", unit="pair", disable=None):
        copied: dict[str, Copied] = {}
        for role in ("subject", "driving", *methods):
            name = f"{secrets.token_hex(12)}.mp4"
            copied[role] = copy_stripped(one.video(role, pair), out / name)
            files[one.dataset, pair, role] = name
            digest.update(f"{one.dataset}/{pair}/{role}".encode() + (out / name).read_bytes())
        for role in methods:
            if copied[role] != copied["driving"]:
                raise UserError(
                    f"{one.video(role, pair)}: {copied[role]} where the driving video has {copied['driving']}",
                    fix="make it again from that driving video, so that they can play in step",
                )
        if (one.dataset, pair) in broken_twins:
            name, source = f"{secrets.token_hex(12)}.mp4", one.video(TRUTH, pair)
            spoilt, first = out / f".{name}", next(video.read_frames(source, count=1))
            video.write_video(spoilt, broken(first, copied[TRUTH].frames, seed), fps=copied[TRUTH].fps)
            copy_stripped(spoilt, out / name)
            spoilt.unlink()
            files[one.dataset, pair, BROKEN] = name
    return files, digest.hexdigest()[:12]


def _check_number(option: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UserError(f"{option} is {value}", allowed=f"{low} to {high}")
