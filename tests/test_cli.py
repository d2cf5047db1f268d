"""The command line: what it takes, what it refuses, and how it ends."""

from __future__ import annotations

import errno
import inspect
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from head3d import cli
from head3d.errors import UserError
from head3d.files import replacing_directory
from head3d.params import Params

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def project(in_tmp: Path) -> Path:
    """A current directory with params.yaml."""
    shutil.copy(ROOT / "params.yaml", in_tmp)
    return in_tmp


def test_every_stage_function_exists() -> None:
    for name, (path, options) in cli.STAGES.items():
        function: Any = inspect.unwrap(cli.load_function(path))
        wanted = function.__code__.co_varnames[: function.__code__.co_argcount]
        assert wanted[0] == "params", name
        assert wanted[1 : 1 + len(options)] == options, name


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from head3d.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pandas', 'mlflow', 'pydantic', 'ruamel', 'dvc', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "crop" in done.stdout


def test_options_reach_the_stage(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple] = []
    monkeypatch.setattr(cli, "load_function", lambda path: lambda *values: calls.append((path, *values[1:])))
    assert cli.main(["crop", "--shard", "1"]) == 0
    assert cli.main(["train", "fusion", "--variant", "no_skip"]) == 0
    assert cli.main(["evaluate", "reconstruction", "--test-set", "mini-seen", "--method", "floors"]) == 0
    assert cli.main(["tables"]) == 0
    assert calls == [
        ("head3d.data.crop:run", 1),
        ("head3d.training.fusion:run", "no_skip"),
        ("head3d.evaluation.reconstruction:run", "mini-seen", "floors"),
        ("head3d.report.tables:run",),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["crop", "--shard", "9"], "--shard is 9; allowed: 0, 1 (params.yaml: shards)"),
        (
            ["evaluate", "reconstruction", "--test-set", "mini-seen", "--method", "x"],
            "--method is 'x'; allowed: floors, full, mean_canonical, no_head, no_skip, no_matching "
            "(params.yaml: variants)",
        ),
        (
            ["train", "fusion", "--variant", "x"],
            "--variant is 'x'; allowed: full, mean_canonical, no_head, no_skip, no_matching",
        ),
        (
            ["evaluate", "reconstruction", "--test-set", "s", "--method", "full"],
            "--test-set is 's'; allowed: mini-seen, mini",
        ),
        (["scale", "huge"], "workflow/scales: no scales there; run it in the directory of the project"),
        (["sync"], "workflow/sync.py: no such file"),
    ],
)
def test_errors_are_one_line(project: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert cli.main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"head3d: {message}")
    assert printed.err.count("\n") == 1


def test_a_training_of_several_processes_ends_as_they_end(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple] = []
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("HEAD3D_PROCESSES", "5")
    monkeypatch.setattr("head3d.launch.run", lambda *given: calls.append(given) or 143 * (len(calls) - 1))
    monkeypatch.setattr(cli, "load_function", lambda path: pytest.fail("it is trained here, too"))
    assert cli.main(["train", "fusion", "--variant", "no_skip"]) == 0
    with pytest.raises(SystemExit) as caught:
        cli.main(["train", "fusion", "--variant", "no_skip"])
    assert caught.value.code == 143
    assert calls == [(["train", "fusion", "--variant", "no_skip"], 5, "auto")] * 2


def test_without_parameters(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["manifest"]) == 2
    assert "params.yaml: no such file" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(params: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "load_function", lambda path: broken)
    with pytest.raises(ZeroDivisionError):
        cli.main(["tables"])


@pytest.mark.parametrize("words", [[], ["train"], ["crop"], ["crop", "--shard", "one"], ["nothing"]])
def test_wrong_usage_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    assert "usage: head3d" in capsys.readouterr().err


def test_angles_may_be_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    from head3d import use

    seen: dict[str, object] = {}
    monkeypatch.setattr(use, "view", lambda **values: seen.update(values))
    assert cli.main(["view", "--subject", "a.mp4", "--yaw", "-20:20", "--pitch", "-5", "--out", "d.mp4"]) == 0
    assert (seen["yaw"], seen["pitch"], seen["roll"], seen["out"]) == ("-20:20", "-5", "0", "d.mp4")


