"""The parameters: one frozen, strict model for each section of ``params.yaml``, and the one loader of it.

A wrong value is a :class:`~head3d.errors.UserError` of one line that names the file, the key, the value and what is
allowed. The comments that explain each number stand in ``params.yaml`` itself.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from head3d.errors import UserError
from head3d.sections.baselines import BaselineParams, ListOfBaselines
from head3d.sections.choices import Motion
from head3d.sections.data import DataParams, DownloadParams
from head3d.sections.together import check_together
from head3d.sections.types import (
    Count,
    Device,
    Fraction,
    ListOfCounts,
    ListOfNames,
    ListOfShares,
    ListOfVariants,
    ListOfWholes,
    Name,
    NonNegative,
    Positive,
    Section,
    Share,
    Whole,
    show,
)

FLOORS = "floors"  # the "method" that stands for the floors copy, copy_last and paste: no training of their own


class ParseParams(Section):
    """``parse``: face parsing."""

    input_size: Annotated[int, Field(ge=64, le=2048, multiple_of=32)]
    rim: Annotated[float, Field(ge=0, le=0.1)]
    batch_size: Count


class CameraParams(Section):
    """``camera``: the pinhole camera of Eq. 2."""

    fov_deg: Annotated[float, Field(gt=0, lt=120)]
    distance_m: Annotated[float, Field(ge=0.3, le=10)]  # as faces are filmed; from afar float32 tells no depth


class DepthNetParams(Section):
    """``model.depth``: F_D."""

    encoder_width: Annotated[float, Field(gt=0, le=4)]
    decoder_width: Annotated[float, Field(ge=0.0125, le=4)]  # at least 16 channels, as its last block has a 16th
    range_m: Positive


class PoseNetParams(Section):
    """``model.pose``: F_P."""

    backbone: Literal["resnet18", "resnet50"]
    input_size: Annotated[int, Field(ge=48, le=1024)]  # 32 end as one pixel, whose batch norm needs several frames
    max_xy_m: Positive
    max_z_m: Annotated[float, Field(gt=0, lt=1)]


class CanonicalNetParams(Section):
    """``model.canonical``: E_H, the ConvLSTM and Omega_H."""

    width: Annotated[int, Field(ge=4)]
    blocks: Whole
    residual: bool


class FusionNetParams(Section):
    """``model.fusion``: E_F, Phi and Omega_F."""

    width: Annotated[int, Field(ge=4)]
    blocks: Whole
    flow_width: Annotated[int, Field(ge=4)]
    flow_max: Annotated[int, Field(ge=4)]
    flow_scale: Share
    image_skip: bool
    rigid_flow: bool
    matching: bool
    masked_attention: bool


class ModelParams(Section):
    """``model``: the networks."""

    references: Count
    depth: DepthNetParams
    pose: PoseNetParams
    canonical: CanonicalNetParams
    fusion: FusionNetParams


class GeometryParams(Section):
    """``geometry``: training of stage 1."""

    warm_start: Literal["generic", "official", "none"]
    warm_steps: Whole
    warm_batch: Count
    warm_lr: Positive
    warm_clip_norm: Positive
    warm_turn_deg: Annotated[float, Field(ge=0, le=45)]
    warm_swirl_deg: Annotated[float, Field(ge=0, le=90)]
    warm_occlusion: Fraction
    epochs: Count
    warmup_steps: Whole
    batch_size: Count
    drivings: Count
    depth_lr: Positive
    pose_lr: Positive
    lr_decay: Literal["cosine", "step"]
    lr_drop_epoch: Whole
    clip_norm: Positive | None
    symmetry: NonNegative
    smoothness: NonNegative
    area_normalised: bool
    pose_hold: NonNegative
    hold_batch: Count

    @property
    def has_warm_start(self) -> bool:
        """Whether poses by PnP and the generic head's depth come first."""
        return self.warm_start != "none" and self.warm_steps > 0

    @property
    def holds_statistics(self) -> bool:
        """Whether batch normalisation stays as the start has left it; without one there is nothing yet to keep."""
        return self.has_warm_start or self.warm_start == "official"


class CanonicalParams(Section):
    """``canonical``: training of stage 2."""

    epochs: Count
    batch_size: Count
    lr: Positive
    lr_drop_epoch: Whole
    clip_norm: Positive | None


class MatchingParams(Section):
    """``matching``: how the matcher of stage 3 is taught before it."""

    steps: Whole
    warmup_steps: Whole
    batch_size: Count
    pairs: Whole
    pair_weight: NonNegative
    lr: Positive
    clip_norm: Positive


class ParserParams(Section):
    """``parser``: the small parser and how it is taught."""

    input_size: Annotated[int, Field(ge=64, le=2048, multiple_of=32)]
    width: Annotated[int, Field(ge=4, multiple_of=2)]
    steps: Count
    warmup_steps: Whole
    batch_size: Count
    lr: Positive
    coarse_lr: Positive
    clip_norm: Positive
    backgrounds: Fraction
    color: Fraction
    mixed: Fraction


