"""Building a study from real videos."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from head3d.data import video
from head3d.errors import UserError
from head3d.study import build as module
from head3d.study.build import broken, build, read_pairs
from head3d.study.plan import BROKEN, TRUTH
from head3d.study.store import DATABASE, VIDEOS, Study, connect

from .conftest import METHODS, frames, make_videos, sides


@pytest.fixture
def copy(videos: Path, tmp_path: Path) -> Path:
    """A test's own copy of the videos."""
    return shutil.copytree(videos, tmp_path / "videos")


def test_a_study_holds_what_it_shows_and_nothing_else(built: Path) -> None:
    study = Study(built)
    assert sorted(path.name for path in built.iterdir()) == [DATABASE, VIDEOS]
    files = sorted(path.name for path in (built / VIDEOS).iterdir())
    assert len(files) == 3 * (2 + len(METHODS)) + 3  # of each pair all roles, and a broken one for the checks
    assert all(len(Path(name).stem) == 24 and set(Path(name).stem) <= set("0123456789abcdef") for name in files)
    assert len({(built / VIDEOS / name).stat().st_mtime for name in files}) == 1
    assert study.criteria == ("overall",) and len(study.raters()) == 2
    assert study.rows() == [("mini-seen", "overall", method) for method in sorted(METHODS[1:])]


def test_the_right_pictures_stand_on_the_right_side(built: Path, videos: Path) -> None:
    study = Study(built)
    with connect(built / DATABASE) as database:
        pairs = dict(database.execute("SELECT item, pair FROM item WHERE rater = 2"))
    for item, pair in pairs.items():
        left, right = sides(study)[2, item]
        # In a check one person plays both parts.
        roles = {
            "left": left,
            "right": right,
            "driving": TRUTH,
            "subject": TRUTH if BROKEN in (left, right) else "subject",
        }
        for slot, role in roles.items():
            shown = study.video(2, item, slot)
            assert shown is not None
            if role != BROKEN:
                assert np.array_equal(first_frame(shown), first_frame(videos / role / f"{pair}.mp4")), (slot, role)


def first_frame(path: Path) -> np.ndarray:
    return next(iter(video.read_frames(path)))


def test_the_seed_decides_the_plan_but_not_names_and_links(built: Path, videos: Path, tmp_path: Path) -> None:
    again = Study(build([videos], tmp_path / "again", raters=2, per_rater=6, checks=2, seed=0))
    other = Study(build([videos], tmp_path / "other", raters=2, per_rater=6, checks=2, seed=1))
    before = Study(built)
    assert sides(again) == sides(before) != sides(other)
    assert again.digest != before.digest  # two studies, whose raters are other people
    assert again.digest.partition("-")[0] == before.digest.partition("-")[0]  # of the same pictures
    assert not {rater.token for rater in again.raters()} & {rater.token for rater in before.raters()}
    names = [{path.name for path in (one.folder / VIDEOS).iterdir()} for one in (again, before)]
    assert not names[0] & names[1]


def test_what_can_be_chosen(videos: Path, tmp_path: Path) -> None:
    other = make_videos(
        tmp_path / "unseen", "mini-unseen", pairs=1, roles=("subject", "driving", "full", "fomm", "mraa")
    )
    study = Study(
        build(
            [videos, other], tmp_path / "study", raters=1, checks=0, criteria=["realism", "identity"],
            against=["mraa", "fomm"], every_pair=True,
        )
    )  # fmt: skip
    duels = [frozenset(place) for place in sides(study).values()]
    assert len(duels) == 3 * 4  # three duels of three methods on four pairs
    assert {duels.count(duel) for duel in set(duels)} == {4}
    assert [total for _, _, total in study.progress()] == [24]
    assert study.rows()[0] == ("mini-seen", "realism", "fomm")


def test_a_second_study_of_the_same_videos_shows_other_comparisons(videos: Path, tmp_path: Path) -> None:
    """Else more people would add votes to the same comparisons, each with the same side once more."""
    plans = []
    for name in ("first", "second", "third"):
        made = Study(build([videos], tmp_path / name, raters=3, per_rater=6, checks=0))
        plans.append(sides(made))
    assert not plans[0] == plans[1] == plans[2]


def test_a_rater_of_one_question_has_one_check(videos: Path, tmp_path: Path) -> None:
    study = Study(build([videos], tmp_path / "study", raters=1, per_rater=1))
    assert [total for _, _, total in study.progress()] == [2]


