"""What no single key of ``params.yaml`` can tell: values that must fit each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from head3d.errors import UserError
from head3d.references import subject_half
from head3d.sections.types import show

if TYPE_CHECKING:
    from head3d.params import Params

SMALLEST = 16  # pixels that VGG must see: it halves four times
Problem = tuple[str, object, str]  # a key, its value, and what is allowed


def check_together(params: Params, path: str | Path) -> None:
    """Raises UserError, naming ``path``, at the first values that do not fit each other."""
    subjects = (_lists, _sources, _camera, _sizes, _frames, _losses)
    _refuse_first(chain.from_iterable(subject(params) for subject in subjects), path)


def check_voxceleb(params: Params, path: str | Path = "params.yaml") -> None:
    """The part of :func:`check_together` that counts only where VoxCeleb is used, for whoever uses it anyway."""
    _refuse_first(_voxceleb(params), path)


def _refuse_first(problems: Iterable[Problem], path: str | Path) -> None:
    for key, value, allowed in problems:
        raise UserError(f"{path}: {key} is {show(value)}", allowed=allowed)


def _lists(params: Params) -> Iterator[Problem]:
    """What the stages are expanded from."""
    if "full" not in params.variants:
        yield "variants", list(params.variants), "a list with full in it: figures and videos are made with it"
    names = [f"{source}-{part}" for source in params.data.sources for part in ("seen", "unseen")]
    for test_set in params.test_sets:
        if test_set not in names:
            yield "test_sets", test_set, f"{', '.join(names)} (from data.sources)"


def _sources(params: Params) -> Iterator[Problem]:
    data = params.data
    if "folder" in data.sources and data.folder is None:
        yield "data.folder", None, "the directory of the videos, as data.sources has folder"
    for source in ("voxceleb", "faceforensics"):
        if source in data.sources and getattr(data, source).videos is None:
            yield f"data.{source}.videos", None, f"the directory of the videos, as data.sources has {source}"
    if "voxceleb" in data.sources:
        yield from _voxceleb(params)


def _voxceleb(params: Params) -> Iterator[Problem]:
    settings = params.data.voxceleb
    if settings.train + settings.test == 0:
        yield "data.voxceleb.train", 0, "at least one video there or in data.voxceleb.test"
    window = 2 * params.data.clip_length / (params.data.fps or 25)  # at its own rate it is taken for VoxCeleb's
    if settings.seconds < window:
        yield "data.voxceleb.seconds", settings.seconds, f"at least {window:g}, two clips long"


def _camera(params: Params) -> Iterator[Problem]:
    camera, reach_m = params.camera, params.model.pose.max_z_m
    span_m = 2 * math.tan(math.radians(camera.fov_deg) / 2) * camera.distance_m
    if not 0.15 <= span_m <= 0.2:
        fits = f"an angle that spans 0.15 to 0.2 m at camera.distance_m, not {span_m:.3g} m: heads are made for that"
        yield "camera.fov_deg", camera.fov_deg, fits
    if reach_m >= camera.distance_m:
        yield "model.pose.max_z_m", reach_m, f"less than camera.distance_m, {camera.distance_m:g}"


def _sizes(params: Params) -> Iterator[Problem]:
    """What networks make of ``data.image_size``."""
    size, share = params.data.image_size, params.model.fusion.flow_scale
    if size * share % 32:  # Phi halves its input five times
        now = f"which it makes {size * share:g} now"
        yield "model.fusion.flow_scale", share, f"a multiple of 32 pixels as that share of data.image_size, {now}"
    fusion = params.model.fusion
    if fusion.flow_max < fusion.flow_width:
        yield "model.fusion.flow_max", fusion.flow_max, f"at least model.fusion.flow_width, {fusion.flow_width}"
    yield from _widths(params)
    yield from _levels(params)
    yield from _pyramids(params)


def _widths(params: Params) -> Iterator[Problem]:
    """Channels of the baselines' networks: those that all levels may have at most, and those of the first level."""
    for name in params.baselines:
        network = getattr(params.baseline, name).network
        for most in type(network).model_fields:
            width = most.removesuffix("most") + "width"
            if most.endswith("most") and hasattr(network, width) and getattr(network, most) < getattr(network, width):
                fits = f"at least {width}, {getattr(network, width)}"
                yield f"baseline.{name}.network.{most}", getattr(network, most), fits


def _levels(params: Params) -> Iterator[Problem]:
    """Halvings of the baselines' hourglasses."""
    size = params.data.image_size
    for name in params.baselines:
        network = getattr(params.baseline, name).network
        # The first two see a quarter of the resolution; a method without such networks has no such key.
        for key, shrunk in (("detector_levels", 4), ("motion_levels", 4), ("background_levels", 1)):
            side = shrunk * 2 ** getattr(network, key, 0)
            if size % side:
                fits = f"less: data.image_size, {size} pixels, must be a multiple of {side} with it"
                yield f"baseline.{name}.network.{key}", getattr(network, key), fits


def _pyramids(params: Params) -> Iterator[Problem]:
    """Resolutions of the perceptual losses."""
    size = params.data.image_size
    used = {"fusion": params.fusion} | ({"baseline.training": params.baseline.training} if params.baselines else {})
    for section, settings in used.items():
        scales = settings.perceptual_scales
        side = math.floor(size * min(scales))
        if side < SMALLEST:
            fits = f"shares of data.image_size, {size} pixels, that leave at least {SMALLEST} for VGG, not {side}"
            yield f"{section}.perceptual_scales", list(scales), fits


def _frames(params: Params) -> Iterator[Problem]:
    """Shares of a clip."""
    length, references = params.data.clip_length, params.model.references
    half = subject_half(length)
    for key, most in (("model.references", references), ("evaluate.references", max(params.evaluate.references))):
        if most > half:
            yield key, most, f"at most {half}, half of data.clip_length"
    left = length - references  # frames of a training clip that are no references
    for section in ("geometry", "fusion"):
        if (drivings := getattr(params, section).drivings) > left:
            yield f"{section}.drivings", drivings, f"at most {left}, data.clip_length without model.references"


def _losses(params: Params) -> Iterator[Problem]:
    """A stage without anything to learn from."""
    fusion = params.fusion
    if not (fusion.perceptual_weight or fusion.pixel_weight or fusion.equivariance):
        fits = "more than 0, there or in fusion.pixel_weight or fusion.equivariance: without them there is no loss"
        yield "fusion.perceptual_weight", fusion.perceptual_weight, fits
