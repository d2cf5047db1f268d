"""``head3d metrics``: every measure of this project on anybody's videos, by docs/metrics.md."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from head3d.data.footage import MOST_DRIFT_S
from head3d.data.store import write_rows
from head3d.data.video import EXTENSIONS, VideoInfo, drift, probe, stream
from head3d.errors import UserError
from head3d.evaluation import against_truth, measures
from head3d.evaluation.observe import Observer
from head3d.options import check_device, check_folder

if TYPE_CHECKING:
    import torch
    from tqdm import tqdm

PIXELS = ("mse_01", "mse_pm1", "l1_01", "psnr_db", "ssim", "lpips_alex", "lpips_vgg")
FACES = (*measures.OF_MOTION, *against_truth.OF_FACES)
ABOUT = ("video", "driving", "subject", "n_frames", "n_found", "n_found_driving", "n_found_subject")
COLUMNS = (*ABOUT, *PIXELS, *FACES, "definitions")
ONLY = ("pixels", "motion")
SMALLEST = 64  # pixels a side that LPIPS needs
AT_ONCE = 8 * 256 * 256  # pixels of the frames that LPIPS sees together
SAME_RATE = 0.01  # share by which frame rates may differ, as 29.97 and 30 do
Row = dict[str, object]


@dataclass(frozen=True)
class Trio:
    """A video, the one that drove it or that it should equal, and one of the person whom it should show."""

    video: Path
    driving: Path
    subject: Path


def metrics(
    video: str | Path,
    driving: str | Path,
    subject: str | Path | None = None,
    out: str | Path | None = None,
    only: str | None = None,
    device: str = "auto",
) -> list[Row]:
    """Measure a video, or a folder of them, against its driving video; print a table.

    Args:
        video: what was made: a video, or a folder of videos.
        driving: what drove it, or the truth: a video, or a folder with videos of the same names.
        subject: whose identity it should have, the same way; default ``driving``.
        out: CSV to write, a row a video; it appears when it is complete.
        only: ``pixels`` or ``motion``, to leave the other measures out.
        device: auto, cpu, cuda or cuda:N.

    Returns:
        A row a video with ``COLUMNS``; what was not or could not be measured is NaN.

    Raises:
        UserError: one line on what is wrong with an input.
    """
    from tqdm import tqdm

    from head3d.compute import Compute

    if only not in (None, *ONLY):
        raise UserError(f"--only is {only!r}", allowed=" or ".join(ONLY))
    check_device(device)
    target = _check_out(out)
    trios = matched(Path(video), Path(driving), None if subject is None else Path(subject))
    infos = [_compatible(trio, only) for trio in trios]  # all of them, before the first is measured for minutes
    where = Compute.resolve(device).device
    total = sum(shown.n_frames for shown, _ in infos) or None
    with tqdm(total=total, desc="metrics", unit="frame", disable=None) as bar:
        rows = [measure(trio, info, where, only, bar) for trio, info in zip(trios, infos, strict=True)]
    print(table(rows, only))
    if target is not None:
        write_rows(target, COLUMNS, map(measures.texts_of, rows))
        print(f"{target}: {len(rows)} row{'s' * (len(rows) > 1)}, definitions {measures.VERSION} of docs/metrics.md")
    return rows


def matched(video: Path, driving: Path, subject: Path | None) -> list[Trio]:
    """What is measured against what: two files, or the files of two folders by name without ending.

    Raises:
        UserError: something is not there, has no partner, or is a file where the other is a folder.
    """
    for path in (video, driving, *([subject] if subject else [])):
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
    if video.is_dir() != driving.is_dir():
        one = "folder" if video.is_dir() else "file"
        raise UserError(f"{video} is a {one}, {driving} is not", allowed="two videos, or two folders of videos")
    if not video.is_dir():
        if subject and subject.is_dir():
            raise UserError(f"--subject is the folder {subject}, {video} is a file", allowed="one video of the person")
        return [Trio(video, driving, subject or driving)]
    made, drove = _videos(video), _videos(driving)
    people = _videos(subject) if subject and subject.is_dir() else dict.fromkeys(made, subject)
    if not made:
        raise UserError(f"{video}: no video in this folder", allowed=", ".join(sorted(EXTENSIONS)))
    for folder, there in ((driving, drove), (subject, people)):
        lost = [name for name in made if name not in there]
        if lost:
            names = ", ".join(lost[:3]) + ", ..." * (len(lost) > 3)
            raise UserError(f"{folder}: no video named {names}, which {video} has", fix="name the files alike")
    trios = []
    for name, path in made.items():
        trios.append(Trio(path, drove[name], people[name] or drove[name]))
    return trios


def _videos(folder: Path) -> dict[str, Path]:
    """{name without ending: file} of the videos in a folder."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in EXTENSIONS and path.is_file() and not path.name.startswith("."):
            if path.stem in found:
                raise UserError(f"{folder}: both {found[path.stem].name} and {path.name}", allowed="one video a name")
            found[path.stem] = path
    return found


