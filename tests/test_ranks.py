"""Processes that train together: what each gets of a batch, what they tell each other, and how they end."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from head3d import ranks
from head3d.errors import UserError
from head3d.ranks import ALONE, LEFT, STOPPED, STORE, Ranks, current, group


def start(code: str, place: Path, count: int = 2) -> list[subprocess.Popen]:
    """Ranks that find each other through a file, as those of head3d.launch do: no ports that tests could share."""
    shared = {"WORLD_SIZE": str(count), STORE: str(place / "store"), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=place,
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for rank in range(count)
    ]


def end(processes: list[subprocess.Popen]) -> list[tuple[int, str]]:
    """Exit status and output of each."""
    outputs = []
    for process in processes:
        assert process.stdin and process.stdout
        outputs.append(process.stdout.read().decode())
        process.wait(timeout=120)
        process.stdin.close()
        process.stdout.close()
    return [(process.returncode, output) for process, output in zip(processes, outputs, strict=True)]


@pytest.mark.parametrize(("count", "world"), [(4, 1), (4, 2), (12, 3), (5, 5)])
def test_rows_of_all_ranks_are_the_batch_and_nobody_has_anothers(count: int, world: int) -> None:
    parts = [list(range(count))[Ranks(rank, world).rows(count)] for rank in range(world)]
    assert [row for part in parts for row in part] == list(range(count))
    assert {len(part) for part in parts} == {count // world}


@pytest.mark.parametrize(("count", "world"), [(5, 2), (1, 2), (0, 2)])
def test_a_batch_that_cannot_be_shared_is_one_line(count: int, world: int) -> None:
    with pytest.raises(UserError, match=rf"canonical.batch_size is {count}, which 2 .*; allowed: a multiple of 2; "):
        Ranks(0, world).rows(count, "canonical.batch_size")


def test_a_process_that_is_alone_has_no_group() -> None:
    with group("cpu") as ranks:
        assert ranks is ALONE is current() and not torch.distributed.is_initialized()
    assert ranks.means([1.5, 2.0]) == [1.5, 2.0]
    assert int(ranks.share_of_count(torch.tensor(0))) == 1


TELL = """
import torch
from torch import nn
from head3d.ranks import group
from head3d.training.batchnorm import sync_batchnorm

with group("cpu") as ranks:
    found = {"means": ranks.means([ranks.rank, 4.0]), "share": ranks.share_of_count(torch.tensor(3 + 2 * ranks.rank)),
             "none": ranks.share_of_count(torch.tensor(0))}
    torch.manual_seed(ranks.rank)
    drawn = nn.Linear(3, 2).to(memory_format=torch.channels_last)
    ranks.broadcast_weights([drawn])
    found["weight"] = drawn.weight.detach()
    for parameter in drawn.parameters():
        parameter.grad = torch.full_like(parameter, ranks.rank + 1.0)
    ranks.average_gradients(drawn.parameters())
    found["gradient"] = [p.grad for p in drawn.parameters()]

    batch = torch.load("batch.pt")
    norm = nn.BatchNorm2d(3)
    norm.load_state_dict(batch["norm"])
    sync_batchnorm(norm, ranks)
    mine = slice(0, 7) if ranks.is_rank_zero else slice(7, 11)
    for _ in range(2):
        x = batch["x"][mine].to(memory_format=torch.channels_last).requires_grad_()
        out = norm(x)
    (out * batch["seen"][mine]).sum().backward()
    found |= {"out": out.detach(), "x": x.grad, "norm": norm.state_dict(), "scale": norm.weight.grad}
    norm.eval()
    found["eval"] = norm(x).detach()
    torch.save(found, f"{ranks.rank}.pt")
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, list[dict]]:
    """What two ranks found, and the batch that they normalised, in unequal parts."""
    place = tmp_path_factory.mktemp("ranks")
    draw = torch.Generator().manual_seed(0)
    norm = nn.BatchNorm2d(3)
    nn.init.uniform_(norm.weight, 0.5, 2, generator=draw)
    batch = {"x": torch.randn(11, 3, 4, 5, generator=draw) * 3 + 7, "seen": torch.randn(11, 3, 4, 5, generator=draw)}
    torch.save(batch | {"norm": norm.state_dict()}, place / "batch.pt")
    for status, output in end(start(TELL, place)):
        assert status == 0, output
    return batch | {"layer": norm}, [torch.load(place / f"{rank}.pt") for rank in range(2)]


