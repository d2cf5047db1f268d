"""The methods that Head3D is compared with, written from their papers and exact to their official code."""

import importlib
from typing import TYPE_CHECKING, Any

from head3d.errors import UserError

if TYPE_CHECKING:
    from head3d.baselines.method import Method

NAMES = ("fomm", "mraa", "dagan", "facev2v")
# name -> module:class; imported when built
CLASSES = {
    "fomm": "head3d.baselines.fomm.method:Fomm",
    "mraa": "head3d.baselines.mraa.method:Mraa",
    "dagan": "head3d.baselines.dagan.method:Dagan",
    "facev2v": "head3d.baselines.facev2v.method:FaceV2V",
}


def find(name: str) -> "type[Method]":
    """Class of a method.

    Raises:
        UserError: there is no such method.
    """
    if name not in NAMES:
        raise UserError(f"no baseline is called {name!r}", allowed=", ".join(NAMES))
    module, _, cls = CLASSES[name].partition(":")
    return getattr(importlib.import_module(module), cls)


def build(name: str, image_size: int = 128, **settings: Any) -> "Method":
    """A method with fresh weights, in evaluation mode.

    Args:
        name: one of ``NAMES``.
        image_size: side of the frames, pixels.
        settings: of the method's constructor, for example ``align_corners=True`` or narrower networks.

    Raises:
        UserError: there is no such method, or it has no such frames.
    """
    return find(name)(image_size=image_size, **settings).eval()
