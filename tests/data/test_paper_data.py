"""The paper's data: FaceForensics, clips around a given face, the whole way to the manifest, and the paper's size."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from head3d import cli, scales
from head3d.assets import cache as assets
from head3d.data import (
    crop,
    downloads,
    faceforensics,
    manifest,
    overview,
    parse,
    sources,
    video,
    voxceleb,
    voxceleb_files,
)
from head3d.data.store import COLUMNS, LISTING, ClipRecord, ClipStore, pixels_digest, read_records, write_records
from head3d.data.voxceleb import Box
from head3d.errors import UserError
from head3d.params import Params, read_yaml

from .conftest import ROOT, with_data
from .vox import put, settings, write_csv

# --- FaceForensics ----------------------------------------------------------------------------------------------------


def forensics(demo: Params, root: Path, **values: object) -> Params:
    update = {"videos": str(root), **values}
    return with_data(demo, sources=("faceforensics",), faceforensics=demo.data.faceforensics.model_copy(update=update))


def test_only_originals_of_faceforensics(demo: Params, tmp_path: Path) -> None:
    for name in ("c40", "c23"):
        for index in range(20):
            put(tmp_path / f"original_sequences/youtube/{name}/videos/{index:03d}.mp4")
    put(tmp_path / "original_sequences/actors/c23/videos/01__walking.mp4")
    put(tmp_path / "manipulated_sequences/Deepfakes/c23/videos/000_003.mp4")
    found = sources.faceforensics(forensics(demo, tmp_path, test=12))
    assert len(found) == 12
    assert all(one.unseen and one.path.parent.parent.name == "c23" for one in found)
    assert len({one.person for one in found}) == 12
    assert [one.name for one in found] != sorted(one.name for one in found)[:12]
    other = sources.faceforensics(forensics(demo, tmp_path, test=12).model_copy(update={"seed": demo.seed + 1}))
    assert {one.name for one in other} != {one.name for one in found}
    low = faceforensics.choose(forensics(demo, tmp_path, test=12, compression="c40"))
    assert [path.stem for path in low] == [one.name for one in found]  # the draw is by name
    assert all("c40" in path.parts for path in low)
    with pytest.raises(UserError, match="has no raw; allowed: c23, c40"):
        faceforensics.choose(forensics(demo, tmp_path, compression="raw"))
    plain = faceforensics.choose(forensics(demo, tmp_path / "original_sequences/youtube/c40/videos"))
    assert len(plain) == 20


def test_faceforensics_of_2018_and_wrong_directories(demo: Params, tmp_path: Path) -> None:
    put(tmp_path / "first" / "original_sequences/c40/videos/000.mp4")
    assert [one.name for one in sources.faceforensics(forensics(demo, tmp_path / "first"))] == ["000"]
    for part in ("train", "test"):
        for kind in ("original", "altered", "mask"):
            put(tmp_path / "old" / part / kind / f"{part}_{kind}.avi")
    put(tmp_path / "old" / "Deepfakes" / "000_003.mp4")  # the names that the official script gives
    put(tmp_path / "old" / "Face2Face" / "c23/videos/000_003.mp4")
    found = sources.faceforensics(forensics(demo, tmp_path / "old"))
    assert {one.name for one in found} == {"train_original", "test_original"}
    put(tmp_path / "two" / "a" / "000.mp4")
    put(tmp_path / "two" / "b" / "000.mp4")
    (tmp_path / "none").mkdir()
    for name, words in {
        "two": "2 videos have 1 names; allowed: each original once",
        "none": "no original videos in it",
        "nowhere": "is no directory; allowed: the directory that the official script filled",
    }.items():
        with pytest.raises(UserError, match=words):
            sources.faceforensics(forensics(demo, tmp_path / name))


# --- clips ------------------------------------------------------------------------------------------------------------


def test_clips_follow_the_given_face_within_the_given_span(demo: Params, two_people: Path) -> None:
    info = video.probe(two_people)
    middle = 213.0 / info.width  # carphone is 193 pixels wide
    squares = {}
    # as the metadata has it: the whole head, and of another size of the video
    for side, box in {"left": Box(50, 10, 140, 120, 873, 360), "right": Box(0.4, 0.1, 0.9, 0.9, 1, 1)}.items():
        one = sources.Video("voxceleb", f"p/v/{side}", "p", two_people, True, (1.0, 3.4), box)
        for record, frames, landmarks in crop.video_clips(one, "p", 0, demo):
            assert record.status == "ok", record
            assert frames is not None
            assert landmarks is not None
            assert 25 <= record.start_frame <= 85 - 40
            squares[side] = ((record.x0 + record.x1) / 2 / info.width, np.nanmean(landmarks))
            whole = list(video.read_frames(two_people, start=record.start_frame, count=1))
            square = crop.Square(record.x0, record.y0, record.x1 - record.x0)
            assert np.abs(square.cut(whole[0], 128).astype(int) - frames[0]).mean() < 1  # the right moment
    assert squares["left"][0] < middle < squares["right"][0]
    # nobody near the box, or no time
    far = sources.Video("voxceleb", "p/v/far", "p", two_people, True, None, Box(0, 0.99, 0.01, 1, 1, 1))
    assert {record.status for record, _, _ in crop.video_clips(far, "p", 0, demo)} == {"no face"}
    late = sources.Video("voxceleb", "p/v/late", "p", two_people, True, (60.0, 70.0), None)
    assert [record.status for record, _, _ in crop.video_clips(late, "p", 0, demo)] == ["too short"]


def test_other_sources_are_cut_as_ever(demo: Params) -> None:
    info = video.probe(assets.fetch("video-single"))
    one = sources.Video("mini", "single", "single", assets.fetch("video-single"), True)
    assert crop._within(one, info, info.fps, info.n_frames) == (0, info.n_frames)


def test_from_videos_to_the_manifest(demo: Params, in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is there runs, with its own digest and size; what comes later is taken in."""
    single, carphone = assets.fetch("video-single"), assets.fetch("video-carphone")
    rows = [("a_video", "id1", 10, 110, "train"), ("b_video", "id2", 0, 60, "test"), ("c_video", "id3", 0, 99, "train")]
    metadata = write_csv(in_tmp / "m.csv", [*rows, ("gone_video", "id4", 0, 100, "test")])
    put(Path("videos/a_video.mp4"), single.read_bytes())
    put(Path("videos/downloaded/id2/b_video/000000-000060.mp4"), carphone.read_bytes())
    put(Path("ff/original_sequences/youtube/c23/videos/033.mp4"), carphone.read_bytes())
    params = settings(demo, metadata, Path("videos"))
    update = {"image_size": 64, "clip_length": 8, "clips_per_video": 1, "seen_fraction": 0.0}
    forensic = demo.data.faceforensics.model_copy(update={"videos": "ff"})
    params = with_data(params, sources=("voxceleb", "faceforensics"), faceforensics=forensic, **update)
    params = params.model_copy(
        update={
            "device": "cpu",
            "test_sets": ("voxceleb-unseen", "faceforensics-unseen"),
            "parse": demo.parse.model_copy(update={"input_size": 128, "batch_size": 8}),
        }
    )

    def made() -> dict:
        crop.run(params, 0)
        parse.run(params, 0)
        return manifest.join_shards(params)

    summary = made()
    assert summary["splits"] == {"faceforensics-unseen": 1, "train": 1, "voxceleb-unseen": 1}, summary
    assert (summary["clips"], summary["people"]) == (3, 3)
    (clip,) = ClipStore("data").records("train")
    assert (clip.video, clip.person) == ("id1/a_video/000010-000110", "id1")
    assert 10 <= clip.start_frame <= 110 - 8
    put(Path("videos/train/id3#c_video#000000#000099.mp4"), single.read_bytes())
    later = made()
    assert later["splits"]["train"] == 2
    assert later["digest"] != summary["digest"]