def _compatible(trio: Trio, only: str | None) -> tuple[VideoInfo, VideoInfo]:
    """Probed video and driving video, if their frames can be compared one by one."""
    a, b = probe(trio.video), probe(trio.driving)
    both = f"{trio.video} and {trio.driving}"
    if trio.subject != trio.driving:
        probe(trio.subject)
    if abs(a.fps - b.fps) > SAME_RATE * b.fps:  # before their lengths: resampled, they may well be as long
        fix = f"resample one: ffmpeg -i in.mp4 -r {b.fps:g} out.mp4"
        raise UserError(f"{both}: {a.fps:g} and {b.fps:g} frames a second", allowed="one rate", fix=fix)
    if a.n_frames and b.n_frames and a.n_frames != b.n_frames:
        _check_counts(trio, a, b)
    if only == "motion":
        return a, b
    if (a.width, a.height) != (b.width, b.height):
        raise UserError(
            f"{both}: frames of {a.width}x{a.height} and {b.width}x{b.height} pixels",
            allowed="one size, as pixels are compared",
            fix="scale one of them, or measure --only motion",
        )
    if min(a.width, a.height) < SMALLEST:
        raise UserError(
            f"{trio.video}: frames of {a.width}x{a.height} pixels",
            allowed=f"{SMALLEST} pixels a side and more, for LPIPS",
            fix="measure --only motion",
        )
    return a, b


def _check_counts(trio: Trio, a: VideoInfo, b: VideoInfo) -> None:
    """Refuse two videos that do not show as many frames.

    Containers also count frames that are never shown: a cut without encoding keeps those before its first picture that
    others need.
    """
    ours, theirs = (sum(1 for _ in stream(path, info)) for path, info in ((trio.video, a), (trio.driving, b)))
    if ours == theirs:
        return
    fix = "cut the longer one"
    for path, info in ((trio.driving, b), (trio.video, a)):
        if drift(path, info.fps) > MOST_DRIFT_S:
            fix = f"{path} has an uneven rate: ffmpeg -i {path.name} -r {info.fps:g} even.mp4 makes it even"
    raise UserError(f"{trio.video} and {trio.driving}: {ours} and {theirs} frames", allowed="as many", fix=fix)


def measure(
    trio: Trio,
    infos: tuple[VideoInfo, VideoInfo],
    device: torch.device,
    only: str | None = None,
    bar: tqdm | None = None,
) -> Row:
    """A row with ``COLUMNS``; frames are read once and not kept.

    Raises:
        UserError: a video cannot be read, or one ends before the other.
    """
    observers = None if only == "pixels" else (Observer(device), Observer(device))
    pixels = None if only == "motion" else PixelErrors(device)
    count = 0
    for ours, theirs in _both(trio, infos):
        count += 1
        if pixels:
            pixels.add(ours, theirs)
        if observers:
            observers[0].see(ours)
            observers[1].see(theirs)
        if bar is not None:
            bar.update()
    row: Row = dict.fromkeys(COLUMNS, float("nan"))
    row |= {"video": str(trio.video), "driving": str(trio.driving), "subject": str(trio.subject), "n_frames": count}
    row["definitions"] = measures.VERSION
    if pixels:
        row |= pixels.means()
    if observers:
        result, driving = (observer.observed() for observer in observers)
        person = driving
        if trio.subject != trio.driving:
            other = Observer(device)
            for frame in stream(trio.subject, probe(trio.subject)):
                other.see(frame)
            person = other.observed()
        seen = zip(("n_found", "n_found_driving", "n_found_subject"), (result, driving, person), strict=True)
        row |= {name: int(observed.found.sum()) for name, observed in seen}
        row |= measures.motion_measures(result, driving, measures.mean_person(person))
        row |= against_truth.of_faces(result, driving, (infos[0].height, infos[1].height))
    return row


