"""Transfer between people, untrained networks on made-up clips: layout, exact frames, the same pairs for all."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from head3d.api import Head3D
from head3d.data.store import COLUMNS, ClipRecord, ClipStore, write_records
from head3d.data.video import probe
from head3d.errors import UserError
from head3d.evaluation import baseline, cross, cross_baseline, cross_head3d, cross_measure, measures, pairs
from head3d.geometry import Pose
from head3d.images import to_frames
from head3d.params import Params
from head3d.references import draw_seed, reference_of

SIZE, LENGTH = 64, 8


@pytest.fixture
def here(in_tmp: Path, models: Path) -> ClipStore:
    """A current directory as the pipeline has it: data of two people with two clips each, and models."""
    root = in_tmp / "data"
    (root / "clips/shard-0").mkdir(parents=True)
    (root / "masks").mkdir()
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (4, 1, SIZE, SIZE, 3)) // 4 + np.arange(LENGTH)[None, :, None, None, None] * 20
    np.save(root / "clips/shard-0/frames.npy", frames.astype(np.uint8))
    np.save(root / "clips/shard-0/landmarks.npy", np.full((4, LENGTH, 68, 2), np.nan, np.float32))
    y, x = np.mgrid[:SIZE, :SIZE]
    head = ((x - 32) ** 2 + (y - 32) ** 2 < 400) * np.uint8(255)
    np.save(root / "masks/shard-0.npy", np.broadcast_to(head, (4, LENGTH, SIZE, SIZE)))
    known = {"shard": 0, "source": "mini", "start_frame": 0, "fps": 25.0, "x0": 0.0, "y0": 0.0, "x1": 1.0,
             "y1": 1.0, "status": "ok", "split": "mini-seen"}  # fmt: skip
    records = []
    for row, (person, clip) in enumerate((("ann", "a0"), ("ann", "a1"), ("bob", "b0"), ("bob", "b1"))):
        own = known | {"row": row, "clip_id": clip, "video": person, "person": person, "pixels_sha256": f"{row}" * 64}
        records.append(ClipRecord(**{key: own.get(key, "0" * 64) for key in COLUMNS}))
    write_records(root / "manifest.csv", records)
    (in_tmp / "models").symlink_to(models)
    return ClipStore()


def is_close(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether videos are the same but for the order of sums: threads that have a pair each add otherwise."""
    return int(np.abs(a.astype(np.int16) - b).max()) <= 1


def small(params: Params) -> Params:
    return params.model_copy(
        update={"evaluate": params.evaluate.model_copy(update={"pairs": 2}), "baselines": ("fomm",)}
    )


