"""VoxCeleb as a source: its metadata, the choice, and the layouts that its videos lie in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from head3d.data import (
    sources,
    voxceleb,
)
from head3d.data.voxceleb import Box, Stretch
from head3d.errors import UserError
from head3d.params import Params, check_params, read_yaml

from .conftest import ROOT
from .vox import counts, put, settings, write_csv

ROW = "WMh3ye5tBsE,3657,3994,624-48-1018-553,25,1280,720,train,id10005"
HEAD = "video_id,start,end,bbox,fps,width,height,partition,person_id"


def csv(path: Path, *rows: str, head: str = HEAD) -> Path:
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def test_metadata_of_fomm(tmp_path: Path) -> None:
    path = csv(
        tmp_path / "m.csv", ROW, ROW, "a-_1#id10270,10,70,0-0-5-5,50,10,10,test,", "b,1,20,0-0-5-5,25,9,9,train,id1"
    )
    found = voxceleb.read_metadata(path, 30)
    assert [one.name for one in found] == ["id10005/WMh3ye5tBsE/003657-003994", "id10270/a-_1/000005-000035"]
    first, second = found
    assert (first.start, first.end, first.test, second.test) == (3657, 3994, False, True)
    assert first.box is not None
    assert first.box.within(640, 360) == (312, 24, 509, 276.5)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("../x,1,2,0-0-1-1,25,9,9,train,id1", "line 3: video_id is '../x'; allowed: letters, digits, _ and -"),
        ("x,1,2,0-0-1-1,25,9,9,train,", "line 3: person_id is ''"),
        ("x,one,2,0-0-1-1,25,9,9,train,id1", "line 3: start is 'one'; allowed: a whole number"),
        ("x,5,2,0-0-1-1,25,9,9,train,id1", "line 3: end is '2'; allowed: more than start, 5"),
        ("x,1,2,0-0-1,25,9,9,train,id1", "line 3: bbox is '0-0-1'; allowed: left-top-right-bottom"),
        ("x,1,2,5-0-1-1,25,9,9,train,id1", "of some width and height"),
        ("x,1,2,0-0-1-1,0,9,9,train,id1", "line 3: fps is '0'"),
        *(
            (f"x,1,99,0-0-1-1,{rate},9,9,train,id1", f"line 3: fps is '{rate}'; allowed: 1 to 240 frames a second")
            for rate in ("nan", "inf", "1e-320", "1e-300", "-25", "fast")
        ),
        ("x,1,99,0-0-1-1,25,9,9,val,id1", "line 3: partition is 'val'; allowed: train, test, or nothing"),
        ("x,1,99,0-0-1-" + "9" * 400 + ",25,9,9,train,id1", "line 3: bbox is '0-0-1-99"),
        ("x,1," + "9" * 400 + ",0-0-1-1,25,9,9,train,id1", "line 3: end is '99"),
        ("x,1,2,0-0-1-1,25,9,0,train,id1", "line 3: height is '0'; allowed: at least 1"),
        ("x", "line 3: person_id is ''"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, row: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        voxceleb.read_metadata(csv(tmp_path / "m.csv", ROW, row), 1)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_metadata_as_a_spreadsheet_writes_it(tmp_path: Path) -> None:
    rows = [ROW.replace("train", " Test "), ROW.replace("3994", "3995").replace("train", "TRAIN")]
    path = csv(tmp_path / "m.csv", *rows, ROW.replace("3994", "3996").replace("train", ""))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [one.test for one in voxceleb.read_metadata(path, 30)] == [True, False, False]


def test_wrong_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    put(tmp_path / "binary.csv", b"\xff\xfe\x00")
    for path, words in {
        csv(tmp_path / "a.csv", "1,2", head="video_id,start"): "has no column end; allowed: video_id, start, end, bbox",
        csv(tmp_path / "b.csv", "x,1,9,0-0-5-5,25,9,9,train,id1"): "no stretch of video in it",
        tmp_path / "none.csv": "which does not exist; allowed: vox-metadata.csv, a directory",
        tmp_path / "empty": "no stretch of video in it; it should hold person/video/utterance.txt",
        tmp_path / "binary.csv": "cannot be read as a csv file",
    }.items():
        with pytest.raises(UserError, match=words):
            voxceleb.read_metadata(path, 40)


UTTERANCE = """Identity  : \tid10270
Reference : \t5r0dWxy17C8
Offset    : \t-1
FV Conf   : \t19.735\t(1)
ASD Conf  : \t3.442

