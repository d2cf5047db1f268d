"""What the sections of ``params.yaml`` are made of: their base class, and the kinds of values."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

DEVICE = r"auto|cpu|cuda(:\d{1,2})?"  # what the name of a device looks like


def _check_device(value: str) -> str:
    if not re.fullmatch(DEVICE, value):
        raise ValueError("auto, cpu, cuda or cuda:N")
    return value


def check_distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse a list with an entry that comes twice."""
    if len(set(values)) != len(values):
        raise ValueError("a list without repeated entries")
    return values


def _check_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", value):
        raise ValueError("letters, digits, _ and -")
    return value


def _check_address(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s{}]+\{id\}[^\s{}]*", value):
        raise ValueError("http(s)://… with one {id} in it, as https://www.youtube.com/watch?v={id}")
    return value


def _check_place(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise ValueError("the name of a file or directory")
    return value


Place = Annotated[str, AfterValidator(_check_place)]  # ~ is a home directory
Name = Annotated[str, AfterValidator(_check_name)]
Address = Annotated[str, AfterValidator(_check_address)]  # of any of many pages
Device = Annotated[str, AfterValidator(_check_device)]
Count = Annotated[int, Field(ge=1)]  # at least one
Whole = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Width = Annotated[int, Field(ge=4)]  # channels
Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]
# YAML gives lists; frozen parameters hold tuples. Only this outer conversion is lax, the entries stay strict.
ListOfNames = Annotated[tuple[Name, ...], Field(strict=False, min_length=1), AfterValidator(check_distinct)]
ListOfCounts = Annotated[tuple[Count, ...], Field(strict=False, min_length=1), AfterValidator(check_distinct)]
ListOfWholes = Annotated[tuple[Whole, ...], Field(strict=False, min_length=1), AfterValidator(check_distinct)]
ListOfShares = Annotated[tuple[Share, ...], Field(strict=False, min_length=1), AfterValidator(check_distinct)]
Source = Literal["mini", "folder", "voxceleb", "faceforensics"]
ListOfSources = Annotated[tuple[Source, ...], Field(strict=False, min_length=1), AfterValidator(check_distinct)]
Variant = Literal["full", "mean_canonical", "no_head", "no_skip", "no_matching"]
ListOfVariants = Annotated[tuple[Variant, ...], Field(strict=False, min_length=1), AfterValidator(check_distinct)]
ListOfMilestones = Annotated[tuple[Count, ...], Field(strict=False), AfterValidator(check_distinct)]


class Section(BaseModel):
    """Base of every section: no unknown key, no silent conversion, no change after loading, no infinities."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


def show(value: object) -> str:
    """A value as errors have it: as YAML names nothing, and never so long that the line is lost."""
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
