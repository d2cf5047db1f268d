"""What yt-dlp is told, what it says, and where its files come to lie."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from head3d.data import downloads, ytdlp
from head3d.errors import UserError
from head3d.params import Params

from .vox import REASONS, TOLD, Server, counts, files, one_each, put, put_on_path, settings, table


def test_cookies_go_to_yt_dlp_and_nowhere_else(
    server: Server, demo: Params, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "cookies.txt"
    secret.write_text("SESSION=verysecret\n")
    before = secret.read_bytes()
    metadata = one_each(tmp_path, "good1", "private2", "formats3")
    params = settings(demo, metadata, tmp_path / "videos", server.address, cookies=str(secret))
    downloads.download(params, [0])
    assert server.cookies[0] == "SESSION=verysecret"
    assert secret.read_bytes() == before, "yt-dlp writes the file that it is given back: it gets a copy"
    for path in (path for path in (tmp_path / "videos").rglob("*") if path.is_file()):
        assert b"verysecret" not in path.read_bytes()
    said = capfd.readouterr()
    assert "verysecret" not in said.out + said.err
    # a file that yt-dlp cannot read, which it quotes
    secret.write_text("quoted\tSESSION=verysecret\n")
    downloads.download(
        settings(demo, one_each(tmp_path, "quoted4"), tmp_path / "v", server.address, cookies=str(secret)), [0]
    )
    assert [path for path in (tmp_path / "v").rglob("*") if path.is_file() and b"verysecret" in path.read_bytes()] == []
    with pytest.raises(UserError, match=r"download\.cookies is '.*none\.txt', which cannot be read"):
        downloads.download(settings(demo, metadata, tmp_path / "v", cookies=str(tmp_path / "none.txt")), [0])


def test_any_directory_is_a_name_and_no_template(server: Server, demo: Params, tmp_path: Path) -> None:
    params = settings(demo, one_each(tmp_path, "good1"), tmp_path / "100 %(id)s %d", server.address)
    downloads.download(params, [0])
    assert files(params) == ["id0/good1/000030-000130.mp4"]


def test_a_directory_that_yt_dlp_would_read_as_another_is_refused(
    server: Server, demo: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERE", "elsewhere")
    params = settings(demo, one_each(tmp_path, "good1"), tmp_path / "$HERE", server.address)
    with pytest.raises(
        UserError, match=r"takes a part of it for a variable.*; choose a data\.voxceleb\.videos without"
    ):
        downloads.download(params, [0])


def test_what_a_killed_run_left_running_spoils_no_other_video(
    movie: Path, demo: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An orphan of yt-dlp writes on where it was told to; all stretches begin at the same second of their videos."""
    folders: list[Path] = []

    def fetch(_video: str, sections: list[tuple[float, float]], folder: Path, _settings: object) -> ytdlp.Outcome:
        for old in folders:
            put(old / "000001.200.mp4", movie.read_bytes())
        assert list(folder.iterdir()) == []
        folders.append(folder)
        return ytdlp.Outcome({section: Path(shutil.copy(movie, folder / "part.mp4")) for section in sections})

    put_on_path(tmp_path / "bin", monkeypatch)
    monkeypatch.setattr(ytdlp, "fetch", fetch)
    params = settings(demo, one_each(tmp_path, "good1", "good2", "good3"), tmp_path / "videos")
    downloads.download(counts(params, test=0), [0])
    assert len(set(folders)) == len(files(params)) == 3
    assert not list((tmp_path / "videos").rglob(".work*"))


def test_a_file_that_is_not_whole_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sections = [(1.0, 2.0), (2.0, 3.0), (3.0, 4.0)]
    endings = (".mp4", ".mp4.part", ".mp4.ytdl")
    names = [str(tmp_path / f"{ytdlp._stem(one)}{ending}") for one, ending in zip(sections, endings, strict=True)]
    monkeypatch.setattr(ytdlp, "_command", lambda *_: ["touch", *names])
    given = SimpleNamespace(cookies=None, timeout_s=60.0)
    assert ytdlp.fetch("x", sections, tmp_path, given).files == {sections[0]: Path(names[0])}


def test_meanings_of_what_yt_dlp_says() -> None:
    kinds = {name: status for name, status in TOLD.items() if name in REASONS}
    kinds |= {"robot": "blocked", "limited": "blocked"}
    assert set(kinds) == set(REASONS)
    for kind, reason in REASONS.items():
        status, told = ytdlp.meaning(f"WARNING: x\nERROR: [youtube] a-b_c: {reason}\n")
        assert status == kinds[kind], reason
        assert told and "\n" not in told and "ERROR" not in told and "--cookies" not in told
    assert (
        ytdlp.meaning("[https @ 0x1] HTTP error 429 Too Many Requests\nERROR: ffmpeg exited with code 1")[0]
        == "blocked"
    )
    assert (
        ytdlp.meaning("ERROR: [youtube] x: Video unavailable\nThis video has been removed by the uploader.")[0]
        == "gone"
    )
    assert ytdlp.meaning("usage: yt-dlp\nyt-dlp: error: no such option: --x")[1] == "no such option: --x"
    assert ytdlp.meaning("")[0] == "retry later"


@pytest.mark.skipif(subprocess.run(["which", "yt-dlp"], capture_output=True).returncode != 0, reason="no yt-dlp here")
def test_the_real_yt_dlp(movie: Path, demo: Params, tmp_path: Path) -> None:
    running = Server(movie)
    try:
        metadata = one_each(tmp_path, "good1", "moved2", "gone3", "refused4", "broken5", "cut6")
        params = settings(demo, metadata, tmp_path / "videos", running.address + ".mp4", timeout_s=60.0)
        downloads.download(params, [0])
    finally:
        running.shutdown()
        running.server_close()
    assert table(params) == {
        "good1": ["ok"], "moved2": ["ok"], "gone3": ["gone"], "refused4": ["retry later"], "broken5": ["retry later"],
        "cut6": ["retry later"],
    }  # fmt: skip
