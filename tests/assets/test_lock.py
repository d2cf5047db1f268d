"""Files whose digest nobody states: the first that loads is recorded, every other machine must get the same."""

from __future__ import annotations

import hashlib
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from head3d import cli
from head3d.assets import cache as assets
from head3d.assets import commands as asset_commands
from head3d.assets import download
from head3d.assets import lock as asset_lock
from head3d.assets.catalogue import ASSETS, Asset, Https
from head3d.errors import UserError

FIRST, SECOND = b"first" * 1000, b"second" * 1000


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def accept_all_but_junk(path: Path) -> None:
    """Stands for a loader, named in the toy asset below."""
    if path.read_bytes().startswith(b"junk"):
        raise UserError(f"{path}: of 3 tensors 1 missing (conv1.weight)", fix="is it the right file?")


class Server(http.server.ThreadingHTTPServer):
    """Gives ``content``, whatever is asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = FIRST
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, format: str, *args: object) -> None:
        pass


def toy(url: str, **more: str) -> Asset:
    check = (f"{__name__}:accept_all_but_junk",)
    return Asset(
        "toy", "toy.pth", "", 0, "none", "tests", (Https(url),), True, page="https://page", check=check, **more
    )


@pytest.fixture
def server(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server, and a project in the current directory with an asset of it."""
    running = Server()
    Path("params.yaml").write_text("")
    monkeypatch.setenv("HEAD3D_CACHE", str(in_tmp / "cache"))
    monkeypatch.setattr(download, "CONNECT_S", 20.0)
    monkeypatch.setitem(ASSETS, "toy", toy(f"http://127.0.0.1:{running.server_port}/toy"))
    yield running
    running.shutdown()
    running.server_close()


def another_machine(monkeypatch: pytest.MonkeyPatch, name: str = "another") -> None:
    """The same checkout, with an empty cache."""
    monkeypatch.setenv("HEAD3D_CACHE", str(Path(name).absolute()))


def files(cache: str = "cache") -> list[bytes]:
    return [path.read_bytes() for path in Path(cache).glob("assets/*")]


