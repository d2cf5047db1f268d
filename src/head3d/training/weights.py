"""Weights to and from files, and at the start."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from head3d.checkpoints import check_finite
from head3d.errors import UserError
from head3d.files import replacing

M = TypeVar("M", bound=nn.Module)


def save_weights(module: nn.Module, path: Path, about: dict[str, object]) -> None:
    """Write weights as safetensors, with what they were trained with in the header."""
    tensors: dict[str, Tensor] = {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
    with replacing(path) as file:  # save_file would let nobody but the owner read it
        file.write_bytes(save(tensors, {"head3d": json.dumps(about, sort_keys=True, default=str)}))


def load_weights(module: M, path: Path) -> M:
    """Load trained weights.

    Raises:
        UserError: the file is missing, is no safetensors file, holds another network than ``params.yaml`` asks for, or
            weights that are NaN or infinite.
    """
    if not path.is_file():
        raise UserError(f"{path}: there are no trained weights", fix="run `dvc repro` (or `make demo`) first")
    try:
        state = load_file(path)
    except Exception as error:
        raise UserError(f"{path}: not a safetensors file ({error})", fix="train it again with `dvc repro`") from error
    wanted = module.state_dict()
    wrong = [
        k
        for k in wanted.keys() | state.keys()
        if k not in state or k not in wanted or state[k].shape != wanted[k].shape
    ]
    if wrong:
        raise UserError(
            f"{path}: {len(wrong)} tensors do not fit the networks of params.yaml, {sorted(wrong)[0]} among them",
            fix="use the params.yaml that it was trained with, or run `dvc repro`",
        )
    check_finite(state, path, "train it again with `dvc repro --force --single-item` and its stage")
    module.load_state_dict(state)
    return module


def seeded_init(seed: int, build: Callable[..., M], *arguments: object) -> M:
    """A network with initial weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(*arguments)
