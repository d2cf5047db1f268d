"""Which frames become clips: no frame in two splits, whatever the video."""

import itertools
import math
import os
from typing import Any

import numpy as np
import pytest

from head3d.data import sources, video
from head3d.data.clips import windows
from head3d.params import Params


def check_split(found: list, n_frames: int, fps: float, length: int, gap_s: float) -> None:
    for before, after in itertools.pairwise(found):
        assert after.start >= before.start + length
    assert all(0 <= one.start <= n_frames - length for one in found)
    train = [one.start for one in found if one.split == "train"]
    seen = [one.start for one in found if one.split.endswith("-seen")]
    if train and seen:
        assert min(seen) - (max(train) + length) >= gap_s * fps


def test_any_video() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        n, fps, length = int(rng.integers(0, 3000)), float(rng.uniform(5, 60)), int(rng.integers(4, 60))
        most, share, gap = int(rng.integers(1, 60)), float(rng.choice([0, 0.1, 0.5])), float(rng.choice([0, 1, 2.5]))
        options: dict[str, Any] = {"length": length, "most": most, "seen_fraction": share, "gap_s": gap, "seed": 3}
        found = windows("v", "folder", False, n, fps, **options)
        check_split(found, n, fps, length, gap)
        train = [one for one in found if one.split == "train"]
        assert len(train) <= most
        assert len(found) - len(train) <= max(1, most // 4)
        assert bool(found) == (n >= length)
        if share and n >= 2 * length + math.ceil(gap * fps):
            assert train
            assert len(found) > len(train)  # everybody long enough is tested on, too
        assert found == windows("v", "folder", False, n, fps, **options)
        unseen = windows("v", "folder", True, n, fps, **options)
        check_split(unseen, n, fps, length, gap)
        assert {one.split for one in unseen} <= {"folder-unseen"}


def test_a_name_in_an_old_encoding() -> None:
    options: dict[str, Any] = {"length": 10, "most": 5, "seen_fraction": 0.0, "gap_s": 0.0, "seed": 0}
    assert len(windows(os.fsdecode(b"M\xfcller.mp4"), "folder", False, 1000, 25, **options)) == 5


def test_clips_are_spread_and_seeded() -> None:
    options: dict[str, Any] = {"length": 10, "most": 5, "seen_fraction": 0.0, "gap_s": 0.0}
    first = [one.start for one in windows("v", "mini", False, 1000, 25, seed=0, **options)]
    assert len(first) == 5
    assert all(200 * part <= start < 200 * (part + 1) for part, start in enumerate(first))
    assert first != [one.start for one in windows("v", "mini", False, 1000, 25, seed=1, **options)]
    assert first != [one.start for one in windows("w", "mini", False, 1000, 25, seed=0, **options)]


@pytest.fixture(scope="module")
def probed(demo: Params) -> dict[str, tuple[sources.Video, video.VideoInfo]]:
    return {one.name: (one, video.probe(one.path)) for one in sources.mini(demo)}


def test_mini_split(demo: Params, probed: dict) -> None:
    data, counts = demo.data, {"train": 0, "mini-seen": 0, "mini-unseen": 0}
    people: dict[str, set[str]] = {split: set() for split in counts}
    for name, (one, info) in probed.items():
        found = windows(
            name,
            one.source,
            one.unseen,
            info.n_frames,
            info.fps,
            length=data.clip_length,
            most=data.clips_per_video,
            seen_fraction=data.seen_fraction,
            gap_s=data.split_gap_s,
            seed=demo.seed,
        )
        check_split(found, info.n_frames, info.fps, data.clip_length, gap_s=1.0)
        for window in found:
            counts[window.split] += 1
            people[window.split].add(one.person)
    assert people["mini-unseen"] == {"single", "carphone"}
    assert not people["mini-unseen"] & people["train"]
    assert people["mini-seen"] == people["train"]
    if demo.scale == "demo":
        assert counts == {"train": 101, "mini-seen": 19, "mini-unseen": 4}


def test_shards_share_all_videos_evenly(demo: Params, probed: dict) -> None:
    found = [one for one, _ in probed.values()]
    for n in (1, 2, 3, 9):
        hands = sources.deal(sources.measured(found), n)
        assert len(hands) == n
        assert sorted(one.name for hand in hands for one in hand) == sorted(probed)
        assert sources.deal(sources.measured(found[::-1]), n) == hands
    sizes = [sum(one.path.stat().st_size for one in hand) for hand in sources.deal(sources.measured(found), 2)]
    assert max(sizes) < 1.2 * min(sizes)
