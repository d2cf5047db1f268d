"""Loss curves of every training, from ``metrics/curves/*.csv``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from head3d.errors import UserError
from head3d.report.figures.sheet import DPI, LINE_COLORS, STYLE
from head3d.report.formats import read_csv
from head3d.report.names import plain
from head3d.sections.choices import BASELINES

if TYPE_CHECKING:
    import pandas as pd

    from head3d.params import Params

STAGES = {
    "train_geometry": "stage 1",
    "train_canonical": "stage 2",
    "train_matching": "matcher",
    "train_fusion": "stage 3",
    "train_parser": "small parser",
    "train_baseline": "baselines",
}
DASHES = ("-", "--", "-.", ":")
COLUMNS = 4
LEGEND_COLUMNS = 5
SMOOTH = 9  # points of the running median


def style(number: int) -> tuple[str, str]:
    """Colour and dash of the ``number``-th line; no two of the first 28 are alike: 7 and 4 have no common divisor."""
    return LINE_COLORS[number % len(LINE_COLORS)], DASHES[number % len(DASHES)]


def curve_files(folder: Path, params: Params) -> dict[str, Path]:
    """{stage or stage-variant: its file}, in the order of training."""
    stages = [
        "train_geometry",
        "train_canonical",
        "train_matching",
        *(f"train_fusion-{variant}" for variant in params.variants),
        "train_parser",
    ]
    stages += [f"train_baseline-{name}" for name in params.baselines]
    files = {stage: folder / f"{stage}.csv" for stage in stages}
    for path in files.values():
        if not path.is_file():
            raise UserError(f"{path} is missing", fix="run `dvc repro` first")
    return files


def read_curves(files: dict[str, Path]) -> pd.DataFrame:
    """Columns panel (stage and name of the loss), line (variant or empty), step, value."""
    import pandas as pd

    frames = []
    for stage, path in files.items():
        frame = read_csv(path, ("name", "step", "value"))
        base, _, variant = stage.partition("-")
        frame["panel"] = STAGES[base] + ": " + frame["name"].astype(str)
        frame["line"] = variant
        frames.append(frame[["panel", "line", "step", "value"]])
    return pd.concat(frames, ignore_index=True)


def line_name(line: str) -> str:
    """What tables call a variant or a baseline."""
    return plain(line if line in BASELINES else f"head3d_{line}", 0)


def curves_figure(curves: pd.DataFrame):
    """One small plot per loss: raw values thin, a running median thick, one colour and dash per variant or baseline."""
    import matplotlib
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys(curves["panel"]))
    variants = [line for line in dict.fromkeys(curves["line"]) if line]
    rows = -(-len(panels) // COLUMNS)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 1.9 * rows + 0.4), dpi=DPI, layout="constrained")
        grid = figure.subplots(rows, COLUMNS, squeeze=False)
        handles = {}
        for axes, panel in zip(grid.flat, panels, strict=False):
            of_panel = curves[curves["panel"] == panel]
            for line in dict.fromkeys(of_panel["line"]):
                one = of_panel[of_panel["line"] == line].sort_values("step")
                number = variants.index(line) if line else 0
                color, dash = style(number)
                axes.plot(one["step"], one["value"], color=color, alpha=0.25, linewidth=0.6)
                median = one["value"].rolling(SMOOTH, center=True, min_periods=1).median()
                handles[line] = axes.plot(one["step"], median, color=color, linestyle=dash, linewidth=1.2)[0]
            axes.set_title(panel)
            axes.set_xlabel("step")
            if (of_panel["value"] > 0).all() and of_panel["value"].max() > 20 * of_panel["value"].min():
                axes.set_yscale("log")
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        named = {line: handle for line, handle in handles.items() if line}
        if named:
            labels = ["Head3D" if line == "full" else line_name(line) for line in named]
            figure.legend(named.values(), labels, loc="outside lower center", ncols=min(len(named), LEGEND_COLUMNS))
    return figure
