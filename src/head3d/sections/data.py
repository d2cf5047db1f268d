"""The sections ``data`` and ``download`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from head3d.sections.types import (
    Address,
    Count,
    Fraction,
    ListOfSources,
    NonNegative,
    Place,
    Positive,
    Section,
    Share,
    Whole,
)


class CropParams(Section):
    """``data.crop``: how a video is cut to one steady square box."""

    margin: Annotated[float, Field(ge=0, le=2)]
    detect_every: Count
    min_face: Annotated[int, Field(ge=8)]
    min_iou: Annotated[float, Field(ge=0, le=1)]
    max_cut: Share


class VoxcelebParams(Section):
    """``data.voxceleb``: which videos of VoxCeleb, and where they lie or come to lie."""

    metadata: Place | None
    videos: Place | None
    train: Whole
    test: Whole
    seconds: Positive


class FaceforensicsParams(Section):
    """``data.faceforensics``: which original videos of FaceForensics."""

    videos: Place | None
    test: Count
    compression: Literal["raw", "c0", "c23", "c40"] | None


class DataParams(Section):
    """``data``: where the videos come from and how clips are taken from them."""

    sources: ListOfSources
    folder: Place | None
    voxceleb: VoxcelebParams
    faceforensics: FaceforensicsParams
    image_size: Annotated[int, Field(ge=64, le=1024, multiple_of=32)]
    clip_length: Annotated[int, Field(ge=4)]
    fps: Annotated[float, Field(gt=0, le=240)] | None
    clips_per_video: Count
    seen_fraction: Fraction
    split_gap_s: NonNegative
    crop: CropParams


class DownloadParams(Section):
    """``download``: how `head3d data download` behaves; no stage reads it, as it changes no video."""

    address: Address
    pause_s: NonNegative
    cookies: Place | None
    height: Annotated[int, Field(ge=144, le=4320)]
    timeout_s: Positive
    give_up_after: Count