def test_animate_passes_everything_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from head3d import use

    seen: dict[str, object] = {}
    monkeypatch.setattr(use, "animate", lambda **values: seen.update(values))
    words = "animate --subject a.mp4 --driving b.mp4 --out c.mp4 --references 3 --motion absolute --device cpu"
    words += " --choose diverse --driving-face 2 --paste --parser small"
    assert cli.main(words.split()) == 0
    assert seen == {
        "subject": "a.mp4", "driving": "b.mp4", "out": "c.mp4", "models": "models", "variant": "full",
        "motion": "absolute", "references": 3, "seed": None, "device": "cpu",
        "choose": "diverse", "face": None, "driving_face": 2, "paste": True, "compare": False, "parser": "small",
    }  # fmt: skip


def test_interrupting_is_no_traceback(project: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def interrupted(params: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "load_function", lambda path: interrupted)
    assert cli.main(["tables"]) == 130
    assert capsys.readouterr().err == "head3d: interrupted\n"


def test_scale_rewrites_the_parameters(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(ROOT / "workflow" / "scales", project / "workflow" / "scales")
    assert cli.main(["scale", "smoke"]) == 0
    assert re.fullmatch(r"params\.yaml: scale smoke, \d+ values changed\n", capsys.readouterr().out)
    assert "scale: smoke" in (project / "params.yaml").read_text()


def test_a_saved_scale_has_its_own_name(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(ROOT / "workflow" / "scales", project / "workflow" / "scales")
    before = (project / "params.yaml").read_text()
    assert cli.main(["scale", "--save", "mine"]) == 0
    assert capsys.readouterr().out.endswith("mine.yaml now holds the values of params.yaml, as scale: mine\n")
    assert (project / "params.yaml").read_text() == before
    assert cli.main(["scale", "mine"]) == 0
    assert (project / "params.yaml").read_text() == before.replace("scale: demo ", "scale: mine ", 1)


@pytest.mark.parametrize(("words", "status"), [(["doctor"], 0), (["scale", "demo"], 128 + signal.SIGPIPE)])
def test_a_reader_that_has_gone_is_no_traceback(words: list[str], status: int) -> None:
    """Of what only tells something the reader has had enough; of anything else the work is not done."""
    code = (
        "import sys; from head3d import cli\n"
        "def gone(*_): raise BrokenPipeError\n"
        "cli._doctor = cli._scale = gone\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, "")


def test_user_errors_say_how_to_mend() -> None:
    error = UserError("a.mp4: no such file.", allowed="a video", fix="check the path")
    assert str(error) == "a.mp4: no such file; allowed: a video; check the path"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--subject", "n" * 300 + ".mp4", "--out", "o.mp4"], "n" * 300 + ".mp4: File name too long"),
        (["--subject", "a.mp4", "--out", "o" * 300 + ".mp4"], "not there"),
    ],
)
def test_names_that_no_file_can_have(words: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["view", *words]) == 2
    said = capsys.readouterr().err
    assert named in said
    assert said.count("\n") == 1


def test_another_failure_of_the_system_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**values: object) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    from head3d import use

    monkeypatch.setattr(use, "view", broken)
    with pytest.raises(OSError, match="Bad file descriptor"):
        cli.main(["view", "--subject", "a.mp4", "--out", "d.mp4"])


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_kill_ends_a_users_command_in_order(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    from head3d import use

    ended = []

    def killed(**values: object) -> None:
        try:
            os.kill(os.getpid(), number)
            raise AssertionError("still there")
        finally:
            ended.append(True)

    before = signal.getsignal(number)
    monkeypatch.setattr(use, "view", killed)
    with pytest.raises(SystemExit) as end:
        cli.main(["view", "--subject", "a.mp4", "--out", "d.mp4"])
    assert end.value.code == 128 + number
    assert ended == [True]
    assert signal.getsignal(number) == before


@pytest.mark.usefixtures("signals")
def test_what_is_to_be_ignored_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `nohup head3d view ...`: its terminal may be closed."""
    from head3d import use

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr(use, "view", lambda **values: os.kill(os.getpid(), signal.SIGHUP))
    assert cli.main(["view", "--subject", "a.mp4", "--out", "d.mp4"]) == 0


@pytest.mark.usefixtures("signals")
def test_a_kill_ends_a_stage_in_order(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left for DVC to hash; trainings keep their state and end by themselves."""

    def killed(params: Params, shard: int) -> None:
        with replacing_directory(project / "data" / "clips") as folder:
            (folder / "frames.npy").touch()
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("still there")

    monkeypatch.setattr(cli, "load_function", lambda path: killed)
    with pytest.raises(SystemExit) as end:
        cli.main(["crop", "--shard", "0"])
    assert end.value.code == 128 + signal.SIGTERM
    assert list((project / "data").iterdir()) == []
