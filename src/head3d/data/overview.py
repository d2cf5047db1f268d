"""``head3d data status``: what each source of ``data.sources`` has, on one screen."""

from typing import TYPE_CHECKING

from head3d.assets.cache import status
from head3d.data import downloads, faceforensics, sources, voxceleb_files
from head3d.errors import UserError

if TYPE_CHECKING:
    from head3d.params import Params


def text(params: "Params") -> str:
    """All sources that the parameters name, and those whose directory they name; a wrong one says what is wrong."""
    named = list(params.data.sources)
    named += [name for name in ("voxceleb", "faceforensics") if getattr(params.data, name).videos and name not in named]
    lines = []
    for name in named:
        used = "" if name in params.data.sources else " (not in data.sources)"
        try:
            lines.append(f"{name}{used}: {_OF[name](params)}")
        except (UserError, OSError) as error:
            lines.append(f"{name}{used}: !! {error}")
    return "\n".join(lines)


def _mini(params: "Params") -> str:
    found = [there for asset, there in status() if asset.name.startswith("video-")]
    return f"{sum(found)} of {len(found)} videos in the cache"


def _folder(params: "Params") -> str:
    found = sources.folder(params)
    return f"{len(found)} videos, {sum(one.unseen for one in found)} of them never trained on, in {params.data.folder}"


def _voxceleb(params: "Params") -> str:
    settings = params.data.voxceleb
    if settings.metadata is None:
        library = voxceleb_files.open_library(params)
    else:
        library = voxceleb_files.Library(voxceleb_files.named(params))  # which the first download makes
    line = voxceleb_files.drawn(params, library)
    try:
        found = voxceleb_files.choose(params, library, line)
    except UserError:
        if settings.metadata is None:
            raise
        first = "no videos yet"
    else:
        unseen = sum(one.unseen for one in found)
        first = f"{len(found) - unseen} of {settings.train} videos to train on, {unseen} of {settings.test} to test on"
    if settings.metadata is None:
        return f"{first}, in {settings.videos} (no metadata)"
    return f"{first}, in {settings.videos}\n{downloads.status(params, library, line)}"


def _faceforensics(params: "Params") -> str:
    root, found = faceforensics.originals(params)
    return (
        f"{min(len(found), params.data.faceforensics.test)} of {params.data.faceforensics.test} videos to test on, "
        f"drawn from {len(found)} in {root}"
    )


_OF = {"mini": _mini, "folder": _folder, "voxceleb": _voxceleb, "faceforensics": _faceforensics}
