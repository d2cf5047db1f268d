"""What stands in the way of a fetch beside the network: a full disk, a kill at the last moment, another process."""

import hashlib
import shutil
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from head3d.assets import cache as assets
from head3d.assets import download
from head3d.assets.catalogue import Https, Package
from head3d.errors import UserError

from .conftest import CONTENT, Server, add, leave_part

FULL = r"cache: cannot be written \(.*No space left on device.*\); set HEAD3D_CACHE to a directory with room$"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """An archive with two files."""
    path = tmp_path / "toy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as box:
        box.writestr("toy/a.bin", CONTENT)
        box.writestr("toy/b.bin", CONTENT[::-1])
    return path


@pytest.mark.parametrize(("name", "written"), [("good", "toy.bin"), ("packed.bz2", "toy.bin.bz2.plain")])
def test_a_full_disk_is_no_trouble_of_the_network(
    name: str, written: str, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(monkeypatch, Https(server.url(name)), Https(server.url("missing")))
    work = cache / "parts" / "toy"
    work.mkdir(parents=True)
    (work / written).symlink_to("/dev/full")
    with pytest.raises(UserError, match=FULL):
        assets.fetch("toy")
    assert len(server.asked) == 1, "no other try and no other source has more room"
    if name == "packed.bz2":
        assert [path.name for path in work.iterdir()] == ["toy.bin.bz2"], "what has come stays"


def test_a_full_disk_is_no_damaged_archive(wheel: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, Package("pip", "toy==1.0", "", "toy/a.bin"), Https("http://127.0.0.1:9/none"))
    monkeypatch.setattr(download, "pip_archive", lambda *_: wheel)
    work = cache / "parts" / "toy==1.0"
    work.mkdir(parents=True)
    (work / "toy.bin").symlink_to("/dev/full")
    with pytest.raises(UserError, match=FULL):
        assets.fetch("toy")


def test_a_whole_file_that_a_kill_kept_from_its_place_is_not_fetched_anew(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(monkeypatch, Https(server.url("good")))
    leave_part(cache, CONTENT)
    assert assets.fetch("toy").read_bytes() == CONTENT
    assert server.asked == [("/good", f"bytes={len(CONTENT)}-")]


@pytest.mark.parametrize("more", [0, 1])
def test_another_file_that_is_as_long_or_longer_is_fetched_anew(
    more: int, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(monkeypatch, Https(server.url("good")))
    leave_part(cache, bytes(len(CONTENT) + more))
    assert assets.fetch("toy").read_bytes() == CONTENT
    assert server.asked == [("/good", f"bytes={len(CONTENT) + more}-"), ("/good", None)]


def test_who_waits_for_another_file_of_a_package_gets_it(
    wheel: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first removes the folder that they work in, one after the other."""
    for name, content in (("a", CONTENT), ("b", CONTENT[::-1])):
        source = Package("pip", "toy==1.0", "", f"toy/{name}.bin")
        add(monkeypatch, source, name=name, digest=hashlib.sha256(content).hexdigest())
    begun, waits = threading.Event(), threading.Event()

    class Lock(assets.FileLock):
        def _acquire(self) -> None:
            super()._acquire()
            if begun.is_set() and not self.is_locked:
                waits.set()

    def archive(_: str, __: str, folder: Path, ___: object) -> Path:
        begun.set()
        assert waits.wait(20)
        return Path(shutil.copy(wheel, folder / wheel.name))

    monkeypatch.setattr(assets, "FileLock", Lock)
    monkeypatch.setattr(download, "pip_archive", archive)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(assets.fetch, "a")
        assert begun.wait(20)
        second = pool.submit(assets.fetch, "b")
    assert first.result().read_bytes() == CONTENT
    assert second.result().read_bytes() == CONTENT[::-1]
