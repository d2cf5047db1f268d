"""What a user can ask for, as it is written."""

from typing import Any

import pytest

from head3d import options
from head3d.errors import UserError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-20:20", (-20, 20)),
        ("15", (15, 15)),
        (0, (0, 0)),
        ("+5 : -.5", (5, -0.5)),
        ("30:-30", (30, -30)),
        (7.5, (7.5, 7.5)),
    ],
)
def test_ranges(text: Any, expected: tuple[float, float]) -> None:
    assert options.parse_range("yaw", text) == expected


@pytest.mark.parametrize("text", ["", "a", "1:2:3", "20-30", ":5", "5:", "nan", "inf", "1e3", "-90:0", "0:86", "١"])
def test_wrong_ranges(text: str) -> None:
    with pytest.raises(UserError, match=r"--yaw is .*a sweep such as -20:20"):
        options.parse_range("yaw", text)