def test_the_first_file_is_recorded_and_binds_every_machine(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert assets.fetch("toy").read_bytes() == FIRST
    entry = json.loads(Path("assets.lock.json").read_text())["toy"]
    assert (entry["sha256"], entry["size"]) == (sha256(FIRST), len(FIRST))
    assert entry["source"] == str(ASSETS["toy"].sources[0])
    assert entry["date"].startswith("20")
    assert [path for path in Path().glob(".assets.lock.json.*") if path.suffix != ".busy"] == []

    another_machine(monkeypatch)
    assert assets.fetch("toy").read_bytes() == FIRST
    another_machine(monkeypatch, "third")
    server.content = SECOND
    with pytest.raises(UserError) as error:
        assets.fetch("toy")
    said = str(error.value)
    assert sha256(FIRST) in said and sha256(SECOND) in said and "head3d assets trust toy" in said
    assert "\n" not in said
    assert files("third") == []


def test_another_file_is_trusted_deliberately(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    old = assets.fetch("toy")
    server.content = SECOND
    assert cli.main(["assets", "trust", "toy"]) == 0
    assert sha256(SECOND) in capsys.readouterr().out
    assert asset_lock.digest("toy") == sha256(SECOND)
    assert assets.fetch("toy").read_bytes() == SECOND
    assert old.read_bytes() == FIRST  # of other checkouts, whose lock has it


def test_a_file_that_does_not_load_is_not_trusted(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.content = b"junk" * 100
    with pytest.raises(UserError, match=r"1 missing \(conv1.weight\).*head3d assets add toy FILE"):
        assets.fetch("toy")
    Path("mine.pth").write_bytes(b"junk")
    assert cli.main(["assets", "add", "toy", "mine.pth"]) == 2
    assert cli.main(["assets", "trust", "toy", "--file", "mine.pth"]) == 2
    assert capsys.readouterr().err.count("1 missing (conv1.weight)") == 2
    assert files() == []
    assert not Path("assets.lock.json").exists()


def test_a_file_by_hand(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.pth").write_bytes(SECOND)
    assert cli.main(["assets", "add", "toy", "mine.pth"]) == 0
    assert asset_lock.entries()["toy"]["source"] == "by hand"
    assert assets.fetch("toy").read_bytes() == SECOND
    Path("other.pth").write_bytes(FIRST)
    assert cli.main(["assets", "add", "toy", "other.pth"]) == 2
    said = capsys.readouterr().err
    assert "head3d assets trust toy --file other.pth" in said
    assert cli.main(["assets", "trust", "toy", "--file", "other.pth"]) == 0
    assert assets.fetch("toy").read_bytes() == FIRST
    assert cli.main(["assets", "add", "toy", "nowhere.pth"]) == 2


def test_a_digest_that_others_report_is_expected(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url = str(ASSETS["toy"].sources[0])
    monkeypatch.setitem(ASSETS, "toy", toy(url, reported=sha256(SECOND)))
    with pytest.raises(UserError, match=f"expected {sha256(SECOND)} .as others report it.*head3d assets trust toy"):
        assets.fetch("toy")
    asset_commands.trust("toy")
    assert assets.fetch("toy").read_bytes() == FIRST
    monkeypatch.setitem(ASSETS, "toy", toy(url, reported=sha256(FIRST)))
    another_machine(monkeypatch)
    assert assets.fetch("toy").read_bytes() == FIRST


def test_published_digests_are_nothing_to_decide(server: Server) -> None:
    asset = ASSETS["mraa-vox"]
    Path("mine.pth").write_bytes(FIRST)
    with pytest.raises(UserError, match=f"publisher states.*{asset.sha256}"):
        asset_commands.trust("mraa-vox", Path("mine.pth"))
    with pytest.raises(UserError, match=f"{sha256(FIRST)}, expected {asset.sha256}"):
        asset_commands.put_in("mraa-vox", Path("mine.pth"))


def test_the_rest_of_a_digest_is_recorded(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url = str(ASSETS["toy"].sources[0])
    half = Asset("toy", "toy.pth", sha256(FIRST)[:8], len(FIRST), "none", "tests", (Https(url),), True)
    monkeypatch.setitem(ASSETS, "toy", half)
    path = assets.fetch("toy")
    assert path.name == f"{sha256(FIRST)[:8]}-toy.pth"
    assert asset_lock.digest("toy") == sha256(FIRST)
    assert assets.fetch("toy") == path


RECORD = """import sys
from head3d.assets import lock as asset_lock
from head3d.errors import UserError
print("ready", flush=True)
digest = sys.stdin.readline().strip()
try:
    asset_lock.record(digest[0], digest, 1, "there")
    asset_lock.record("same", digest, 1, "there")
    print("recorded")
except UserError as error:
    print(error)
"""


def test_parallel_stages_lose_nothing_and_agree(server: Server) -> None:
    digests, pipe = ["a" * 64, "b" * 64], subprocess.PIPE
    jobs = [subprocess.Popen([sys.executable, "-c", RECORD], stdin=pipe, stdout=pipe, text=True) for _ in digests]
    for job in jobs:
        assert job.stdout is not None and job.stdout.readline() == "ready\n"
    for job, digest in zip(jobs, digests, strict=True):
        assert job.stdin is not None
        job.stdin.write(f"{digest}\n")
        job.stdin.flush()
    said = sorted(job.communicate(timeout=60)[0].strip() for job in jobs)
    assert said[1] == "recorded"
    assert "asset 'same'" in said[0] and all(digest in said[0] for digest in digests)
    held = json.loads(Path("assets.lock.json").read_text())
    assert set(held) == {"a", "b", "same"}


@pytest.mark.parametrize(
    "content", ["{", '["toy"]', '{"toy": {"sha256": "12"}}', f'{{"toy": {{"sha256": "{64 * "0"}"}}}}']
)
def test_a_damaged_lock_is_one_line(content: str, server: Server) -> None:
    Path("assets.lock.json").write_text(content)
    with pytest.raises(UserError, match=r"assets.lock.json: .*git checkout"):
        assets.fetch("toy")


def test_outside_of_a_project_the_cache_has_the_lock(server: Server) -> None:
    Path("params.yaml").unlink()
    assets.fetch("toy")
    assert not Path("assets.lock.json").exists()
    assert (Path("cache") / "assets.lock.json").exists()


def test_the_list_says_what_is_known(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    def line(name: str) -> str:
        assert cli.main(["assets"]) == 0
        return next(line for line in capsys.readouterr().out.splitlines() if f" {name} " in line)

    assert line("toy").strip().startswith("--") and "unknown (first use)" in line("toy")
    assets.fetch("toy")
    assert line("toy").strip().startswith("ok") and f"trusted {sha256(FIRST)[:12]}" in line("toy")
    assert f"reported {ASSETS['hopenet'].reported[:12]}" in line("hopenet") and "Apache-2.0" in line("hopenet")
    assert "by hand: https://github.com/khan9048" in line("face-depth") and "not stated" in line("face-depth")
    assert f"known {ASSETS['mraa-vox'].sha256[:12]}" in line("mraa-vox")


def test_what_has_no_address_says_what_to_do(server: Server) -> None:
    with pytest.raises(UserError, match=r"'face-depth' has no address.*head3d assets add face-depth FILE"):
        assets.fetch("face-depth")


def test_a_real_loader_refuses_another_network(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, "small.pkl")
    assert cli.main(["assets", "trust", "hopenet", "--file", "small.pkl"]) == 2
    said = capsys.readouterr().err
    assert "missing (bn1.weight" in said and said.count("\n") == 1
