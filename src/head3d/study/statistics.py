"""Statistics of paired votes: win rates with intervals, agreement between raters, Bradley-Terry strengths."""

from __future__ import annotations

import math

import numpy as np

Z95 = 1.959963984540054  # 97.5 % point of the normal distribution
STEPS = 20_000  # most steps of the Bradley-Terry iteration
MOST_UNDECIDED = 0.025  # share of resamples without strengths from which on the middle 95 % is not known


def wilson(wins: int, votes: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share, (low, high) in [0, 1]; (nan, nan) without votes.

    It takes votes for independent of each other, which those of one rater, or on one pair of videos, are not: see
    :func:`clustered`.
    """
    if votes == 0:
        return math.nan, math.nan
    share, square = wins / votes, Z95**2 / votes
    middle = (share + square / 2) / (1 + square)
    reach = Z95 / (1 + square) * math.sqrt(share * (1 - share) / votes + square / votes / 4)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def resample(n: int, resamples: int, seed: int) -> np.ndarray:
    """How often each of ``n`` raters, or pairs, is drawn in every bootstrap resample, (resamples, n)."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)


def resample_both(counts: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Sums over raters and pairs, both drawn: (raters, pairs, ...) -> (resamples, ...).

    The pigeonhole bootstrap (Owen 2007): a vote counts as often as its rater is drawn times as its pair is. Raters
    alone would make an interval for these very videos, which is far too narrow for what it is read as: with pairs of
    widely different outcomes it holds the truth in half of the cases, this one in 98 of 100.
    """
    raters = resample(counts.shape[0], resamples, seed)
    pairs = resample(counts.shape[1], resamples, seed + 1)
    return np.einsum("bp...,bp->b...", np.tensordot(raters, counts, axes=1), pairs)


def clustered(wins: np.ndarray, votes: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of a share, raters and pairs of videos being drawn, (low, high) in [0, 1].

    Args:
        wins: of each rater on each pair, (raters, pairs).
        votes: likewise; who has not judged a pair has 0.

    One rater says nothing about the spread over raters, one pair nothing about pairs: the interval is then (nan, nan).
    """
    if min(votes.shape) < 2:
        return math.nan, math.nan
    both = resample_both(np.stack((wins, votes), axis=-1), resamples, seed)
    drawn = both[both[:, 1] > 0]
    low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    return float(low), float(high)


def agreement(counts: np.ndarray) -> tuple[float, float]:
    """How far raters agree on comparisons that several of them judged.

    Args:
        counts: votes for each of the two sides, (comparisons, 2).

    Returns:
        The share of pairs of votes on one comparison that agree, averaged over all such pairs, and Krippendorff's alpha
        (nominal): 1 is full agreement, 0 what chance gives. Either is nan where it is not defined.
    """
    counts = np.asarray(counts, dtype=np.float64)
    counts = counts[counts.sum(axis=1) > 1]
    if not len(counts):
        return math.nan, math.nan
    votes = counts.sum(axis=1)
    same = (counts * (counts - 1)).sum(axis=1)
    share = same.sum() / (votes * (votes - 1)).sum()
    total, of_side = votes.sum(), counts.sum(axis=0)
    observed = ((votes * (votes - 1) - same) / (votes - 1)).sum() / total
    expected = (total * (total - 1) - (of_side * (of_side - 1)).sum()) / (total * (total - 1))
    return float(share), float(1 - observed / expected) if expected > 0 else math.nan


def bradley_terry(wins: np.ndarray) -> np.ndarray:
    """Strengths of methods from paired votes: method i beats j with probability 1 / (1 + exp(s_j - s_i)).

    The likelihood's maximum, found by the minorise-maximise iteration (Hunter 2004), for a batch of vote counts.

    Args:
        wins: votes for i against j, (..., M, M), zero on the diagonal.

    Returns:
        Strengths s, (..., M), with s_0 = 0. They are nan where the maximum does not exist: a method that never wins,
        that never loses, or groups of methods without votes between them, both ways.
    """
    wins = np.asarray(wins, dtype=np.float64)
    batch = wins.reshape(-1, *wins.shape[-2:])
    known = _connected(batch > 0)
    games = batch + batch.swapaxes(1, 2)
    scored = batch.sum(axis=2)
    power = np.ones(batch.shape[:2])
    power[~known] = np.nan
    for _ in range(STEPS):
        new = scored / (games / (power[:, :, None] + power[:, None, :])).sum(axis=2)
        new /= new[:, :1]
        change = np.abs(np.log(new[known] / power[known])).max(initial=0.0)
        power = new
        if change < 1e-10:
            break
    return np.log(power).reshape(wins.shape[:-1])


def bradley_terry_interval(wins: np.ndarray, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """95 % bootstrap interval of :func:`bradley_terry`, raters and pairs of videos being drawn.

    Args:
        wins: votes of each rater on each pair, (raters, pairs, M, M).

    Returns:
        (low, high), each (M,); nan where there are fewer than two raters or pairs, or too many resamples have no
        strengths.
    """
    none = np.full(wins.shape[-1], np.nan)
    if min(wins.shape[:2]) < 2:
        return none, none
    strengths = bradley_terry(resample_both(wins, resamples, seed))
    found = ~np.isnan(strengths).any(axis=1)
    if 1 - found.mean() > MOST_UNDECIDED:
        return none, none
    low, high = np.percentile(strengths[found], [2.5, 97.5], axis=0)
    return low, high


def _connected(beats: np.ndarray) -> np.ndarray:
    """Whether every method reaches every other one along wins, (B,) of (B, M, M)."""
    m = beats.shape[-1]
    reach = beats | np.eye(m, dtype=bool)
    for _ in range(max(1, math.ceil(math.log2(max(m, 2))))):
        reach = (reach.astype(np.int64) @ reach.astype(np.int64)) > 0
    return np.asarray(reach.all(axis=(1, 2)))
