"""The methods that Head3D is compared with, written from their papers and exact to their official code.

A method is a folder here: ``settings.py``, ``method.py`` and ``training.py`` (CONTRIBUTING.md says what they hold).
"""

import importlib
from typing import TYPE_CHECKING, Any

from head3d.errors import UserError
from head3d.sections.choices import BASELINES as NAMES

if TYPE_CHECKING:
    from head3d.baselines.method import Method


def find(name: str) -> "type[Method]":
    """Class of a method: the subclass of ``Method`` in its folder's ``method.py`` that has its name.

    Raises:
        UserError: there is no such method.
    """
    from head3d.baselines.method import Method

    if name not in NAMES:
        raise UserError(f"no baseline is called {name!r}", allowed=", ".join(NAMES))
    module = importlib.import_module(f"head3d.baselines.{name}.method")
    for cls in vars(module).values():
        if isinstance(cls, type) and issubclass(cls, Method) and getattr(cls, "name", None) == name:
            return cls
    raise TypeError(f"{module.__name__} has no Method whose name is {name!r}")


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
