"""The page in a real browser: what somebody sees who gives videos, waits, cancels, turns the head and errs."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from .browser import Browser, found, wait_for
from .conftest import FRAMES, Client
from .test_server import slow_survey

pytestmark = pytest.mark.skipif(not found(), reason="chromium and chromedriver are not installed")

DROP = """
const [selector, name, bytes] = arguments;
const data = new DataTransfer();
data.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name));
document.querySelector(selector).dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
"""
SET = """
const element = document.querySelector(arguments[0]);
element.value = arguments[1];
element.dispatchEvent(new Event("input", { bubbles: true }));
"""
PIXELS = """
const canvas = document.querySelector("#head");
return [canvas.dataset.pose, Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data)];
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as made:
        yield made


@pytest.fixture
def page(browser: Browser, client: Client) -> Browser:
    """The empty page of a fresh server."""
    browser.open(f"http://127.0.0.1:{client.port}/")
    browser.run("sessionStorage.clear()")
    browser.open(f"http://127.0.0.1:{client.port}/")
    wait_for(lambda: browser.run("return document.querySelector('#references').placeholder") == "2")
    browser.problems()
    return browser


def give(page: Browser, clips: Path, **names: str) -> None:
    for role, name in names.items():
        page.choose_file(f"#{role} input", clips / name)
    for role, name in names.items():
        wait_for(lambda role=role, name=name: page.text(f"#{role} .told").startswith(f"{name}: 64×64"))


def can(page: Browser, button: str) -> bool:
    return not page.run("return document.querySelector(arguments[0]).disabled", button)


def test_animate_look_and_turn(page: Browser, clips: Path) -> None:
    assert not can(page, "#animate") and not can(page, "#show")
    assert page.text("#needs") == "Give a subject and a driving video."
    give(page, clips, subject="subject.mp4", driving="driving.mp4")
    wait_for(lambda: can(page, "#animate"))
    page.click("#animate")
    wait_for(lambda: page.shown("#made"), 30)
    assert not page.shown("#job") and not page.shown("#error")
    both = "['#driver', '#result'].map((id) => document.querySelector(id + ' video'))"
    wait_for(lambda: page.run(f"return {both}.every((video) => video.readyState >= 2)"))
    sizes = page.run(f"return {both}.map((video) => [video.videoWidth, video.duration])")
    assert sizes == [[64, pytest.approx(FRAMES / 25, abs=0.05)]] * 2
    wait_for(lambda: page.run(f"return {both}.every((video) => video.currentTime > 0)"))  # both play
    saved = page.run("return [document.querySelector('#save').href, document.querySelector('#save').download]")
    assert saved[0].endswith("/result?save") and saved[1] == "subject-as-driving.mp4"

    wait_for(lambda: "yaw=0&" in (page.run(PIXELS)[0] or ""))
    front = page.run(PIXELS)[1]
    for value in range(1, 41):  # as fast as a hand: not every one is drawn, but the last one is
        page.run(SET, "#yaw", value) if value % 8 == 0 else page.run("document.querySelector('#yaw').value++")
    wait_for(lambda: "yaw=40&" in page.run(PIXELS)[0])
    assert page.text("output[for=yaw]") == "40°"
    turned = page.run(PIXELS)[1]
    assert len(turned) == len(front) == 64 * 64 * 4 and turned != front
    page.click("#whole")
    wait_for(lambda: "whole=true" in page.run(PIXELS)[0])
    assert page.run(PIXELS)[1] != turned
    page.click("#reset")
    wait_for(lambda: "yaw=0&pitch=0&" in page.run(PIXELS)[0])
    page.drag("#head", 60, -40)  # right and up, as the nose shall go
    yaw, pitch = (int(page.text(f"output[for={name}]")[:-1]) for name in ("yaw", "pitch"))
    assert (yaw, pitch) == (24, 16)  # 0.4 degrees a pixel, in however many steps
    wait_for(lambda: f"yaw={yaw}&pitch={pitch}&" in page.run(PIXELS)[0])
    assert page.problems() == []  # no script failed and the policy blocked nothing


def test_dropping_a_video_and_filming_its_head(page: Browser, clips: Path) -> None:
    page.run(DROP, "#subject", "dropped one.mp4", base64.b64encode((clips / "subject.mp4").read_bytes()).decode())
    wait_for(lambda: page.text("#subject .told").startswith("dropped one.mp4: 64×64"))
    assert not can(page, "#animate")
    page.click("#show")
    wait_for(lambda: page.shown("#turn"), 30)
    assert not page.shown("#made")
    wait_for(lambda: can(page, "#film"))
    page.run(SET, "#frames", "5")
    page.run(SET, "#face", "7")  # for the next head: the film is of the one that is shown
    page.run(
        "const real = fetch; window.sent = [];"
        "window.fetch = (path, options) => { if (options.body) sent.push(options.body); return real(path, options); }"
    )
    page.click("#film")
    wait_for(lambda: page.shown("#made"), 30)
    [wish] = map(json.loads, page.run("return sent"))
    assert (wish["kind"], wish["face"]) == ("view", None)
    assert not page.shown("#driver")
    video = "document.querySelector('#result video')"
    wait_for(lambda: page.run(f"return {video}.readyState >= 2"))
    assert page.run(f"return {video}.duration") == pytest.approx(5 / 25, abs=0.05)
    page.run(SET, "#sweep_yaw", "-90:0")
    page.click("#film")
    wait_for(lambda: page.shown("#error"))
    assert page.text("#error").startswith("--yaw is '-90:0'; allowed: degrees from -85 to 85")


