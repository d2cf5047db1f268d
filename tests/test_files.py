"""Files under their final names are whole, whatever happens while they are written."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from head3d import files
from head3d.errors import UserError
from head3d.files import expanded, files_below, replacing, replacing_directory


def test_a_file_is_replaced_whole_or_not(tmp_path: Path) -> None:
    target = tmp_path / "folder" / ("long" * 60 + ".npz")
    with replacing(target) as file:
        assert file.parent == target.parent
        assert file.suffix == ".npz"
        file.write_text("1")
        assert not target.exists()
    assert target.read_text() == "1"

    def breaks_off() -> None:
        with replacing(target) as file:
            file.write_text("2")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        breaks_off()
    assert [path.read_text() for path in target.parent.iterdir()] == ["1"]


def test_a_directory_is_replaced_whole_or_not(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with replacing_directory(target) as folder:
        (folder / "a").write_text("1")

    def breaks_off() -> None:
        with replacing_directory(target) as folder:
            (folder / "b").write_text("2")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        breaks_off()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "a"]
    with replacing_directory(target) as folder:
        (folder / "c").write_text("3")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "c"]


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_makes_is_not(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    left, alive, other = (tmp_path / name for name in (f".out.{process.pid}", f".out.{os.getppid()}", ".out.old"))
    for folder in (left, alive, other):
        folder.mkdir()
    with replacing_directory(tmp_path / "out"):
        assert not left.exists()
    assert alive.exists() and other.exists()


def test_two_files_of_one_folder_are_written_at_once(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.csv") as a, replacing(tmp_path / "b.csv") as b:
        a.write_text("a")
        b.write_text("b")
    assert ((tmp_path / "a.csv").read_text(), (tmp_path / "b.csv").read_text()) == ("a", "b")


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    """A directory, the working directory, and what stands for a device: root could replace /dev/null itself."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    cases = (
        (tmp_path / "folder", IsADirectoryError),
        (Path(), IsADirectoryError),
        (tmp_path / "pipe", FileExistsError),
    )
    for target, kind in cases:
        with pytest.raises(kind) as raised, replacing(target):
            pytest.fail("it was begun")
        assert raised.value.filename == str(target)
    assert (tmp_path / "pipe").is_fifo() and sorted(tmp_path.iterdir()) == [tmp_path / "folder", tmp_path / "pipe"]


def test_directories_by_links_and_those_that_cannot_be_read(tmp_path: Path) -> None:
    shared, root = tmp_path / "shared", tmp_path / "videos"
    for path in (shared / "b" / "2.mp4", root / "a" / "1.mp4", root / ".hidden" / "3.mp4"):
        path.parent.mkdir(parents=True)
        path.touch()
    (root / "link").symlink_to(shared)
    (root / "again").symlink_to(shared)
    (shared / "round").symlink_to(root)
    assert [path.relative_to(root).as_posix() for path in files_below(root)] == ["a/1.mp4", "again/b/2.mp4"]
    if os.geteuid() == 0:  # who may read everything
        with pytest.raises(UserError, match=r"nowhere: cannot be read \(No such file or directory\); make it readable"):
            list(files_below(tmp_path / "nowhere"))
    else:
        shared.chmod(0)
        with pytest.raises(UserError, match=r"again: cannot be read \(Permission denied\); make it readable"):
            list(files_below(root))
        shared.chmod(0o755)


def test_what_a_killed_process_left_of_a_file_is_removed(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from head3d.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as file: file.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    target, other = tmp_path / "masks.npy", tmp_path / "other.npy"
    for path in (target, other):
        subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    first, second = tmp_path.iterdir()
    with replacing(target) as file:  # another machine may still be at them
        file.write_text("0")
    assert len(list(tmp_path.iterdir())) == 3
    for left in (first, second):
        os.utime(left, (0, 0))
    with replacing(target) as mine, replacing(target) as beside:  # of a living process: stays
        mine.write_text("1")
        beside.write_text("2")
        assert len(list(tmp_path.iterdir())) == 4
    assert target.read_text() == "1"
    assert len(list(tmp_path.iterdir())) == 2, "the other's is its own"


def test_a_full_disk_names_the_directory(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as raised, replacing_directory(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert raised.value.filename == str(tmp_path / "out")


def test_home_directories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert expanded("~/videos") == Path("/home/ann/videos")
    assert expanded("~nobody-of-that-name/videos") == Path("~nobody-of-that-name/videos")
    assert expanded(Path("a/~")) == Path("a/~")


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    with pytest.raises(OSError, match="No space") as raised, replacing(target):
        raise OSError(errno.ENOSPC, "No space left on device")  # as write() says it
    assert raised.value.filename == str(target)
    with pytest.raises(FileNotFoundError) as raised, replacing(target):
        (tmp_path / "source").read_text()  # another file's trouble stays its own
    assert raised.value.filename == str(tmp_path / "source")


def test_a_process_of_somebody_else_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert files.alive(1)
