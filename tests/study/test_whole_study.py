"""A whole study: four raters at once in real browsers, and a server that is killed among them. Two minutes."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from head3d import cli
from head3d.report.table2 import name as title
from head3d.study.build import build
from head3d.study.plan import BROKEN, OURS, TRUTH
from head3d.study.store import Study

from .browser import Browser
from .conftest import METHODS, Server, given, make_videos, rows_of, sides

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RATERS, COMPARISONS, CHECKS = 4, 40, 4
PATIENCE_S = 120.0
OTHER = {"left": "right", "right": "left"}
# What tells why a page waits.
TROUBLE = """
const videos = ['subject', 'driving', 'left', 'right'].map((id) => {
  const video = document.getElementById(id);
  return [video.getAttribute('src'), video.readyState, video.networkState, video.paused, String(video.error)].join(' ');
});
const texts = ['notice', 'pause', 'count'].map((id) => document.getElementById(id).textContent);
const asked = performance.getEntriesByType('resource').slice(-6);
return [document.hidden, ...texts, ...videos, ...asked.map((e) => `${e.name.slice(-16)} ${e.duration}`)].join('\\n');
"""
# What the page waits for: nothing yet, consent, an answer to an item, or nothing any more.
STATE = """
const shown = (id) => !document.getElementById(id).hidden;
if (shown('thanks')) return 'end';
if (shown('welcome')) return 'welcome';
if (!shown('task') || document.getElementById('choose-left').disabled) return '';
return document.getElementById('left').getAttribute('src').split('/')[1];
"""


class Rater:
    """Somebody who answers all questions, with a nuisance of their own at every fifth item."""

    def __init__(self, driver: str, profiles: Path, link: str, number: int, wanted: dict[int, str]) -> None:
        self.number, self.link, self.wanted = number, link, wanted
        self.clicked: dict[int, str] = {}
        self.told: dict[int, str] = {}  # the page went on after these: the server said that it had them
        self.nuisances: Counter[str] = Counter()
        self._driver, self._profiles = driver, profiles
        self._browser = self._enter()

    def run(self) -> None:
        """From the link to the last page."""
        try:
            self._answer_all()
        except AssertionError as error:
            raise AssertionError(f"rater {self.number}: {error}\n{self._browser.run(TROUBLE)}") from error
        finally:
            self._browser.close()

    def _answer_all(self) -> None:
        while (state := self._browser.wait(STATE, PATIENCE_S)) != "end":
            self.told |= {item: choice for item, choice in self.clicked.items() if str(item) != state}
            if state == "welcome":
                self._browser.click("#agree")
                self._browser.wait("return document.getElementById('welcome').hidden", PATIENCE_S)
                continue
            item = int(state)
            assert item not in self.told, "a question that was answered is asked again"
            self.clicked[item] = self.wanted[item]
            nuisance = {1: self._reload, 2: self._two_tabs, 3: self._double_click, 4: self._leave}[self.number]
            if item % 5:
                self._choose(self.wanted[item])
            else:
                nuisance(item, self.wanted[item])
                self.nuisances[nuisance.__name__] += 1
        self.told |= self.clicked

    def _choose(self, choice: str) -> None:
        if self.number % 2:
            self._browser.press(choice)
        else:
            self._browser.click(f"#choose-{choice}")

    def _reload(self, _: int, choice: str) -> None:
        """Reload in the moment of choosing; the question may come again."""
        self._choose(choice)
        self._come(self._browser.reload)

    def _two_tabs(self, item: int, choice: str) -> None:
        """Say it in one tab, and the opposite later in another that still shows the same question."""
        here, there = self._browser.tab(), self._browser.new_tab()
        self._come(lambda: self._browser.open(self.link))
        assert self._browser.wait(STATE, PATIENCE_S) == str(item)
        self._browser.show_tab(here)
        self._choose(choice)
        self._passed(item)
        self._browser.show_tab(there)
        self._choose(OTHER[choice])
        self._passed(item)

    def _double_click(self, _: int, choice: str) -> None:
        self._browser.click(f"#choose-{choice}", times=2)

    def _leave(self, item: int, choice: str) -> None:
        """Press a key in a pause, where it counts nothing; after the answer come back with another browser."""
        self._browser.press("space")
        self._browser.press(OTHER[choice])
        self._browser.press("space")
        self._browser.wait(f"return !document.getElementById('choose-{choice}').disabled")
        self._choose(choice)
        self._passed(item)
        self._browser.close()
        self._browser = self._enter()

    def _passed(self, item: int) -> None:
        over = f"return document.getElementById('left').getAttribute('src') !== 'video/{item}/left'"
        self._browser.wait(f"{over} || !document.getElementById('thanks').hidden", PATIENCE_S)

    def _enter(self) -> Browser:
        profile = self._profiles / f"{self.number}-{sum(self.nuisances.values())}"
        self._browser = Browser(self._driver, profile, 640, 700)  # four windows are painted without a GPU
        self._come(lambda: self._browser.open(self.link))
        return self._browser

    def _come(self, act: Callable[[], None]) -> None:
        """Get to the page, as often as it takes: there may be no server just now."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                act()
                if self._browser.run("return document.getElementById('thanks') !== null"):
                    return
            except AssertionError:
                assert time.monotonic() < end, "no page"
            time.sleep(0.2)
            act = lambda: self._browser.open(self.link)  # noqa: E731 - the browser may be another one by now


