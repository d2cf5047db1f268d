"""Figure 7: which heads are the worst, and what is shown of them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from head3d.data.store import ClipStore
from head3d.params import Params
from head3d.report.figures import failures, pictures


def test_the_worst_heads_are_of_different_people_worst_first() -> None:
    def scored(clip: str, score: float) -> tuple[float, Any]:
        return score, SimpleNamespace(clip_id=clip, person_key=("mini", clip.partition("-")[0]))

    scores = [scored("a-0", 0.2), scored("b-0", 0.4), scored("a-1", 0.6), scored("c-0", 0.4), scored("d-0", 0.1)]
    assert [record.clip_id for record in failures.worst(scores, most=3)] == ["a-1", "b-0", "c-0"]


def test_failures_show_the_parse_and_the_reference_that_fits_worst(tiny: Params, models: Path, data: Path) -> None:
    from head3d.api import Head3D

    store, model = ClipStore(data), Head3D.load(models, params=tiny, variant=None)
    sheet = failures.failure_sheet(model, store, tiny)
    assert len(sheet.rows) == failures.MOST  # five people, one row each at most
    count = tiny.model.references
    for row in sheet.rows:
        *references, _, _, worst, _ = row.tiles
        assert len(references) == count == len(sheet.heads) - 4
        assert all((tile == pictures.OUTLINE).all(axis=-1).any() for tile in references if tile is not None)
        assert any(np.array_equal(worst, tile) for tile in references if tile is not None and worst is not None)
        assert 0 < float(row.label.split("\n")[1].split(",")[0]) < 1
    tiles = {row.label.partition("\n")[0]: row.tiles for row in sheet.rows}
    for record in (record for name in tiny.test_sets for record in store.records(name) if record.person in tiles):
        *references, _, _, shown, _ = tiles[record.person]
        fits_worst = references[int(failures.examine(model, store, record, tiny).errors.argmax())]
        assert shown is not None and fits_worst is not None and np.array_equal(shown, fits_worst)


def test_a_head_that_fits_has_no_error(tiny: Params, models: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from head3d.api import Head3D

    store, model = ClipStore(data), Head3D.load(models, params=tiny, variant=None)
    record = store.records("mini-seen")[0]
    monkeypatch.setattr(model, "render", lambda subject, pose: (subject.references * subject.masks, subject.masks))
    case = failures.examine(model, store, record, tiny)
    assert case.score == 0
    assert np.allclose(case.overlaps, 1)
    monkeypatch.setattr(model, "render", lambda subject, pose: (subject.references, 0 * subject.masks))
    missing = failures.examine(model, store, record, tiny)
    assert missing.score > 0.1  # nothing where a head should be
    assert np.allclose(missing.overlaps, 0)
