"""Means over clips and their bootstrap intervals.

A row of ``metrics/reconstruction/*.csv`` is one clip, one method and one draw of the reference frames. Draws are
averaged within a clip first, then clips are averaged, so a clip with more draws counts no more than another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("mse_01", "mse_pm1", "lpips_alex", "lpips_vgg")
LEVEL = 0.95


def clip_means(rows: pd.DataFrame) -> pd.DataFrame:
    """Average the draws of each clip.

    Args:
        rows: columns dataset, method, draw, clip_id, n_frames and the metrics.

    Returns:
        One row per dataset, method and clip_id (sorted), with the metrics' means, ``n_frames`` and ``draws``.
    """
    metrics = [name for name in METRICS if name in rows.columns]
    keys = ["dataset", "method", "clip_id"]
    grouped = rows.groupby(keys, sort=True)
    means = grouped[metrics].mean()
    means["n_frames"] = grouped["n_frames"].first()
    means["draws"] = grouped["draw"].nunique()
    return means.reset_index()


def resample_indices(n: int, resamples: int, seed: int) -> np.ndarray:
    """Clip numbers of every bootstrap resample, (resamples, n).

    They depend on nothing but the three arguments: all methods of a data set are resampled alike.
    """
    return np.random.default_rng(seed).integers(0, n, size=(resamples, n))


def percentile_interval(statistics: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of bootstrap statistics, (low, high)."""
    tail = 100.0 * (1.0 - LEVEL) / 2.0
    low, high = np.percentile(statistics, [tail, 100.0 - tail])
    return float(low), float(high)


def mean_interval(values: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of ``values`` (n,), one per clip.

    One clip says nothing about the spread over clips: the interval is then (nan, nan), not a false point.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:
        return float("nan"), float("nan")
    return percentile_interval(values[resample_indices(len(values), resamples, seed)].mean(axis=1))


def paired(ours: np.ndarray, theirs: np.ndarray, resamples: int, seed: int) -> dict[str, float]:
    """Compare two methods on the same clips, in the same order, (n,) each.

    Returns:
        ``difference`` (mean of ours - theirs) and ``ratio`` (mean of ours / mean of theirs), each with ``_low`` and
        ``_high`` from resampling the clips, pairs kept together; and ``n_lower``, on how many clips ours is lower: a
        mean can come from few of them.
    """
    ours, theirs = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if ours.shape != theirs.shape:
        raise ValueError(f"paired methods need the same clips: {ours.shape} against {theirs.shape}")
    result = {"difference": float((ours - theirs).mean()), "ratio": _ratio(ours.mean(), theirs.mean())}
    result["n_lower"] = int((ours < theirs).sum())
    if len(ours) < 2:
        nan = float("nan")
        return result | {"difference_low": nan, "difference_high": nan, "ratio_low": nan, "ratio_high": nan}
    index = resample_indices(len(ours), resamples, seed)
    mine, other = ours[index].mean(axis=1), theirs[index].mean(axis=1)
    low, high = percentile_interval(mine - other)
    ratios = np.divide(mine, other, out=np.full_like(mine, np.nan), where=other > 0)
    ratio_low, ratio_high = percentile_interval(ratios)
    return result | {
        "difference_low": low,
        "difference_high": high,
        "ratio_low": ratio_low,
        "ratio_high": ratio_high,
    }


def _ratio(a: float, b: float) -> float:
    return float(a / b) if b > 0 else float("nan")
