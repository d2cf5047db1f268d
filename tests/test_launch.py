"""HEAD3D_PROCESSES: how many processes a training starts, and how it ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from head3d import launch
from head3d.errors import UserError
from head3d.ranks import LEFT
from head3d.training.shares import batches_of


@pytest.mark.parametrize(("text", "count"), [(None, 1), ("", 1), ("1", 1), ("4", 4)])
def test_the_variable_says_how_many(monkeypatch: pytest.MonkeyPatch, text: str | None, count: int) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if text is None:
        monkeypatch.delenv(launch.VARIABLE, raising=False)
    else:
        monkeypatch.setenv(launch.VARIABLE, text)
    assert launch.wanted() == count


def test_gpus_is_one_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv(launch.VARIABLE, "gpus")
    for there, count in ((0, 1), (3, 3)):
        monkeypatch.setattr("torch.cuda.device_count", lambda there=there: there)
        assert launch.wanted() == count


@pytest.mark.parametrize("text", ["0", "-1", "all of them", "2.5"])
def test_another_value_is_one_line(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv(launch.VARIABLE, text)
    with pytest.raises(UserError, match=r"HEAD3D_PROCESSES is .*; allowed: a number of processes"):
        launch.wanted()


def test_a_process_that_was_started_so_starts_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(launch.VARIABLE, "4")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launch.wanted() == 1


@pytest.mark.parametrize(
    ("codes", "status"), [((0, 0), 0), ((143, 143), 143), ((LEFT, 2), 2), ((LEFT, LEFT), LEFT), ((0, 1), 1)]
)
def test_the_exit_status_is_that_of_the_failure(codes: tuple[int, int], status: int) -> None:
    assert launch._wait([subprocess.Popen([sys.executable, "-c", f"raise SystemExit({c})"]) for c in codes]) == status


def test_one_that_fails_ends_the_others() -> None:
    words = ("import os; os.kill(os.getpid(), 9)", "import time; time.sleep(60)")
    started = time.monotonic()
    assert launch._wait([subprocess.Popen([sys.executable, "-c", w]) for w in words]) == 137
    assert time.monotonic() - started < 30


RANK = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
ranks, counts = ({os.environ[name], os.environ["LOCAL_" + name]} for name in ("RANK", "WORLD_SIZE"))
twice = "" if os.getpgid(0) == os.getpid() else ", a Ctrl-C reaches it twice"
open(sys.argv[1] + " or ".join(ranks) + " of " + " or ".join(counts) + twice, "w").close()
time.sleep(60)
"""


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_signals_are_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, status: int
) -> None:
    monkeypatch.setattr(launch, "COMMAND", (sys.executable, "-c", RANK))
    before = signal.getsignal(number)

    def tell() -> None:
        while len(list(tmp_path.iterdir())) < 3:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    telling = threading.Thread(target=tell)
    telling.start()
    assert launch.run([f"{tmp_path}/"], 3) == status
    telling.join()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0 of 3", "1 of 3", "2 of 3"]
    assert signal.getsignal(number) is before


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_what_is_to_be_ignored_is_not_passed_on(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    """As of `nohup` and of a script's job in the background."""
    monkeypatch.setattr(launch, "COMMAND", ("true",))
    monkeypatch.setattr(launch, "_wait", lambda _: 0 if signal.getsignal(number) is signal.SIG_IGN else 1)
    signal.signal(number, signal.SIG_IGN)
    assert launch.run([], 2) == 0


def test_one_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may wait in a collective for the one that has failed."""
    monkeypatch.setattr(launch, "GRACE_S", 0.5)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    words, started = (deaf, "import time; time.sleep(1); raise SystemExit(2)"), time.monotonic()
    assert launch._wait([subprocess.Popen([sys.executable, "-c", w]) for w in words]) == 2
    assert time.monotonic() - started < 30


def test_a_signal_that_comes_before_the_ranks_reaches_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "COMMAND", (sys.executable, "-c", RANK))
    real, started = subprocess.Popen, time.monotonic()

    def start(*args: Any, **named: Any) -> subprocess.Popen[bytes]:
        if named["env"]["RANK"] == "0":
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args, **named)

    monkeypatch.setattr(subprocess, "Popen", start)
    assert launch.run([f"{tmp_path}/"], 2) == 143
    assert time.monotonic() - started < 30


def test_no_rank_is_left_if_another_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "COMMAND", (sys.executable, "-c", RANK))
    real, made = subprocess.Popen, []

    def start(*args: Any, **named: Any) -> subprocess.Popen[bytes]:
        if made:
            raise OSError("no more processes")
        made.append(real(*args, **named))
        return made[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(OSError, match="no more processes"):
        launch.run([f"{tmp_path}/"], 2)
    assert made[0].returncode == -signal.SIGKILL


@pytest.mark.parametrize(("wanted", "fits"), [(1, 1), (2, 2), (5, 5), (8, 5), (10, 10)])
def test_as_many_processes_as_share_the_batches(wanted: int, fits: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch.fitting(wanted, {"a.batch_size": 10, "a.pairs": 20}) == fits
    said = f"head3d: {fits} of {wanted} processes: more can't share a.batch_size 10, a.pairs 20 evenly\n"
    assert capsys.readouterr().err == (said if fits < wanted else "")


def test_each_process_has_what_its_part_of_the_warm_start_needs() -> None:
    """Of 32 frames 16 processes would have two each, and depth is learnt from every third."""
    assert launch.fitting(16, {"geometry.batch_size": 16, "geometry.warm_batch": 32}) == 8


def test_stage_1_refuses_ranks_that_would_have_too_few_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    from head3d.params import load_params
    from head3d.ranks import Ranks
    from head3d.training import shares

    params = load_params(Path(__file__).parents[1] / "params.yaml")
    settings = params.geometry.model_copy(update={"batch_size": 16, "warm_batch": 32, "pose_hold": 0.0})
    params = params.model_copy(update={"geometry": settings})
    monkeypatch.setattr(shares, "current", lambda: Ranks(5, 8))
    shares.check_shares(params, "geometry")
    monkeypatch.setattr(shares, "current", lambda: Ranks(5, 16))
    with pytest.raises(UserError, match=r"geometry\.warm_batch is 32 for 16 processes; allowed: at least 48; raise it"):
        shares.check_shares(params, "geometry")


def test_batches_of_every_training_of_the_paper_are_known() -> None:
    """Of 8 processes each training of the paper's scale takes as many as its batches allow."""
    from head3d.params import check_params
    from head3d.scales import values

    params = check_params(values("paper", Path(__file__).parents[1]))
    sizes = {stage: batches_of(params, stage) for stage in ("geometry", "canonical", "fusion")}
    assert sizes["fusion"] == {"fusion.batch_size": 5}
    assert {stage: launch.fitting(8, batches) for stage, batches in sizes.items()} == {
        "geometry": 1,
        "canonical": 5,
        "fusion": 5,
    }
    assert set(batches_of(params, "matching")) == {"matching.batch_size", "matching.pairs"}
    held = params.model_copy(update={"geometry": params.geometry.model_copy(update={"pose_hold": 1.0})})
    assert "geometry.hold_batch" not in sizes["geometry"]
    assert "geometry.hold_batch" in batches_of(held, "geometry")
    methods = {name: batches_of(params, "baseline", name) for name in params.baselines}
    assert set(methods["mraa"]) == {"baseline.mraa.batch_size", "baseline.mraa.avd_batch_size"}
    found = {name: launch.fitting(8, batches) for name, batches in methods.items()}
    assert found == {"fomm": 8, "mraa": 2, "dagan": 8, "facev2v": 8}


def test_of_more_gpus_than_processes_free_ones_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    monkeypatch.setattr("head3d.compute.own_gpus", lambda count: [2, 5][:count])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert launch._own_gpus(2, "auto") == {"CUDA_VISIBLE_DEVICES": "2,5"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b,GPU-c,GPU-d,GPU-e,GPU-f,GPU-g,GPU-h")
    assert launch._own_gpus(2, "cuda") == {"CUDA_VISIBLE_DEVICES": "GPU-c,GPU-f"}
    assert launch._own_gpus(8, "auto") == launch._own_gpus(2, "cpu") == {}
