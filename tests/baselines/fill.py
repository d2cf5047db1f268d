"""Weights that depend on nothing but official names, and answers of official networks that have them."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

    from head3d.baselines.method import Method

GOLDEN = Path(__file__).parent / "golden"


def fill(name: str, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Value of the tensor ``<network>.<official name>``; the CRC of the name seeds NumPy's frozen generator."""
    kind = name.split(".")[-1]
    if kind == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    generator = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    normal = generator.standard_normal(shape).astype(np.float32)
    if kind in ("running_mean", "bias"):
        value = normal * 0.1
    elif kind == "running_var":  # positive
        value = np.abs(normal) * 0.5 + 0.5
    elif len(shape) == 1:  # gains of normalisations
        value = 0.6 + 0.1 * normal
    else:  # convolutions that keep the size of a signal, and linear layers that shrink it
        inputs = np.prod(shape[1:])
        value = normal * np.float32((1.4 if len(shape) > 2 else 0.3) / np.sqrt(inputs))
    return torch.from_numpy(np.asarray(value))


def is_fixed(name: str) -> bool:
    """Gaussian kernels are constants of the code, not weights: they stay as they are."""
    return name.endswith("down.weight")


def official_shapes(network: str) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of an official state dict, for example of ``fomm_generator``."""
    lines = (GOLDEN / "keys" / f"{network}.txt").read_text().splitlines()
    columns = [line.split() for line in lines if line]
    return {name: () if shape == "scalar" else tuple(map(int, shape.split("x"))) for name, shape, _ in columns}


def official_states(method: Method, seed: int = 0) -> dict[str, dict[str, Tensor]]:
    """Filled official state dicts of a method of any width, by official name of the network."""
    states: dict[str, dict[str, Tensor]] = {name: {} for name in method.networks()}
    ours = method.state_dict()
    for name, value in zip(method.to_official(ours), ours.values(), strict=True):
        network, _, rest = name.partition(".")
        states[network][rest] = value.clone() if is_fixed(name) else fill(name, tuple(value.shape), seed)
    return states


def golden(method: str) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Source frame, driving frame in [0, 1], and the official answers by name."""
    with np.load(GOLDEN / f"{method}.npz") as held:
        arrays = {name: torch.from_numpy(held[name]) for name in held.files}
    source, driving = (arrays.pop(name).float() / 255 for name in ("source", "driving"))
    return source, driving, arrays
