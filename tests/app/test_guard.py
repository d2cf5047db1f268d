"""Which requests are ours."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from head3d.app.guard import is_ours, same_origin


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:8001", True),
        ("127.0.0.1", True),
        ("localhost:9000", True),
        ("LOCALHOST", True),
        ("[::1]:8001", True),
        ("192.168.1.5:8001", True),
        ("lab.example:8001", True),
        ("evil.example:8001", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example@127.0.0.1.nip.example", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_hosts(host: str, expected: bool) -> None:
    assert is_ours(host, "Lab.example") is expected


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://localhost:8001", True),
        ("https://localhost:8001", True),  # behind a tunnel
        ("http://localhost:8002", False),
        ("http://evil.example", False),
        ("null", False),
        ("file://localhost:8001", False),
        ("", False),
    ],
)
def test_origins(origin: str, expected: bool) -> None:
    assert same_origin(Headers({"host": "localhost:8001", "origin": origin})) is expected


def test_no_origin_is_none_of_ours() -> None:
    assert not same_origin(Headers({"host": "localhost:8001"}))
    assert not same_origin(Headers({"host": "null", "origin": "null"}))
