"""Which frames stage 3 learns from."""

from pathlib import Path

import numpy as np
import torch

from head3d.params import AugmentParams, Params
from head3d.training.batches import Clips
from head3d.training.build.canonical import build_canonical
from head3d.training.build.geometry import GEOMETRY, build_geometry
from head3d.training.fusion import CANONICAL, FusionBatches, what_is_read
from head3d.training.matching import MATCHING


def test_drivings_are_no_references_and_of_their_own_subject(tiny: Params) -> None:
    fusion = tiny.fusion.model_copy(update={"batch_size": 3, "drivings": 2, "reference_draws": 0})
    params = tiny.model_copy(update={"fusion": fusion, "augment": AugmentParams(flip=False, color=0, similarity=0)})
    grey = np.arange(3 * 8, dtype=np.uint8).reshape(3, 8, 1, 1, 1) * 10  # clip 10 * 8 k ..., each frame its own
    frames = list(np.broadcast_to(grey, (3, 8, 64, 64, 3)))
    clips = Clips(frames, [np.full((8, 64, 64), 255, np.uint8)] * 3, None, 10.0, 1.0)
    source = FusionBatches(
        clips, build_geometry(tiny).eval(), build_canonical(tiny).eval(), params, torch.device("cpu")
    )
    for step in range(4):
        references, driving = source.load(step)
        assert references is not None
        both = torch.cat((references.frames, driving.frames), dim=1)[:, :, 0, 0, 0].mul(25.5).round().int()
        assert all(len(set(row)) == 4 for row in both.tolist()), "two references and two others"
        views = source.batch(step, rigid=False)
        of_clip = [(x[:, 0, 0, 0] * 25.5).round().int() // 8 for x in (views.reference, views.driving)]
        assert torch.equal(*of_clip)


def test_references_come_again_with_other_drivings(tiny: Params) -> None:
    fusion = tiny.fusion.model_copy(update={"batch_size": 3, "drivings": 2, "reference_draws": 2})
    params = tiny.model_copy(update={"fusion": fusion})
    noise = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 8, 3), dtype=np.uint8)
    clips = Clips(list(noise), [np.full((8, 8, 8), 255, np.uint8)] * 3, None, 10.0, 1.0)
    source = FusionBatches(clips, build_geometry(tiny).eval(), None, params, torch.device("cpu"))
    references, drivings = ([each[part].frames for each in map(source.load, range(4))] for part in (0, 1))  # type: ignore[union-attr]
    assert torch.equal(references[0], references[2]) and torch.equal(references[1], references[3])
    assert not torch.equal(references[0], references[1])
    assert not torch.equal(drivings[0], drivings[2])


def test_a_matcher_that_is_not_used_is_not_read(tiny: Params, in_tmp: Path) -> None:
    """Days of training would begin anew for it."""
    Path("models").mkdir()
    for path in (GEOMETRY, MATCHING, CANONICAL):
        path.write_bytes(b"weights")

    def reads_it(params: Params, variant: str) -> bool:
        before = what_is_read(params, variant)
        MATCHING.write_bytes(MATCHING.read_bytes() + b" of another training")
        return what_is_read(params, variant) != before

    fusion = tiny.model.fusion.model_copy(update={"matching": True})
    matching = tiny.model_copy(update={"model": tiny.model.model_copy(update={"fusion": fusion})})
    fusion = fusion.model_copy(update={"matching": False})
    plain = tiny.model_copy(update={"model": tiny.model.model_copy(update={"fusion": fusion})})
    assert reads_it(matching, "full") and reads_it(matching, "no_head")
    assert not reads_it(matching, "no_matching") and not reads_it(plain, "full")
