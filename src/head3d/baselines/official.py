"""Names of tensors in official checkpoints, and their conversion to ours and back.

A table is a list of pairs (official, ours) of dotted parts of names; ``#`` stands for a number. A full name is
``<network>.<name in the official state dict>``, so that a pair may begin with the network where it holds only there.
Pairs apply one after the other, anywhere in a name, between dots only; the way back applies them in reverse.
"""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from head3d.checkpoints import check_finite, check_fit
from head3d.errors import UserError

Table = tuple[tuple[str, str], ...]

# Of the shared blocks; every method's table begins with it.
BLOCKS: Table = (
    ("down_blocks.#", "down.#"),
    ("up_blocks.#", "up.#"),
    ("bottleneck.r#", "bottleneck.#"),
    ("down.weight", "shrink.kernel"),
    ("dense_motion_network", "motion"),
)
# Spectral normalisation of torch < 1.9, and the parametrisation that has replaced it.
SPECTRAL: Table = (
    ("weight_orig", "parametrizations.weight.original"),
    ("weight_u", "parametrizations.weight.0._u"),
    ("weight_v", "parametrizations.weight.0._v"),
)
FIXED = "shrink.kernel"  # constants that official checkpoints may hold; they are checked, and may be missing


def _replace(name: str, old: str, new: str) -> str:
    pattern = re.escape(old).replace(r"\#", r"(\d+)")
    numbers = iter(range(1, new.count("#") + 1))
    replacement = re.sub("#", lambda _: rf"\g<{next(numbers)}>", new)
    return re.sub(rf"(?<![^.]){pattern}(?![^.])", replacement, name)


def from_official(names: Iterable[str], table: Table) -> list[str]:
    """Our names of official ones, each with its network in front."""
    result = []
    for name in names:
        for official, ours in table:
            name = _replace(name, official, ours)
        result.append(name)
    return result


def to_official(names: Iterable[str], table: Table) -> list[str]:
    """Official names of ours, each with its network in front."""
    result = []
    for name in names:
        for official, ours in reversed(table):
            name = _replace(name, ours, official)
        result.append(name)
    return result


def tensors(state: Mapping[str, object], what: str) -> dict[str, Tensor]:
    """The tensors of a state dict, without the prefix that data parallel training leaves on their names.

    Raises:
        UserError: two names are one without it.
    """
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if isinstance(value, Tensor):
            plain = str(name).removeprefix("module.")
            if plain in found:
                raise UserError(f"{what}: holds both {plain} and module.{plain}", allowed="one of them")
            found[plain] = value
    return found


def _check_values(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str) -> None:
    """Raises UserError if a tensor is not of plain finite numbers, floating-point ones where the network has such."""
    for name, value in found.items():
        rounded = wanted[name].is_floating_point() and not value.is_floating_point()
        if value.layout != torch.strided or value.is_meta or value.is_complex() or rounded:
            raise UserError(
                f"{what}: {name} is a tensor of {value.dtype}, {value.layout}, on {value.device}",
                allowed="dense ones of floating-point numbers",
            )
    check_finite(found, what, "give a checkpoint whose training did not diverge")


def load_official(
    networks: Mapping[str, nn.Module],
    states: Mapping[str, object],
    table: Table,
    what: str,
    optional: Iterable[str] = (),
) -> None:
    """Fill networks from official state dicts; all of them, or none if anything is wrong.

    Args:
        networks: official name of each network, and ours.
        states: official state dicts by name of the network; other entries are ignored.
        table: names of the method's tensors.
        what: what the error message calls the states, for example ``vox.pth.tar``.
        optional: networks that may be missing.

    Raises:
        UserError: a network or a tensor is missing, left over, of another shape, or holds what is no number.
    """
    absent = [name for name in networks if not isinstance(states.get(name), Mapping)]
    if needed := [name for name in absent if name not in optional]:
        has = ", ".join(str(name) for name in list(states)[:6]) or "nothing"
        raise UserError(
            f"{what}: lacks the network{'s' if len(needed) > 1 else ''} {', '.join(needed)}, has {has}",
            fix="give a checkpoint of the method's own code",
        )
    given: dict[str, Tensor] = {}
    wanted: dict[str, Tensor] = {}
    for network, module in networks.items():
        state = states.get(network)
        if isinstance(state, Mapping):
            given |= {f"{network}.{name}": value for name, value in tensors(state, f"{what}, {network}").items()}
            wanted |= {f"{network}.{name}": value for name, value in module.state_dict().items()}
    ours = dict(zip(given, from_official(given, table), strict=True))
    official = dict(zip(wanted, to_official(wanted, table), strict=True))
    found = {ours[name]: value for name, value in given.items()}
    missing = [official[name] for name in wanted if name not in found and not name.endswith(FIXED)]
    extra = [name for name in given if ours[name] not in wanted]
    odd = [name for name in wanted if name in found and found[name].shape != wanted[name].shape]
    shapes = [f"{official[n]}: {tuple(found[n].shape)} instead of {tuple(wanted[n].shape)}" for n in odd]
    check_fit(what, len(wanted), missing, extra, shapes, "is it of this method and size?")
    _check_values(found, wanted, what)
    for name, value in found.items():
        if name.endswith(FIXED) and not torch.allclose(value.cpu().float(), wanted[name].cpu(), atol=1e-4):
            raise UserError(f"{what}: {official[name]} is not the Gaussian of the official code")
    with torch.no_grad():
        for name, value in found.items():
            if not name.endswith(FIXED):
                wanted[name].copy_(value)
