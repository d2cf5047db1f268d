"""Who sees which comparison, in which order, with which method on which side: a pure function of the seed.

The paper pairs each video of Head3D with the same pair's video of a baseline and asks ten people for the better one
(section 4.1). Here sides and order are drawn for every rater and balanced within and between raters, and attention
checks, whose answer is known, are scattered among the comparisons.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

OURS = "full"  # the method id of Head3D, as in params.yaml: variants
TRUTH, BROKEN = "driving", "broken"  # the two sides of an attention check: a real video, and the same one spoilt


@dataclass(frozen=True)
class Comparison:
    """Two methods on one pair of a data set; ``first`` is Head3D where it takes part."""

    dataset: str
    pair: str
    first: str
    second: str

    @property
    def stratum(self) -> tuple[str, str, str]:
        """What is balanced: the two methods on one data set."""
        return self.dataset, self.first, self.second


@dataclass(frozen=True)
class Item:
    """One comparison as one rater sees it: the method on each side."""

    dataset: str
    pair: str
    left: str
    right: str

    @property
    def check(self) -> bool:
        """Whether this is an attention check."""
        return BROKEN in (self.left, self.right)


def make_plan(
    comparisons: Sequence[Comparison],
    raters: int,
    per_rater: int,
    check_pairs: Sequence[tuple[str, str]],
    checks: int,
    seed: int,
) -> list[list[Item]]:
    """The items of every rater, in the order in which they are shown.

    Args:
        comparisons: all of them, each once.
        raters: number of raters, at least 1.
        per_rater: comparisons that each rater sees, at most ``len(comparisons)``; no rater sees one twice.
        check_pairs: (data set, pair) whose driving videos have a broken twin.
        checks: attention checks of each rater, beside the comparisons.
        seed: the same arguments give the same plan.

    Every comparison of a stratum is shown equally often, give or take one; a rater's comparisons spread evenly over
    the strata; Head3D is left in half of a rater's comparisons of each stratum, and a comparison that was seen more
    often with one side is shown with the other.
    """
    draw = random.Random(seed)
    shown: Counter[Comparison] = Counter()
    lefts: Counter[Comparison] = Counter()  # times that `first` stood left, less the times that it stood right
    total: Counter[tuple[str, str, str]] = Counter()
    plan = []
    for _ in range(raters):
        items: list[Item] = []
        odd = draw.random() < 0.5  # which side gets the one comparison too many, in turn over the strata
        for chosen in _share(comparisons, per_rater, shown, total, draw):
            chosen.sort(key=lambda comparison: (lefts[comparison], draw.random()))
            half, rest = divmod(len(chosen), 2)
            half += rest and odd
            odd ^= bool(rest)
            for number, comparison in enumerate(chosen):
                shown[comparison] += 1
                total[comparison.stratum] += 1
                lefts[comparison] += 1 if number < half else -1
                sides = (comparison.first, comparison.second)
                left, right = sides if number < half else sides[::-1]
                items.append(Item(comparison.dataset, comparison.pair, left, right))
        draw.shuffle(items)
        plan.append(_scatter(items, _checks(check_pairs, checks, draw), draw))
    return plan


def _share(
    comparisons: Sequence[Comparison],
    count: int,
    shown: Counter[Comparison],
    total: Counter[tuple[str, str, str]],
    draw: random.Random,
) -> list[list[Comparison]]:
    """One rater's comparisons, a list for each stratum: those shown least, from the strata in turn."""
    queues: dict[tuple[str, str, str], list[Comparison]] = defaultdict(list)
    for comparison in comparisons:
        queues[comparison.stratum].append(comparison)
    for queue in queues.values():
        queue.sort(key=lambda comparison: (-shown[comparison], draw.random()))  # the last is taken first
    chosen: dict[tuple[str, str, str], list[Comparison]] = {stratum: [] for stratum in queues}
    for _ in range(count):
        open_strata = [stratum for stratum, queue in queues.items() if queue]
        stratum = min(open_strata, key=lambda one: (len(chosen[one]), total[one] + len(chosen[one]), draw.random()))
        chosen[stratum].append(queues[stratum].pop())
    return list(chosen.values())


def _checks(pairs: Sequence[tuple[str, str]], count: int, draw: random.Random) -> list[Item]:
    """A rater's attention checks: pairs without repeats while they last, the real video left in half of them."""
    if not count:
        return []
    taken: list[tuple[str, str]] = []
    while len(taken) < count:
        taken += draw.sample(list(pairs), min(len(pairs), count - len(taken)))
    sides = [(TRUTH, BROKEN), (BROKEN, TRUTH)] * (count // 2 + 1)
    if draw.random() < 0.5:
        sides = sides[1:]
    sides = sides[:count]
    draw.shuffle(sides)
    return [Item(*pair, *side) for pair, side in zip(taken, sides, strict=True)]


def _scatter(items: list[Item], checks: list[Item], draw: random.Random) -> list[Item]:
    """The checks among the items: one at a random place of each of as many equal stretches."""
    out: list[Item] = []
    for number in range(max(1, len(checks))):
        start, end = (len(items) * edge // max(1, len(checks)) for edge in (number, number + 1))
        part = items[start:end]
        if checks:
            part.insert(draw.randint(min(1, len(part)), len(part)), checks[number])
        out += part
    return out
