"""Means and intervals with answers known by hand."""

import numpy as np
import pandas as pd
import pytest

from head3d.report import stats


def rows() -> pd.DataFrame:
    """Clip a has two draws, clip b three: clips must count alike."""
    values = [("a", 0, 1.0), ("a", 1, 3.0), ("b", 0, 5.0), ("b", 1, 6.0), ("b", 2, 7.0)]
    return pd.DataFrame(
        [
            {"dataset": "s", "method": "m", "draw": d, "clip_id": c, "n_frames": 20, "mse_01": v, "mse_pm1": 4 * v,
             "lpips_alex": v / 10}
            for c, d, v in values
        ]
    )  # fmt: skip


def test_draws_are_averaged_before_clips() -> None:
    means = stats.clip_means(rows())
    assert means["mse_01"].tolist() == [2.0, 6.0]
    assert means["draws"].tolist() == [2, 3]
    assert means["mse_01"].mean() == 4.0  # the plain mean of rows would be 4.4


def test_interval_is_seeded_and_holds_the_mean() -> None:
    values = np.random.default_rng(0).normal(5.0, 1.0, 50)
    low, high = stats.mean_interval(values, 2000, seed=1)
    assert (low, high) == stats.mean_interval(values, 2000, seed=1)
    assert low < values.mean() < high
    # a mean of 50 unit normals has standard error 0.14: the interval is near the normal one
    expected = 2 * 1.96 * values.std(ddof=1) / np.sqrt(50)
    assert high - low == pytest.approx(expected, rel=0.1)


def test_interval_of_two_values_by_enumeration() -> None:
    low, high = stats.mean_interval(np.array([0.0, 1.0]), 4000, seed=0)
    assert (low, high) == (0.0, 1.0)  # means are 0, 1/2, 1 with odds 1:2:1


def test_interval_of_equal_values_is_a_point_and_of_one_clip_unknown() -> None:
    assert stats.mean_interval(np.full(7, 0.25), 100, seed=0) == (0.25, 0.25)
    assert np.isnan(stats.mean_interval(np.array([0.25]), 100, seed=0)).all()


def test_interval_covers_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        low, high = stats.mean_interval(rng.normal(0.0, 1.0, 40), 300, seed=0)
        hits += low <= 0.0 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_paired_difference_is_tighter_than_the_methods() -> None:
    rng = np.random.default_rng(0)
    hard = rng.lognormal(0.0, 1.0, 30)  # clips differ a lot, methods by a constant
    result = stats.paired(hard, hard + 0.1, 1000, seed=0)
    assert result["difference"] == pytest.approx(-0.1)
    assert result["difference_low"] == pytest.approx(-0.1) == result["difference_high"]
    halves = stats.paired(hard / 2, hard, 1000, seed=0)
    assert halves["ratio"] == pytest.approx(0.5) == halves["ratio_low"] == halves["ratio_high"]


def test_paired_needs_the_same_clips() -> None:
    with pytest.raises(ValueError, match="same clips"):
        stats.paired(np.zeros(3), np.zeros(4), 100, seed=0)


def test_ratio_to_a_perfect_method_is_unknown() -> None:
    assert np.isnan(stats.paired(np.ones(2), np.zeros(2), 100, seed=0)["ratio"])


def test_the_seed_decides_the_resamples() -> None:
    values = np.random.default_rng(0).normal(5.0, 1.0, 50)
    assert stats.mean_interval(values, 500, seed=1) != stats.mean_interval(values, 500, seed=2)
    both = [stats.paired(values, values[::-1], 500, seed)["difference_low"] for seed in (1, 2)]
    assert both[0] != both[1]
