"""Baselines behind the one interface of the evaluation."""

from pathlib import Path

import pytest
import torch

from head3d.baselines import NAMES, build, convert
from head3d.data.store import ClipRecord, ClipStore
from head3d.errors import UserError
from head3d.evaluation import baseline, protocol
from head3d.params import Params
from head3d.references import reference_of


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_every_draw(name: str, store: ClipStore, tiny: Params, models: Path) -> None:
    params = tiny.model_copy(update={"evaluate": tiny.evaluate.model_copy(update={"draws": 2})})
    rows = baseline.evaluate(params, "mini-seen", name, store, models)
    assert [(r["method"], r["draw"], r["n_frames"]) for r in rows] == [(name, 0, 4), (name, 1, 4)]
    assert ["lpips_vgg" in r for r in rows] == [True, False]  # it is slow: the first draw only
    assert set(rows[0]) == set(protocol.COLUMNS)


def test_vgg_sees_every_fourth_frame(store: ClipStore) -> None:
    """Of four frames the first one, here the only one that is wrong."""

    def wrong(at: int) -> float:
        def make(record: ClipRecord, case: protocol.Case) -> protocol.MethodFrames:
            frames = case.driving.clone()
            frames[at] = 1 - frames[at]
            return [("made", 0, frames)]

        return float(str(protocol.score(store, "mini-seen", "test", torch.device("cpu"), make)[0]["lpips_vgg"]))

    assert wrong(0) > 0.05
    assert wrong(1) == wrong(3) == pytest.approx(0, abs=1e-6)


# In bfloat16 the processor's kernels round otherwise for a batch of one: far below what eight bits a channel hold.
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.5 / 255)])
@pytest.mark.parametrize("name", NAMES)
def test_driving_does_not_depend_on_the_batch(
    name: str, precision: str, tolerance: float, tiny: Params, models: Path
) -> None:
    draw = torch.Generator().manual_seed(0)
    frames, driving = torch.rand(3, 3, 64, 64, generator=draw), torch.rand(5, 3, 64, 64, generator=draw)
    masks = torch.ones(5, 1, 64, 64)
    for motion in baseline.load(tiny, name, models).method.motions:
        made = []
        for size in (1, 5):
            evaluate = tiny.evaluate.model_copy(update={"batch_size": size})
            params = tiny.model_copy(update={"evaluate": evaluate, "precision": precision})
            method = baseline.load(params, name, models)
            made.append(method.drive(method.prepare(frames, masks[:3], seed=1), driving, masks, motion))
        assert made[0].shape == (5, 3, 64, 64)
        assert torch.allclose(made[0], made[1], rtol=0, atol=tolerance)


def test_the_reference_is_the_one_that_the_seed_chooses(tiny: Params, models: Path) -> None:
    method = baseline.load(tiny, "fomm", models)
    frames = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for seed in range(4):
        state = method.prepare(frames, torch.ones(6, 1, 64, 64), seed)
        assert torch.equal(state.source[0], frames[reference_of(6, seed)])


def test_what_is_missing_is_one_line(store: ClipStore, tiny: Params, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"baseline-mraa.safetensors: there are no trained weights; run"):
        baseline.evaluate(tiny, "mini-seen", "mraa", store, tmp_path)
    with pytest.raises(UserError, match="allowed: mini-seen"):
        baseline.evaluate(tiny, "nobody", "mraa", store, tmp_path)


def test_an_imported_dagan_is_not_measured_with_made_up_depth(tiny: Params, tmp_path: Path) -> None:
    network = tiny.baseline.dagan.network.model_dump()
    path = tmp_path / "baseline-dagan.safetensors"
    convert.save(build("dagan", 64, **network), path, without=("depth_encoder", "depth_decoder"))
    with pytest.raises(UserError, match="dagan-depth-encoder"):
        baseline.load(tiny, "dagan", tmp_path)


def test_an_official_checkpoint_takes_the_place_of_a_training(tiny: Params, tmp_path: Path) -> None:
    """With the sampling that it was trained with, and without networks that need not be there."""
    network = tiny.baseline.fomm.network.model_dump()
    path = tmp_path / "baseline-fomm.safetensors"
    convert.save(build("fomm", 64, align_corners=True, **network), path)
    assert baseline.load(tiny, "fomm", tmp_path).method.align_corners
    path.rename(tmp_path / "baseline-mraa.safetensors")
    with pytest.raises(UserError, match="holds fomm, not mraa; write it with `head3d import mraa`"):
        baseline.load(tiny, "mraa", tmp_path)
    convert.save(build("mraa", 64, **tiny.baseline.mraa.network.model_dump()), path, without=("avd_network",))
    (tmp_path / "baseline-mraa.safetensors").unlink()
    path.rename(tmp_path / "baseline-mraa.safetensors")
    assert baseline.load(tiny, "mraa", tmp_path).method.name == "mraa"
    convert.save(build("fomm", 64, **network | {"width": 2 * network["width"]}), path)
    with pytest.raises(UserError, match=r"as baseline\.fomm\.network has them in workflow/scales/paper\.yaml"):
        baseline.load(tiny, "fomm", tmp_path)


def test_vgg_compares_each_frame_with_its_own(store: ClipStore, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = torch.randint(0, 256, (9, 3, 64, 64), generator=torch.Generator().manual_seed(0)) / 255
    case = protocol.Case(frames, frames[:, :1], frames, frames[:, :1])
    monkeypatch.setattr(protocol, "split_clip", lambda *_: case)
    (row,) = protocol.score(store, "mini-seen", "test", torch.device("cpu"), lambda *_: [("made", 0, frames.clone())])
    assert row["n_frames"] == 9
    assert row["lpips_vgg"] == pytest.approx(0, abs=1e-6) == row["lpips_alex"]