class FusionParams(Section):
    """``fusion``: training of stage 3."""

    epochs: Count
    warmup_steps: Whole
    batch_size: Count
    drivings: Count
    reference_draws: Whole
    lr: Positive
    lr_decay: Literal["constant", "cosine"]
    clip_norm: Positive | None
    perceptual: Literal["vgg16", "vgg19"]
    perceptual_weight: NonNegative
    perceptual_scales: ListOfShares
    pixel_weight: NonNegative
    equivariance: NonNegative
    driving_jitter: Fraction


class AugmentParams(Section):
    """``augment``: what is done to whole clips in training."""

    flip: bool
    color: Fraction
    similarity: Fraction


class TrainParams(Section):
    """``train``: what all trainings share."""

    checkpoint_every: Count
    log_every: Count
    channels_last: bool


class EvaluateParams(Section):
    """``evaluate``: self-reconstruction and transfer between people on the test sets."""

    draws: Count
    references: ListOfCounts
    pairs: Whole
    batch_size: Count
    bootstrap: Annotated[int, Field(ge=100)]


class AnimateParams(Section):
    """``animate``: transfer between people."""

    motion: Motion
    reference: Literal["random", "nearest"]


class Params(Section):
    """All of ``params.yaml``."""

    scale: Name
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    device: Device
    precision: Literal["auto", "bfloat16", "float32"]
    shards: ListOfWholes
    test_sets: ListOfNames
    variants: ListOfVariants
    baselines: ListOfBaselines
    data: DataParams
    download: DownloadParams
    parse: ParseParams
    parser: ParserParams
    camera: CameraParams
    model: ModelParams
    geometry: GeometryParams
    canonical: CanonicalParams
    matching: MatchingParams
    fusion: FusionParams
    baseline: BaselineParams
    augment: AugmentParams
    train: TrainParams
    evaluate: EvaluateParams
    animate: AnimateParams

    @property
    def methods(self) -> tuple[str, ...]:
        """What `evaluate reconstruction` evaluates: the floors, and Head3D in every variant."""
        return (FLOORS, *self.variants)

    @property
    def contenders(self) -> tuple[str, ...]:
        """What the tables compare: the floors, the baselines, and Head3D in every variant."""
        return (FLOORS, *self.baselines, *self.variants)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML 1.2 mapping as plain Python (the reader that DVC uses too, so that ``1.0e-4`` is a number to all)."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", fix="run head3d in the directory that holds params.yaml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    try:
        values = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError) as error:  # an impossible date, brackets without end
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or (str(error) if isinstance(error, ValueError) else "not YAML")
        raise UserError(f"{path}{where}: {' '.join(str(problem).split())}", allowed="a YAML file") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no keys", allowed="the sections of params.yaml")
    return values


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check the parameters.

    Raises:
        UserError: one line with file, key, value and what is allowed.
    """
    return check_params(read_yaml(path), path)


def check_params(values: dict[str, Any], path: str | Path = "params.yaml") -> Params:
    """Check values that are already read; ``path`` names their file in errors."""
    try:
        params = Params.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        first = _explain(problems[0])
        more = f"; and {len(problems) - 1} more, the next at {_key(problems[1]['loc'])}" if problems[1:] else ""
        raise UserError(f"{path}: {first[0]}", allowed=first[1] + more) from None
    check_together(params, path)
    return params


def _explain(problem: Any) -> tuple[str, str]:
    """(what is wrong, what is allowed) of one of pydantic's errors."""
    key, kind, message = _key(problem["loc"]), problem["type"], str(problem["msg"])
    if kind == "missing":
        return f"{key} is missing", "every key of the section, see workflow/scales"
    if kind == "extra_forbidden":
        known = _keys_at(problem["loc"][:-1])
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"{near[0]}? " if near else ""
        return f"{key} is {show(problem['input'])}, an unknown key", f"{hint}({', '.join(known)})"
    if kind == "tuple_type":
        return f"{key} is {show(problem['input'])}", "a list"
    if kind == "too_short":
        return f"{key} is {show(problem['input'])}", f"a list of at least {problem['ctx']['min_length']}"
    allowed = re.sub(r"^(Value error, |Input should be (a |an )?valid |Input should be )", "", message)
    allowed = allowed.replace("dictionary or instance of", "section").replace("unable to parse string as", "")
    return f"{key} is {show(problem['input'])}", allowed


def _keys_at(location: Iterable[int | str]) -> list[str]:
    """Names of the keys of the section at a location."""
    section: Any = Params
    for step in location:
        section = section.model_fields[str(step)].annotation
    return list(section.model_fields)


def _key(location: Iterable[int | str]) -> str:
    return ".".join(str(step) for step in location)
