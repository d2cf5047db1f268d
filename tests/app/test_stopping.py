"""The server begins where it was told to and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from head3d.api import Head3D
from head3d.app import server
from head3d.errors import UserError

from .browser import wait_for
from .conftest import MOST_BYTES, Client
from .test_server import animate, slow_survey


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_deletes_everything(
    number: int, model: Head3D, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """A job is running and a video is kept when the signal comes."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    slow_survey(monkeypatch)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    seen: list[Any] = []

    def use_it() -> None:
        try:
            client = Client(port)
            wait_for(lambda: _answers(client))
            job = animate(client, clips)
            wait_for(lambda: client.get(f"/jobs/{job['id']}").json["done"])
            seen.extend(path for folder in tmp_path.iterdir() for path in folder.iterdir())
        finally:
            os.kill(os.getpid(), number)

    user = threading.Thread(target=use_it)
    user.start()
    if number == signal.SIGTERM:
        with pytest.raises(SystemExit) as stopped:
            server.serve(model, "127.0.0.1", port, MOST_BYTES)
        assert stopped.value.code == 143
    else:
        server.serve(model, "127.0.0.1", port, MOST_BYTES)
    user.join(20)
    assert len(seen) == 2
    assert list(tmp_path.iterdir()) == []
    printed = capsys.readouterr().out
    assert f"http://127.0.0.1:{port}/" in printed and "Everybody" not in printed
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def _answers(client: Client) -> bool:
    try:
        return client.get("/settings").status == 200
    except OSError:
        return False


def test_a_taken_port_is_one_line(model: Head3D) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(
            UserError, match=r"--host 127.0.0.1 --port \d+: cannot listen there .*; choose another port"
        ):
            server.serve(model, "127.0.0.1", taken.getsockname()[1], MOST_BYTES)
    with pytest.raises(UserError, match="--host no-such-host --port 0: cannot listen"):
        server.serve(model, "no-such-host", 0, MOST_BYTES)
    with pytest.raises(UserError, match="--host is empty; allowed: a name or a number of this machine"):
        server.serve(model, "", 0, MOST_BYTES)  # every address, which nobody asked for
