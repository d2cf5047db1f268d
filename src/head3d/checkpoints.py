"""Weight files of others: read without executing anything in them, and compared by names and shapes."""

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from head3d.errors import UserError

SHOWN = 3  # names in an error message


def read_checkpoint(path: Path) -> dict[str, object]:
    """What an official checkpoint holds, by name; nothing in it is executed.

    Raises:
        UserError: the file is missing, or holds anything but tensors, numbers, texts and containers of them.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file", fix="give the checkpoint that the method's authors published")
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling fails in too many ways to name them
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].partition(". ")[0]
        raise UserError(f"{path}: not a checkpoint of tensors that torch can read ({reason})") from error
    if not isinstance(held, Mapping):
        raise UserError(f"{path}: holds a {type(held).__name__}", allowed="a dict with a state dict for each network")
    return {str(name): value for name, value in held.items()}


def match_state_dict(
    state: Mapping[str, object], expected: Mapping[str, Tensor], ignored: Collection[str], what: str, fix: str
) -> dict[str, Tensor]:
    """The expected tensors of a state dict, once it is seen to be that of the expected network.

    Args:
        state: the state dict; a prefix ``module.`` of data parallel training is left out.
        expected: tensors by the names that the file has for them. Counters of batch norm (``num_batches_tracked``) may
            be missing: PyTorch before 0.4.1 had none.
        ignored: names in the file that nothing reads; they may be missing.
        what: names the file in errors.
        fix: how to mend it.

    Raises:
        UserError: a tensor is missing, left over or of another shape.
    """
    held = {name.removeprefix("module."): value for name, value in state.items() if isinstance(value, Tensor)}
    missing = [name for name in expected if name not in held and not name.endswith("num_batches_tracked")]
    extra = [name for name in held if name not in expected and name not in ignored]
    shapes = [
        f"{name}: {tuple(held[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected
        if name in held and held[name].shape != expected[name].shape
    ]
    check_fit(what, len(expected), missing, extra, shapes, fix)
    return {name: held[name] for name in expected if name in held}


def check_fit(what: str, count: int, missing: list[str], extra: list[str], shapes: list[str], fix: str) -> None:
    """Say which of the ``count`` tensors that a network needs a file lacks, has beside them, or has in another shape.

    Raises:
        UserError: there is any.
    """
    problems = {"missing": missing, "left over": extra, "of another shape": shapes}
    if any(problems.values()):
        said = [
            f"{len(names)} {how} ({', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''})"
            for how, names in problems.items()
            if names
        ]
        raise UserError(f"{what}: of {count} tensors {', '.join(said)}", fix=fix)


def check_finite(state: Mapping[str, Tensor], what: object, fix: str) -> None:
    """Raises UserError if a tensor of a state dict holds NaN or infinity."""
    broken = sorted(name for name, value in state.items() if not value.isfinite().all())
    if broken:
        raise UserError(
            f"{what}: {len(broken)} tensors hold values that are no numbers, {broken[0]} among them", fix=fix
        )
