"""What the two local pages share."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest

from head3d.app import server as app
from head3d.study import server as study
from head3d.web import Page


@pytest.mark.parametrize("page", [app.PAGE, study.PAGE])
def test_a_page_comes_in_one_answer_and_its_policy_lets_it_run(page: Page) -> None:
    # A server killed between the page and its script left a page behind that never did anything.
    assert set(re.findall(r'(?:src|href)="([^"]*)"', page.html)) == {"data:,"}  # no icon is asked for either
    policy = dict(part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";"))
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", page.html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert policy[rule] == f"'sha256-{digest}'" and len(inside) > 1000
    whole = " ".join(policy.values())
    assert "unsafe" not in whole and "*" not in whole and "http" not in whole
    assert not re.search(r"\son[a-z]+=|\sstyle=", re.sub(r"(?s)<(script|style)>.*?</", "", page.html))  # blocked


@pytest.mark.parametrize("page", [app.PAGE, study.PAGE])
def test_a_page_is_confined_to_its_own_server(page: Page) -> None:
    policy = dict(part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";"))
    nobody = ("default-src", "base-uri", "form-action", "frame-ancestors")
    assert {rule: policy[rule] for rule in nobody} == dict.fromkeys(nobody, "'none'")
    assert policy["connect-src"] == policy["media-src"] == "'self'"
    assert {name: value for name, value in page.headers.items() if name != "Content-Security-Policy"} == {
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
    assert study.HEADERS["X-Robots-Tag"] == "noindex"


def test_a_page_without_its_script_is_noticed(tmp_path: Path) -> None:
    for name in ("page.css", "page.js"):
        (tmp_path / name).write_text("")
    (tmp_path / "index.html").write_text('<link rel="stylesheet" href="page.css">')
    with pytest.raises(AssertionError, match=re.escape("page.js")):
        Page(tmp_path, "data:")
