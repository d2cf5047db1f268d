"""FaceForensics: the original videos, from the layout of the official download script or from a directory of them.

Only originals are taken: whatever lies below a directory of manipulated videos, masks or actors is passed over. The
files are behind a licence form (docs/data.md); nothing is downloaded here.
"""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from head3d.data.video import EXTENSIONS
from head3d.errors import UserError
from head3d.files import expanded, files_below

if TYPE_CHECKING:
    from head3d.params import Params

COMPRESSIONS = ("raw", "c0", "c23", "c40")  # the best first
# Below the official script's directory; its first versions had no `youtube`.
ORIGINALS = (Path("original_sequences/youtube"), Path("original_sequences"))
# Directories, in small letters, of FaceForensics (2018) and FaceForensics++ that hold no original videos from YouTube.
_OTHERS = {"manipulated_sequences", "altered", "mask", "masks", "actors", "images", "downloaded_videos"}
_OTHERS |= {"deepfakes", "deepfakedetection", "face2face", "faceswap", "faceshifter", "neuraltextures"}


def originals(params: "Params") -> tuple[Path, list[Path]]:
    """The directory that the originals were looked for in, and all of them, sorted.

    Raises:
        UserError: no such directory, or several compressions beside each other and none of them chosen.
    """
    settings = params.data.faceforensics
    if settings.videos is None:
        raise UserError("params.yaml: data.faceforensics.videos is null", allowed="a directory of videos")
    root = expanded(settings.videos)
    if not root.is_dir():
        raise UserError(
            f"params.yaml: data.faceforensics.videos is '{root}', which is no directory",
            allowed="the directory that the official script filled, or one of original videos",
            fix="docs/data.md says how to come by them",
        )
    official = next((root / path for path in ORIGINALS if (root / path).is_dir()), None)
    if official is not None:
        there = [name for name in COMPRESSIONS if (official / name / "videos").is_dir()]
        if settings.compression is None:  # the script makes directories before it fills them
            there = [name for name in there if _videos(official / name / "videos")] or there
        wanted = [settings.compression] if settings.compression else there[:1]
        if not there or wanted[0] not in there:
            raise UserError(
                f"{official}: has no {settings.compression or 'videos'}",
                allowed=", ".join(there) or "raw/videos, c0/videos, c23/videos or c40/videos",
                fix="set data.faceforensics.compression to null" if there else "run the official script again",
            )
        root = official / wanted[0] / "videos"
    found = _videos(root)
    if not found:
        raise UserError(f"{root}: no original videos in it", allowed=f"{ORIGINALS[0]}/c23/videos/*.mp4, or *.mp4")
    stems = {path.stem for path in found}
    if len(stems) < len(found):
        raise UserError(
            f"{root}: {len(found)} videos have {len(stems)} names",
            allowed="each original once",
            fix="name one compression's directory in data.faceforensics.videos",
        )
    return root, sorted(found, key=lambda path: path.stem)


def choose(params: "Params") -> list[Path]:
    """At most ``data.faceforensics.test`` of the originals, drawn with the seed."""
    _, found = originals(params)

    def draw(path: Path) -> str:
        return hashlib.sha256(f"{params.seed} {path.stem}".encode()).hexdigest()

    return sorted(found, key=draw)[: params.data.faceforensics.test]


def _videos(root: Path) -> list[Path]:
    """All original videos below a directory."""
    below = files_below(root, lambda name: name.lower() in _OTHERS or name.startswith("."))
    return [path for path in below if _is_video(path.name)]


def _is_video(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS
