"""Official weights, made up with the names and shapes of the official lists."""

from pathlib import Path

import torch
from torch import Tensor

KEYS = Path(__file__).parents[1] / "baselines/golden/keys"


def shapes(network: str) -> dict[str, tuple[int, ...]]:
    rows = [line.split() for line in (KEYS / f"{network}.txt").read_text().splitlines() if line]
    return {name: () if shape == "scalar" else tuple(map(int, shape.split("x"))) for name, shape, _ in rows}


def made_up(network: str) -> dict[str, Tensor]:
    """Values of the size that keeps a signal's, different in every tensor."""
    draw = torch.Generator().manual_seed(len(network))
    state = {}
    for name, shape in shapes(network).items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
            continue
        value = torch.randn(shape, generator=draw)
        if name.endswith("running_var"):
            value = value.abs() + 0.5
        elif len(shape) > 1:
            value = value * (2 / value[0].numel()) ** 0.5
        else:
            value = value * 0.1 + (0.0 if name.endswith(("bias", "running_mean")) else 1.0)
        state[name] = value
    return state
