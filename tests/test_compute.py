"""Which GPU a process takes; GPUs are made up here, locks and processes are real."""

import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from head3d.compute import Compute, _lock, cpu_gains_by_bfloat16, cpu_instructions, of_cpu, own_gpu, own_gpus
from head3d.errors import UserError

TAKE = """
import sys, tempfile, torch
from types import SimpleNamespace
from head3d.compute import Compute

tempfile.tempdir = sys.argv[1]
chosen = []
torch.cuda.is_available = lambda: True
torch.cuda.device_count = lambda: 2
torch.cuda.get_device_properties = lambda index: SimpleNamespace(uuid=f"gpu-{index}")
torch.cuda.set_device = chosen.append
devices = [Compute.resolve(word, "float32").device for word in ("auto", "cuda", "cuda:1")]
assert devices[0] == devices[1] == chosen[0] == chosen[1] and len(chosen) == 2, (devices, chosen)
print(devices[0].index, devices[2].index, flush=True)
sys.stdin.read()
"""


class Taker:
    """A process that takes a GPU of two and keeps it until it is killed."""

    def __init__(self, place: Path) -> None:
        command = [sys.executable, "-c", TAKE, str(place)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        words = self.process.stdout.readline().split()
        assert words[1:] == ["1"], "a device with a number is taken as it is"
        self.gpu = int(words[0])

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def takers(tmp_path: Path) -> Iterator[list[Taker]]:
    """Three processes that were started one after the other."""
    started = [Taker(tmp_path) for _ in range(3)]
    yield started
    for each in started:
        each.kill()


def test_processes_share_gpus_evenly_and_give_them_back(takers: list[Taker], tmp_path: Path) -> None:
    assert [each.gpu for each in takers] == [0, 1, 0]
    takers[1].kill()
    late = Taker(tmp_path)
    assert late.gpu == 1
    late.kill()


def test_one_gpu_or_none_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    own_gpu.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert Compute.resolve("auto", "float32").device == torch.device("cuda")
    with pytest.raises(UserError, match="cuda:0 to cuda:0"):
        Compute.resolve("cuda:1", "float32")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Compute.resolve("auto", "float32").device == torch.device("cpu")
    with pytest.raises(UserError, match="no GPU"):
        Compute.resolve("cuda", "float32")
    assert own_gpu.cache_info().currsize == 0


def test_processes_that_train_together_take_different_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=f"gpu-{index}"))
    assert own_gpus(3) == [0, 1, 2]
    assert own_gpus(2) == [0, 3]  # one is free, the others have a process each
    assert own_gpus(4) == [0, 1, 2, 3]


def test_what_never_learns_is_kept_in_the_type_that_it_is_used_in() -> None:
    """The same answers, without another copy of the weights at every pass."""
    compute = Compute(torch.device("cpu"), torch.bfloat16)
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 2, 1))
    network(torch.rand(8, 3, 8, 8))  # statistics that bfloat16 would round
    network.eval()
    frozen = compute.place(copy.deepcopy(network).requires_grad_(False))
    learning = compute.place(network)
    assert [weight.dtype for name, weight in frozen.named_parameters() if name[0] in "02"] == [torch.bfloat16] * 4
    assert {value.dtype for value in frozen[1].state_dict().values()} == {torch.float32, torch.int64}
    assert {weight.dtype for weight in learning.parameters()} == {torch.float32}
    torch.testing.assert_close(frozen(image), learning(image), atol=0, rtol=0)


@pytest.mark.parametrize("fast", [True, False])
def test_auto_is_the_faster_precision(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Emulated bfloat16 is not fast; what is asked for is taken."""
    monkeypatch.setattr("head3d.compute.cpu_gains_by_bfloat16", lambda: fast)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: fast or including_emulation)
    for device in ("cpu", "cuda"):
        assert Compute.resolve(device).dtype is (torch.bfloat16 if fast else torch.float32)
        for precision in ("bfloat16", "float32"):
            assert Compute.resolve(device, precision).dtype is getattr(torch, precision)


@pytest.mark.parametrize(
    ("amx", "avx512", "vendor", "gains"),
    [
        (True, True, "GenuineIntel", True),
        (False, True, "GenuineIntel", False),  # half the rate
        (False, True, "AuthenticAMD", True),
        (False, False, "AuthenticAMD", False),  # before Zen 4: emulated
        (False, True, "", False),
    ],
)
def test_bfloat16_is_for_the_processors_that_are_faster_in_it(
    amx: bool, avx512: bool, vendor: str, gains: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr("head3d.compute.of_cpu", lambda key: {"vendor_id": vendor}[key])
    assert cpu_gains_by_bfloat16() is gains
    assert cpu_instructions() == ("AMX" if amx else "AVX-512 BF16" if avx512 else cpu_instructions())


def test_what_linux_tells_of_the_processor(tmp_path: Path) -> None:
    lines = ("processor\t: 0", "vendor_id\t: AuthenticAMD", "model name\t: AMD EPYC: a test", "", "vendor_id\t: other")
    (tmp_path / "cpuinfo").write_text("\n".join(lines))
    assert of_cpu("vendor_id", tmp_path / "cpuinfo") == "AuthenticAMD"
    assert of_cpu("model name", tmp_path / "cpuinfo") == "AMD EPYC: a test"
    assert of_cpu("vendor", tmp_path / "cpuinfo") == ""
    assert of_cpu("vendor_id", tmp_path / "none") == ""  # no Linux


def test_locks_are_for_all_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0o077)
    try:
        assert _lock(tmp_path / "gpu.lock")
    finally:
        os.umask(before)
    assert (tmp_path / "gpu.lock").stat().st_mode & 0o777 == 0o644

    def refuse(*_: object) -> int:
        raise PermissionError

    def missing() -> int:
        raise FileNotFoundError

    with monkeypatch.context() as change:
        change.setattr(os, "fchmod", refuse)  # another user has made it a moment ago
        assert _lock(tmp_path / "other.lock")
    monkeypatch.setattr(os, "open", refuse)
    assert not _lock(tmp_path / "gpu.lock")
    monkeypatch.setattr(os, "open", lambda path, flags: missing() if flags == os.O_RDONLY else refuse())
    assert not _lock(tmp_path / "theirs.lock")