FRAME \tX \tY \tW \tH
{rows}
"""


def test_text_files_of_voxceleb(tmp_path: Path) -> None:
    pixels = "\n".join(f"{index:06d} \t100 \t{40 + 10 * (index % 2)} \t80 \t80" for index in range(100, 200))
    shares = "\n".join(f"{index:06d} \t0.25 \t0.1 \t0.5 \t0.5" for index in range(7, 107))
    put(tmp_path / "vox1_dev_txt/txt/id10001/5r0dWxy17C8/00003.txt", UTTERANCE.format(rows=pixels).encode())
    put(tmp_path / "vox2_test_txt/txt/id00017/_mjZ87sK6cA/00095.txt", UTTERANCE.format(rows=shares).encode())
    put(tmp_path / "vox2_test_txt/txt/id00017/_mjZ87sK6cA/00096.txt", b"nothing")
    found = {one.part: one for one in voxceleb.read_metadata(tmp_path, 40)}
    assert {part: one.test for part, one in found.items()} == {"00003": False, "00095": True, "00096": True}
    first, second = voxceleb.detailed(found["00003"]), voxceleb.detailed(found["00095"])
    assert (first.start, first.end, second.start, second.end) == (100, 200, 7, 107)
    assert first.box is not None
    assert second.box is not None
    assert first.box.within(1280, 720) == (200, 90, 360, 250)  # VoxCeleb1 counts pixels at a height of 360
    assert second.box.within(1280, 720) == pytest.approx((320, 72, 960, 432))  # VoxCeleb2 shares
    with pytest.raises(UserError, match=r"00096\.txt: no table of faces in it; allowed: lines of FRAME X Y W H"):
        voxceleb.detailed(found["00096"])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("1 nan nan nan nan", "a number in it is none of a frame; allowed: FRAME X Y W H below 100,000,000"),
        ("1 0 0 8 8\n2 inf 0 8 8", "a number in it is none of a frame"),
        ("1 1e308 1e308 1e308 1e308", "a number in it is none of a frame"),
        ("9" * 400 + " 1 1 1 1", "a number in it is none of a frame"),
        ("100 0 0 8 8\n1 0 0 8 8", "its frames run from 100 to 1; allowed: frames in their order"),
    ],
)
def test_a_wrong_text_file_costs_only_itself(demo: Params, tmp_path: Path, rows: str, words: str) -> None:
    good = "\n".join(f"{index} 30 30 60 60" for index in range(100))
    put(tmp_path / "txt/id1/good/00001.txt", UTTERANCE.format(rows=good).encode())
    wrong = put(tmp_path / "txt/id2/wrong/00001.txt", UTTERANCE.format(rows=rows).encode())
    for name in ("good", "wrong"):
        put(tmp_path / f"videos/{name}.mp4")
    with pytest.raises(UserError, match=words) as caught:
        voxceleb.detailed(Stretch("id2", "wrong", "00001", text=wrong))
    assert str(wrong) in str(caught.value)
    found = sources.voxceleb(counts(settings(demo, tmp_path / "txt", tmp_path / "videos"), test=0))
    assert [one.name for one in found] == ["id1/good/00001"]


def stretches(n: int, people: int, kept: int = 0) -> list[Stretch]:
    box = Box(400, 100, 800, 500, 1280, 720)
    return [
        Stretch(f"id{i % people}", f"v{i // 3}", f"{i:06d}-{i + 90:06d}", i % people < kept, i, i + 90, box)
        for i in range(n)
    ]


@pytest.mark.parametrize("kept", [0, 3])
def test_people_of_test_and_training_are_disjoint(kept: int) -> None:
    made = stretches(600, 40, kept)
    drawn = voxceleb.order(made, 30, seed=1)
    people = [{one.person for one in part} for part in (drawn.train, drawn.test)]
    assert not people[0] & people[1]
    assert people[1] == {"id0", "id1", "id2"} if kept else len(drawn.test) >= 60
    assert sorted(one.name for one in drawn.train + drawn.test) == sorted(one.name for one in made)
    assert voxceleb.order(made[::-1], 30, seed=1) == drawn
    assert voxceleb.order(made, 30, seed=2).train[:5] != drawn.train[:5]
    if kept:  # a stretch that leaves the metadata moves nobody else
        fewer = voxceleb.order(made[7:], 30, seed=1)
        assert fewer.train == [one for one in drawn.train if one not in made[:7]]


def test_windows_lie_within_their_stretch() -> None:
    long = Stretch("id1", "v", "000100-000900", start=100, end=900)
    begin, end = voxceleb.window(long, 8.0, seed=0)
    assert 4.0 <= begin < end <= 36.0
    assert end - begin == pytest.approx(8.0)
    assert voxceleb.window(long, 8.0, seed=1) != (begin, end)
    assert voxceleb.window(long, 60.0, seed=1) == (4.0, 36.0)


def test_layouts_that_others_have_made(demo: Params, tmp_path: Path) -> None:
    rows = [("whole_video", "id1", 250, 350, "train"), ("cut_by_fomm", "id2", 30, 130, "train"),
            ("ours_is_here", "id3", 0, 100, "test"), ("nowhere_here", "id4", 0, 100, "train")]  # fmt: skip
    metadata, root = write_csv(tmp_path / "m.csv", rows), tmp_path / "videos"
    put(root / "youtube" / "whole_video.mp4")
    put(root / "train" / "id2#cut_by_fomm#000030#000130.mp4")
    put(root / "downloaded/id3/ours_is_here/000000-000100.webm")
    put(root / "downloaded/.work-0/000000.000.mp4")
    put(root / "downloaded/id4/nowhere_here/.000000-000100.mp4")
    found = {one.name.split("/")[1]: one for one in sources.voxceleb(settings(demo, metadata, root))}
    assert set(found) == {"whole_video", "cut_by_fomm", "ours_is_here"}
    box = Box(40, 10, 80, 60, 160, 90)
    assert (found["whole_video"].span, found["whole_video"].box) == ((10.0, 14.0), box)
    assert (found["cut_by_fomm"].span, found["cut_by_fomm"].box) == (None, None)
    assert (found["ours_is_here"].span, found["ours_is_here"].box) == (None, box)
    assert [one.unseen for one in found.values()] == [False, False, True]
    # without metadata nobody knows who is meant in a downloaded video, and who is kept for testing
    with pytest.raises(UserError, match=r"metadata is null, but .*downloaded holds whole frames.*; name it again, or"):
        sources.voxceleb(settings(demo, None, root))
    shutil.rmtree(root / "downloaded")
    # of those that were cut to the face names tell it
    put(root / "test" / "id9#another#000001#000200.mp4")
    put(root / "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4")
    found = {one.name: one for one in sources.voxceleb(settings(demo, None, root))}
    assert {name: (one.person, one.unseen) for name, one in found.items()} == {
        "id2/cut_by_fomm/000030-000130": ("id2", False),
        "id00012/21Uxsk56VDQ/00001": ("id00012", False), "id9/another/000001-000200": ("id9", True),
    }  # fmt: skip


def test_sources_say_what_is_missing(demo: Params, tmp_path: Path) -> None:
    metadata = write_csv(tmp_path / "m.csv", [("a", "id1", 0, 100, "train")])
    with pytest.raises(UserError, match=r"data\.voxceleb\.videos is '.*nowhere', which is no directory"):
        sources.voxceleb(settings(demo, metadata, tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"no video of VoxCeleb in it; allowed: downloaded/"):
        sources.voxceleb(settings(demo, metadata, tmp_path))
    put(tmp_path / "id1" / "a" / "00001.mp4", b"")  # as VoxCeleb2's text files name it, which a csv does not
    with pytest.raises(UserError, match=r"1 files are there, none of which .*m\.csv names; allowed: downloaded/"):
        sources.voxceleb(settings(demo, metadata, tmp_path))
    for name in ("voxceleb", "faceforensics"):
        values = read_yaml(ROOT / "params.yaml")
        values["data"]["sources"], values["test_sets"] = [name], [f"{name}-unseen"]
        with pytest.raises(UserError, match=rf"data\.{name}\.videos is null; allowed: the directory of the videos"):
            check_params(values)


def test_counts_are_parameters(demo: Params, tmp_path: Path) -> None:
    root = tmp_path / "videos"
    for index in range(50):
        put(root / "train" / f"id{index % 10}#v{index}#000000#000100.mp4")
    params = counts(settings(demo, None, root), train=20, test=7)
    found = sources.voxceleb(params)
    assert [sum(one.unseen is part for one in found) for part in (False, True)] == [20, 7]
    assert not {one.person for one in found if one.unseen} & {one.person for one in found if not one.unseen}
    other = sources.voxceleb(params.model_copy(update={"seed": 5}))
    assert {one.name for one in other} != {one.name for one in found}
    assert [one.name for one in sources.voxceleb(params)] == [one.name for one in found]


def test_who_lies_below_the_official_test_part_is_never_trained_on(demo: Params, tmp_path: Path) -> None:
    people = {f"id{number}": "test" if number == 5 else "dev" for number in range(8)}
    for person, part in people.items():
        put(tmp_path / f"vox2_{part}_mp4/mp4/{person}/_mjZ87sK6cA/00001.mp4")
        put(tmp_path / f"vox2_{part}_txt/txt/{person}/_mjZ87sK6cA/00001.txt")
    found = {one.person: one.unseen for one in sources.voxceleb(settings(demo, None, tmp_path))}
    assert found == {person: part == "test" for person, part in people.items()}
    for part in ("test", "dev"):  # the part's own directory may be what is named
        assert {one.test for one in voxceleb.read_metadata(tmp_path / f"vox2_{part}_txt", 1)} == {part == "test"}
