"""Official checkpoints turned into ours (``head3d import``), and methods written and read as safetensors."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from head3d.baselines import build, find
from head3d.baselines.method import Method
from head3d.checkpoints import check_finite, read_checkpoint
from head3d.errors import UserError
from head3d.files import replacing


def save(method: Method, path: Path, about: Mapping[str, str] | None = None, without: tuple[str, ...] = ()) -> None:
    """Write a method's networks, tensors named ``<network>.<our name>``.

    Args:
        method: the method.
        path: where to.
        about: more metadata; method and align_corners are always there.
        without: networks to leave out.
    """
    metadata = {**(about or {}), "method": method.name, "align_corners": json.dumps(method.align_corners)}
    state = {
        name: value.detach().cpu().contiguous()
        for name, value in method.state_dict().items()
        if name.partition(".")[0] not in without
    }
    with replacing(path) as file:  # save_file would let nobody but the owner read it
        file.write_bytes(to_bytes(state, metadata))


def is_imported(path: Path) -> bool:
    """Whether :func:`save` wrote a file of weights, and not a training."""
    try:
        with safe_open(path, "pt") as file:
            return "method" in (file.metadata() or {})
    except (OSError, SafetensorError):  # whoever reads it says so
        return False


def load(path: Path, image_size: int = 128, name: str | None = None, **settings: object) -> Method:
    """A method as :func:`save` wrote it, in evaluation mode.

    Args:
        path: the file.
        image_size: side of the frames, pixels.
        name: of the method that it must be; None for any.
        settings: those of the method's constructor that it was trained with, beside align_corners, which the file says.

    Raises:
        UserError: the file is missing, of another kind, or of other settings.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file", fix="train the method, or `head3d import` an official checkpoint")
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
        state = load_file(path)
    except Exception as error:  # safetensors raises its own and OSErrors
        raise UserError(f"{path}: not a safetensors file ({error})") from error
    if "method" not in about:
        raise UserError(f"{path}: does not say which method it is of", fix="write it with `head3d import`")
    if name not in (None, about["method"]):
        raise UserError(f"{path}: holds {about['method']}, not {name}", fix=f"write it with `head3d import {name}`")
    settings = {"align_corners": about.get("align_corners") == "true", **settings}
    method = build(about["method"], image_size, **settings)
    wanted = method.state_dict()
    held = {name.partition(".")[0] for name in state}
    absent = [name for name in method.optional if name not in held]
    wanted = {name: value for name, value in wanted.items() if name.partition(".")[0] not in absent}
    wrong = sorted(k for k in wanted.keys() ^ state.keys()) or sorted(
        k for k in wanted if wanted[k].shape != state[k].shape
    )
    if wrong:
        raise UserError(
            f"{path}: {len(wrong)} tensors do not fit {method.name} with these settings, {wrong[0]} among them",
            fix=f"use those that it was trained with: official ones as baseline.{method.name}.network has them in "
            "workflow/scales/paper.yaml",
        )
    check_finite(state, path, "import or train it again")
    method.load_state_dict(state, strict=False)
    method.lacks = tuple(absent)
    return method


def check(path: Path, name: str) -> None:
    """Whether an official checkpoint loads into a method in its official configuration.

    Raises:
        UserError: it does not.
    """
    build(name).load_official(read_checkpoint(path), str(path))


def convert(name: str, checkpoint: Path, out: Path, align_corners: bool | None = None) -> str:
    """Turn an official checkpoint into ours.

    Args:
        name: of the method.
        checkpoint: the official file.
        out: the safetensors file to write.
        align_corners: what the weights were trained with; None for what the published ones were.

    Returns:
        A line that says what was written.

    Raises:
        UserError: the checkpoint can't be read, or is not of this method in its official configuration.
    """
    cls = find(name)
    held = read_checkpoint(checkpoint)
    method = build(name, align_corners=cls.public_align_corners if align_corners is None else align_corners)
    method.load_official(held, str(checkpoint))
    absent = method.lacks
    try:
        save(method, out, without=absent)
    except OSError as error:
        raise UserError(f"{out}: can't be written ({error.strerror})") from error
    networks = ", ".join(n for n in method.networks() if n not in absent)
    left = f" (the checkpoint has no {', '.join(absent)})" if absent else ""
    return f"{out}: {name}, {networks}{left}, align_corners={json.dumps(method.align_corners)}"