def wishes(study: Study, number: int) -> dict[int, str]:
    """What a rater is going to choose: Head3D in two of three comparisons, the truth in every check."""
    draw = random.Random(number)
    wanted = {}
    for (rater, item), (left, right) in sides(study).items():
        if rater == number:
            ours = TRUTH if BROKEN in (left, right) else OURS
            side = "left" if left == ours else "right"
            wanted[item] = side if ours == TRUTH or draw.random() < 2 / 3 else OTHER[side]
    return wanted


def test_four_browsers_and_a_killed_server(driver: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    pairs = COMPARISONS // (len(METHODS) - 1)
    videos = make_videos(tmp_path / "mini-seen", pairs=pairs, size=64, length=15)
    study = Study(build([videos], tmp_path / "study", raters=RATERS, per_rater=COMPARISONS, checks=CHECKS))
    total = RATERS * (COMPARISONS + CHECKS)
    with Server(study.folder) as server, ThreadPoolExecutor(RATERS) as pool:
        raters = [
            Rater(driver, tmp_path, server.links[number - 1], number, wishes(study, number))
            for number in range(1, RATERS + 1)
        ]
        runs = [pool.submit(rater.run) for rater in raters]
        while sum(done for _, done, _ in study.progress()) < 0.4 * total and not any(run.done() for run in runs):
            time.sleep(0.05)
        told = {(rater.number, item): choice for rater in raters for item, choice in dict(rater.told).items()}
        server.kill()
        kept = {(rater, item): choice for (rater, item, _), choice in given(study).items()}
        time.sleep(2)
        server.start()
        for run in runs:
            run.result()

    assert told.items() <= kept.items(), "an answer that a browser was told of is lost"
    assert 0.3 * total < len(kept) < total
    clicked = {(rater.number, item): choice for rater in raters for item, choice in rater.clicked.items()}
    assert {(rater, item): choice for (rater, item, _), choice in given(study).items()} == clicked
    assert len(clicked) == total

    assert cli.main(["study", "results", str(study.folder), "--out", str(tmp_path / "table2.csv")]) == 0
    rows = rows_of(tmp_path / "table2.csv")
    shown, wins = Counter[str](), Counter[str]()
    plan = sides(study)
    for place, choice in clicked.items():
        left, right = plan[place]
        if BROKEN not in (left, right):
            other = right if left == OURS else left
            shown[other] += 1
            wins[other] += (left if choice == "left" else right) == OURS
    assert sum(shown.values()) == RATERS * COMPARISONS
    for method in METHODS[1:]:
        row = rows[title(method)]
        assert (row["votes"], row["wins"]) == (shown[method], wins[method])
        assert row["win_percent"] == pytest.approx(100 * wins[method] / shown[method], abs=1e-3)
        assert (row["raters"], row["checks"], row["checks_failed"]) == (RATERS, RATERS * CHECKS, 0)
    with capsys.disabled():
        print(
            f"\n{RATERS} browsers, {total} answers, each once; {len(kept)} were kept when the server was killed, of "
            f"which {len(told)} had been confirmed; {dict(sum((rater.nuisances for rater in raters), Counter()))}; "
            f"{time.monotonic() - started:.0f} s"
        )
        for method, row in rows.items():
            print(f"Head3D against {method}: {row['wins']} of {row['votes']}, {row['win_percent']:.1f} %")
