"""The page's server over real HTTP: what it does, what it refuses, and what it never gives away."""

from __future__ import annotations

import io
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from head3d import options, use
from head3d.api import Head3D
from head3d.app.studio import Studio
from head3d.data import footage, video
from head3d.images import to_frames
from head3d.params import Params
from head3d.views import hand_pose

from .browser import wait_for
from .conftest import FRAMES, MOST_BYTES, Client


def read(path: Path) -> np.ndarray:
    return np.stack(list(video.read_frames(path))).astype(int)


def picture(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def animate(client: Client, clips: Path, **more: Any) -> dict[str, Any]:
    """A job's first word."""
    subject, driving = client.send(clips / "subject.mp4"), client.send(clips / "driving.mp4")
    return client.post("/jobs", {"kind": "animate", "subject": subject, "driving": driving} | more).json


def test_animate_is_the_command(client: Client, clips: Path, models: Path, tiny: Params, tmp_path: Path) -> None:
    """The result is the one of ``head3d animate`` with the same options."""
    options = {"motion": "absolute", "references": 3, "choose": "diverse", "seed": 4, "paste": True, "compare": True}
    told = client.finish(animate(client, clips, **options)["id"])
    assert (told["state"], told["error"], told["note"], told["beside"]) == ("done", None, None, None)
    assert (told["step"], told["done"], told["total"]) == ("animate", FRAMES, FRAMES)
    saved = client.get(f"/jobs/{told['id']}/result?save")
    assert saved.headers["content-type"] == "video/mp4"
    assert saved.headers["content-disposition"] == 'attachment; filename="subject-as-driving.mp4"'
    (tmp_path / "ours.mp4").write_bytes(saved.body)
    out = use.animate(
        clips / "subject.mp4", clips / "driving.mp4", tmp_path / "theirs.mp4", models=models, params=tiny,
        watch=lambda *_: None, **options,
    )  # fmt: skip
    assert read(tmp_path / "ours.mp4").shape == (FRAMES, 64, 192, 3)
    assert np.abs(read(tmp_path / "ours.mp4") - read(out)).max() <= 2


def test_the_result_stands_beside_its_driver(client: Client, clips: Path) -> None:
    told = client.finish(animate(client, clips)["id"])
    driver = client.get(f"/videos/{told['beside']}/file")
    assert driver.body == (clips / "driving.mp4").read_bytes()
    part = client.ask("GET", f"/jobs/{told['id']}/result", headers={"Range": "bytes=4-7"})
    assert (part.status, part.body) == (206, b"ftyp")  # browsers jump about in a video


def test_held_frames_are_said(client: Client, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames 5 and 6 of the driving video show no face."""
    real, pictures = footage.survey, read(clips / "driving.mp4")

    def survey(path: Path, params: Params, **named: Any) -> footage.Footage:
        found = real(path, params, **named)
        found.seen[5:7] = named["name"] != "driving"
        return found

    def masks(self: Head3D, frames: torch.Tensor, landmarks: np.ndarray | None = None) -> torch.Tensor:
        found = torch.zeros(len(frames), 1, 64, 64)
        for row, frame in enumerate((frames * 255).round().permute(0, 2, 3, 1).numpy()):
            found[row, :, 12:52, 16:48] = not any(np.array_equal(frame, pictures[index]) for index in (5, 6))
        return found

    monkeypatch.setattr(footage, "survey", survey)
    monkeypatch.setattr(Head3D, "masks", masks)
    told = client.finish(animate(client, clips)["id"])
    assert (told["state"], told["note"]) == ("done", "no head found in 2 of 9 frames (0.2-0.3 s); held")


def test_a_view_is_the_command(client: Client, clips: Path, models: Path, tiny: Params, tmp_path: Path) -> None:
    wish = {"kind": "view", "subject": client.send(clips / "subject.mp4"), "yaw": "-20:20", "pitch": "5", "frames": 5}
    told = client.finish(client.post("/jobs", wish).json["id"])
    assert (told["state"], told["name"], told["done"]) == ("done", "subject-turned.mp4", 5)
    (tmp_path / "ours.mp4").write_bytes(client.get(f"/jobs/{told['id']}/result").body)
    person = use.prepare_person(
        Head3D.load(models, params=tiny), clips / "subject.mp4", options.Options(), lambda *_: None
    )
    use.render_sweep(
        Head3D.load(models, params=tiny), person, tmp_path / "t.mp4", options.check_sweeps("-20:20", 5, 0, 5), 5
    )
    assert np.abs(read(tmp_path / "ours.mp4") - read(tmp_path / "t.mp4")).max() <= 2


def test_the_head_at_a_pose(client: Client, clips: Path, model: Head3D) -> None:
    """The pictures are what the networks give for that pose, moved ones too."""
    wish = {"kind": "head", "subject": client.send(clips / "subject.mp4")}
    told = client.finish(client.post("/jobs", wish).json["id"])
    assert (told["state"], told["result"]) == ("done", False)
    subject = use.prepare_person(model, clips / "subject.mp4", options.Options(), lambda *_: None).subject
    address = f"/heads/{told['head']}"
    front = picture(client.get(address).body)
    assert np.abs(front - to_frames(model.render(subject, hand_pose(subject))[0])[0]).max() <= 1
    turned = hand_pose(subject, 20, -10, 5)
    alone, whole = (picture(client.get(f"{address}?yaw=20&pitch=-10&roll=5{x}").body) for x in ("", "&whole=true"))
    assert np.abs(alone - to_frames(model.render(subject, turned)[0])[0]).max() <= 1
    assert np.abs(whole - to_frames(model.view(subject, turned).frames)[0]).max() <= 2
    away = picture(client.get(f"{address}?z=0.3").body)
    assert (away.sum(axis=2) > 0).sum() < 0.8 * (front.sum(axis=2) > 0).sum()  # farther away is smaller
    right = picture(client.get(f"{address}?x=0.02").body)
    columns = [np.flatnonzero(shown.sum(axis=(0, 2))).mean() for shown in (front, right)]
    assert columns[1] > columns[0] + 2


@pytest.mark.parametrize("query", ["yaw=86", "roll=-181", "x=0.2", "yaw=nan", "yaw=a", "whole=perhaps", "tilt=1"])
def test_a_wrong_pose_is_one_line(client: Client, clips: Path, query: str) -> None:
    told = client.finish(
        client.post("/jobs", {"kind": "head", "subject": client.send(clips / "subject.mp4")}).json["id"]
    )
    answer = client.get(f"/heads/{told['head']}?{query}")
    assert answer.status == 422
    assert answer.text.startswith(f"{query.partition('=')[0]}: ") and "\n" not in answer.text


def test_a_head_is_made_once(client: Client, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    surveyed, real = [], footage.survey

    def survey(path: Path, *given: Any, **named: Any) -> footage.Footage:
        surveyed.append((named["name"], named["face"]))
        return real(path, *given, **named)

    monkeypatch.setattr(footage, "survey", survey)
    ids = {name: client.send(clips / f"{name}.mp4") for name in ("subject", "driving")}
    others = ({"seed": 5}, {"references": 3}, {"choose": "diverse"}, {"face": 1})
    wishes = [
        {"kind": "head", "subject": ids["subject"]},
        {"kind": "animate", **ids},
        {"kind": "view", "subject": ids["subject"], "frames": 2},
        *({"kind": "head", "subject": ids["subject"]} | other for other in others),
    ]
    heads = [client.finish(client.post("/jobs", wish).json["id"])["head"] for wish in wishes]
    assert surveyed == [("subject", None), ("driving", None), *[("subject", None)] * 3, ("subject", 1)]
    assert heads[0] == heads[1] == heads[2] and len(set(heads)) == 5


def test_videos_stay_as_long_as_a_job_needs_them(
    client: Client, studio: Studio, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = slow_survey(monkeypatch)
    ids = {name: client.send(clips / f"{name}.mp4") for name in ("subject", "driving")}
    for kind in ("head", "view", "animate"):
        wish = {"kind": kind, "subject": ids["subject"]} | (ids if kind == "animate" else {})
        job = client.post("/jobs", wish).json["id"]
        assert studio.jobs.needed() == (set(ids.values()) if kind == "animate" else {ids["subject"]})
        client.post(f"/jobs/{job}/cancel", {})
        assert client.finish(job)["state"] == "cancelled"
    go.set()


def test_errors_of_videos_are_one_line_and_the_server_goes_on(client: Client, clips: Path) -> None:
    told = client.post("/videos?name=text.mp4", (clips / "text.mp4").read_bytes())
    assert told.status == 422
    assert told.text.startswith("text.mp4: not a readable video (")
    assert "\n" not in told.text
    black, fine = client.send(clips / "black.mp4", "my%20night.mp4"), client.send(clips / "driving.mp4")
    for subject, driving in ((black, fine), (fine, black)):
        wish = {"kind": "animate", "subject": subject, "driving": driving}
        told = client.finish(client.post("/jobs", wish).json["id"])
        assert told["state"] == "failed" and not told["result"]
        assert told["error"] == "my night.mp4: no face was found in it; allowed: a face of at least 32 pixels"
        assert client.get(f"/jobs/{told['id']}/result").status == 404
    assert client.finish(animate(client, clips)["id"])["state"] == "done"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"references": 0}, "--references is 0; allowed: 1 or more"),
        ({"choose": "best"}, "--choose is 'best'; allowed: random or diverse"),
        ({"face": 0}, "--face is 0; allowed: 1 or more, counted from the left"),
        ({"driving_face": -1}, "--driving-face is -1"),
        ({"motion": "both"}, "--motion is 'both'; allowed: relative or absolute"),
        ({"references": "5"}, "references: input should be a valid integer"),
        ({"paste": None}, "paste: input should be a valid boolean"),
        ({"out": "/etc/passwd"}, "out: extra inputs are not permitted"),
        ({"subject": "../../etc/passwd"}, "the subject video is not here any more; give it again"),
        ({"driving": ""}, "the driving video is not here any more; give it again"),
        ({"kind": "export"}, "a job of kind 'export'; allowed: head, animate, view"),
        ({"kind": ["head"]}, "a job of kind ['head']; allowed: head, animate, view"),
        ({"kind": "view"}, "driving: extra inputs are not permitted"),
    ],
)
def test_a_wrong_wish_is_one_line(client: Client, clips: Path, more: dict[str, Any], message: str) -> None:
    video = client.send(clips / "subject.mp4")
    answer = client.post("/jobs", {"kind": "animate", "subject": video, "driving": video} | more)
    assert answer.status == 422
    assert answer.text.startswith(message) and "\n" not in answer.text


def test_wrong_sweeps(client: Client, clips: Path) -> None:
    subject = client.send(clips / "subject.mp4")
    for more, message in (({"yaw": "-90:0"}, "--yaw is '-90:0'"), ({"frames": 0}, "--frames is 0; allowed: 1 to")):
        answer = client.post("/jobs", {"kind": "view", "subject": subject} | more)
        assert answer.status == 422 and answer.text.startswith(message)


def test_more_references_than_frames_fail_in_the_job(client: Client, clips: Path) -> None:
    told = client.finish(animate(client, clips, references=12)["id"])
    assert told["error"] == (
        "12 reference frames are wanted; allowed: at most 9, the frames of subject.mp4 that show the face; "
        "give --references"
    )


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"a"', b"\xff", b"[" * 4000, b'{"kind":"head"}' + b" " * 5000])
def test_what_is_no_wish(client: Client, body: bytes) -> None:
    assert client.post("/jobs", body).status in (400, 413, 422)
    assert client.get("/settings").status == 200


def test_uploads_have_a_limit(client: Client, studio: Studio, clips: Path) -> None:
    """By what the browser states, and by what really comes."""
    body = bytes(MOST_BYTES + 1)
    chunked = request("/videos?name=a.mp4", client, {"Transfer-Encoding": "chunked"})
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as line, line.makefile("rb") as reader:
        line.sendall(chunked + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        told = reader.read().decode()
    assert told.startswith("HTTP/1.1 413 ")
    answer = client.post("/videos?name=a.mp4", body)
    assert answer.status == 413
    assert answer.text == "a.mp4: larger than 0.2 MB; cut it, or start `head3d app` with a larger --most-mb"
    assert told.endswith(answer.text)
    assert list(studio.folder.iterdir()) == []


def test_an_upload_that_is_taken_back(client: Client, studio: Studio, capfd: pytest.CaptureFixture[str]) -> None:
    begun = request("/videos?name=a.mp4", client, {"Content-Length": "9000"}) + b"some of it"
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as line:
        line.sendall(begun)
        wait_for(lambda: list(studio.folder.iterdir()))
    wait_for(lambda: not list(studio.folder.iterdir()))
    assert client.get("/settings").status == 200
    assert capfd.readouterr().err == ""


def request(path: str, client: Client, headers: dict[str, str]) -> bytes:
    own = {"Host": f"127.0.0.1:{client.port}", "Origin": f"http://127.0.0.1:{client.port}", "Connection": "close"}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in (own | headers).items()), "", ""]
    return "\r\n".join(lines).encode()


def slow_survey(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Every survey goes on until the event is set, and tells how far it is."""
    real, go = footage.survey, threading.Event()

    def survey(path: Path, params: Params, *, watch: Any, **named: Any) -> footage.Footage:
        count = 0
        while not go.wait(0.01):
            count += 1
            watch("subject: finding the face", count, 1000)
        return real(path, params, watch=watch, **named)

    monkeypatch.setattr(footage, "survey", survey)
    return go


def test_progress_and_cancel(client: Client, studio: Studio, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = slow_survey(monkeypatch)
    first, second = animate(client, clips), animate(client, clips)
    wait_for(lambda: client.get(f"/jobs/{first['id']}").json["done"] > 2)
    told = client.get(f"/jobs/{first['id']}").json
    assert (told["state"], told["step"], told["total"]) == ("running", "subject: finding the face", 1000)
    waiting = client.get(f"/jobs/{second['id']}").json
    assert (waiting["state"], waiting["ahead"]) == ("waiting", 1)
    client.post(f"/jobs/{first['id']}/cancel", {})
    assert client.finish(first["id"])["state"] == "cancelled"
    go.set()
    assert client.finish(second["id"])["state"] == "done"
    results = [path.name for path in studio.folder.iterdir() if path.suffix == ".mp4"]
    assert len(results) == 1 and not results[0].startswith(".")  # of the second; nothing half-written


def test_cancelled_in_the_middle_of_the_output(
    client: Client, studio: Studio, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ffmpeg is writing already: it ends, and its file goes."""
    real, go, reached = Head3D.animate, threading.Event(), threading.Event()

    def slow(self: Head3D, *args: Any, **named: Any) -> Any:
        if reached.is_set():
            go.wait(10)
        reached.set()
        return real(self, *args, **named)

    monkeypatch.setattr(Head3D, "animate", slow)
    job = animate(client, clips)
    wait_for(lambda: client.get(f"/jobs/{job['id']}").json["done"] == 4)  # the first batch is written
    told = client.post(f"/jobs/{job['id']}/cancel", {}).json
    assert (told["state"], told["step"], told["total"]) == (
        "running",
        "stopping",
        0,
    )  # at once, though it takes a while
    go.set()
    assert client.finish(job["id"])["state"] == "cancelled"
    assert [path.name for path in studio.folder.iterdir() if path.suffix == ".mp4"] == []


def test_thumbnail(client: Client, clips: Path) -> None:
    shown = picture(client.get(f"/videos/{client.send(clips / 'subject.mp4')}/thumbnail").body)
    assert np.abs(shown - read(clips / "subject.mp4")[0]).mean() < 8


def test_pictures_wait_for_each_other(client: Client, clips: Path) -> None:
    """Many at once all come, and a job beside them finishes."""
    head = client.finish(
        client.post("/jobs", {"kind": "head", "subject": client.send(clips / "subject.mp4")}).json["id"]
    )
    job = animate(client, clips)
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda k=k: found.append(client.get(f"/heads/{head['head']}?yaw={k}").status))
        for k in range(12)
    ]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == [200] * 12
    assert client.finish(job["id"])["state"] == "done"
    assert time.monotonic() - started < 20
