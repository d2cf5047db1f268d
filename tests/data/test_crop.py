"""The stages on real clips: crops, reasons for leaving out, bad files, and the manifest."""

import hashlib
import itertools
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from head3d.assets import cache as assets
from head3d.data import crop, manifest, parse, sources, video
from head3d.data.clips import Window
from head3d.data.faces import FaceTracker, _detector, detect, iou, landmarks
from head3d.data.sources import Video, folder
from head3d.data.store import ClipStore, NpyWriter, write_records
from head3d.errors import UserError
from head3d.params import Params

from .conftest import ffmpeg, gradient, with_data
from .test_video import hostile


def frames_of(name: str, start: int = 0, count: int = 40) -> list[np.ndarray]:
    return list(video.read_frames(assets.fetch(f"video-{name}"), start=start, count=count))


def test_detector_and_landmarks_agree() -> None:
    frame = frames_of("single", count=1)[0]
    (box,) = detect(frame)
    points = landmarks(frame, box)
    assert points.shape == (68, 2)
    assert iou(box, (*points.min(0), *points.max(0))) > 0.5
    assert points[8, 1] > points[33, 1] > points[27, 1]  # chin below nose below its root
    assert points[36, 0] < points[45, 0]  # the eye on the left of the picture comes first


def test_small_frames_are_enlarged_for_the_detector() -> None:
    assert len(detect(frames_of("carphone", count=1)[0])) == 1


def test_one_real_clip(demo: Params) -> None:
    source = frames_of("single")
    clip, points, square = crop.crop_clip(source, FaceTracker(32), demo)
    assert clip.shape == (40, 128, 128, 3)
    assert points.shape == (40, 68, 2)
    assert np.isfinite(points).all()
    head = points[..., 1].max() - points[..., 1].min()
    assert 0.35 * 128 < head < 0.65 * 128  # brows to chin; hair and margin around
    assert points.min() > 0
    assert points.max() < 127
    # landmarks belong to the crop: those found in the crop itself lie in the same places
    again = landmarks(clip[0], detect(clip[0])[0])
    assert np.abs(again - points[0]).mean() < 2.0
    # the same box for all frames, and pixels from the source
    whole = square.cut(source[39], 128)
    assert np.array_equal(whole, clip[39])


