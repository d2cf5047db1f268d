"""A real server of the page with untrained networks, on made-up videos in which a face is taken for granted."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn

from head3d.api import Head3D
from head3d.app.server import application
from head3d.app.studio import Studio
from head3d.data import video
from head3d.data.footage import Footage
from head3d.errors import UserError
from head3d.params import Params
from whole_frames import whole_frames

from .browser import wait_for

FRAMES = 9
MOST_BYTES = 200_000


@dataclass
class Answer:
    """What a server said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        assert self.status == 200, (self.status, self.text)
        return json.loads(self.body)


@dataclass
class Client:
    """A page of the server, as far as the server can tell; ``headers`` replaces what the page would send."""

    port: int

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        own = {"Host": f"127.0.0.1:{self.port}", "Origin": f"http://127.0.0.1:{self.port}"} | (headers or {})
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            line.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            if data is not None and "Content-Length" not in own:
                own["Content-Length"] = str(len(data))
            for name, value in own.items():
                line.putheader(name, value)
            line.endheaders(data)
            answer = line.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            line.close()

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def post(self, path: str, body: Any) -> Answer:
        return self.ask("POST", path, body)

    def send(self, path: Path, name: str | None = None) -> str:
        """Upload a video; its id."""
        return self.post(f"/videos?name={name or path.name}", path.read_bytes()).json["id"]

    def finish(self, job: str) -> dict[str, Any]:
        """A job's last word."""

        def over() -> dict[str, Any] | None:
            known = self.get(f"/jobs/{job}").json
            return known if known["state"] in ("done", "failed", "cancelled") else None

        return wait_for(over, 30)


@pytest.fixture(scope="session")
def model(models: Path, tiny: Params) -> Head3D:
    return Head3D.load(models, params=tiny)


@pytest.fixture(autouse=True)
def _faces_without_faces(heads_in_the_middle: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole frame is the crop, its middle the head; a black video shows no face."""

    def survey(path: Path, params: Params, *, name: str, watch: Any, **_: Any) -> Footage:
        info = video.probe(path)
        for count, frame in enumerate(video.stream(path, info), start=1):
            if frame.max() < 40:
                raise UserError(f"{path}: no face was found in it", allowed="a face of at least 32 pixels")
            watch(f"{name}: finding the face", count, info.n_frames)
        return whole_frames(Path(path), info)

    monkeypatch.setattr("head3d.data.footage.survey", survey)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """subject.mp4 and driving.mp4, coloured ramps that move; black.mp4; text.mp4, no video; all of 64 by 64 pixels."""
    folder = tmp_path_factory.mktemp("clips")
    x, shades = np.arange(64)[None, :, None], np.array([0, 40, 80])
    for name, start in (("subject", 3), ("driving", 15)):
        ramps = ((x * 2 + 4 * t + start + shades) % 256 for t in range(FRAMES))
        frames = [np.broadcast_to(ramp, (64, 64, 3)).astype(np.uint8) for ramp in ramps]
        video.write_video(folder / f"{name}.mp4", frames, fps=25)
    video.write_video(folder / "black.mp4", [np.zeros((64, 64, 3), np.uint8)] * FRAMES, fps=25)
    (folder / "text.mp4").write_text("this is no video")
    return folder


@pytest.fixture
def studio(model: Head3D, tmp_path: Path) -> Iterator[Studio]:
    folder = tmp_path / "studio"
    folder.mkdir()
    made = Studio(model, folder, MOST_BYTES)
    yield made
    made.jobs.close()


@pytest.fixture
def client(studio: Studio) -> Iterator[Client]:
    config = uvicorn.Config(application(studio), port=0, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for(lambda: server.started)
    yield Client(server.servers[0].sockets[0].getsockname()[1])
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()
