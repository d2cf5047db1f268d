"""What a browser is told, and which answers are taken."""

from __future__ import annotations

import math
from typing import Any

import pytest

from head3d.study.session import QUESTIONS, Answer, Refused, read_answer, state

GOOD: dict[str, Any] = {"item": 2, "criterion": "overall", "choice": "left", "seconds": 1.23456}


def test_an_answer() -> None:
    assert read_answer(GOOD, [1, 2], ["overall"], True) == Answer(2, "overall", "left", 1.235)


@pytest.mark.parametrize("seconds", [None, "3", -1, math.nan, math.inf, 10**400, 1e9, True, [1]])
def test_an_answer_without_a_believable_time_counts_all_the_same(seconds: Any) -> None:
    assert read_answer({**GOOD, "seconds": seconds}, [2], ["overall"], True) == Answer(2, "overall", "left", None)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "an answer is an object"),
        (None, "an answer is an object"),
        ({}, "no such item"),
        ({**GOOD, "item": 3}, "no such item"),
        ({**GOOD, "item": "2"}, "no such item"),
        ({**GOOD, "item": 2.0}, "no such item"),
        ({**GOOD, "item": True}, "no such item"),
        ({**GOOD, "item": 10**30}, "no such item"),
        ({**GOOD, "criterion": "realism"}, "no such question"),
        ({**GOOD, "criterion": ["overall"]}, "no such question"),
        ({**GOOD, "choice": "both"}, "a choice is left or right"),
        ({**GOOD, "choice": {"left": 1}}, "a choice is left or right"),
    ],
)
def test_what_is_no_answer(body: Any, message: str) -> None:
    with pytest.raises(Refused, match=message) as caught:
        read_answer(body, [1, 2], ["overall"], True)
    assert caught.value.status == 422


def test_nothing_is_taken_before_consent() -> None:
    with pytest.raises(Refused) as caught:
        read_answer(GOOD, [2], ["overall"], False)
    assert caught.value.status == 403


def test_the_first_question_without_an_answer_is_next() -> None:
    criteria = ["realism", "motion"]
    told = state([1, 2], criteria, set(), False)
    assert (told["consented"], told["done"], told["total"]) == (False, 0, 4)
    assert told["next"] == {"item": 1, "criterion": "realism", "question": QUESTIONS["realism"]}
    # Answered out of order: the gap comes first, then what follows.
    assert state([1, 2], criteria, {(1, "motion"), (2, "realism")}, True)["next"]["criterion"] == "realism"
    late = state([1, 2], criteria, {(1, "realism"), (1, "motion"), (2, "realism")}, True)
    assert (late["done"], late["next"]["item"], late["next"]["criterion"]) == (3, 2, "motion")
    everything = {(item, criterion) for item in (1, 2) for criterion in criteria}
    assert state([1, 2], criteria, everything, True) == {"consented": True, "done": 4, "total": 4, "next": None}
