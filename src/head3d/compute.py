"""Where and in which type the networks run."""

import contextlib
import fcntl
import os
import platform
import tempfile
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from head3d.errors import UserError

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Compute:
    """Device and convolution type of a run; geometry is float32 whatever this says.

    Attributes:
        device: where tensors live.
        dtype: type of convolutions under autocast: bfloat16 or float32.
        channels_last: networks keep their weights in the layout that convolutions are fastest in.
    """

    device: torch.device
    dtype: torch.dtype
    channels_last: bool = True

    @staticmethod
    def resolve(device: str = "auto", precision: str = "auto", channels_last: bool = True) -> "Compute":
        """Resolve ``auto``: a GPU if there is one, bfloat16 where it is faster (:func:`cpu_gains_by_bfloat16`).

        Of several GPUs each process of this machine takes its own as far as they reach (:func:`own_gpu`), unless the
        device has a number, or the processes train together and have shared them out already.

        Raises:
            UserError: there is no such device, or none of CUDA here.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            chosen = torch.device(device)
        except RuntimeError as error:
            raise UserError(f"device is {device!r}", allowed="auto, cpu, cuda or cuda:N") from error
        if chosen.type == "cuda" and not torch.cuda.is_available():
            raise UserError(f"device: {device} is asked for but torch sees no GPU", fix="choose auto or cpu")
        if chosen.type == "cuda" and (chosen.index or 0) >= (gpus := torch.cuda.device_count()):
            raise UserError(f"device: {device} is asked for", allowed=f"cuda:0 to cuda:{gpus - 1} on this machine")
        if chosen == torch.device("cuda") and gpus > 1 and not torch.distributed.is_initialized():
            chosen = torch.device("cuda", own_gpu())
            torch.cuda.set_device(chosen)
        if precision == "auto":
            fast = (
                torch.cuda.is_bf16_supported(including_emulation=False)
                if chosen.type == "cuda"
                else cpu_gains_by_bfloat16()
            )
            precision = "bfloat16" if fast else "float32"
        return Compute(chosen, torch.bfloat16 if precision == "bfloat16" else torch.float32, channels_last)

    def __str__(self) -> str:
        """The device by its name and the type of convolutions, such as ``NVIDIA H200, bfloat16``."""
        on_gpu = self.device.type == "cuda"
        name = torch.cuda.get_device_name(self.device) if on_gpu else f"{self.device} ({platform.machine()})"
        return f"{name}, {str(self.dtype).removeprefix('torch.')}"

    def autocast(self) -> torch.autocast:
        """Context in which convolutions run in ``dtype``."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def place(self, network: M, *methods: str) -> M:
        """Move a network to the device and let its forward pass, and nothing around it, run under autocast.

        Geometry between networks stays float32 without anybody having to think of it. Freeze first what will not learn:
        its convolutions are kept in ``dtype``, rounded for good, so it is not to be saved or trained afterwards.

        Args:
            network: any.
            methods: other passes of it that are asked for by themselves.
        """
        network = network.to(self.device)
        if self.channels_last:
            network = network.to(memory_format=torch.channels_last)
        if self.dtype == torch.bfloat16:
            for module in network.modules():
                if isinstance(module, nn.Conv2d) and not module.weight.requires_grad:
                    module.to(self.dtype)  # else autocast would do that at every pass
            for name in ("forward", *methods):
                setattr(network, name, self.autocast()(getattr(network, name)))
        return network


@cache
def own_gpu() -> int:
    """Index of a GPU that no more processes of head3d have on this machine than any other; the same at every call.

    Held by locks on files, one for each GPU and process on it, which the system lets go however the process ends.
    """
    return own_gpus(1)[0]


def own_gpus(wanted: int) -> list[int]:
    """Indices of ``wanted`` different GPUs, those with the fewest processes of head3d; held as :func:`own_gpu` does."""
    names = [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]
    held: list[int] = []
    for turn in count():  # all have so many processes already
        for index, name in enumerate(names):
            if index not in held and _lock(Path(tempfile.gettempdir(), f"head3d-gpu-{name}-{turn}.lock")):
                held.append(index)
                if len(held) == wanted:
                    return sorted(held)
    raise AssertionError("unreachable")


def _lock(path: Path) -> bool:
    """Lock a file for as long as this process lives; False if another one has it. It may be another user's."""
    try:
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            file = os.open(path, os.O_RDONLY | os.O_CREAT)
            with contextlib.suppress(PermissionError):  # somebody else has made it meanwhile
                os.fchmod(file, 0o644)  # whatever the umask: others must be able to lock it, too
    except PermissionError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    return True


def cpu_gains_by_bfloat16() -> bool:
    """True if convolutions are faster in bfloat16 on this processor: it has AMX, or is of AMD's and has AVX-512 BF16.

    With torch 2.14 on 2026-11-30: an EPYC of Zen 4 takes 0.5 times as long for a convolution and 0.62 to 0.8 times for
    a training step as in float32. On a Xeon without AMX, whose AVX-512 BF16 has half the rate, steps and inference took
    1.5 to 2 times as long. Other processors emulate bfloat16.
    """
    return cpu_has_amx() or (torch.cpu._is_avx512_bf16_supported() and of_cpu("vendor_id") == "AuthenticAMD")


def cpu_has_amx() -> bool:
    """True if this processor multiplies tiles of bfloat16, several times as fast as float32."""
    return bool(torch.cpu._is_amx_tile_supported())


def cpu_instructions() -> str:
    """The widest instructions of this processor that decide how fast convolutions are, such as ``AVX-512 BF16``."""
    if cpu_has_amx():
        return "AMX"
    if torch.cpu._is_avx512_bf16_supported():
        return "AVX-512 BF16"
    return torch.backends.cpu.get_cpu_capability()


def of_cpu(key: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What Linux tells of the first processor, such as its ``model name`` or ``vendor_id``; empty where it does not."""
    with contextlib.suppress(OSError), cpuinfo.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""
