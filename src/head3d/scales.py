"""Scales: rewriting ``params.yaml`` from ``workflow/scales`` without losing a comment.

``demo.yaml`` holds every value; the other files hold what differs from it, or from the scale that their key
``extends`` names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping
from decimal import Decimal
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from head3d.errors import UserError
from head3d.files import replacing
from head3d.params import Params, check_params, read_yaml

FOLDER = Path("workflow/scales")
BASE = "demo"
EXTENDS = "extends"  # key of a scale's file
HEADER = {
    BASE: "# Every value of the demo scale. Made by `head3d scale --save demo`; the comments stand in params.yaml.\n",
    "": "# What differs from {under}.yaml, for `head3d scale {name}`; the comments stand in params.yaml.\n",
}


def names(root: str | Path = ".") -> list[str]:
    """The scales there are."""
    return sorted(path.stem for path in (Path(root) / FOLDER).glob("*.yaml"))


def values(name: str, root: str | Path = ".") -> dict[str, Any]:
    """All values of a scale, as ``params.yaml`` would hold them.

    Raises:
        UserError: no such scale, or its values are not allowed.
    """
    if not names(root):
        raise UserError(f"{Path(root) / FOLDER}: no scales there", fix="run it in the directory of the project")
    if name not in names(root):
        raise UserError(f"there is no scale {name!r}", allowed=", ".join(names(root)))
    found = read_yaml(Path(root) / "params.yaml")  # a key that is newer than the scales keeps its value
    for *sections, key in list(_unknown(found)):  # but not one that would seem to be a fault of the scale
        del reduce(getitem, sections, found)[key]
    for layer in _layers(name, root):
        _merge(found, layer)
    check_params(found, FOLDER / f"{name}.yaml")
    return found


def _layers(name: str, root: str | Path) -> list[dict[str, Any]]:
    """What a scale is made of, the base first."""
    layers: dict[str, dict[str, Any]] = {}
    while True:
        path = Path(root) / FOLDER / f"{name}.yaml"
        layers[name] = read_yaml(path)
        if name == BASE:
            return list(layers.values())[::-1]
        name = layers[name].pop(EXTENDS, BASE)
        others = [other for other in names(root) if other not in layers]
        if name not in others:
            raise UserError(f"{path}: {EXTENDS} is {name!r}", allowed=", ".join(others))


def use(name: str, root: str | Path = ".") -> str:
    """Rewrite ``params.yaml`` with the values of a scale; returns what was done in one line."""
    new = values(name, root)
    path = Path(root) / "params.yaml"
    yaml = _yaml()
    document = yaml.load(path)
    changed = _assign(document, new)
    with replacing(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)
    left = ", ".join(".".join(map(str, keys)) for keys in _unknown(document))
    said = f"scale {name}, {changed} value{'' if changed == 1 else 's'} changed"
    return f"{said}; unknown and left as they are: {left}" if left else said


def save(name: str, root: str | Path = ".") -> Path:
    """Write the values of ``params.yaml`` to a scale's file, labelled as that scale; returns its path."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise UserError(f"{name!r} names no scale", allowed="letters, digits, _ and -")
    found = read_yaml(Path(root) / "params.yaml")
    check_params(found)
    found["scale"] = name  # tables would give these numbers the name of the scale that they began as
    path = Path(root) / FOLDER / f"{name}.yaml"
    if name != BASE:
        under = read_yaml(path).get(EXTENDS) if path.exists() else None
        found = _difference(found, values(under or BASE, root))
        found = {EXTENDS: under, **found} if under else found
    with replacing(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        file.write(HEADER.get(name, HEADER[""]).format(name=name, under=found.get(EXTENDS, BASE)))
        _yaml().dump(_flow(found), file)
    return path


def _yaml() -> Any:
    """The round-trip reader and writer, set so that params.yaml comes out as it went in."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096  # no line breaks of its own
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null"))
    yaml.representer.add_representer(float, lambda r, v: r.represent_scalar("tag:yaml.org,2002:float", _number(v)))
    return yaml


def _number(value: float) -> str:
    """A float that every YAML reader takes for one: 0.0002 as 2.0e-4, never 2e-4, which YAML 1.1 reads as a string."""
    if value and not 1e-3 < abs(value) < 1e16:
        digits, _, exponent = f"{Decimal(repr(value)):e}".partition("e")  # every digit that repr has
        return f"{digits}{'' if '.' in digits else '.0'}e{int(exponent):+d}"
    return repr(float(value))


def _assign(document: MutableMapping[str, Any], new: Mapping[str, Any]) -> int:
    """Set the values that differ, keeping every comment; returns how many."""
    changed = 0
    for key, value in new.items():
        old = document.get(key)
        if isinstance(value, Mapping) and isinstance(old, MutableMapping):
            changed += _assign(old, value)
        elif old != value or isinstance(old, bool) != isinstance(value, bool):
            if isinstance(old, list) and isinstance(value, list):
                _assign_list(document, key, value)
            else:
                document[key] = value
            changed += 1
    return changed


def _assign_list(document: Any, key: str, value: list[Any]) -> None:
    """Set the entries of a list, written in one line as every list of params.yaml.

    ruamel.yaml remembers that style of no list that is empty, and keeps what stands below a list of one entry a line
    with its last entry: both would be lost.
    """
    from ruamel.yaml.comments import CommentedSeq
    from ruamel.yaml.tokens import CommentToken

    old = document[key]
    if old.fa.flow_style():
        old[:] = value  # comments of such a list are the document's
        return
    document[key] = CommentedSeq(value)
    document[key].fa.set_flow_style()
    last = old.ca.items.get(len(old) - 1, [None])[0]
    _, end, below = last.value.partition("\n") if last else ("", "", "")
    own = document.ca.items.setdefault(key, [None] * 4)
    if own[2] is None:
        own[2] = CommentToken(end + below, last.start_mark, None) if end and below else None
    else:  # a comment beside the key, and then what stands below
        own[2] = CommentToken(own[2].value + below, own[2].start_mark, None)


def _unknown(found: Mapping[Any, Any], section: Any = Params) -> Iterator[tuple[Any, ...]]:
    """The keys that no section has, each after those of the sections that it stands in."""
    for key, value in found.items():
        field = section.model_fields.get(key)
        if field is None:
            yield (key,)
        elif isinstance(value, Mapping) and hasattr(field.annotation, "model_fields"):
            yield from ((key, *inner) for inner in _unknown(value, field.annotation))


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value


def _difference(found: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    def differing() -> Iterator[tuple[str, Any]]:
        for key, value in found.items():
            other = base.get(key)
            if isinstance(value, Mapping) and isinstance(other, Mapping):
                if inner := _difference(value, other):
                    yield key, inner
            elif value != other:
                yield key, value

    return dict(differing())


def _flow(found: Mapping[str, Any]) -> dict[str, Any]:
    """The same with lists written in one line."""
    from ruamel.yaml.comments import CommentedSeq

    written: dict[str, Any] = {}
    for key, value in found.items():
        if isinstance(value, Mapping):
            written[key] = _flow(value)
        elif isinstance(value, list):
            written[key] = CommentedSeq(value)
            written[key].fa.set_flow_style()
        else:
            written[key] = value
    return written
