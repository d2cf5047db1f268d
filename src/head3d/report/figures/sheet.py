"""Picture sheets: rows of equal tiles with labels, as PNG and PDF whose bytes depend on nothing but the pictures."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from head3d.report.formats import write_bytes

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

DPI = 150
MAX_BYTES = 1_400_000  # a sheet that would be larger is drawn with smaller tiles
GAP = 3  # pixels between tiles
GROUP_GAP = 12  # pixels between groups of rows
BLOCK_GAP = 16  # pixels between blocks of columns
HEAD = 24  # pixels of a line of column heads
LETTER = 9.5  # pixels, the width of a letter of 8 points

# Okabe and Ito's colours, told apart by colour-blind readers too.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
LINE_COLORS = tuple(color for color in COLORS if color != "#F0E442")  # a yellow line on white is not seen
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "path.simplify": True,
}


@dataclass
class Row:
    """One line of a sheet.

    Attributes:
        tiles: uint8 (H, W, 3) pictures of one size, or None for an empty place.
        label: what stands left of them.
        new_group: leave a wider gap above.
        heads: texts above this line of tiles, {column where the text begins: text}.
    """

    tiles: list[np.ndarray | None]
    label: str = ""
    new_group: bool = False
    heads: dict[int, str] = field(default_factory=dict)


@dataclass
class Sheet:
    """Rows under column heads, with an optional colour bar below.

    Attributes:
        heads: one text per column, or none at all.
        rows: the lines.
        colorbar: (colour map, low, high, label) or None.
        block: columns that belong together; a wider gap follows each block.
    """

    heads: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    colorbar: tuple[str | Colormap, float, float, str] | None = None
    block: int | None = None

    def canvas(self, tile: int) -> tuple[np.ndarray, list[int], list[int]]:
        """The tiles on white.

        Returns:
            uint8 (H, W, 3), the top of every row and the left of every column, in pixels.
        """
        columns = max([len(self.heads), *(len(row.tiles) for row in self.rows)])
        lefts = [
            column * (tile + GAP) + (column // self.block * BLOCK_GAP if self.block else 0) for column in range(columns)
        ]
        tops, top = [], 0
        for number, row in enumerate(self.rows):
            top += GROUP_GAP - GAP if row.new_group and number else 0
            top += HEAD if row.heads else 0
            tops.append(top)
            top += tile + GAP
        canvas = np.full((max(top - GAP, 1), lefts[-1] + tile, 3), 255, np.uint8)
        for row, y in zip(self.rows, tops, strict=True):
            for picture, x in zip(row.tiles, lefts, strict=False):
                if picture is not None:
                    canvas[y : y + tile, x : x + tile] = resized(picture, tile)
        return canvas, tops, lefts

    def figure(self, tile: int):
        """The sheet as a matplotlib figure, one picture pixel on one figure pixel."""
        import matplotlib
        from matplotlib.figure import Figure

        canvas, tops, lefts = self.canvas(tile)
        height, width = canvas.shape[:2]
        lines = max((head.count("\n") + 1 for head in self.heads), default=0)
        longest = max((len(line) for row in self.rows for line in row.label.split("\n")), default=0)
        left, top = round(longest * LETTER) + 10, HEAD * lines + 4
        bottom = 60 if self.colorbar else 4
        total_w, total_h = width + left + 4, height + top + bottom
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(total_w / DPI, total_h / DPI), dpi=DPI)
            axes = figure.add_axes((left / total_w, bottom / total_h, width / total_w, height / total_h))
            axes.imshow(canvas, interpolation="none", aspect="auto", extent=(0, width, height, 0))
            axes.set_axis_off()
            for x, head in zip(lefts, self.heads, strict=False):
                axes.text(x + tile / 2, -5, head, ha="center", va="bottom")
            for y, row in zip(tops, self.rows, strict=True):
                axes.text(-6, y + tile / 2, row.label, ha="right", va="center")
                for column, head in row.heads.items():
                    axes.text(lefts[column], y - 5, head, ha="left", va="bottom", fontweight="bold")
            if self.colorbar:
                name, low, high, label = self.colorbar
                bar = figure.add_axes((left / total_w, 42 / total_h, min(300, width) / total_w, 10 / total_h))
                bar.imshow(np.linspace(0, 1, 256)[None], aspect="auto", cmap=name, extent=(low, high, 0, 1))
                bar.set_yticks([])
                bar.spines[:].set_visible(True)
                bar.tick_params(labelsize=7, length=2, pad=2)
                figure.text((left + min(300, width) + 12) / total_w, 42 / total_h, label, va="bottom")
        return figure

    def save(self, stem: Path, tile: int = 128) -> None:
        """Write ``stem``.png and ``stem``.pdf, with smaller tiles if the PNG would be larger than ``MAX_BYTES``."""
        while True:
            figure = self.figure(tile)
            png = png_bytes(figure)
            if len(png) <= MAX_BYTES or tile <= 48:
                break
            tile = max(48, int(tile * min(0.9, (MAX_BYTES / len(png)) ** 0.5)))
        write_bytes(stem.with_suffix(".png"), png)
        write_bytes(stem.with_suffix(".pdf"), pdf_bytes(figure))


def save_figure(figure, stem: Path) -> None:
    """Write a matplotlib figure as ``stem``.png and ``stem``.pdf."""
    write_bytes(stem.with_suffix(".png"), png_bytes(figure))
    write_bytes(stem.with_suffix(".pdf"), pdf_bytes(figure))


def png_bytes(figure) -> bytes:
    """A figure as PNG without dates or version numbers, packed tightly."""
    import matplotlib
    from PIL import Image

    raw, packed = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(raw, format="png", dpi=DPI, metadata={"Software": None}, facecolor="white")
    Image.open(raw).convert("RGB").save(packed, format="png", optimize=True, dpi=(DPI, DPI))
    return packed.getvalue()


def pdf_bytes(figure) -> bytes:
    """A figure as PDF without dates or version numbers."""
    import matplotlib

    raw = io.BytesIO()
    empty = {"CreationDate": None, "Creator": None, "Producer": None}
    with matplotlib.rc_context(STYLE):
        figure.savefig(raw, format="pdf", metadata=empty, facecolor="white")
    return raw.getvalue()


def resized(picture: np.ndarray, size: int) -> np.ndarray:
    """uint8 (H, W, 3) brought to (size, size, 3); untouched if it has that size."""
    from PIL import Image

    if picture.shape[:2] == (size, size):
        return picture
    shrinks = size < picture.shape[0]
    how = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(picture).resize((size, size), how))