# --- the paper's size -------------------------------------------------------------------------------------------------


def test_bookkeeping_of_22496_stretches_takes_seconds_and_little_memory(demo: Params, tmp_path: Path) -> None:
    """22,496 stretches of 1,251 people in 4,500 videos; a part is there, a part is lost, most are not tried."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(22_496):
        who, start = index % 1251, int(rng.integers(0, 20_000))
        part = "test" if 270 <= who < 310 else "train"
        rows.append((f"video{index // 5:06d}", f"id{10_001 + who}", start, start + int(rng.integers(64, 1024)), part))
    metadata, root = write_csv(tmp_path / "vox-metadata.csv", rows), tmp_path / "videos"
    params = settings(demo, metadata, root).model_copy(update={"shards": tuple(range(8))})
    status = root / "downloaded" / "status"
    status.mkdir(parents=True)
    table, listed = downloads.Table(status), voxceleb.read_metadata(metadata, 40)
    lines = [",".join(downloads._COLUMNS) + "\n"]
    for index, one in enumerate(listed[:6000]):
        if index % 3 == 0:
            put(root / "downloaded" / f"{one.name}.mp4")
        kind = ("ok", "gone", "retry later")[index % 3]
        entry = downloads.Entry(one.name, one.video, kind, 1, "2026-01-01T00:00:00.000+00:00", "a reason, with commas")
        lines.append(downloads._as_csv(entry).decode())
    (status / "shard-0.csv").write_text("".join(lines))

    nowhere = params.data.voxceleb.model_copy(update={"videos": None})
    unnamed = params.model_copy(update={"data": params.data.model_copy(update={"voxceleb": nowhere})})
    assert "data.voxceleb.videos is null" in overview.text(unnamed)  # and not what lies in the current directory

    said = overview.text(params)
    chosen = sources.voxceleb(params)
    planned = downloads.plans(params, voxceleb_files.drawn(params, voxceleb_files.Library(root)))
    hands = sources.deal(sources.measured(chosen), 8)
    table = downloads.Table(status)
    todo = [plan.todo(voxceleb_files.Library(tmp_path / "x"), table, set(), False) for plan in planned[0]]

    tracemalloc.start()
    overview.text(params)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6

    assert len(said.splitlines()) == 11
    assert len(chosen) == 2000
    people = [{one.person for one in chosen if one.unseen is part} for part in (True, False)]
    assert not people[0] & people[1]
    assert sum(plan.wanted for part in planned.values() for plan in part) == 7500 + 400
    shares = [sum(plan.wanted for plan in part) for part in planned.values()]
    assert max(shares) < 1.2 * min(shares)
    of_video: dict[str, set[int]] = {}
    for shard, part in planned.items():
        for plan in part:
            for one in plan.stretches:
                of_video.setdefault(one.video, set()).add(shard)
    assert {len(where) for where in of_video.values()} == {1}
    assert sum(map(len, todo)) <= shares[0]
    assert sorted(one.name for hand in hands for one in hand) == sorted(one.name for one in chosen)


def test_the_manifest_of_many_videos(in_tmp: Path, demo: Params) -> None:
    folder, n = Path("data/clips/shard-0"), 8050
    demo = tiny_clips(demo)
    records = [
        ClipRecord(f"voxceleb-{i}", 0, i, "voxceleb", f"v{i}", f"id{i % 999}", 0, 25.0, 0, 0, 9, 9, "ok", "train", "x")
        for i in range(n)
    ]
    write_records(folder / "clips.csv", records)
    arrays_of(0, records)
    summary = manifest.join_shards(demo.model_copy(update={"shards": (0,)}))
    assert (summary["clips"], summary["splits"]) == (n, {"train": n})
    assert "videos" not in summary  # `dvc metrics show` would print them all
    few = records[: manifest.MOST_LISTED]
    write_records(folder / "clips.csv", few)
    arrays_of(0, few)
    assert manifest.join_shards(demo.model_copy(update={"shards": (0,)}))["videos"]["voxceleb/v7"] == {"train": 1}


def tiny_clips(params: Params) -> Params:
    """Clips of one frame of 2x2 pixels, and no test sets."""
    data = params.data.model_copy(update={"image_size": 2, "clip_length": 1})
    return params.model_copy(update={"data": data, "test_sets": ()})


def arrays_of(shard: int, records: list[ClipRecord]) -> None:
    """Frames, landmarks and masks of a shard's clips."""
    folder, n = Path(f"data/clips/shard-{shard}"), len(records)
    np.save(folder / "frames.npy", np.zeros((n, 1, 2, 2, 3), np.uint8))
    np.save(folder / "landmarks.npy", np.zeros((n, 1, 68, 2), np.float32))
    Path("data/masks").mkdir(exist_ok=True)
    np.save(f"data/masks/shard-{shard}.npy", np.full((n, 1, 2, 2), 255, np.uint8))
    Path(f"data/masks/shard-{shard}.sha256").write_text(pixels_digest(records))


