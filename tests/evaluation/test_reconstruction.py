"""Self-reconstruction: halves, floors and rows, on made-up clips with known answers."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from head3d.data.store import ClipRecord, ClipStore
from head3d.errors import UserError
from head3d.evaluation import protocol, reconstruction
from head3d.params import Params
from head3d.references import draw_seed, reference_of

LENGTH = 8  # frames of the clip in conftest.py


def test_the_first_half_is_the_subject_and_the_second_drives(store: ClipStore) -> None:
    case = protocol.split_clip(store, store.records("mini-seen")[0])
    assert len(case.subject) == len(case.driving) == LENGTH // 2
    assert float(case.subject[0].mean() * 255) == pytest.approx(50)
    assert float(case.driving[0].mean() * 255) == pytest.approx(90)


def test_floors_by_hand(store: ClipStore, tiny: Params, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = reconstruction.Head3D.load
    monkeypatch.setattr(
        reconstruction.Head3D, "load", lambda params, variant: load(models, params=params, variant=variant)
    )
    rows = reconstruction.evaluate(tiny, "mini-seen", "floors", store)
    last = next(r for r in rows if r["method"] == "copy_last")
    # The last subject frame has 80, the driving frames 90 to 120.
    wanted = np.mean([(d / 255) ** 2 for d in (10, 20, 30, 40)])
    assert last["mse_01"] == pytest.approx(wanted, rel=1e-3)
    assert last["mse_pm1"] == pytest.approx(4 * wanted, rel=1e-3)
    copies = [r for r in rows if r["method"] == "copy"]
    assert len(copies) == LENGTH // 2  # every subject frame once
    assert len({r["mse_01"] for r in copies}) == LENGTH // 2
    drawn = reference_of(LENGTH // 2, draw_seed(tiny, store.records("mini-seen")[0], 0))
    errors = [np.mean([((d - 10 * drawn) / 255) ** 2 for d in range(40, 80, 10)])]
    assert [r["mse_01"] for r in copies if r["draw"] == 0] == pytest.approx(errors, rel=1e-3), (
        "a random frame, as others"
    )
    assert min(float(str(r["mse_01"])) for r in copies) == pytest.approx(last["mse_01"])
    assert sum(r["method"] == "paste" for r in rows) == tiny.evaluate.draws
    assert all(float(str(r["lpips_alex"])) >= 0 for r in rows)
    assert {r["n_frames"] for r in rows} == {LENGTH // 2}


def test_a_variant_is_run_for_every_n(
    store: ClipStore, tiny: Params, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = reconstruction.Head3D.load
    monkeypatch.setattr(
        reconstruction.Head3D, "load", lambda params, variant: load(models, params=params, variant=variant)
    )
    evaluate = tiny.evaluate.model_copy(update={"draws": 2, "references": (1, 3)})
    rows = reconstruction.evaluate(tiny.model_copy(update={"evaluate": evaluate}), "mini-seen", "full", store)
    assert [(r["method"], r["draw"]) for r in rows] == [
        ("head3d_n1", 0), ("head3d_n1", 1), ("head3d", 0), ("head3d", 1), ("head3d_n3", 0), ("head3d_n3", 1),
        ("head3d_nearest", 0), ("head3d_nearest", 1),
    ]  # fmt: skip
    assert [r["method"] for r in rows if "lpips_vgg" in r] == ["head3d"]  # the usual N, first draw


class Recorder:
    """Notes what it is moved by; its poses are numbered."""

    def __init__(self) -> None:
        self.posed: list[torch.Tensor] = []
        self.moved: list[tuple[str, int]] = []

    def subject(self, frames: torch.Tensor, masks: torch.Tensor, references: int, seed: int) -> str:
        return f"random of {references}"

    def pose(self, driving: torch.Tensor, masks: torch.Tensor) -> int:
        self.posed.append(driving)
        return len(self.posed)

    def choose_reference(self, state: str, pose: int, motion: str) -> str:
        return "nearest"

    def animate(self, state: str, driving: torch.Tensor, *, motion: str, pose: int) -> SimpleNamespace:
        self.moved.append((state, pose))
        return SimpleNamespace(frames=driving)


def test_poses_are_found_once_a_clip_and_the_chosen_reference_is_moved_by_them(store: ClipStore, tiny: Params) -> None:
    evaluate = tiny.evaluate.model_copy(update={"draws": 1, "references": (1,)})
    params, model = tiny.model_copy(update={"evaluate": evaluate}), Recorder()
    record = store.records("mini-seen")[0]
    case = protocol.split_clip(store, record)
    made = list(reconstruction.predictions(model, "full", params, record, case))  # type: ignore[arg-type]
    usual = f"random of {params.model.references}"
    assert dict(zip([name for name, *_ in made], model.moved, strict=True)) == {
        "head3d_n1": ("random of 1", 1), "head3d": (usual, 1), "head3d_nearest": ("nearest", 1),
    }  # fmt: skip
    method = reconstruction.Head3DMethod(model, 5)  # type: ignore[arg-type]
    for driving in (case.driving, case.driving, case.subject):
        method.drive("random", driving, case.driving_masks)  # type: ignore[arg-type]
    assert [pose for _, pose in model.moved[3:]] == [2, 2, 3]
    assert model.posed[-1] is case.subject


def test_draws_are_the_same_for_every_method(store: ClipStore, tiny: Params) -> None:
    record = store.records("mini-seen")[0]
    assert draw_seed(tiny, record, 0) == draw_seed(tiny, replace(record), 0)
    assert draw_seed(tiny, record, 0) != draw_seed(tiny, record, 1)


def test_an_empty_test_set_names_what_there_is(store: ClipStore, tiny: Params) -> None:
    with pytest.raises(UserError, match="allowed: mini-seen"):
        reconstruction.evaluate(tiny, "nobody", "floors", store)


def test_paste_keeps_the_reference_outside_the_head(store: ClipStore, tiny: Params, models: Path) -> None:
    from head3d.api import Head3D

    model = Head3D.load(models, params=tiny)
    case = protocol.split_clip(store, store.records("mini-seen")[0])
    subject = model.subject(case.subject, case.subject_masks)
    made = reconstruction.paste(model, subject, case)
    _, mask = model.render(subject, model.pose(case.driving, case.driving_masks))
    outside = (mask == 0).expand_as(made)
    assert torch.equal(made[outside], subject.reference.expand_as(made)[outside])


def test_the_adapter_is_the_model_and_its_first_reference_is_everybodys(
    store: ClipStore, tiny: Params, models: Path
) -> None:
    from head3d.api import Head3D

    model = Head3D.load(models, params=tiny)
    case = protocol.split_clip(store, store.records("mini-seen")[0])
    for seed in range(5):
        method = reconstruction.Head3DMethod(model, references=2)
        state = method.prepare(case.subject, case.subject_masks, seed)
        shown = case.subject[reference_of(len(case.subject), seed)]
        assert torch.equal(state.reference[0], shown)
    for motion in ("absolute", "relative"):
        wanted = model.animate(state, case.driving, case.driving_masks, motion=motion).frames
        assert torch.equal(method.drive(state, case.driving, case.driving_masks, motion), wanted)


def test_what_a_video_file_can_hold_is_measured(store: ClipStore) -> None:
    def make(record: ClipRecord, case: protocol.Case) -> protocol.MethodFrames:
        return [("near", 0, case.driving + 0.4 / 255), ("beyond", 0, torch.full_like(case.driving, 7.0))]

    near, beyond = protocol.score(store, "mini-seen", "test", torch.device("cpu"), make, vgg_of=())
    assert near["mse_01"] == 0
    white = np.mean([((255 - grey) / 255) ** 2 for grey in (90, 100, 110, 120)])
    assert beyond["mse_01"] == pytest.approx(white, rel=1e-5)


def test_other_clips_and_seeds_draw_other_references(store: ClipStore, tiny: Params) -> None:
    record = store.records("mini-seen")[0]
    seeds = {draw_seed(tiny, replace(record, pixels_sha256=f"{n}" * 64), 0) for n in range(5)}
    seeds |= {draw_seed(tiny.model_copy(update={"seed": n}), record, 0) for n in range(1, 5)}
    assert len(seeds) == 9
