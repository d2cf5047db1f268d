"""The data sheet: crops with head masks and landmarks, and what became of every clip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from head3d.report.figures.people import shared
from head3d.report.figures.pictures import outlined, over
from head3d.report.figures.sheet import COLORS, DPI, STYLE, Row, Sheet

if TYPE_CHECKING:
    import pandas as pd

    from head3d.data.store import ClipRecord, ClipStore

MOST = 10  # videos with pictures
MOST_BARS = 30  # videos with bars
LETTERS = 40  # of a bar's name, the last ones: before them stand source and folders
MOMENTS = (0.0, 0.33, 0.66, 1.0)
DOT = (240, 228, 66)
HATCHES = ("", "///", "...", "xxx", "---", "\\\\\\", "+++", "ooo")


def crops_sheet(store: ClipStore, splits: list[str]) -> Sheet:
    """The first clip of every video: crops with the mask's outline, landmarks, head images."""
    heads = [*(f"crop, {round(100 * moment)} %" for moment in MOMENTS), "landmarks", "head, first", "head, last"]
    sheet = Sheet(heads=heads)
    seen: set[tuple[str, str]] = set()
    groups: list[list[ClipRecord]] = []
    for split in splits:
        groups.append([])
        for record in store.records(split):
            if (record.source, record.video) not in seen:
                seen.add((record.source, record.video))
                groups[-1].append(record)
    for record in shared(groups, MOST):
        frames, masks = np.asarray(store.frames(record)), np.asarray(store.masks(record))
        marks = np.asarray(store.landmarks(record))
        moments = [round(moment * (len(frames) - 1)) for moment in MOMENTS]
        tiles: list[np.ndarray | None] = [outlined(frames[t], masks[t]) for t in moments]
        tiles.append(dotted(frames[0], marks[0]))
        tiles += [over(frames[t], masks[t] / 255.0, (0, 0, 0)) for t in (0, len(frames) - 1)]
        sheet.rows.append(Row(tiles, f"{Path(record.video).stem[:14]}\n{record.split}"))
    return sheet


def dotted(picture: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """``picture`` with a yellow dot of 2x2 pixels for each landmark (68, 2) that was found."""
    drawn = picture.copy()
    height, width = picture.shape[:2]
    for x, y in landmarks[np.isfinite(landmarks).all(axis=-1)]:
        column, row = int(x), int(y)
        if 0 <= column < width and 0 <= row < height:
            drawn[row : row + 2, column : column + 2] = DOT
    return drawn


def fates(manifest: pd.DataFrame) -> pd.DataFrame:
    """Clips by video (rows) and by split or, if left out, by reason (columns); of many videos, one row for all."""
    import pandas as pd

    kept = manifest["status"] == "ok"
    reason = manifest["status"].astype(str).str.partition(":")[0]  # without what only one file has
    fate = manifest["split"].where(kept, "left out: " + reason)
    table = pd.crosstab([manifest["source"].astype(str), manifest["video"].astype(str)], fate)
    if len(table) > MOST_BARS:
        return table.sum().to_frame(f"all {len(table)} videos").T
    table.index = pd.Index(short_names(list(table.index)), name="video")
    return table


def short_names(videos: list[tuple[str, str]]) -> list[str]:
    """What each (source, video) is called: its file alone, or source and all of it where others share that."""
    stems = [Path(video).stem for _, video in videos]
    return [stem if stems.count(stem) == 1 else "/".join(one) for stem, one in zip(stems, videos, strict=True)]


def fates_figure(table: pd.DataFrame):
    """A stacked bar a video: clips in each split, clips left out by reason."""
    import matplotlib
    from matplotlib.figure import Figure

    kept = sorted((name for name in table.columns if not str(name).startswith("left out")), key=_split_order)
    columns = [*kept, *sorted(name for name in table.columns if str(name).startswith("left out"))]
    table = table.sort_index()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 0.32 * len(table) + 1.3), dpi=DPI, layout="constrained")
        axes = figure.subplots()
        start = np.zeros(len(table))
        for number, name in enumerate(columns):
            width = table[name].to_numpy(dtype=float)
            bars = axes.barh(
                np.arange(len(table)),
                width,
                left=start,
                label=f"{name} ({int(width.sum())})",
                color=COLORS[number % len(COLORS)],
                hatch=HATCHES[number % len(HATCHES)],
                edgecolor="white",
                linewidth=0.5,
            )
            counts = [str(int(w)) if w else "" for w in width]
            plate = {"facecolor": "#333333", "edgecolor": "none", "pad": 1.0}
            axes.bar_label(bars, counts, label_type="center", color="white", fontweight="bold", bbox=plate)
            start += width
        axes.set_yticks(np.arange(len(table)), [str(name)[-LETTERS:] for name in table.index])
        axes.invert_yaxis()
        axes.set_xlabel("clips")
        figure.legend(loc="outside lower center", ncols=min(4, len(columns)))
    return figure


def _split_order(name: object) -> tuple[int, str]:
    text = str(name)
    order = 0 if text == "train" else 1 if text.endswith("-seen") else 2 if text.endswith("-unseen") else 3
    return order, text
