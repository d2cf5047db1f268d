"""Who sees what: balance, and the same plan for the same seed."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from head3d.study.plan import BROKEN, OURS, TRUTH, Comparison, Item, make_plan

METHODS = ("fomm", "mraa", "dagan", "facev2v")
PAIRS = [f"p{number:02}" for number in range(10)]
ALL = [Comparison(data, pair, OURS, method) for data in ("seen", "unseen") for method in METHODS for pair in PAIRS]
CHECKED = [("seen", pair) for pair in PAIRS[:5]]


def plan(raters: int = 10, per_rater: int = 80, checks: int = 8, seed: int = 3) -> list[list[Item]]:
    return make_plan(ALL, raters, per_rater, CHECKED, checks, seed)


def comparisons(items: list[Item]) -> list[Item]:
    return [item for item in items if not item.check]


def stratum(item: Item) -> tuple[str, str]:
    return item.dataset, item.right if item.left == OURS else item.left


def test_everybody_sees_every_comparison_once_and_the_checks() -> None:
    for items in plan():
        seen = [(item.dataset, item.pair, *sorted((item.left, item.right))) for item in comparisons(items)]
        assert len(set(seen)) == len(seen) == 80
        assert sum(item.check for item in items) == 8


@pytest.mark.parametrize("per_rater", [80, 40, 37, 5, 1])
def test_sides_are_balanced_for_every_rater(per_rater: int) -> None:
    for items in plan(per_rater=per_rater):
        sides: Counter[tuple[str, str]] = Counter()
        for item in comparisons(items):
            assert OURS in (item.left, item.right)
            sides[stratum(item)] += 1 if item.left == OURS else -1
        assert all(abs(balance) <= 1 for balance in sides.values())
        assert abs(sum(sides.values())) <= 1  # the odd ones of the strata take turns


def test_sides_are_balanced_between_raters() -> None:
    lefts: Counter[tuple[str, str, str]] = Counter()
    for items in plan():
        for item in comparisons(items):
            lefts[item.pair, *stratum(item)] += 1 if item.left == OURS else -1
    assert all(abs(balance) <= 2 for balance in lefts.values())
    assert sum(lefts.values()) == 0


@pytest.mark.parametrize("per_rater", [40, 37, 5, 1])
def test_comparisons_are_shown_equally_often(per_rater: int) -> None:
    shown: Counter[tuple[str, str, str]] = Counter()
    for items in plan(per_rater=per_rater):
        by_stratum = Counter(map(stratum, comparisons(items)))
        assert sum(by_stratum.values()) == per_rater
        assert max(by_stratum.values()) - min(by_stratum.get(s, 0) for s in map(stratum, ALL_ITEMS)) <= 1
        shown.update((item.pair, *stratum(item)) for item in comparisons(items))
    totals = []
    for one in set(map(stratum, ALL_ITEMS)):
        counts = [shown[pair, *one] for pair in PAIRS]
        assert max(counts) - min(counts) <= 1
        totals.append(sum(counts))
    assert max(totals) - min(totals) <= 1


ALL_ITEMS = [Item(one.dataset, one.pair, one.first, one.second) for one in ALL]


def test_checks_are_scattered_and_balanced() -> None:
    for items in plan():
        places = [place for place, item in enumerate(items) if item.check]
        assert all(11 * number < place <= 11 * (number + 1) for number, place in enumerate(places))
        sides = Counter((item.left, item.right) for item in items if item.check)
        assert sides == {(TRUTH, BROKEN): 4, (BROKEN, TRUTH): 4}
        assert max(Counter(item.pair for item in items if item.check).values()) == 2  # eight checks of five pairs
    assert len({tuple(item.left for item in items if item.check) for items in plan()}) > 2  # by no rule
    assert not any(item.check for items in plan(checks=0) for item in items)


def test_the_seed_decides_and_raters_differ() -> None:
    assert plan() == plan()
    assert plan() != plan(seed=4)
    orders = [tuple((item.dataset, item.pair, *sorted((item.left, item.right))) for item in items) for items in plan()]
    assert len(set(orders)) == 10


def test_methods_are_mixed_and_no_side_is_ours() -> None:
    for items in plan(checks=0):
        assert sum(stratum(a) != stratum(b) for a, b in pairwise(items)) > 40  # of 79; in turn it would be 7
    assert {items[0].left == OURS for items in plan(raters=20, per_rater=1, checks=0)} == {True, False}
