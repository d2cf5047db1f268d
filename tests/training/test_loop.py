"""The loop: schedules, resume bit for bit, signals that stop it."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from head3d.errors import UserError
from head3d.training import loop
from head3d.training.loop import Interrupted, Schedule, State, run_digest, train
from head3d.training.seeds import step_generator

pytestmark = pytest.mark.usefixtures("signals")


def make(seed: int = 0) -> State:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
    return State({"network": network}, torch.optim.Adam(network.parameters(), lr=1e-2, betas=(0.5, 0.999)))


def losses_of(state: State, fail_at: int | None = None, signal_at: int | None = None, number: int = signal.SIGTERM):
    def losses(step: int) -> dict[str, Tensor]:
        if step == fail_at:
            raise KeyboardInterrupt
        if step == signal_at:
            os.kill(os.getpid(), number)
        x = torch.randn(16, 4, generator=step_generator(7, step))
        loss = (state.modules["network"](x) - x.sum(dim=1, keepdim=True)).square().mean()
        return {"loss": loss, "half": loss / 2}

    return losses


def go(state: State, path: Path, **kwargs: int) -> State:
    train(
        state, path, Schedule(37, drops=(20,)), losses_of(state, **kwargs), label="t", checkpoint_every=5, log_every=4
    )
    return state


def weights(state: State) -> list[Tensor]:
    return list(state.modules["network"].state_dict().values())


@pytest.mark.parametrize("kwargs", [{"fail_at": 3}, {"fail_at": 18}, {"fail_at": 36}, {"signal_at": 11}])
def test_a_stopped_run_ends_in_the_same_weights(tmp_path: Path, kwargs: dict[str, int]) -> None:
    whole = go(make(), tmp_path / "whole.pt")
    with pytest.raises((KeyboardInterrupt, Interrupted)):
        go(make(), tmp_path / "stopped.pt", **kwargs)
    resumed = go(make(seed=99), tmp_path / "stopped.pt") if (tmp_path / "stopped.pt").exists() else None
    if resumed is None:  # stopped before the first save: it starts from the same initial weights
        resumed = go(make(), tmp_path / "stopped.pt")
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))
    assert whole.history == resumed.history


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_the_very_step_and_exits_143(tmp_path: Path, number: signal.Signals) -> None:
    state = make()
    with pytest.raises(Interrupted) as caught:
        go(state, tmp_path / "s.pt", signal_at=11, number=number)
    assert caught.value.code == 143
    again = make()
    again.load(tmp_path / "s.pt")
    assert again.step == 12


def test_what_is_to_be_ignored_stops_nothing(tmp_path: Path) -> None:
    """As `nohup head3d train ...`."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert go(make(), tmp_path / "s.pt", signal_at=11, number=signal.SIGHUP).step == 37


