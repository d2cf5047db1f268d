"""The page in a real browser."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from head3d.study.build import build
from head3d.study.store import Study

from .browser import Browser
from .conftest import METHODS, Server, given
from .lossy import Lossy

OPEN = "return !document.getElementById('choose-left').disabled"
ITEM = "return Number(document.getElementById('left').getAttribute('src').split('/')[1])"
TIMES = "return ['left', 'right', 'driving'].map((name) => document.getElementById(name).currentTime)"
HALTED = "return [...document.querySelectorAll('video')].every((video) => video.paused)"
END = "return !document.getElementById('thanks').hidden"
FRAME_S = 0.04

Opened = Callable[..., Browser]


@pytest.fixture
def server(study: Study) -> Iterator[Server]:
    with Server(study.folder) as running:
        yield running


@pytest.fixture
def opened(driver: str, server: Server, tmp_path: Path) -> Iterator[Opened]:
    """Opens the first rater's page."""
    with ExitStack() as stack:

        def one(**kind: Any) -> Browser:
            browser = Browser(driver, tmp_path / "profile", **kind)
            stack.callback(browser.close)
            browser.open(server.links[0])
            browser.wait("return !document.getElementById('welcome').hidden")
            return browser

        yield one


def answer(browser: Browser, act: Callable[[], None]) -> int:
    """Do something about the question that is asked and wait until it is done with; its item."""
    browser.wait(OPEN)
    item = browser.run(ITEM)
    act()
    browser.wait(f"return ({_inner(OPEN)} && {_inner(ITEM)} !== {item}) || {_inner(END)}")
    return item


def _inner(script: str) -> str:
    return f"({script.removeprefix('return ')})"


def test_a_rater_from_consent_to_the_end(opened: Opened, study: Study) -> None:
    browser = opened()
    browser.press("left")  # nothing is asked yet
    assert browser.run("return document.getElementById('task').hidden") and not study.raters()[0].consented
    browser.click("#agree")
    browser.wait(OPEN)
    assert study.raters()[0].consented

    clicked = {answer(browser, lambda: browser.press("left")): "left"}
    clicked[answer(browser, lambda: browser.press("right"))] = "right"
    clicked[answer(browser, lambda: browser.click("#choose-right"))] = "right"
    clicked[answer(browser, lambda: browser.click("#choose-left", times=2))] = "left"
    browser.reload()
    browser.wait(OPEN)
    assert browser.run("return document.getElementById('count').textContent") == "5 of 8"

    # Another tab with the same question: the first answer counts, and the other tab goes on.
    first, link = browser.tab(), browser.run("return location.href")
    second = browser.new_tab()
    browser.open(link)
    browser.wait(OPEN)
    item = browser.run(ITEM)
    browser.show_tab(first)
    clicked[answer(browser, lambda: browser.press("left"))] = "left"
    browser.show_tab(second)
    assert browser.run(ITEM) == item
    answer(browser, lambda: browser.press("right"))

    for _ in range(3):
        clicked[answer(browser, lambda: browser.click("#choose-left"))] = "left"
    assert browser.run(END)
    browser.reload()
    browser.wait(END)
    assert given(study) == {(1, item, "overall"): choice for item, choice in clicked.items()}
    assert sorted(clicked) == list(range(1, 9))


def test_the_second_click_of_a_double_click_is_no_answer(driver: str, videos: Path, tmp_path: Path) -> None:
    """The next question of the same videos is there at once: nothing has to be loaded."""
    built = build([videos], tmp_path / "two", raters=1, checks=0, criteria=["realism", "motion"])
    study = Study(built)
    with Server(built) as running, closing(Browser(driver, tmp_path / "profile")) as browser:
        browser.open(running.links[0])
        browser.wait("return !document.getElementById('welcome').hidden")
        browser.click("#agree")
        browser.wait(OPEN)
        browser.run(
            "const left = document.getElementById('choose-left'); left.click();"
            "for (const ms of [150, 300, 450]) setTimeout(() => left.click(), ms);"
        )
        browser.wait(f"return ({_inner(OPEN)}) && document.getElementById('count').textContent.startsWith('2 ')")
        assert len(given(study)) == 1
        browser.run("delete AbortSignal.timeout")  # as on older phones
        answer_two = "return document.getElementById('count').textContent.startsWith('3 ')"
        browser.press("right")
        browser.wait(answer_two)
        assert len(given(study)) == 2


