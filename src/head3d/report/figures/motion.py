"""Figure 4 and the page's videos: transfer within a clip and between people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from head3d.images import to_frames
from head3d.report.figures import people
from head3d.report.figures.sheet import Row, Sheet, resized
from head3d.views import hand_pose

if TYPE_CHECKING:
    from head3d.api import Head3D
    from head3d.report.figures.people import Example
    from head3d.sections.choices import Motion

COLUMNS = 4  # frames of a video in Figure 4
ACROSS = 2  # people side by side in Figure 4
SWEEP_DEG = 30.0  # of the yaw video
SWEEP_FRAMES = 60
MAX_VIDEO_BYTES = 580_000
BAR = 18  # pixels of the line with names above a video


def self_sheet(model: Head3D, shown: list[Example]) -> Sheet:
    """Figure 4a: the second half of each clip drives its own first half."""
    blocks = [_block(model, one, one, one.half, "absolute", one.label.replace("\n", " ")) for one in shown]
    return _beside_each_other(blocks, ["subject", "driving\n(truth)", "Head3D"])


def cross_sheet(model: Head3D, shown: list[Example], motion: Motion) -> Sheet:
    """Figure 4b: each person driven by the next one."""
    blocks = []
    for number, example in enumerate(shown):
        driver = people.driver_of(shown, number)
        blocks.append(_block(model, example, driver, 0, motion, f"{example.person} driven by {driver.person}"))
    return _beside_each_other(blocks, ["subject", "driving", "Head3D"])


def _block(
    model: Head3D, example: Example, driver: Example, start: int, motion: Motion, name: str
) -> tuple[str, list[np.ndarray]]:
    """(name, three clips of ``COLUMNS`` frames): evenly spread subject frames, driving frames, outputs."""
    subject = np.linspace(0, example.half - 1, COLUMNS).round().astype(int)
    driving = np.linspace(start, len(driver.frames) - 1, COLUMNS).round().astype(int)
    moved = people.transfer(model, example, driver, driving, motion)
    return name, [example.frames[subject], driver.frames[driving], to_frames(moved.frames)]


def _beside_each_other(blocks: list[tuple[str, list[np.ndarray]]], labels: list[str]) -> Sheet:
    """Three lines for every ``ACROSS`` people."""
    sheet = Sheet(block=COLUMNS)
    for first in range(0, len(blocks), ACROSS):
        band = blocks[first : first + ACROSS]
        for line, label in enumerate(labels):
            tiles: list[np.ndarray | None] = [tile for _, clips in band for tile in clips[line]]
            heads = {number * COLUMNS: name for number, (name, _) in enumerate(band)} if line == 0 else {}
            sheet.rows.append(Row(tiles, label, new_group=line == 0, heads=heads))
    return sheet


def self_video(model: Head3D, shown: list[Example], path: Path) -> None:
    """Self-reconstruction: subject, driving (the truth), output, rendered head; one line a person."""
    lines = []
    for example in shown:
        driving = np.arange(example.half, len(example.frames))
        lines.append(_line(model, example, example, driving, "absolute"))
    write(path, ["subject", "driving = truth", "Head3D", "rendered head"], lines, shown[0].fps)


def cross_video(model: Head3D, shown: list[Example], motion: Motion, path: Path) -> None:
    """Each person driven by the next one: subject, driving, output, rendered head."""
    lines = []
    for number, example in enumerate(shown):
        driver = people.driver_of(shown, number)
        lines.append(_line(model, example, driver, np.arange(len(driver.frames)), motion))
    write(path, ["subject", "driving", "Head3D", "rendered head"], lines, shown[0].fps)


def sweep_video(model: Head3D, shown: list[Example], path: Path) -> None:
    """Yaw there and back: reference, rendered head, output; one line a person."""
    yaw = SWEEP_DEG * np.sin(np.linspace(0, 2 * np.pi, SWEEP_FRAMES, endpoint=False))
    lines = []
    for example in shown:
        view = model.view(example.subject, hand_pose(example.subject, yaw=yaw.astype(np.float32)))
        still = np.repeat(to_frames(example.subject.reference), SWEEP_FRAMES, axis=0)
        lines.append([still, to_frames(view.head), to_frames(view.frames)])
    write(path, ["reference", "rendered head", "Head3D"], lines, 25.0)


def _line(model: Head3D, example: Example, driver: Example, indices: np.ndarray, motion: Motion) -> list[np.ndarray]:
    moved = people.transfer(model, example, driver, indices, motion)
    still = np.repeat(to_frames(example.subject.reference), len(indices), axis=0)
    return [still, driver.frames[indices], to_frames(moved.frames), to_frames(moved.head)]


def write(path: Path, heads: list[str], lines: list[list[np.ndarray]], fps: float) -> None:
    """Lines of clips, (T, H, W, 3) each, as one mp4; shorter clips start over.

    It is compressed the more until it has at most ``MAX_VIDEO_BYTES``; what has more at the last try stays as it is.
    """
    from head3d.data.video import write_video

    for crf in (20, 23, 26, 29, 32, 35):
        write_video(path, mosaic(heads, lines), fps=fps, crf=crf)
        if path.stat().st_size <= MAX_VIDEO_BYTES:
            return


def mosaic(heads: list[str], lines: list[list[np.ndarray]], tile: int = 128) -> Iterator[np.ndarray]:
    """Frames of the video: a line of names, then the tiles."""
    bar = name_bar(heads, tile)
    for time in range(max(len(clip) for line in lines for clip in line)):
        rows = [np.concatenate([resized(clip[time % len(clip)], tile) for clip in line], axis=1) for line in lines]
        yield np.concatenate([bar, *rows], axis=0)


def name_bar(heads: list[str], tile: int) -> np.ndarray:
    """Names over columns, white on black, uint8 (BAR, columns * tile, 3)."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 12)
    image = Image.new("RGB", (len(heads) * tile, BAR))
    draw = ImageDraw.Draw(image)
    for number, head in enumerate(heads):
        draw.text((number * tile + tile / 2, BAR / 2), head, fill="white", font=font, anchor="mm")
    return np.asarray(image)