def test_a_second_sigterm_does_not_keep_the_state_from_being_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchrun passes on what Slurm has told every process already; a state takes seconds to be written."""
    real = torch.save

    def save(content: object, file: Path) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        real(content, file)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(Interrupted):
        go(make(), tmp_path / "s.pt", signal_at=3)
    again = make()
    again.load(tmp_path / "s.pt")
    assert again.step == 4


@pytest.mark.parametrize("kept", [0, 500])
def test_a_state_that_is_not_whole_is_one_line(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "s.pt"
    go(make(), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"s.pt: can't be read: .*; delete it: the training begins anew"):
        make().load(path)


@pytest.mark.parametrize("content", [b"some text\n", b"\x80\x02]q\x00.", b"\x80\x02}q\x00.", b"cbuiltins\neval\n."])
def test_a_state_that_is_something_else_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"s.pt: can't be read: .*; delete it: the training begins anew") as error:
        make().load(path)
    assert "\n" not in str(error.value)
    torch.save({"modules": {}}, path)
    with pytest.raises(UserError, match=r"s.pt: can't be read"):
        make().load(path)


def test_the_signal_handler_is_put_back(tmp_path: Path) -> None:
    go(make(), tmp_path / "s.pt")
    assert signal.getsignal(signal.SIGTERM) is signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


@pytest.mark.parametrize(
    ("loss", "step", "words"),
    [
        (lambda weights: weights.sum() * float("nan"), 9, r"loss is nan at step 10; .*s\.pt stays as it is"),
        # A number whose gradient is none: the weights are lost with it, before any loss could tell.
        (lambda weights: (weights.sum() * 0).sqrt(), 9, r"weights are not finite at step 10; .*s\.pt stays"),
    ],
)
def test_what_is_not_finite_is_never_saved(
    tmp_path: Path, loss: Callable[[Tensor], Tensor], step: int, words: str
) -> None:
    """Logged at 8 and 16, saved at 5 and 10: what went wrong in between would fail at every start from then on."""
    state = make()
    good = losses_of(state)

    def losses(at: int) -> dict[str, Tensor]:
        return {"loss": loss(next(state.modules["network"].parameters()))} if at == step else good(at)

    options: Any = {"label": "t", "checkpoint_every": 5, "log_every": 8}
    with pytest.raises(FloatingPointError, match=words):
        train(state, tmp_path / "s.pt", Schedule(20), losses, **options)
    state = make(seed=1)
    state.load(tmp_path / "s.pt")
    assert state.step == 5 and all(bool(weight.isfinite().all()) for weight in weights(state))
    train(state, tmp_path / "s.pt", Schedule(20), losses_of(state), **options)
    assert state.step == 20


def test_means_are_right_after_another_log_every(tmp_path: Path) -> None:
    """It may change between two starts, as nothing that is trained depends on it."""

    def constant(state: State, stop: int | None = None):
        def losses(step: int) -> dict[str, Tensor]:
            if step == stop:
                os.kill(os.getpid(), signal.SIGTERM)
            return {"loss": next(state.modules["network"].parameters()).sum() * 0 + 1}

        return losses

    state = make()
    with pytest.raises(Interrupted):
        train(state, tmp_path / "s.pt", Schedule(20), constant(state, 12), label="t", checkpoint_every=50, log_every=10)
    state = make()
    train(state, tmp_path / "s.pt", Schedule(20), constant(state), label="t", checkpoint_every=50, log_every=8)
    assert state.history == [(10, "loss", 1.0), (16, "loss", 1.0), (20, "loss", 1.0)]


def test_logged_losses_are_means_since_the_last_log(tmp_path: Path) -> None:
    state, seen = make(), []
    inner = losses_of(state)

    def losses(step: int) -> dict[str, Tensor]:
        out = inner(step)
        seen.append(float(out["loss"].detach()))
        return out

    train(state, tmp_path / "s.pt", Schedule(10), losses, label="t", checkpoint_every=100, log_every=4)
    logged = [(s, v) for s, n, v in state.history if n == "loss"]
    assert [s for s, _ in logged] == [4, 8, 10]
    assert logged[2][1] == pytest.approx(sum(seen[8:]) / 2)


def test_schedules() -> None:
    drop = Schedule(10, drops=(5,))
    assert [drop(0), drop(4), drop(5)] == [1.0, 1.0, 0.1]
    twice = Schedule(100, drops=(60, 90))
    assert [twice(step) for step in (0, 59, 60, 89, 90, 99)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    cosine = Schedule(10, cosine=True, warmup=2)
    assert cosine(0) == pytest.approx(0.5)
    assert cosine(5) == pytest.approx(0.5)
    assert cosine(9) < 0.03


def test_a_digest_follows_settings_and_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "PACKAGE", tmp_path)
    (tmp_path / "models").mkdir()
    code, other = tmp_path / "models" / "depth.py", tmp_path / "cli.py"
    code.write_text("a = 1\n")
    other.write_text("b = 1\n")
    one = run_digest({"lr": 1e-4}, ("models",))
    assert one != run_digest({"lr": 2e-4}, ("models",))
    other.write_text("b = 2\n")
    assert one == run_digest({"lr": 1e-4}, ("models",))
    code.write_text("a = 2\n")
    assert one != run_digest({"lr": 1e-4}, ("models",))
    code.write_text("a = 1\n")
    code.rename(code.with_name("pose.py"))
    assert one != run_digest({"lr": 1e-4}, ("models",))


def test_losses_that_are_where_they_were_logged_are_not_logged_again(tmp_path: Path) -> None:
    """A resumed run goes on with its MLflow run; another one is told everything."""
    logged: list[tuple[str, int, dict[str, float]]] = []

    def go_on(place: str | None, steps: int) -> None:
        state = make()
        train(
            state,
            tmp_path / "s.pt",
            Schedule(steps),
            losses_of(state),
            label="t",
            checkpoint_every=100,
            log_every=2,
            on_log=lambda step, losses: logged.append((str(place), step, losses)),
            logged_to=lambda: place,
        )

    go_on("a", 4)
    go_on("a", 8)
    assert [(place, step) for place, step, _ in logged] == [("a", 2), ("a", 4), ("a", 6), ("a", 8)]
    assert set(logged[0][2]) == {"loss", "half"}
    first, logged[:] = list(logged), []
    go_on("b", 8)
    assert [("a", step, losses) for _, step, losses in logged] == first
    logged.clear()
    go_on(None, 8)  # nobody knows where they are
    assert len(logged) == 4


def test_a_long_training_without_a_terminal_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("head3d.training.loop.TELL_EVERY_S", 0.0)
    go(make(), tmp_path / "s.pt")
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("t: step 4 of 37, loss ") and said[0].endswith(" s a step, 0.0 hours left")
    assert len(said) == 10
    monkeypatch.undo()
    go(make(), tmp_path / "t.pt")
    assert capsys.readouterr().err == ""


def test_steps_are_as_long_as_the_schedule_and_the_norm_allow(tmp_path: Path) -> None:
    """Plain descent along a constant slope goes by the sum of the learning rates times the slope."""

    def gone(name: str, schedule: Schedule, slope: float, clip_norm: float | None) -> float:
        weight = nn.Parameter(torch.zeros(()))
        state = State({}, torch.optim.SGD([weight], lr=0.1))
        options = {"label": "t", "checkpoint_every": 100, "log_every": 100}
        train(state, tmp_path / name, schedule, lambda _: {"loss": slope * weight}, clip_norm=clip_norm, **options)  # type: ignore[arg-type]
        return -float(weight.detach())

    assert gone("drop.pt", Schedule(6, drops=(4,)), 1.0, None) == pytest.approx(0.1 * (4 + 2 * 0.1))
    assert gone("clip.pt", Schedule(2), 50.0, 3.0) == pytest.approx(0.1 * 2 * 3, rel=1e-4)