def shard_of(name: int, splits: dict[str, str], listing: str = "same") -> None:
    """A shard with a clip of each named video, {video: split}; of one name, one set of pixels."""
    folder = Path(f"data/clips/shard-{name}")
    records = [
        ClipRecord(f"folder-{video}-{split}", name, row, "folder", f"{split}/{video}", video, 0, 25.0, 0, 0, 9, 9, "ok",
                   split, f"pixels of {video}")
        for row, (video, split) in enumerate(splits.items())
    ]  # fmt: skip
    write_records(folder / "clips.csv", records)
    (folder / LISTING).write_text(listing)
    arrays_of(name, records)


def test_shards_of_different_lists_of_videos_are_refused(in_tmp: Path, demo: Params) -> None:
    """A video that comes between two jobs moves others from shard to shard: some would be nowhere, without a word."""
    for name in (0, 1):
        put(Path(f"videos/{name}.mp4"), bytes(10 + name))
    found = [sources.Video("folder", str(n), str(n), Path(f"videos/{n}.mp4"), False) for n in (0, 1)]
    sized = sources.measured(found)
    assert sources.listing(sized) == sources.listing(sources.measured(found[::-1]))
    assert sources.listing(sized) != sources.listing(sized[:1])
    put(Path("videos/1.mp4"), bytes(99))
    assert sources.listing(sources.measured(found)) != sources.listing(sized)
    Path("videos/1.mp4").unlink()
    with pytest.raises(UserError, match=r"1\.mp4: cannot be read"):
        sources.measured(found)

    two = tiny_clips(demo).model_copy(update={"shards": (0, 1)})
    shard_of(0, {"ann": "train"}, listing="same 2\n")
    shard_of(1, {"bob": "folder-unseen"}, listing="same 2\n")
    assert manifest.join_shards(two)["clips"] == 2
    with pytest.raises(UserError, match=r"shard-0 is one of 2 shards, params.yaml has 1; `dvc repro --force crop`"):
        manifest.join_shards(two.model_copy(update={"shards": (0,)}))
    shard_of(1, {"bob": "folder-unseen"}, listing="another")
    with pytest.raises(UserError, match="shard-0 and data/clips/shard-1 were cropped from different lists"):
        manifest.join_shards(two)