def test_a_broken_video_is_broken_everywhere() -> None:
    given = list(frames(90, length=4, size=64))
    spoilt = list(broken(given[0], len(given), seed=5))
    assert len(spoilt) == 4 and all(np.array_equal(one, spoilt[0]) for one in spoilt)
    tiles = [(slice(y, y + 16), slice(x, x + 16)) for y in range(0, 64, 16) for x in range(0, 64, 16)]
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)  # every tile its own
    picture = next(broken(noise, 1, seed=5))
    assert not any(np.array_equal(picture[tile], noise[tile]) for tile in tiles)
    kept = [any(np.array_equal(picture[tile], noise[other]) for other in tiles) for tile in tiles]
    assert sum(kept) == len(tiles) // 2  # the other half is in negative


def listed(*lines: str, head: str = "pair,dataset,subject_clip,driving_clip") -> Any:
    """Writes other pairs."""
    return lambda folder: (folder / "pairs.csv").write_text("\n".join([head, *lines, ""]))


def gone(*names: str) -> Any:
    """Removes files and folders."""
    return lambda folder: [
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink() for name in names
    ]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (gone("pairs.csv"), "pairs.csv: no such file; name a folder of transferred videos"),
        (listed(head="pair,dataset"), "no column subject_clip, driving_clip; allowed: pair, dataset"),
        (listed(), "holds no pairs"),
        (listed("../p,d,a,b"), "line 2: pair is '../p'; allowed: letters"),
        (listed("p,a b,a,b"), "line 2: dataset is 'a b'"),
        (listed("p"), "line 2: dataset is None"),
        (listed("p,a,a,b", "q,b,a,b"), "several data sets"),
        (listed("p,a,a,b", "p,a,a,b"), "a pair comes twice"),
        (lambda folder: (folder / "pairs.csv").write_bytes(b"\xff\xfe"), "cannot be read"),
        (gone("mraa/p01.mp4"), "mraa/p01.mp4: no such video; make mraa's videos again"),
        (gone("full"), "no videos of Head3D; allowed: a folder full"),
        (gone(*METHODS[1:]), "no baseline's videos"),
        (lambda folder: (folder / "full" / "p01.mp4").write_bytes(b"no video"), "full/p01.mp4: not a readable video"),
        (
            lambda folder: video.write_video(folder / "dagan" / "p02.mp4", frames(0, length=9), fps=25),
            "dagan/p02.mp4: 9 frames at 25 a second where the driving video has 10 frames at 25 a second",
        ),
        (
            lambda folder: video.write_video(folder / "full" / "p02.mp4", frames(0), fps=30),
            "full/p02.mp4: 10 frames at 30 a second where",
        ),
    ],
)  # fmt: skip
def test_wrong_videos_are_one_clear_line(copy: Path, tmp_path: Path, spoil, message: str) -> None:
    spoil(copy)
    with pytest.raises(UserError) as caught:
        build([copy], tmp_path / "study", raters=1)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["videos"]  # nothing half-made is left


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"raters": 0}, "--raters is 0; allowed: 1 to"),
        ({"per_rater": 13}, "--per-rater is 13; allowed: 1 to 12"),
        ({"per_rater": 0}, "--per-rater is 0"),
        ({"checks": -1}, "--checks is -1; allowed: 0 to 12"),
        ({"seed": -1}, "--seed is -1; allowed: 0 to 4294967295"),
        ({"criteria": ["beauty"]}, "--criteria has beauty; allowed: overall, realism, motion, identity"),
        ({"criteria": []}, "--criteria has nothing"),
        ({"against": ["fomm", "dream"]}, "--against has dream; allowed: dagan, facev2v, fomm, mraa"),
    ],
)
def test_wrong_numbers_are_one_clear_line(videos: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        build([videos], tmp_path / "study", **options)
    assert message in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_folders_that_cannot_be_used(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="data set mini-seen comes twice"):
        build([videos, videos], tmp_path / "study")
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="there: exists already; choose another name"):
        build([videos], tmp_path / "there")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="study: cannot be written"):
        build([videos], tmp_path / "file" / "study")
    assert read_pairs(videos).pairs == ("p00", "p01", "p02")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_copy_videos", fail)
    with pytest.raises(KeyboardInterrupt):
        build([videos], tmp_path / "stopped")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "there"]


def test_the_digest_is_of_the_pictures(copy: Path, built: Path, tmp_path: Path) -> None:
    """A video that was made again makes other pairs of it, whose votes are not counted with those of before."""
    video.write_video(copy / "fomm" / "p02.mp4", frames(200), fps=25, crf=12)
    again = Study(build([copy], tmp_path / "again", raters=1, per_rater=1, checks=0))
    assert again.digest.partition("-")[0] != Study(built).digest.partition("-")[0]


def test_a_check_plays_as_long_as_what_it_stands_beside(built: Path) -> None:
    with connect(built / DATABASE) as database:
        files = database.execute("SELECT file FROM video WHERE role IN (?, ?)", (TRUTH, BROKEN)).fetchall()
    assert len({(one.n_frames, one.fps) for (name,) in files for one in [video.probe(built / VIDEOS / name)]}) == 1
