"""Pairs of different people: seeded, all different, the same for everybody."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from head3d.data.store import COLUMNS, ClipRecord
from head3d.errors import UserError
from head3d.evaluation import pairs


def records(people: dict[str, int]) -> list[ClipRecord]:
    """So many clips of each person."""
    about: dict[str, Any] = {**dict.fromkeys(COLUMNS, 0), "source": "mini"}
    return [
        ClipRecord(**{**about, "clip_id": f"{name}-{number}", "person": name})
        for name, count in people.items()
        for number in range(count)
    ]


def person(clip: str) -> str:
    return clip.partition("-")[0]


def test_every_pair_of_people_once_before_any_twice() -> None:
    chosen = pairs.choose(records({"ann": 5, "bob": 1, "eve": 3}), "s", 12, seed=0)
    who = [(person(pair.subject_clip), person(pair.driving_clip)) for pair in chosen]
    assert len(set(who[:6])) == len(set(who)) == 6
    assert all(a != b for a, b in who)
    assert len({(pair.subject_clip, pair.driving_clip) for pair in chosen}) == len(chosen) == 12
    assert [pair.pair for pair in chosen][:2] == ["p00", "p01"]


def test_the_seed_decides_and_the_order_of_the_records_does_not() -> None:
    clips = records({"ann": 4, "bob": 4})
    assert pairs.choose(clips, "s", 8, seed=1) == pairs.choose(clips[::-1], "s", 8, seed=1)
    assert pairs.choose(clips, "s", 8, seed=1) != pairs.choose(clips, "s", 8, seed=2)


def test_no_more_pairs_than_there_are() -> None:
    assert len(pairs.choose(records({"ann": 2, "bob": 1}), "s", 100, seed=0)) == 4
    assert pairs.choose(records({"ann": 9}), "s", 100, seed=0) == []
    assert pairs.choose(records({"ann": 2, "bob": 1}), "s", 0, seed=0) == []


def test_written_and_read_again(tmp_path: Path) -> None:
    chosen = pairs.choose(records({"ann": 2, "bob": 2}), "mini-seen", 3, seed=0)
    path = pairs.folder_of("mini-seen", tmp_path) / "pairs.csv"
    pairs.write(path, chosen)
    assert path.read_text().splitlines()[0] == "pair,dataset,subject_clip,driving_clip"
    assert pairs.read(path) == chosen
    assert [file.name for file in path.parent.iterdir()] == ["pairs.csv"]
    clips = {clip for pair in chosen for clip in (pair.subject_clip, pair.driving_clip)}
    assert pairs.read(path, clips) == chosen
    with pytest.raises(UserError, match=r"p00 is of .*, which is no clip of mini-seen; run `head3d transfer pairs`"):
        pairs.read(path, clips - {chosen[0].driving_clip})
    path.write_text("a,b\n")
    with pytest.raises(UserError, match="allowed: pair, dataset, subject_clip, driving_clip"):
        pairs.read(path)
    with pytest.raises(UserError, match="run `head3d transfer pairs` first"):
        pairs.read(tmp_path / "pairs.csv")


def test_two_sources_may_call_different_people_alike() -> None:
    clips = [
        replace(one, source=source, clip_id=source) for source in ("mini", "folder") for one in records({"ann": 1})
    ]
    chosen = pairs.choose(clips, "s", 9, seed=0)
    assert {(pair.subject_clip, pair.driving_clip) for pair in chosen} == {("mini", "folder"), ("folder", "mini")}
