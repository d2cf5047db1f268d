"""Clips on disk: what is read is what was written, any frame by itself."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from head3d.data.store import ClipRecord, ClipStore, NpyWriter, digest, read_records, write_records
from head3d.errors import UserError


def record(clip_id: str, row: int, status: str = "ok", split: str = "train", shard: int = 0) -> ClipRecord:
    pixels = "" if row < 0 else f"{row:064x}"
    return ClipRecord(
        clip_id, shard, row, "folder", 'a "b", c.mp4', "Zoë", 40, 23.976, 0.5, 1, 2, 3, status, split, pixels
    )


@pytest.fixture
def store(tmp_path: Path) -> tuple[ClipStore, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    arrays = {
        "frames": rng.integers(0, 256, (3, 5, 8, 8, 3), np.uint8),
        "landmarks": rng.normal(size=(3, 5, 68, 2)).astype(np.float32),
        "masks": rng.integers(0, 256, (3, 5, 8, 8), np.uint8),
    }
    (tmp_path / "clips" / "shard-0").mkdir(parents=True)
    (tmp_path / "masks").mkdir()
    for name, path in {
        "frames": "clips/shard-0/frames.npy",
        "landmarks": "clips/shard-0/landmarks.npy",
        "masks": "masks/shard-0.npy",
    }.items():
        writer = NpyWriter(tmp_path / path, arrays[name].shape[1:], arrays[name].dtype)
        for row in arrays[name]:
            writer.append(row)
        writer.close()
    lines = [record("c", 0), record("a", 2), record("b", 1, split="mini-seen"), record("d", -1, "no face", "unused")]
    write_records(tmp_path / "manifest.csv", lines)
    return ClipStore(tmp_path), arrays


def test_random_access(store: tuple[ClipStore, dict[str, np.ndarray]]) -> None:
    clips, arrays = store
    assert [one.clip_id for one in clips.records("train")] == ["a", "c"]
    assert [one.clip_id for one in clips.records()] == ["a", "b", "c"]
    assert [one.clip_id for one in clips.all_records if one.status != "ok"] == ["d"]
    a = clips.records("train")[0]
    for read, name in ((clips.frames, "frames"), (clips.masks, "masks"), (clips.landmarks, "landmarks")):
        clip = arrays[name][2]
        assert np.array_equal(read(a), clip)
        assert np.array_equal(read(a, [4, 0, 0]), clip[[4, 0, 0]])
        assert np.array_equal(read(a, np.array([3])), clip[3:4])
        assert np.array_equal(read(a, slice(1, 3)), clip[1:3])
        assert np.array_equal(read(a, 2), clip[2:3])
        read(a)[:] = 0  # a copy: nothing on disk or in the store changes
        assert np.array_equal(read(a), clip)


def test_views_read_what_is_indexed(store: tuple[ClipStore, dict[str, np.ndarray]]) -> None:
    clips, arrays = store
    frames, masks = clips.views(clips.records("train")[0])
    assert type(frames) is np.ndarray and not frames.flags.writeable and not frames.flags.owndata
    assert np.array_equal(frames[[4, 0]], arrays["frames"][2][[4, 0]])
    assert np.array_equal(masks, arrays["masks"][2])
    with pytest.raises(ValueError, match="left out: no face"):
        clips.views(next(one for one in clips.all_records if one.row < 0))


def test_records_survive_the_file(store: tuple[ClipStore, dict[str, np.ndarray]]) -> None:
    clips, _ = store
    assert clips.all_records == [
        record("c", 0),
        record("a", 2),
        record("b", 1, split="mini-seen"),
        record("d", -1, "no face", "unused"),
    ]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    odd = record("a", 0)
    odd = ClipRecord(**{**odd.__dict__, "video": "caf\udce9\n.mp4"})  # a file name in another encoding
    write_records(tmp_path / "clips.csv", [odd])
    assert read_records(tmp_path / "clips.csv") == [odd]


def test_digest_follows_pixels_and_labels_not_order() -> None:
    a, b = record("a", 0), record("b", 1)
    assert digest([a, b]) == digest([b, a])
    assert digest([a, b]) != digest([a])
    assert digest([a]) != digest([record("a", 1)])
    for changed in ({"labels_sha256": "0"}, {"split": "mini-unseen"}, {"person": "somebody else"}):
        assert digest([a]) != digest([ClipRecord(**{**a.__dict__, **changed})]), changed


def test_empty_array_and_wrong_rows(tmp_path: Path) -> None:
    writer = NpyWriter(tmp_path / "none.npy", (4, 4), np.uint8)
    with pytest.raises(ValueError, match=r"\(2, 4\)"):
        writer.append(np.zeros((2, 4), np.uint8))
    with pytest.raises(ValueError, match="float64"):
        writer.append(np.zeros((4, 4)))
    writer.close()
    assert np.load(tmp_path / "none.npy").shape == (0, 4, 4)


def test_missing_and_foreign_manifests(tmp_path: Path, store: tuple[ClipStore, dict[str, np.ndarray]]) -> None:
    clips, _ = store
    with pytest.raises(UserError, match="head3d manifest"):
        ClipStore(tmp_path / "nowhere")
    (tmp_path / "manifest.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="clip_id"):
        ClipStore(tmp_path)
    with pytest.raises(ValueError, match="no face"):
        clips.frames(clips.all_records[3])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text.replace(",0,2,", ",0,two,"), "clip 'a' is damaged"),
        (lambda text: text[:-30], "row 4 is damaged; allowed: 16 cells"),
        (lambda text: text.replace("ok", '"ok"x'), "no table that can be read"),
        (lambda text: text.replace("\n", ",9\n").replace(",9", "", 1), "row 1 is damaged"),
        (lambda text: "", "columns None"),
    ],
)
def test_a_damaged_manifest_is_one_line(
    store: tuple[ClipStore, dict[str, np.ndarray]], damage: Callable[[str], str], said: str
) -> None:
    root = store[0].root
    path = root / "manifest.csv"
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match=rf"manifest.csv: {said}.*dvc repro manifest") as error:
        ClipStore(root)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kept", [0, 100, 300])
def test_a_damaged_array_is_one_line(store: tuple[ClipStore, dict[str, np.ndarray]], kept: int) -> None:
    clips, _ = store
    path = clips.root / "masks" / "shard-0.npy"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"masks/shard-0.npy: no array that can be read") as error:
        clips.masks(clips.records()[0])
    assert "\n" not in str(error.value)


def test_an_array_of_fewer_clips_than_the_manifest_has(store: tuple[ClipStore, dict[str, np.ndarray]]) -> None:
    clips, arrays = store
    writer = NpyWriter(clips.root / "masks" / "shard-0.npy", arrays["masks"].shape[1:], np.uint8)
    writer.append(arrays["masks"][0])
    writer.close()
    with pytest.raises(UserError, match=r"masks/shard-0.npy: has no row 2, where a should be"):
        clips.views(clips.records("train")[0])
