"""Which frames stage 3 learns from."""

import numpy as np
import torch

from head3d.params import AugmentParams, Params
from head3d.training.batches import Clips
from head3d.training.build.canonical import build_canonical
from head3d.training.build.geometry import build_geometry
from head3d.training.fusion import FusionBatches


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