def test_ranks_agree_on_numbers_weights_and_gradients(told: tuple[dict, list[dict]]) -> None:
    torch.manual_seed(0)
    wanted = nn.Linear(3, 2).weight
    for found in told[1]:
        assert found["means"] == [0.5, 4.0]
        assert float(found["share"]) == 4.0 and float(found["none"]) == 0.5
        assert torch.equal(found["weight"], wanted)
        assert all(torch.equal(g, torch.full_like(g, 1.5)) for g in found["gradient"])


def near(a: Tensor, b: Tensor | None) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_batch_normalisation_is_that_of_the_whole_batch(told: tuple[dict, list[dict]]) -> None:
    batch, (first, second) = told
    norm, x = batch["layer"], batch["x"].clone().requires_grad_()
    for _ in range(2):
        norm.weight.grad = x.grad = None
        out = norm(x)
    (out * batch["seen"]).sum().backward()
    near(torch.cat((first["out"], second["out"])), out.detach())
    near(torch.cat((first["x"], second["x"])), x.grad)
    near(first["scale"] + second["scale"], norm.weight.grad)
    for name, value in norm.state_dict().items():
        assert torch.equal(first["norm"][name], second["norm"][name])
        near(first["norm"][name], value)
    norm.eval()
    near(torch.cat((first["eval"], second["eval"])), norm(x).detach())


LATE = """
import os, time
from pathlib import Path
import torch.distributed as dist
from head3d.ranks import group

if os.environ["RANK"] == "0":
    begin = dist.init_process_group
    def late(*args, **kwargs):
        begin(*args, **kwargs)
        time.sleep(1)
        Path("connected").touch()
    dist.init_process_group = late
with group("cpu"):
    assert Path("connected").exists()
"""


def test_nobody_goes_on_before_all_have_connected(tmp_path: Path) -> None:
    for status, output in end(start(LATE, tmp_path)):
        assert status == 0, output


FAIL = """
import sys
from head3d import cli, ranks
from head3d.errors import UserError

def run(*_):
    with ranks.group("cpu") as mine:
        if mine.rank in {failing}:
            raise UserError("no such clip")
        mine.barrier()

cli.run_stage = run
sys.exit(cli.main(["train", "matching"]))
"""


@pytest.mark.parametrize("failing", ["(1,)", "(0, 1)"])
def test_an_error_is_one_line_whoever_has_it(tmp_path: Path, failing: str) -> None:
    ended = end(start(FAIL.format(failing=failing), tmp_path))
    assert sorted(status for status, _ in ended) == [2, LEFT]
    assert "".join(output for _, output in ended) == "head3d: no such clip\n"


def test_ranks_end_with_the_process_that_has_started_them(tmp_path: Path) -> None:
    code = "import time; from head3d.ranks import group\nwith group('cpu'): print('in', flush=True); time.sleep(100)"
    processes = start(code, tmp_path)
    for process in processes:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == b"in\n"
        process.stdin.close()
    assert [status for status, _ in end(processes)] == [LEFT, LEFT]


LOOP = """
import os, signal, sys
from pathlib import Path
import torch
from torch import nn
from head3d.ranks import current, group
from head3d.training.loop import Schedule, State, train
from head3d.training.seeds import step_generator

def go(path, stop_at=None):
    torch.manual_seed(current().rank)
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
    state = State({"network": network}, torch.optim.SGD(network.parameters(), lr=0.05))

    def losses(step):
        if step == stop_at and not current().is_rank_zero:
            os.kill(os.getpid(), signal.SIGTERM)
        x = torch.randn(16, 4, generator=step_generator(7, step))[current().rows(16)]
        return {"loss": (network(x) - x.sum(dim=1, keepdim=True)).square().mean()}

    train(state, Path(path), Schedule(30), losses, label="t", checkpoint_every=100, log_every=1)

if __name__ == "__main__":
    with group("cpu"):
        go("stopped.pt", stop_at=11)
"""


