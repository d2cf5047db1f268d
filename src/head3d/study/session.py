"""What a rater's browser is told, and which answers are taken: no files, no network, no clock.

Nothing here holds the name of a method: a browser knows an item by its number and a video by its place (``SLOTS``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

SLOTS = ("subject", "driving", "left", "right")
CHOICES = ("left", "right")
# The paper asks for the better video "considering aspects such as visual realism, motion accuracy, and identity
# consistency" (section 4.1): one question, `overall`. The three aspects can be asked for one by one as well.
QUESTIONS = {
    "overall": "Which of the two is the better video, all in all?",
    "realism": "Which of the two looks more like a real video?",
    "motion": "Which of the two moves more like the driving video?",
    "identity": "Which of the two looks more like the person of the subject video?",
}
LONGEST = 86_400.0  # seconds over one answer; beyond this the page was left open


class Refused(Exception):
    """A request that is not answered; ``status`` is its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Answer:
    """One answer: which side, to which question of which item, after how many seconds."""

    item: int
    criterion: str
    choice: str
    seconds: float | None


def read_answer(body: Any, items: Collection[int], criteria: Sequence[str], consented: bool) -> Answer:
    """Check what a browser sent.

    Args:
        body: the decoded JSON.
        items: the numbers of the rater's items.
        criteria: the study's questions, keys of ``QUESTIONS``.
        consented: whether this rater has agreed to take part.

    Raises:
        Refused: 403 before consent, 422 for anything that is no answer to one of this rater's questions.
    """
    if not consented:
        raise Refused(403, "no consent was given yet")
    if not isinstance(body, dict):
        raise Refused(422, "an answer is an object")
    item, criterion, choice, seconds = (body.get(key) for key in ("item", "criterion", "choice", "seconds"))
    if type(item) is not int or item not in items:
        raise Refused(422, "no such item")
    if not isinstance(criterion, str) or criterion not in criteria:
        raise Refused(422, "no such question")
    if choice not in CHOICES:
        raise Refused(422, "a choice is left or right")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds <= LONGEST:
        return Answer(item, criterion, choice, None)
    return Answer(item, criterion, choice, round(float(seconds), 3))


def state(
    items: Sequence[int], criteria: Sequence[str], answered: Collection[tuple[int, str]], consented: bool
) -> dict[str, Any]:
    """What the page shows: how far the rater is, and the first question without an answer.

    Args:
        items: the numbers of the rater's items in the order in which they are shown.
        criteria: the study's questions in the order in which they are asked.
        answered: (item, criterion) of every answer that is kept.
        consented: whether this rater has agreed to take part.

    Returns:
        ``consented``, ``done`` and ``total`` (questions), and ``next``: ``item``, ``criterion`` and ``question``, or
        None when all is answered.
    """
    steps = [(item, criterion) for item in items for criterion in criteria]
    ahead = next((step for step in steps if step not in answered), None)
    told = ahead and {"item": ahead[0], "criterion": ahead[1], "question": QUESTIONS[ahead[1]]}
    return {"consented": consented, "done": sum(step in answered for step in steps), "total": len(steps), "next": told}