def test_files_of_a_shard_that_do_not_belong_together(in_tmp: Path, demo: Params) -> None:
    one = tiny_clips(demo).model_copy(update={"shards": (0,)})
    shard_of(0, {"ann": "train", "bob": "train"}, listing="")
    assert manifest.join_shards(one)["clips"] == 2
    with pytest.raises(UserError, match="test_sets names 'folder-seen', which has no clip; allowed: none"):
        manifest.join_shards(one.model_copy(update={"test_sets": ("folder-seen",)}))
    larger = one.model_copy(update={"data": one.data.model_copy(update={"image_size": 4})})
    with pytest.raises(UserError, match=r"frames.npy: of shape \(2, 1, 2, 2, 3\); allowed: \(2, 1, 4, 4, 3\) by clips"):
        manifest.join_shards(larger)
    masks = Path("data/masks/shard-0.npy").read_bytes(), Path("data/masks/shard-0.sha256").read_text()
    shard_of(0, {"ann": "train"}, listing="")  # cropped again after bob's video was deleted, but not parsed
    Path("data/masks/shard-0.npy").write_bytes(masks[0])
    Path("data/masks/shard-0.sha256").write_text(masks[1])
    with pytest.raises(UserError, match=r"shard-0.npy: masks of other clips .*; run `head3d parse --shard 0`"):
        manifest.join_shards(one)
    shard_of(0, {"bob": "train", "ann": "train"}, listing="")  # as many, but others
    Path("data/masks/shard-0.sha256").write_text(masks[1])
    with pytest.raises(UserError, match="masks of other clips"):
        manifest.join_shards(one)