def test_videos_play_in_step_and_halt(opened: Opened, study: Study) -> None:
    browser = opened()
    browser.click("#agree")
    browser.wait(OPEN)
    browser.wait(f"return {_inner(TIMES)}[0] > 0")
    started, seen = time.monotonic(), []
    while time.monotonic() < started + 1.5:  # the videos last 0.4 s: they begin again some times
        times = browser.run(TIMES)
        seen.append(times[0])
        drift = max(times) - min(times)
        assert drift < 2 * FRAME_S or drift > 0.4 - 2 * FRAME_S, times  # just when one has begun again
    assert max(seen) > 0.25 and any(later < sooner for sooner, later in pairwise(seen))

    browser.press("space")
    browser.wait(HALTED)
    assert browser.run("return document.getElementById('pause').textContent") == "Go on"
    assert "Paused" in browser.run("return document.getElementById('notice').textContent")
    browser.press("left")
    browser.press("right")
    browser.press("space")
    browser.wait(OPEN)
    assert not given(study)
    assert not browser.run(HALTED)


def test_it_fits_on_a_phone(opened: Opened) -> None:
    browser = opened(width=360, height=640, phone=True)
    wide = "return document.documentElement.scrollWidth > window.innerWidth"
    assert not browser.run(wide)
    browser.click("#agree")
    browser.wait(OPEN)
    assert not browser.run(wide)
    for side in ("left", "right"):
        box = browser.run(f"return document.getElementById('choose-{side}').getBoundingClientRect().toJSON()")
        assert box["height"] >= 44 and box["width"] >= 120
        assert box["bottom"] <= browser.run("return window.innerHeight"), "the button lies below the screen"
    answer(browser, lambda: browser.click("#choose-right"))


def test_the_browser_knows_no_method(opened: Opened) -> None:
    browser = opened()
    browser.click("#agree")
    browser.wait(OPEN)
    known = browser.run(
        "return document.documentElement.outerHTML + performance.getEntries().map((entry) => entry.name).join()"
    )
    assert "video/1/left" in known
    for name in (*METHODS, "broken", "head3d", "mini-seen"):
        assert name not in known.lower()


def test_a_reply_that_breaks_off_is_asked_for_again(driver: str, server: Server, study: Study, tmp_path: Path) -> None:
    """The server keeps an answer, is killed between the headers of its reply and the rest: the page must go on."""
    with Lossy(server.port) as network, closing(Browser(driver, tmp_path / "profile")) as browser:
        browser.open(f"http://127.0.0.1:{network.port}{server.path(0)}")
        browser.wait("return !document.getElementById('welcome').hidden")
        browser.click("#agree")
        network.cut(b"POST /r/")
        first = answer(browser, lambda: browser.press("left"))
        assert network.cuts == 1
        network.cut(b"GET /r/")
        second = answer(browser, lambda: browser.press("right"))
        browser.wait(OPEN)
    assert network.cuts == 2
    assert {item: choice for (_, item, _), choice in given(study).items()} == {first: "left", second: "right"}


@pytest.mark.slow
@pytest.mark.parametrize("request_", [b"POST /r/", b"GET /r/"], ids=["an answer", "a video"])
def test_a_connection_that_falls_silent_is_given_up(
    request_: bytes, driver: str, server: Server, study: Study, tmp_path: Path
) -> None:
    with Lossy(server.port) as network, closing(Browser(driver, tmp_path / "profile")) as browser:
        browser.open(f"http://127.0.0.1:{network.port}{server.path(0)}")
        browser.wait("return !document.getElementById('welcome').hidden")
        browser.click("#agree")
        browser.wait(OPEN)
        network.swallow(request_)
        first = browser.run(ITEM)
        browser.press("left")
        browser.wait(f"return {_inner(OPEN)} && {_inner(ITEM)} !== {first}", seconds=60.0)
    assert network.swallowed == 1
    assert len(given(study)) == 1