@pytest.mark.slow
def test_all_stages_make_the_layout(here: ClipStore, tiny: Params) -> None:
    params, folder = small(tiny), Path("data/transfer/mini-seen")
    pairs.run(params, "mini-seen")
    cross_head3d.run(params, "mini-seen", "floors")
    cross_head3d.run(params, "mini-seen", "full")
    cross_baseline.run(params, "mini-seen", "fomm")
    chosen = pairs.read(folder / "pairs.csv")
    assert len(chosen) == 2
    for out in ("copy", "paste", "fomm", "full"):
        assert {path.name for path in (folder / out).iterdir()} == {"p00.mp4", "p01.mp4", "p00.npz", "p01.npz"}
    assert {path.name for path in folder.iterdir()} == {
        "pairs.csv", "subject", "driving", "copy", "paste", "fomm", "full"}  # fmt: skip
    records = {record.clip_id: record for record in here.records("mini-seen")}
    for pair in chosen:
        driving, subject = (records[clip] for clip in (pair.driving_clip, pair.subject_clip))
        assert probe(folder / f"subject/{pair.pair}.mp4").n_frames == LENGTH // 2
        assert probe(folder / f"driving/{pair.pair}.mp4").n_frames == LENGTH
        assert probe(folder / f"full/{pair.pair}.mp4").fps == driving.fps
        # The still subject is the frame that every method gets first.
        copied, rendered = cross.load(folder / "copy", pair.pair)
        wanted = here.frames(subject)[reference_of(LENGTH // 2, draw_seed(params, subject, 0))]
        assert rendered is None and np.array_equal(copied, np.broadcast_to(wanted, copied.shape))
        case = cross.load_case(here, params, subject, driving)
        made, mask = cross.load(folder / "full", pair.pair)
        again = cross_head3d.reenact_pair(Head3D.load(params=params), case, params.animate.motion)
        assert mask is not None and mask.shape == made.shape[:3]
        assert is_close(made, to_frames(again[0]))
        theirs = cross_baseline.reenact_pair(baseline.load(params, "fomm"), case, params.animate.motion)
        assert is_close(cross.load(folder / "fomm", pair.pair)[0], to_frames(theirs[0]))

    # No face in these clips: everything is counted as lost, nothing is made up.
    cross_measure.run(params, "mini-seen")
    head, *lines = Path("metrics/cross/mini-seen.csv").read_text().splitlines()
    assert tuple(head.split(",")) == cross_measure.COLUMNS
    assert [line.split(",")[1] for line in lines] == ["driving", "copy", "paste", "fomm", "head3d"] * 2
    for line in lines:
        row = dict(zip(cross_measure.COLUMNS, line.split(","), strict=True))
        assert (row["n_frames"], row["n_found"], row[measures.NO_FACE]) == (str(LENGTH), "0", "1.000000")
        assert row[measures.IDENTITY] == row[measures.EXPRESSION] == row[measures.ANGLES[0]] == ""
        assert (row[measures.GHOSTS] != "") == (row["method"] in ("paste", "head3d"))


def test_paste_keeps_the_reference_around_the_head(here: ClipStore, tiny: Params, models: Path) -> None:
    model = Head3D.load(models, params=tiny)
    records = here.records("mini-seen")
    case = cross.load_case(here, tiny, records[0], records[2])
    made = cross_head3d.floors(model, case, "relative")
    frames, mask = made["paste"]
    assert mask is not None and made["copy"][1] is None
    around = (mask == 0).expand_as(frames)
    subject = model.subject(case.subject, case.subject_masks, seed=case.seed)
    assert torch.equal(made["copy"][0][:1], subject.reference), "every method moves the same frame"
    assert torch.equal(frames[around], subject.reference.expand_as(frames)[around])


def test_the_pasted_head_begins_where_the_subject_is() -> None:
    """It turns as the driver does, and moves from its own place on."""
    rendered: list[Pose] = []
    driving = Pose(torch.eye(3).repeat(3, 1, 1), torch.tensor([[0.1, 0.0, 0.0], [0.2, 0.0, 0.0], [0.4, 0.0, 0.0]]))
    own = Pose(torch.eye(3).flip(1)[None], torch.tensor([[0.0, 0.5, 0.0]]))

    def render(_: object, pose: Pose) -> tuple[torch.Tensor, torch.Tensor]:
        rendered.append(pose)
        return torch.zeros(3, 3, 4, 4), torch.zeros(3, 1, 4, 4)

    subject = SimpleNamespace(reference_pose=own, reference=torch.zeros(1, 3, 4, 4))
    model: Any = SimpleNamespace(subject=lambda *_, seed: subject, pose=lambda *_: driving, render=render)
    frames = torch.zeros(3, 3, 4, 4)
    case = cross.CrossCase(frames, frames[:, :1], frames, frames[:, :1], seed=0)
    cross_head3d.floors(model, case, "relative")
    cross_head3d.floors(model, case, "absolute")
    assert torch.equal(rendered[0].rotation, driving.rotation)
    wanted = torch.tensor([[0.0, 0.5, 0.0], [0.1, 0.5, 0.0], [0.3, 0.5, 0.0]])
    assert torch.allclose(rendered[0].translation, wanted)
    assert rendered[1] is driving


def test_a_baseline_moves_other_people_as_its_authors_do() -> None:
    method: Any = SimpleNamespace(
        prepare=lambda *_: "state",
        drive=lambda state, driving, masks, motion: motion,
        method=SimpleNamespace(motion_across=lambda: "avd"),
    )
    case = cross.CrossCase(*[torch.zeros(1)] * 4, seed=0)
    assert cross_baseline.reenact_pair(method, case, "relative") == ("avd", None)
    assert cross_baseline.reenact_pair(method, case, "absolute") == ("absolute", None)


def test_videos_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"p00.npz: not there; make the videos first"):
        cross.load(tmp_path, "p00")


@pytest.mark.parametrize("damage", ["torn", "flipped", "text", "lacking"])
def test_damaged_videos_are_one_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "p00.npz"
    np.savez_compressed(path, frames=np.random.default_rng(0).integers(0, 255, (4, 8, 8, 3), np.uint8))
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 255
    path.write_bytes({"torn": content[:-100], "text": b"text"}.get(damage, content))
    if damage == "lacking":
        np.savez_compressed(path, other=np.zeros(3))
    with pytest.raises(UserError, match=r"p00.npz: can't be read \(.*; delete it, and make the videos again") as error:
        cross.load(tmp_path, "p00")
    assert "\n" not in str(error.value)
