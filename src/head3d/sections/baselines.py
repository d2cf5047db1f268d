"""The section ``baseline`` of ``params.yaml``: a part that all methods share, and one for each method's folder.

A method's own parameters are the class ``Settings`` in its folder's ``settings.py``; a folder that is there is known.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, create_model

from head3d.sections.choices import BASELINES
from head3d.sections.types import Count, NonNegative, Section, Share, check_distinct

if TYPE_CHECKING:
    from head3d.baselines.settings import BaselineSchedule


def _check_divides(value: float) -> float:
    """Their pyramids take every n-th pixel, so only 1 / n can be had; 1 / 3 must have all of its digits."""
    if not (1 / value).is_integer():
        raise ValueError("1 divided by a whole number, as 1.0, 0.5, 0.25 and 0.125")
    return value


ListOfPyramid = Annotated[
    tuple[Annotated[Share, AfterValidator(_check_divides)], ...],
    Field(strict=False, min_length=1),
    AfterValidator(check_distinct),
]


class BaselineTrainingParams(Section):
    """``baseline.training``: what the trainings of all baselines share."""

    repeats: Count
    id_sampling: bool
    lr_decay: Literal["cosine", "step"]
    perceptual: Literal["vgg16", "vgg19"]
    perceptual_scales: ListOfPyramid
    pixel_weight: NonNegative


def settings_class(name: str) -> type[BaselineSchedule]:
    """Parameters of a method: class ``Settings`` in its folder."""
    module = import_module(f"head3d.baselines.{name}.settings")
    settings = getattr(module, "Settings", None)
    if settings is None or not hasattr(settings, "title") or "network" not in settings.model_fields:
        raise TypeError(f"{module.__name__}: no class Settings with a title and a network (CONTRIBUTING.md)")
    return settings


def _check_known(value: str) -> str:
    if value not in BASELINES:
        raise ValueError(f"one of {', '.join(BASELINES)}")
    return value


Baseline = Annotated[str, AfterValidator(_check_known)]
ListOfBaselines = Annotated[tuple[Baseline, ...], Field(strict=False), AfterValidator(check_distinct)]

if TYPE_CHECKING:

    class BaselineParams(Section):
        """``baseline``: networks and training of the methods that Head3D is compared with, one section each."""

        training: BaselineTrainingParams

        def __getattr__(self, name: str) -> Any: ...

else:
    BaselineParams = create_model(
        "BaselineParams",
        __base__=Section,
        training=BaselineTrainingParams,
        **{name: settings_class(name) for name in BASELINES},
    )
