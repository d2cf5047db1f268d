"""Which frames of a test clip are the subject video, and which of these are references."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from head3d.data.store import ClipRecord
    from head3d.params import Params


def subject_half(length: int) -> int:
    """How many frames of a clip are the subject video: its first half; the second half is the driving video."""
    return length // 2


def draw_references(length: int, count: int, seed: int) -> list[int]:
    """Indices of ``count`` of a subject's ``length`` frames, drawn with the seed; the first one is s_ref."""
    import torch  # in here: whoever only halves a clip need not wait for it

    return torch.randperm(length, generator=torch.Generator().manual_seed(seed))[:count].tolist()


def reference_of(length: int, seed: int) -> int:
    """Index of the reference frame that a seed chooses from a subject video: Head3D's first one."""
    return draw_references(length, 1, seed)[0]


def draw_seed(params: "Params", record: "ClipRecord", draw: int) -> int:
    """Seed of the reference frames of a clip and draw: the same for every method, so that they are compared fairly."""
    return (params.seed * 1_000_003 + draw * 7919 + int(record.pixels_sha256[:8], 16)) % 2**31
