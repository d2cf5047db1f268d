"""Downloads of VoxCeleb against a server that serves, stalls, truncates, redirects, refuses and limits."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from head3d import scales
from head3d.data import crop, downloads, sources, video, voxceleb, voxceleb_files, ytdlp
from head3d.errors import UserError
from head3d.params import Params, read_yaml

from .conftest import ROOT
from .vox import TOLD, Server, counts, files, one_each, put, put_on_path, settings, table, write_csv


def progress(params: Params) -> str:
    library = voxceleb_files.open_library(params)
    return downloads.status(params, library, voxceleb_files.drawn(params, library))


def test_only_the_needed_seconds_arrive_and_begin_at_the_very_frame(
    server: Server, movie: Path, demo: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("good1", "id1", 30, 130, "train"), ("good1", "id1", 140, 290, "train"), ("moved2", "id2", 7, 107, "test")]
    params = settings(demo, write_csv(tmp_path / "meta.csv", rows), tmp_path / "videos", server.address)
    downloads.download(params, [0])
    assert capsys.readouterr().out == "voxceleb, shard 0: 3 of 3 there; this run: 3 ok\n"
    assert sorted(server.asked) == ["good-moved2", "good1", "moved2"]  # one request for both stretches of a video
    whole = np.stack(list(video.read_frames(movie)))
    library = voxceleb_files.open_library(params)
    for one in voxceleb_files.choose(params, library, voxceleb_files.drawn(params, library)):
        begin, end = voxceleb.window(one.stretch, 4.0, params.seed)
        assert one.path.stat().st_size < 0.6 * movie.stat().st_size
        frames = np.stack(list(video.read_frames(one.path)))
        first, wanted = round(begin * 25), round(25 * (end - begin))
        assert wanted <= len(frames) <= wanted + 4  # a few more that are ragged
        assert np.array_equal(frames[:wanted], whole[first : first + wanted])  # not encoded again
        (listed,) = [each for each in sources.videos(params) if each.path == one.path]
        info = video.probe(one.path)
        # more frames are stored than shown: only those that are whole are used
        assert wanted - 6 <= crop._within(listed, info, 25.0, info.n_frames)[1] <= wanted
    assert {one.name: one.unseen for one in sources.videos(params)} == {
        "id1/good1/000030-000130": False, "id1/good1/000140-000290": False, "id2/moved2/000007-000107": True,
    }  # fmt: skip
    downloads.download(params, [0])
    assert len(server.asked) == 3, "what is there is not asked for again"


def test_every_end_has_its_status(
    server: Server, demo: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata = one_each(tmp_path, *TOLD)
    params = counts(settings(demo, metadata, tmp_path / "videos", server.address), test=0)
    downloads.download(params, [0])
    assert table(params) == {name: [status] for name, status in TOLD.items()}
    assert (
        "2 of 16 there; this run: 2 ok, 3 gone, 2 private, 2 region, 1 broken, 6 retry later" in capsys.readouterr().out
    )
    assert not list(Path(params.data.voxceleb.videos or "").rglob(".work*"))
    # again: only those that may work now are tried
    # again: only those that may work now are tried, and what arrives broken three times is given up
    server.healed |= {"refused", "hangsup"}
    for turn in (1, 2):
        server.asked.clear()
        downloads.download(params, [0])
        assert set(server.asked) == {name for name, said in TOLD.items() if said == "retry later"} - (
            {"refused", "hangsup"} if turn == 2 else set()
        )
    assert table(params)["refused"] == ["retry later", "ok"]
    assert table(params)["cut"] == ["retry later", "retry later", "broken"]
    assert table(params)["formats"] == ["retry later"] * 3
    lines = [line.split() for line in progress(params).splitlines()]
    assert " ".join(lines[0]) == "shard wanted there gone private region broken retry later blocked not tried"
    assert lines[-1] == ["all", "16", "4", "3", "2", "2", "2", "3", "0", "0"]
    # and when asked, everything that is not there
    server.asked.clear()
    downloads.download(params, [0], again=True)
    assert set(server.asked) == set(TOLD) - {"good", "moved", "refused", "hangsup"}


def test_a_stalled_transfer_is_cut_off_with_everything_it_started(server: Server, demo: Params, tmp_path: Path) -> None:
    params = settings(demo, one_each(tmp_path, "stalls1", "good2"), tmp_path / "videos", server.address, timeout_s=3.0)
    started = time.monotonic()
    downloads.download(params, [0])
    assert time.monotonic() - started < 15
    assert table(params) == {"stalls1": ["retry later"], "good2": ["ok"]}
    assert str(tmp_path / "videos") not in subprocess.run(["ps", "ax"], capture_output=True, text=True).stdout


@pytest.mark.parametrize("kind", ["robot", "limited", "toomany"])
def test_a_block_stops_the_shard_at_once(kind: str, server: Server, demo: Params, tmp_path: Path) -> None:
    names = ["good1", *(f"{kind}{index}" for index in range(2, 12))]
    params = counts(settings(demo, one_each(tmp_path, *names), tmp_path / "videos", server.address), test=0)
    with pytest.raises(
        UserError, match=r"shard 0: stopped with [01] of 11 there, this machine or account is blocked"
    ) as e:
        downloads.download(params, [0])
    assert "\n" not in str(e.value)
    assert "then run the same command again" in str(e.value)
    assert len(server.asked) <= 2
    server.healed |= set(names)
    downloads.download(params, [0])
    assert len(files(params)) == 11


def test_when_nothing_works_any_more_it_stops(server: Server, demo: Params, tmp_path: Path) -> None:
    names = [f"broken{index}" for index in range(30)]
    params = settings(demo, one_each(tmp_path, *names), tmp_path / "videos", server.address, give_up_after=4)
    with pytest.raises(UserError, match=r"4 videos in a row failed \(.*HTTP Error 503"):
        downloads.download(params, [0])
    assert len(server.asked) == 4


def test_when_everything_is_gone_the_address_is_wrong(server: Server, demo: Params, tmp_path: Path) -> None:
    names = [f"gone{index}" for index in range(30)]
    params = settings(demo, one_each(tmp_path, *names), tmp_path / "videos", server.address, give_up_after=2)
    with pytest.raises(UserError, match=r"10 videos in a row were not to be had \(.*HTTP Error 404"):
        downloads.download(params, [0])
    assert len(server.asked) == 10


def test_a_torn_or_spoiled_table_costs_only_its_line(tmp_path: Path) -> None:
    one, two = voxceleb.Stretch("id1", "a", "x"), voxceleb.Stretch("id2", "b", "y")
    downloads.Table(tmp_path).add(0, one, "gone", 'a "quoted", reason\nin two lines')
    with (tmp_path / "shard-0.csv").open("ab") as file:
        file.write(b'"id9/c/z","c","go\0\xff')
    downloads.Table(tmp_path).add(0, two, "broken", "short")
    (tmp_path / "shard-1.csv").write_bytes(b'\x00\xff\n,,,\n"')
    table = downloads.Table(tmp_path)
    assert [(entry.status, entry.reason) for entry in map(table.own, (one, two)) if entry] == [
        ("gone", 'a "quoted", reason in two lines'), ("broken", "short"),
    ]  # fmt: skip
    assert table.own(voxceleb.Stretch("id9", "c", "z")) is None
    table.add(0, two, "ok", "")
    assert [(entry.status, entry.tries) for entry in [downloads.Table(tmp_path).own(two)] if entry] == [("ok", 2)]


def test_the_newest_line_counts_whatever_shard_it_is_of(tmp_path: Path) -> None:
    """With another number of shards a stretch is another shard's."""
    one, two = voxceleb.Stretch("id1", "a", "x"), voxceleb.Stretch("id1", "a", "y")
    head = ",".join(downloads._COLUMNS) + "\n"
    for shard, status, day in ((0, "ok", 2), (1, "region", 1)):
        entry = downloads.Entry(one.name, one.video, status, 1, f"2026-01-0{day}T00:00:00.000+00:00", "")
        (tmp_path / f"shard-{shard}.csv").write_text(head + downloads._as_csv(entry).decode())
    table = downloads.Table(tmp_path)
    last = table.last(one)
    assert last is not None and last.status == "ok"
    assert table.last(two) is None, "another stretch of the video is still to be tried"


def test_without_yt_dlp(demo: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    params = settings(demo, one_each(tmp_path, "good1"), tmp_path / "videos")
    with pytest.raises(UserError, match="yt-dlp was not found on the PATH; pip install yt-dlp"):
        downloads.download(params, [0])
    with pytest.raises(UserError, match=r"data\.voxceleb\.metadata is null, so there is nothing to download from"):
        downloads.download(settings(demo, None, tmp_path / "videos"), [0])


def test_requests_of_all_shards_keep_their_distance(server: Server, demo: Params, tmp_path: Path) -> None:
    params = settings(
        demo, one_each(tmp_path, *(f"good{n}" for n in range(5))), tmp_path / "v", server.address, pause_s=0.8
    )
    params = params.model_copy(update={"shards": (0, 1, 2)})
    downloads.download(params, params.shards)
    gaps = np.diff(server.times)
    assert len(gaps) == 4
    assert gaps.min() > 0.6


def test_a_clock_that_was_wrong_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    for ahead, least, most in ((1e6, 0, 1), (30, 30, 31)):  # a request in 30 s is another shard's turn
        (tmp_path / "turn").write_text(repr(time.time() + ahead))
        downloads._wait_for_turn(tmp_path, 1.0)
        assert least <= slept[-1] <= most


def test_who_is_gone_is_replaced_by_the_next_in_line(server: Server, demo: Params, tmp_path: Path) -> None:
    names = [f"{'gone' if index % 3 == 0 else 'good'}{index}" for index in range(30)]
    params = counts(settings(demo, one_each(tmp_path, *names), tmp_path / "videos", server.address), train=8, test=0)
    params = params.model_copy(update={"shards": (0, 1, 2)})
    downloads.download(params, params.shards)
    assert len(sources.videos(params)) == 8
    assert len(files(params)) == 8
    known = table(params)
    assert {said for name, (said, *_) in known.items() if name.startswith("gone")} == {"gone"}
    # another number of shards finds what the old ones had, and asks for nobody twice
    server.asked.clear()
    other = params.model_copy(update={"shards": (0, 1)})
    downloads.download(other, other.shards)
    assert not set(server.asked) & set(known)
    assert [one.name for one in sources.videos(other)] != []


def test_enough_is_enough_wherever_it_stands_in_line(demo: Params, tmp_path: Path) -> None:
    """Somebody's own videos, of any stretches, are not downloaded past the number that is wanted."""
    metadata = one_each(tmp_path, *(f"v{index}" for index in range(30)))
    params = counts(settings(demo, metadata, tmp_path / "videos"), train=8, test=0)
    order = voxceleb.order(voxceleb.read_metadata(metadata, 40), 0, params.seed)
    for one in order.train[-6:]:
        put(tmp_path / "videos" / f"{one.video}.mp4")
    library = voxceleb_files.Library(tmp_path / "videos")
    (plan, _) = downloads.plans(params, order)[0]
    todo = plan.todo(library, downloads.Table(tmp_path), set(), again=False)
    assert (plan.wanted, plan.there(library)) == (8, 6)
    assert todo == order.train[:2]


def project(tmp_path: Path, metadata: Path, address: str) -> Path:
    """A directory with params.yaml from which the command downloads."""
    values = read_yaml(ROOT / "params.yaml")
    values["data"]["sources"], values["test_sets"] = ["voxceleb"], ["voxceleb-unseen"]
    values["data"]["voxceleb"] |= {"metadata": str(metadata), "videos": "videos", "seconds": 4.0, "test": 0}
    values["download"] |= {"address": address, "pause_s": 0.0}
    values["shards"] = [0]
    with (tmp_path / "params.yaml").open("w") as file:
        scales._yaml().dump(values, file)
    return tmp_path


def test_a_killed_run_goes_on_where_it_stood(server: Server, demo: Params, tmp_path: Path) -> None:
    names = [f"good{index}" for index in range(8)]
    metadata = one_each(tmp_path, *names)
    root = project(tmp_path, metadata, server.address)
    params = counts(settings(demo, metadata, root / "videos", server.address), test=0)
    command = [sys.executable, "-m", "head3d.cli", "data", "download", "--source", "voxceleb", "--shard", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    server.slow_s = 0.4
    for kills in range(2):
        before = len(server.asked)
        run = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while len(server.asked) < before + 3 and run.poll() is None:
            time.sleep(0.02)
        time.sleep(0.1 * kills)
        os.kill(run.pid, signal.SIGKILL)
        run.communicate()
    half = files(params)
    assert half
    for name in half:  # whatever has its final name is whole
        assert video.probe(root / "videos/downloaded" / name).duration > 3.4
    status = root / "videos/downloaded/status/shard-0.csv"
    with status.open("a") as file:
        file.write('"id3/good3/000030-0001')  # a line that the kill tore
    server.slow_s = 0.0
    server.asked.clear()
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(files(params)) == 8
    assert sorted(server.asked) == sorted(set(names) - {name.split("/")[1] for name in half})
    assert "8 of 8 there" in done.stdout
    assert "\r" not in done.stderr, "no progress bar without a terminal"
    assert "not tried" in progress(params)


def test_one_process_a_shard(server: Server, demo: Params, tmp_path: Path) -> None:
    from filelock import FileLock

    params = settings(demo, one_each(tmp_path, "good1"), tmp_path / "videos", server.address)
    folder = tmp_path / "videos/downloaded/status"
    folder.mkdir(parents=True)
    with (
        FileLock(folder / "shard-0.lock"),
        pytest.raises(UserError, match="shard 0: another process is downloading it"),
    ):
        downloads.download(params, [0])


@pytest.mark.parametrize("name", ["shard-0.lock", "turn.lock"])
def test_a_lock_that_cannot_be_is_one_line(name: str, server: Server, demo: Params, tmp_path: Path) -> None:
    params = settings(demo, one_each(tmp_path, "good1"), tmp_path / "videos", server.address)
    (tmp_path / "videos/downloaded/status" / name).mkdir(parents=True)
    with pytest.raises(UserError, match=rf"{name}: cannot be opened \(Is a directory\)"):
        downloads.download(params, [0])


def test_only_what_arrives_broken_three_times_is_given_up(
    demo: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that failed says nothing of the video."""
    tries = []

    def fetch(_video: str, sections: list[tuple[float, float]], folder: Path, _settings: object) -> ytdlp.Outcome:
        tries.append(folder)
        if len(tries) in (1, 2, 4):
            return ytdlp.Outcome({}, "retry later", "HTTP Error 503")
        return ytdlp.Outcome({section: put(folder / "torn.mp4", b"torn") for section in sections})

    put_on_path(tmp_path / "bin", monkeypatch)
    monkeypatch.setattr(ytdlp, "fetch", fetch)
    params = settings(demo, one_each(tmp_path, "good1"), tmp_path / "videos")
    for _ in range(8):
        downloads.download(params, [0])
    assert table(params)["good1"] == ["retry later"] * 5 + ["broken"]
    assert "arrived, but not a readable video" in (tmp_path / "videos/downloaded/status/shard-0.csv").read_text()


def test_the_reason_of_a_block_is_the_one_that_stands_for_it(
    movie: Path, demo: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(_video: str, sections: list[tuple[float, float]], folder: Path, _settings: object) -> ytdlp.Outcome:
        path = Path(shutil.copy(movie, folder / "part.mp4"))
        return ytdlp.Outcome({sections[-1]: path}, "blocked", "HTTP Error 429")

    put_on_path(tmp_path / "bin", monkeypatch)
    monkeypatch.setattr(ytdlp, "fetch", fetch)
    metadata = write_csv(tmp_path / "m.csv", [("good1", "id1", 0, 100, "train"), ("good1", "id1", 100, 200, "train")])
    params = counts(settings(demo, metadata, tmp_path / "videos"), test=0)
    with pytest.raises(
        UserError, match=r"stopped with 1 of 2 there, this machine or account is blocked \(HTTP .*429\)"
    ):
        downloads.download(params, [0])


def test_two_people_side_by_side_are_two_files(
    movie: Path, demo: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are told by where they begin."""
    asked: list[tuple[float, float]] = []

    def fetch(_video: str, sections: list[tuple[float, float]], folder: Path, _settings: object) -> ytdlp.Outcome:
        asked.extend(sections)
        return ytdlp.Outcome({one: Path(shutil.copy(movie, folder / f"{one[0]}.mp4")) for one in sections})

    put_on_path(tmp_path / "bin", monkeypatch)
    monkeypatch.setattr(ytdlp, "fetch", fetch)
    metadata = write_csv(tmp_path / "m.csv", [("good1", f"id{one}", 0, 100, "train") for one in (1, 2)])
    params = counts(settings(demo, metadata, tmp_path / "videos"), test=0)
    downloads.download(params, [0])
    (first, _), (second, _) = asked
    assert 0 < abs(first - second) < 0.01
    assert len(files(params)) == 2


@pytest.mark.parametrize("kind", ["csv", "txt"])
def test_what_would_be_too_short_for_a_clip_is_not_asked_for(
    kind: str, server: Server, demo: Params, tmp_path: Path
) -> None:
    """Of 46 frames as few as 39 may be left, as the last quarter of a second is not used."""
    lengths = {"good1": 46, "good2": 47}
    metadata = tmp_path / "txt"
    if kind == "csv":
        rows = [(name, f"id{name}", 30, 30 + length, "train") for name, length in lengths.items()]
        metadata = write_csv(tmp_path / "m.csv", rows)
    for name, length in lengths.items():
        lines = "".join(f"{index} 40 10 40 50\n" for index in range(30, 30 + length))
        put(tmp_path / "txt" / f"id{name}" / name / "00001.txt", lines.encode())
    params = counts(settings(demo, metadata, tmp_path / "videos", server.address), test=0)
    downloads.download(params, [0])
    assert (server.asked, table(params)) == (["good2"], {"good1": ["broken"], "good2": ["ok"]})
    (one,) = sources.videos(params)
    info = video.probe(one.path)
    assert crop._within(one, info, 25.0, info.n_frames)[1] >= 40
    # whoever has the whole video can take a clip of it
    put(tmp_path / "videos/good1.mp4")
    assert len(sources.videos(params)) == 2