def _both(trio: Trio, infos: tuple[VideoInfo, VideoInfo]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frames of both videos side by side; what a container says of its length is not always so."""
    streams = stream(trio.video, infos[0]), stream(trio.driving, infos[1])
    for number, (ours, theirs) in enumerate(zip_longest(*streams)):
        if ours is None or theirs is None:
            shorter = trio.video if ours is None else trio.driving
            raise UserError(f"{shorter}: ends after {number} frames, before the other video", allowed="as many frames")
        yield ours, theirs


class PixelErrors:
    """``PIXELS`` of pairs of frames, measured some at a time.

    Args:
        device: where LPIPS runs.
    """

    def __init__(self, device: torch.device) -> None:
        from head3d.evaluation.metrics import Lpips, mse_01

        self._device = device
        self._metrics = {
            "mse_01": mse_01,
            "l1_01": against_truth.l1_01,
            "psnr_db": against_truth.psnr_db,
            "ssim": against_truth.ssim,
            "lpips_alex": Lpips("alex").to(device),
            "lpips_vgg": Lpips("vgg").to(device),
        }
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._sums, self._count = dict.fromkeys(self._metrics, 0.0), 0

    def add(self, ours: np.ndarray, theirs: np.ndarray) -> None:
        """Take a pair of uint8 (H, W, 3) frames."""
        self._waiting.append((ours, theirs))
        if len(self._waiting) * ours.shape[0] * ours.shape[1] >= AT_ONCE:
            self._measure()

    def means(self) -> dict[str, float]:
        """Means over all frames."""
        self._measure()
        means = {name: total / self._count for name, total in self._sums.items()}
        return means | {"mse_pm1": 4 * means["mse_01"]}

    def _measure(self) -> None:
        from head3d.images import to_tensor

        if not self._waiting:
            return
        ours, theirs = (to_tensor(np.stack(frames)).to(self._device) for frames in zip(*self._waiting, strict=True))
        for name, metric in self._metrics.items():
            self._sums[name] += float(metric(ours, theirs).double().sum())
        self._count += len(self._waiting)
        self._waiting.clear()


def table(rows: list[Row], only: str | None = None) -> str:
    """For the terminal: a measure a line, of several videos the mean, the lowest and the highest."""
    several = len(rows) > 1
    if several:
        lines = [f"{len(rows)} videos, {sum(int(str(row['n_frames'])) for row in rows)} frames"]
        lines.append(f"{'':28}{'mean':>10}{'lowest':>10}{'highest':>10}{'videos':>8}")
    else:
        lines = [f"{rows[0]['video']} against {rows[0]['driving']}, {rows[0]['n_frames']} frames"]
    for name in (*(PIXELS if only != "motion" else ()), *(FACES if only != "pixels" else ())):
        values = [value for row in rows if (value := float(str(row[name]))) == value]
        if not values:
            lines.append(f"{name:28}{'–':>10}")
            continue
        shown = [sum(values) / len(values), *([min(values), max(values)] if several else [])]
        counted = f"{len(values):>8}" if several else ""
        lines.append(f"{name:28}" + "".join(f"{value:10.4f}" for value in shown) + counted)
    roles = {"n_found": "video", "n_found_driving": "driving", "n_found_subject": "subject"}
    without = (str(row[role]) for row in rows for count, role in roles.items() if row[count] == 0)
    lines += [f"{path}: no face found in it" for path in dict.fromkeys(without)]
    return "\n".join(lines)


def _check_out(out: str | Path | None) -> Path | None:
    if out is None:
        return None
    path = Path(out)
    if path.suffix.lower() != ".csv" or path.is_dir():
        raise UserError(f"--out is {path}", allowed="a file that ends in .csv")
    check_folder(path, f"--out {path}")
    return path