def test_reasons(demo: Params) -> None:
    single, franck = frames_of("single", count=20), frames_of("franck", count=20)
    rows, columns = np.mgrid[:360, :640]
    empty = np.stack([rows % 256, columns % 256, (rows + columns) % 256], axis=-1).astype(np.uint8)
    other = [np.pad(frame, ((36, 36), (140, 140), (0, 0)), mode="edge") for frame in franck]
    twice = [np.concatenate([frame[:, 180:420]] * 2, axis=1) for frame in single]
    hidden = single[:1]  # something grey slides slowly before the face: no cut, but nobody to follow
    for index, frame in enumerate(single[1:]):
        hidden.append(frame.copy())
        hidden[-1][:, : 640 * min(index, 10) // 10] = 128
    for reason, frames in {
        "no face": [empty] * 20,
        "a cut": single[:10] + other[:10],
        "no steady face": hidden,
        "two people": twice,
    }.items():
        with pytest.raises(crop.Rejected, match=reason):
            crop.crop_clip(frames, FaceTracker(32), demo)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: two people, one of them in odd formats, one never to be trained on, and much that is bad."""
    root = tmp_path_factory.mktemp("people")
    single, carphone = assets.fetch("video-single"), assets.fetch("video-carphone")
    for name in ("ann", "bob", "unseen", "bad"):
        (root / name).mkdir()
    shutil.copy(single, root / "ann" / "clip one.mp4")
    shutil.copy(single, root / "ann" / "B\udce4r.mp4")  # named in Latin-1
    ffmpeg("-display_rotation", 90, "-i", carphone, "-c", "copy", root / "turned.mp4")
    ffmpeg("-i", root / "turned.mp4", "-vf", "transpose=1", "-c:v", "mjpeg", "-q:v", 2, root / "bob" / "talk.AVI")
    (root / "turned.mp4").unlink()
    shutil.copy(carphone, root / "unseen" / "carl.mp4")
    for name, path in hostile(root / "bad", single).items():
        if name in ("missing", "folder"):
            continue
        if path.suffix != ".mp4":
            path.rename(path.with_suffix(".mp4"))
    ffmpeg("-i", single, "-vframes", 3, "-c:v", "libx264", root / "bad" / "short.mp4")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25:duration=2", root / "bad" / "faceless.mp4")
    (root / "notes.txt").write_text("not a video, and not named like one")
    (root / ".hidden.mp4").write_bytes(b"")
    return root


def small(demo: Params, root: Path) -> Params:
    data = with_data(demo, sources=("folder",), folder=str(root), image_size=64, clip_length=8, clips_per_video=2)
    return data.model_copy(update={"device": "cpu", "shards": (0, 1), "test_sets": ("folder-seen", "folder-unseen")})


def test_folder_lists_people(demo: Params, people: Path) -> None:
    found = {one.name: one for one in folder(small(demo, people))}
    assert "notes.txt" not in found
    assert ".hidden.mp4" not in found
    assert found["ann/clip one.mp4"].person == "ann"
    assert not found["ann/clip one.mp4"].unseen
    assert found["bob/talk.AVI"].person == "bob"
    assert (found["unseen/carl.mp4"].person, found["unseen/carl.mp4"].unseen) == ("unseen/carl", True)


def test_no_two_videos_share_the_ids_of_their_clips() -> None:
    names = ["unseen/张三.mp4", "unseen/李四.mp4", "take.mov", "take.mp4", "a b.mp4", "a-b.mp4", "Zoë.mp4", "bob/1.mp4"]
    found = [Video("folder", name, "", Path(name), False) for name in [*names, os.fsdecode(b"M\xfcller.mp4")]]
    named = sources.stems(found)
    assert len(set(named.values())) == len(found) == len(named)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", stem) for stem in named.values())
    assert named["folder", "bob/1.mp4"] == "folder-bob-1"  # nothing is added where nothing is alike
    assert sources.stems(found[::-1]) == named


def test_names_that_are_no_text_become_some(demo: Params, tmp_path: Path) -> None:
    """A person's name goes into digests, tables and pictures."""
    (tmp_path / "M\udcfcller.mp4").touch()
    (one,) = folder(small(demo, tmp_path))
    assert (one.name, one.person, one.path.name) == ("M\\xfcller.mp4", "M\\xfcller", "M\udcfcller.mp4")


def test_nobody_is_trained_on_and_unseen(demo: Params, tmp_path: Path) -> None:
    for name in ("ann/1.mp4", "bob.mp4", "Unseen/carl.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    params = with_data(demo, folder=str(tmp_path))
    assert {one.person: one.unseen for one in folder(params)} == {"ann": False, "bob": False, "unseen/carl": True}
    (tmp_path / "Unseen/ann.mp4").write_bytes(b"")
    with pytest.raises(UserError, match="ann both in unseen and beside it; allowed: each person on one side"):
        folder(params)


def test_folder_without_videos(demo: Params, tmp_path: Path) -> None:
    for value, words in ((None, "data.folder is empty"), (tmp_path / "none", "existing"), (tmp_path, "no videos")):
        with pytest.raises(UserError, match=words):
            folder(with_data(demo, folder=None if value is None else str(value)))


def test_every_thread_has_a_detector_of_its_own() -> None:
    """dlib's can't look at two pictures at once, and driving videos are parsed by several threads."""
    both = threading.Barrier(2)

    def mine() -> tuple[int, int]:
        first = _detector()
        both.wait()  # neither thread is over yet
        return id(first), id(_detector())

    with ThreadPoolExecutor(2) as pool:
        (a, again), (b, _) = (job.result() for job in [pool.submit(mine) for _ in range(2)])
    assert a == again != b


@pytest.mark.slow
def test_whole_folder_to_manifest(demo: Params, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    params = small(demo, people)
    for shard in params.shards:
        crop.run(params, shard)
        parse.run(params, shard)
    manifest.run(params)
    store = ClipStore("data")
    for one in store.records():
        assert one.pixels_sha256 == hashlib.sha256(store.frames(one).tobytes()).hexdigest()
    reasons = {one.video: one.status for one in store.all_records if one.status != "ok"}
    for name in ("empty", "text", "torn", "noise", "playlist", "concat", "sound"):
        assert reasons[f"bad/{name}.mp4"].startswith("unreadable"), reasons
    assert reasons["bad/short.mp4"] == "too short"
    assert reasons["bad/faceless.mp4"] == "no face"
    splits = {(one.video, one.split) for one in store.records()}
    assert {("ann/clip one.mp4", "train"), ("ann/clip one.mp4", "folder-seen")} <= splits
    assert {("ann/B\\xe4r.mp4", "train"), ("ann/B\\xe4r.mp4", "folder-seen")} <= splits
    assert {("bob/talk.AVI", "train"), ("bob/talk.AVI", "folder-seen"), ("unseen/carl.mp4", "folder-unseen")} <= splits
    assert ("unseen/carl.mp4", "train") not in splits
    assert all(one.row == -1 and one.split == "unused" for one in store.all_records if one.status != "ok")
    for one in store.records():
        assert store.frames(one).shape == (8, 64, 64, 3)
        assert (store.masks(one) > 127).mean() > 0.05
        assert np.isfinite(store.landmarks(one)).any()
    # turned and turned back: the same man, upright, so his landmarks are where the untouched video has them
    upright = next(one for one in store.records() if one.video == "bob/talk.AVI")
    assert (upright.x1 - upright.x0) == pytest.approx(upright.y1 - upright.y0, abs=0.01)
    # nothing of a run is left lying about, and a second run gives the same bytes
    assert list(Path("data").rglob(".*")) == []
    before = Path("data/manifest.csv").read_bytes()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # nor does the number of videos that are cropped at a time change them
    crop.run(params, 0)
    manifest.run(params)
    assert Path("data/manifest.csv").read_bytes() == before


def test_clips_keep_the_order_of_their_videos_and_end_when_nobody_wants_them(
    demo: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(one: Video, stem: str, shard: int, params: Params) -> Iterator[tuple[str, None, None]]:
        time.sleep(0.1 if one.name == "a" else 0)  # the first is the slowest
        for number in itertools.count() if one.name == "c" else range(2):
            yield f"{stem}-{number}", None, None

    monkeypatch.setattr(crop, "video_clips", endless)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    videos = [Video("folder", name, name, Path(name), False) for name in "abc"]
    clips = crop.clips_of(videos, {("folder", name): f"folder-{name}" for name in "abc"}, 0, demo)
    assert [str(next(clips)[0]) for _ in range(4)] == ["folder-a-0", "folder-a-1", "folder-b-0", "folder-b-1"]
    clips.close()  # and does not wait for the endless one
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("chained")]


def test_nothing_to_train_on(demo: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"broken")
    monkeypatch.chdir(tmp_path)
    params = small(demo, tmp_path / "videos")
    for shard in params.shards:
        crop.run(params, shard)
        parse.run(params, shard)
    with pytest.raises(UserError, match=r"no clip is left to train on.*unreadable"):
        manifest.run(params)
    with pytest.raises(UserError, match="no shard 7"):
        crop.run(params, 7)


def test_arrays_that_do_not_fit_each_other(
    demo: Params, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params, folder = small(demo, people), Path("data/clips/shard-0")
    folder.mkdir(parents=True)
    write_records(folder / "clips.csv", [])
    for name, shape, count in (("frames", (8, 64, 64, 3), 2), ("landmarks", (8, 68, 2), 1)):
        writer = NpyWriter(folder / f"{name}.npy", shape, np.uint8)
        for _ in range(count):
            writer.append(np.zeros(shape, np.uint8))
        writer.close()
    with pytest.raises(UserError, match=r"frames.npy: 2 clips, but landmarks of 1; run `head3d crop --shard 0` first"):
        parse.run(params, 0)
    (folder / "frames.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match=r"frames.npy: no array that can be read .*; run `head3d crop --shard 0` first"):
        parse.run(params, 0)
    assert not Path("data/masks/shard-0.npy").exists()


def test_large_frames_are_read_smaller() -> None:
    info = video.VideoInfo(7680, 4320, 25.0, 100, 4.0, 0, False)
    smaller, shrink = crop.working_size(info)
    assert (smaller.width, smaller.height, shrink) == (2048, 1152, 3.75)
    full = video.VideoInfo(1080, 1920, 25.0, 100, 4.0, 0, False)
    assert crop.working_size(full) == (full, 1.0)


def test_video_clips_of_a_file_that_vanishes(demo: Params, tmp_path: Path) -> None:
    gone = Video("folder", "gone.mp4", "gone", tmp_path / "gone.mp4", False)
    ((record, frames, _),) = list(crop.video_clips(gone, "folder-gone", 0, demo))
    assert frames is None
    assert record.status == "unreadable: no such video file"
    assert record.clip_id == "folder-gone-000000"


def test_windows_are_read_where_they_begin(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    video.write_video(path, gradient(40, 64, 64), 25.0)
    whole = np.stack(list(video.read_frames(path)))
    for first, starts in ((0, (3, 8, 25, 38)), (20, (25, 33))):
        chosen = [Window(start, "train") for start in starts]
        read = list(crop._window_frames(path, video.probe(path), None, chosen, 5, first))
        assert [window for window, _ in read] == chosen
        for window, stack in read:
            assert isinstance(stack, list) and np.array_equal(stack, whole[window.start : window.start + 5])