def test_a_copy_of_a_training_video_is_not_tested_on(in_tmp: Path, demo: Params) -> None:
    two = tiny_clips(demo).model_copy(update={"shards": (0, 1)})
    shard_of(0, {"ann": "train"})
    shard_of(1, {"ann": "folder-unseen"})
    with pytest.raises(UserError, match="folder-unseen/ann is for testing and the same as folder/train/ann"):
        manifest.join_shards(two)


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command(demo: Params, in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = read_yaml(ROOT / "params.yaml")

    def run(*words: str) -> tuple[int, str]:
        with Path("params.yaml").open("w") as file:
            scales._yaml().dump(values, file)
        code = cli.main(["data", *words])
        said = capsys.readouterr()
        return code, said.out + said.err

    assert run("status") == (0, "mini: 6 of 6 videos in the cache\n")
    for words, told in {
        ("--source", "mini"): "--source is 'mini'; allowed: voxceleb",
        ("--source", "faceforensics"): "its authors give the videos out themselves, after a request; docs/data.md says",
        ("--source", "voxceleb", "--shard", "9"): "--shard is 9; allowed: 0, 1 (params.yaml: shards)",
        ("--source", "voxceleb"): "data.voxceleb.metadata is null, so there is nothing to download from",
    }.items():
        code, said = run("download", *words)
        assert (code, said.count("\n")) == (2, 1)
        assert told in said
    values["data"]["voxceleb"]["seconds"] = 1.0  # of a source that is not in data.sources: it stops nothing else
    code, said = run("download", "--source", "voxceleb")
    assert (code, said.count("\n")) == (2, 1)
    assert "params.yaml: data.voxceleb.seconds is 1.0; allowed: at least 3.2, two clips long" in said
    values["data"]["voxceleb"] |= {"videos": "vox", "metadata": "meta.csv", "seconds": 8.0}
    values["data"]["faceforensics"]["videos"] = "ff"
    code, said = run("status")
    assert code == 0
    assert (
        "voxceleb (not in data.sources): !! params.yaml: data.voxceleb.metadata is 'meta.csv', which does not" in said
    )
    assert "faceforensics (not in data.sources): !! params.yaml: data.faceforensics.videos is 'ff'" in said
    put(Path("ff/000.mp4"))
    put(Path("vox/downloaded/id1/a/000000-000100.mp4"))
    write_csv(Path("meta.csv"), [("a", "id1", 0, 100, "train"), ("b", "id2", 0, 100, "test")])
    code, said = run("status")
    assert (
        "voxceleb (not in data.sources): 1 of 7500 videos to train on, 0 of 400 to test on, in vox\nshard  wanted"
        in said
    )
    assert said.splitlines()[-2].split()[:3] == ["all", "2", "1"]
    assert "faceforensics (not in data.sources): 1 of 150 videos to test on, drawn from 1 in ff\n" in said


def test_a_clip_without_a_head_is_left_out_and_labels_are_told_apart(demo: Params, in_tmp: Path) -> None:
    folder = Path("data/clips/shard-0")
    about: dict[str, Any] = dict.fromkeys(COLUMNS, "0") | {
        "shard": 0,
        "start_frame": 0,
        "status": "ok",
        "split": "train",
    }
    about |= dict.fromkeys(("fps", "x0", "y0", "x1", "y1"), 1.0)
    records = [ClipRecord(**about | {"clip_id": f"c{i}", "row": i}) for i in range(3)]
    write_records(folder / "clips.csv", records)
    data = demo.data.model_copy(update={"image_size": 8, "clip_length": 4})
    demo = demo.model_copy(update={"data": data, "test_sets": ()})
    masks = np.full((3, 4, 8, 8), 255, np.uint8)
    masks[1, 2] = 0  # no head in one frame of the second clip
    masks[2, :, 0] = 9
    np.save(folder / "frames.npy", np.zeros((3, 4, 8, 8, 3), np.uint8))
    np.save(folder / "landmarks.npy", np.zeros((3, 4, 68, 2), np.float32))
    Path("data/masks").mkdir()
    Path("data/masks/shard-0.sha256").write_text(pixels_digest(records))
    np.save("data/masks/shard-0.npy", masks)
    summary = manifest.join_shards(demo.model_copy(update={"shards": (0,)}))
    assert (summary["clips"], summary["reasons"]) == (2, {"no head found by face parsing": 1})
    found = {one.clip_id: one for one in read_records(Path("data/manifest.csv"))}
    assert (found["c1"].row, found["c1"].split) == (-1, "unused")
    assert found["c0"].labels_sha256 != found["c2"].labels_sha256
    points = np.zeros((3, 4, 68, 2), np.float32)
    points[0, 0, 0] = 1
    np.save(folder / "landmarks.npy", points)
    manifest.join_shards(demo.model_copy(update={"shards": (0,)}))
    again = {one.clip_id: one for one in read_records(Path("data/manifest.csv"))}
    assert [again[name].labels_sha256 == found[name].labels_sha256 for name in ("c0", "c2")] == [False, True]
