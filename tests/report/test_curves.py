"""The curves of the losses: every line is told from the others, and none is cut off."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from head3d.errors import UserError
from head3d.params import Params
from head3d.report.figures import curves


def test_no_two_lines_of_the_curves_look_alike() -> None:
    styles = [curves.style(number) for number in range(len(curves.LINE_COLORS) * len(curves.DASHES))]
    assert len(set(styles)) == len(styles)


def test_every_line_of_the_curves_is_seen_on_white() -> None:
    """Contrast as WCAG defines it; a yellow line has 1.3."""
    from matplotlib.colors import to_rgb

    for color, _ in (curves.style(number) for number in range(28)):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
        assert 1.05 / (np.dot((0.2126, 0.7152, 0.0722), linear) + 0.05) > 2, color


def test_the_curves_legend_is_not_cut_off() -> None:
    lines = ["full", "mean_canonical", "no_head", "no_skip", "no_matching", *curves.BASELINES]
    read = pd.DataFrame({"panel": "stage: loss", "line": lines, "step": 1, "value": 1.0})
    figure = curves.curves_figure(read)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box, width = legend.get_window_extent(), figure.bbox.width
    styles = {(line.get_color(), line.get_linestyle()) for line in legend.get_lines()}
    assert len(styles) == len(lines), "each line has a look of its own"
    assert [np.size(line.get_xdata()) for line in figure.axes[0].lines] == [1] * 2 * len(lines), "and its own points"
    assert box.x0 >= 0 and box.x1 <= width


def test_curves(params: Params, made_up: SimpleNamespace) -> None:
    two = params.model_copy(update={"variants": ("full", "no_head")})
    read = curves.read_curves(curves.curve_files(made_up.metrics / "curves", two))
    assert set(read["line"]) == {"", "full", "no_head", *params.baselines}
    assert len(curves.curves_figure(read).axes) >= read["panel"].nunique()
    with pytest.raises(UserError, match=r"mean_canonical.csv is missing; run `dvc repro` first"):
        curves.curve_files(made_up.metrics / "curves", params)
