"""Whose videos are compared across people: their folders in data/transfer/SET, and what tables call them."""

from collections.abc import Sequence

FLOOR_VIDEOS = ("copy", "paste")  # made together: there is nothing to wait for
# Of a row of metrics/cross/SET.csv; the other columns are measures.
ABOUT = ("dataset", "method", "pair", "subject_clip", "driving_clip", "n_frames", "n_found")


def methods_of(baselines: Sequence[str]) -> dict[str, str]:
    """{folder of videos: name in tables}: floors, baselines in the order of params.yaml, Head3D."""
    return {**{name: name for name in (*FLOOR_VIDEOS, *baselines)}, "full": "head3d"}