def test_errors_stand_in_the_page(page: Browser, clips: Path) -> None:
    page.choose_file("#subject input", clips / "text.mp4")
    wait_for(lambda: page.shown("#subject .line"))
    assert page.text("#subject .line").startswith("text.mp4: not a readable video")
    assert not can(page, "#show")
    large = clips / "large.mp4"
    large.write_bytes(bytes(200_001))
    page.choose_file("#subject input", large)
    wait_for(lambda: "large.mp4" in page.text("#subject .line"))
    assert page.text("#subject .line").startswith("large.mp4: larger than 0.2 MB; cut it, or start `head3d app`")
    give(page, clips, subject="subject.mp4", driving="black.mp4")
    assert not page.shown("#subject .line")
    page.click("#animate")
    wait_for(lambda: page.shown("#error"), 30)
    assert page.text("#error") == "black.mp4: no face was found in it; allowed: a face of at least 32 pixels"
    assert can(page, "#animate") and not page.shown("#made")
    give(page, clips, driving="driving.mp4")
    page.click("#animate")
    wait_for(lambda: page.shown("#made"), 30)
    assert not page.shown("#error")


def test_progress_cancel_and_reload(page: Browser, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go: threading.Event = slow_survey(monkeypatch)
    give(page, clips, subject="subject.mp4", driving="driving.mp4")
    page.click("#animate")
    wait_for(lambda: "finding the face" in page.text("#step"))
    assert not can(page, "#animate")
    first = page.run("return document.querySelector('#bar').value")
    wait_for(lambda: page.run("return document.querySelector('#bar').value") > first)
    page.click("#cancel")
    wait_for(lambda: page.text("#error") == "Cancelled.")
    assert can(page, "#animate") and not page.shown("#job")

    page.click("#animate")
    wait_for(lambda: "finding the face" in page.text("#step"))
    page.run("location.reload()")
    wait_for(lambda: page.shown("#job"))  # the page finds its job again, and its videos
    go.set()
    wait_for(lambda: page.shown("#made"), 30)
    assert page.text("#subject .told").startswith("subject.mp4: 64×64")
    page.run("location.reload()")
    wait_for(lambda: page.shown("#made") and page.shown("#turn"))  # and its result
    give(page, clips, subject="black.mp4")
    assert not page.shown("#turn")  # which was another person's head


def test_a_job_survives_a_moment_without_network_and_two_reloads(
    page: Browser, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go: threading.Event = slow_survey(monkeypatch)
    give(page, clips, subject="subject.mp4", driving="driving.mp4")
    page.click("#animate")
    wait_for(lambda: "finding the face" in page.text("#step"))
    page.run("window.real = fetch; window.fetch = () => Promise.reject(new TypeError('no network'))")
    wait_for(lambda: page.text("#error").startswith("The server does not answer."))
    page.run("window.fetch = window.real")
    wait_for(lambda: not page.shown("#error"))
    assert page.shown("#job")
    kept = page.run("return sessionStorage.getItem('head3d')")
    page.run("location.reload()")
    # As a second reload in the middle of the first would find it: nothing is forgotten before all is taken over.
    assert page.run("return sessionStorage.getItem('head3d')") == kept
    page.run("location.reload()")
    wait_for(lambda: page.shown("#job"))
    assert page.run("return sessionStorage.getItem('head3d')") == kept
    go.set()
    wait_for(lambda: page.shown("#made"), 30)


def test_a_large_file_in_the_place_of_one_that_is_being_sent(page: Browser, clips: Path) -> None:
    give(page, clips, subject="subject.mp4")
    page.run("XMLHttpRequest.prototype.send = function () { this.upload.onprogress({ loaded: 1, total: 3 }); }")
    page.choose_file("#driving input", clips / "driving.mp4")
    wait_for(lambda: page.text("#driving .told") == "driving.mp4: 33 %")
    assert not can(page, "#show")
    large = clips / "large.mp4"
    large.write_bytes(bytes(200_001))
    page.choose_file("#driving input", large)
    wait_for(lambda: page.text("#driving .line").startswith("large.mp4: larger than 0.2 MB"))
    assert page.text("#driving .told") == "Drop a video here, or"
    assert can(page, "#show") and page.text("#needs") == "Give a driving video."


def test_nothing_is_wider_than_a_phone(page: Browser, clips: Path) -> None:
    give(page, clips, subject="subject.mp4", driving="driving.mp4")
    page.click("#animate")
    wait_for(lambda: page.shown("#made") and page.shown("#turn"), 30)
    page.narrow(360)
    assert page.run("return [innerWidth, document.documentElement.scrollWidth]") == [360, 360]
    page.narrow(None)
