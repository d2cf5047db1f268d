"""Statistics of votes against answers known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from head3d.study import statistics


def test_wilson_solves_its_equation() -> None:
    for wins, votes in [(3, 10), (40, 50), (1, 200), (99, 100)]:
        share = wins / votes
        for end in statistics.wilson(wins, votes):
            assert abs(share - end) == pytest.approx(statistics.Z95 * math.sqrt(end * (1 - end) / votes))
    low, high = statistics.wilson(10, 10)
    assert (low, high) == pytest.approx((10 / (10 + statistics.Z95**2), 1))
    assert statistics.wilson(0, 10) == pytest.approx((1 - high, 1 - low))
    assert all(map(math.isnan, statistics.wilson(0, 0)))
    assert statistics.wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # 95 %, as textbooks have it


def on_two_pairs(counts: np.ndarray) -> np.ndarray:
    """Votes dealt over two pairs on which all goes alike: that of which pairs are drawn then says nothing."""
    return np.stack((counts / 2, counts / 2), axis=1)


def clustered(wins: np.ndarray, votes: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    return statistics.clustered(on_two_pairs(wins), on_two_pairs(votes), resamples, seed)


def test_bootstrap_over_raters() -> None:
    ten = np.full(2, 10)
    assert clustered(np.array([7, 7]), ten, 500, 0) == pytest.approx((0.7, 0.7))  # raters who are alike
    assert clustered(np.array([0, 10]), ten, 500, 0) == (0, 1)  # each is drawn alone in a quarter
    assert all(map(math.isnan, clustered(np.array([7]), np.array([10]), 500, 0)))
    # A vote counts, not a rater: with the rater of 90 votes in every sample but those of the other one alone.
    low, high = clustered(np.array([0, 90]), np.array([10, 90]), 4000, 0)
    assert (low, high) == (0, 1)
    # Ten of 30 votes and ten of 10: 28 to 72 % of the raters drawn are of the former.
    low, high = clustered(np.array([30, 0] * 10), np.array([30, 10] * 10), 4000, 0)
    assert (low, high) == pytest.approx((0.54, 0.885), abs=0.04)
    wins, votes = np.array([20, 0] * 10), np.full(20, 20)  # twenty raters, each of one mind
    low, high = clustered(wins, votes, 4000, 1)
    inner_low, inner_high = statistics.wilson(200, 400)
    assert low == pytest.approx(0.5 - 1.96 * math.sqrt(0.25 / 20), abs=0.03)
    assert low < inner_low < inner_high < high
    assert clustered(wins, votes, 100, 1) == clustered(wins, votes, 100, 1)


@pytest.mark.parametrize("spread", [2.0, 6.0])
def test_the_interval_holds_what_other_videos_would_show(spread: float) -> None:
    """Ten raters on pairs that differ: votes on one pair go together, as they do where one video has an artefact."""
    random = np.random.default_rng(0)
    for pairs in (12, 100):
        held = {"both": 0, "raters": 0}
        for _ in range(100):
            liked = random.beta(0.6 * spread, 0.4 * spread, size=pairs)
            wins = (random.random((10, pairs)) < liked).astype(float)
            found = {"both": statistics.clustered(wins, np.ones_like(wins), 400, 0)}
            found["raters"] = clustered(wins.sum(axis=1), np.full(10, float(pairs)), 400, 0)
            for kind, (low, high) in found.items():
                held[kind] += low <= 0.6 <= high
        assert held["both"] >= 93 and held["raters"] < 85


def test_one_pair_or_one_rater_says_nothing_about_the_spread() -> None:
    for shape in ((1, 5), (5, 1)):
        assert all(map(math.isnan, statistics.clustered(np.ones(shape), np.ones(shape), 100, 0)))
        wins = np.ones((*shape, 2, 2))
        assert np.isnan(statistics.bradley_terry_interval(wins, 100, 0)).all()


def test_who_has_not_judged_a_pair_does_not_count_on_it() -> None:
    """A resample of people without a vote on its pairs is none."""
    votes = np.array([[4.0, 0.0], [0.0, 4.0]])
    low, high = statistics.clustered(votes * [1, 0], votes, 500, 0)
    assert (low, high) == (0, 1)


def test_agreement() -> None:
    assert statistics.agreement(np.array([[3, 0], [0, 2], [1, 0]])) == (1, 1)
    share, alpha = statistics.agreement(np.array([[2, 0], [2, 0]]))
    assert share == 1 and math.isnan(alpha)  # nobody ever said the other thing
    assert statistics.agreement(np.array([[1, 1], [1, 1]])) == pytest.approx((0, -0.5))
    # Two observers, ten units, 14 times 0 and 6 times 1, four units in dispute: 1 - 19 * 4 / (14 * 6).
    units = np.array([[1, 1]] * 4 + [[0, 2]] + [[2, 0]] * 5)
    assert statistics.agreement(units) == pytest.approx((0.6, 1 - 76 / 84))
    assert all(map(math.isnan, statistics.agreement(np.array([[1, 0], [0, 1]]))))
    assert all(map(math.isnan, statistics.agreement(np.zeros((0, 2)))))


def test_bradley_terry_finds_the_strengths_that_made_the_votes() -> None:
    strengths = np.array([0.0, -0.7, 1.2, 0.3])
    wins = 1000 / (1 + np.exp(strengths[None] - strengths[:, None]))
    np.fill_diagonal(wins, 0)
    assert statistics.bradley_terry(wins) == pytest.approx(strengths, abs=1e-6)
    pair = np.array([[0, 30], [10, 0]])
    both = statistics.bradley_terry(np.stack([pair, pair.T]))
    assert both == pytest.approx(np.array([[0, -math.log(3)], [0, math.log(3)]]))


def test_bradley_terry_of_two_methods_that_never_met() -> None:
    """Head3D beats each of two in two of three: the strengths follow from a common opponent."""
    wins = np.array([[0, 20, 20], [10, 0, 0], [10, 0, 0]])
    assert statistics.bradley_terry(wins) == pytest.approx([0, -math.log(2), -math.log(2)])


@pytest.mark.parametrize(
    "wins",
    [
        [[0, 5, 5], [1, 0, 2], [0, 0, 0]],  # the last never wins
        [[0, 5, 5], [0, 0, 2], [0, 3, 0]],  # the first never loses
        [[0, 5, 0, 0], [5, 0, 0, 0], [0, 0, 0, 5], [0, 0, 5, 0]],  # two groups without votes between them
        [[0, 0], [0, 0]],
    ],
)
def test_no_strengths_where_the_likelihood_has_no_maximum(wins: list[list[int]]) -> None:
    assert np.isnan(statistics.bradley_terry(np.array(wins))).all()


def test_bradley_terry_interval() -> None:
    one = np.array([[0, 6], [3, 0]])
    low, high = statistics.bradley_terry_interval(on_two_pairs(np.stack([one] * 3)), 200, 0)
    assert low == pytest.approx([0, -math.log(2)]) and high == pytest.approx(low)
    # Two raters who contradict each other wholly: half of the resamples have no strengths.
    torn = np.array([[[0, 5], [0, 0]], [[0, 0], [5, 0]]])
    assert np.isnan(statistics.bradley_terry_interval(on_two_pairs(torn), 200, 0)).all()
    few = np.stack([torn[0]] * 3 + [torn[1]])  # a third of the resamples is too many as well
    assert np.isnan(statistics.bradley_terry_interval(on_two_pairs(few), 200, 0)).all()


def test_intervals_of_two_methods_strengths_are_those_of_the_share() -> None:
    """With two methods the strength is the log odds of the share of votes, resample by resample."""
    won = np.random.default_rng(0).binomial(20, 0.65, 30)
    wins = np.zeros((30, 2, 2))
    wins[:, 0, 1], wins[:, 1, 0] = won, 20 - won
    low, high = statistics.bradley_terry_interval(on_two_pairs(wins), 2000, 0)
    shares = clustered(won, np.full(30, 20), 2000, 0)
    assert (low[0], high[0]) == (0, 0)
    assert (low[1], high[1]) == pytest.approx(tuple(np.log((1 - p) / p) for p in shares[::-1]), abs=5e-3)