def test_sigterm_to_one_rank_stops_both_and_one_process_goes_on(tmp_path: Path, in_tmp: Path) -> None:
    ended = end(start(LOOP, tmp_path))
    assert [status for status, _ in ended] == [STOPPED, STOPPED], ended
    assert torch.load("stopped.pt", weights_only=True)["step"] == 12
    here: dict = {"__name__": "loop"}
    exec(LOOP, here)
    here["go"]("whole.pt")
    here["go"]("stopped.pt")
    whole, again = (torch.load(name, weights_only=True) for name in ("whole.pt", "stopped.pt"))
    assert whole["step"] == again["step"] == 30
    assert [v for *_, v in again["history"]] == pytest.approx([v for *_, v in whole["history"]], rel=1e-4)
    for name, value in whole["modules"]["network"].items():
        near(again["modules"]["network"][name], value)


def test_a_wrong_rank_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from head3d import cli

    monkeypatch.setenv("RANK", "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(UserError, match="RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE are x, 2, x, 0"),
        group("cpu"),
    ):
        pass
    # An error of a command that joins nobody is told all the same.
    assert cli.main(["import", "fomm", "none.pth", "--out", "x.safetensors"]) == 2
    assert capsys.readouterr().err.startswith("head3d: none.pth: no such file")


@pytest.mark.parametrize("rank", [None, "2"])
def test_a_rank_that_nobody_gave_does_not_wait_for_the_others(
    monkeypatch: pytest.MonkeyPatch, rank: str | None
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    said = f"WORLD_SIZE is 2, but RANK is {rank or 'not set'}; allowed: 0 to 1; start the stage by torchrun"
    with pytest.raises(UserError, match=said), group("cpu"):
        pass


@pytest.mark.parametrize(("rank", "local", "told"), [(0, 0, True), (1, 1, False), (4, 0, True)])
def test_more_processes_than_gpus_is_told_once_a_machine(
    rank: int,
    local: int,
    told: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    in_tmp: Path,
) -> None:
    """Every rank of the machine raises, so that none waits for the others, and one of them speaks."""
    from head3d import cli

    names = {"RANK": rank, "WORLD_SIZE": 8, "LOCAL_RANK": local, "LOCAL_WORLD_SIZE": 4}
    for name, value in names.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    (in_tmp / "params.yaml").write_text((Path(__file__).parents[1] / "params.yaml").read_text())
    assert cli.main(["train", "matching"]) == 2
    said = capsys.readouterr().err
    assert ("head3d: 4 processes on this machine, which has 2 GPUs; allowed: at most one process a GPU" in said) == told
    assert told or said == ""


def test_each_process_has_the_gpu_of_its_number_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert [ranks._backend(device, local, 2) for local, device in enumerate(("auto", "cuda"))] == [("nccl", "cuda")] * 2
    assert chosen == [0, 1]
    assert ranks._backend("cpu", 1, 2) == ("gloo", "cpu")


def test_an_error_is_told_even_if_the_group_cannot_be_left_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Destroying a group that has never come about may fail as well; that is not what went wrong."""

    def fail(error: Exception) -> Callable[..., None]:
        def raises(*_: object, **__: object) -> None:
            raise error

        return raises

    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(STORE, raising=False)
    monkeypatch.setattr("torch.distributed.rendezvous", lambda _: iter([(None, 0, 2)]))
    monkeypatch.setattr("torch.distributed.PrefixStore", lambda *_: None)
    monkeypatch.setattr("torch.distributed.init_process_group", fail(ValueError("what went wrong")))
    monkeypatch.setattr("head3d.ranks._is_first", lambda _: True)
    monkeypatch.setattr("head3d.ranks._destroy", fail(RuntimeError("no group")))
    with pytest.raises(ValueError, match="what went wrong"), group("cpu"):
        pass
