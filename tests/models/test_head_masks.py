"""Head masks by the face parser with its real weights on real frames, and by made-up parsers."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from head3d.compute import Compute
from head3d.models import head_masks as views
from head3d.models.head_masks import FaceParser, fill_holes, found_landmarks, head_masks

EXACT = Compute.resolve("cpu", "float32")
PARSER = FaceParser(384, EXACT)


class Disc:
    """Takes what is bright for a head."""

    input_size, device = 64, torch.device("cpu")

    def __init__(self) -> None:
        self.shown: list[torch.Tensor] = []

    def heads(self, views: torch.Tensor) -> torch.Tensor:
        self.shown.append(views)
        return (views.mean(dim=1, keepdim=True) > 0.5).float()


def test_any_parser_is_shown_the_head_and_its_answer_is_put_back() -> None:
    """A small bright disc fills three quarters of the view's width, and is where it was in the mask."""
    rows, columns = np.mgrid[:128, :128]
    inside = np.hypot(rows - 40, columns - 80) < 12
    frame = np.where(inside[..., None], 255, 0).astype(np.uint8).repeat(3, axis=-1)[None]
    angles = np.linspace(0, 2 * np.pi, 68)
    points = np.stack((80 + 9.5 * np.cos(angles), 46 + 6 * np.sin(angles)), axis=1)
    points[36:42], points[42:48] = (76, 40), (84, 40)
    disc = Disc()
    (mask,) = head_masks(frame, disc, points[None])
    (view,) = disc.shown
    assert view.shape == (1, 3, 64, 64)
    assert 0.3 < float(view.mean()) < 0.7
    assert ((mask > 127) & inside).sum() / ((mask > 127) | inside).sum() > 0.95
    (whole,) = head_masks(frame, disc, np.full((1, 68, 2), np.nan))
    assert disc.shown[-1].mean() == pytest.approx(inside.mean(), abs=0.01)  # the whole frame
    assert ((whole > 127) & inside).sum() / ((whole > 127) | inside).sum() > 0.9


def test_view_turns_the_head_upright() -> None:
    rng = np.random.default_rng(0)
    upright = rng.uniform(-10, 10, (68, 2))
    upright[36:42], upright[42:48] = (-5, -3), (5, -3)
    angle = np.radians(25)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = upright @ turn.T + [70, 50]
    view = views.head_view(points, height=100, width=120)
    in_frame = np.concatenate([(points + 0.5) * 2 / [120, 100] - 1, np.ones((68, 1))], axis=1)
    seen = (in_frame @ np.linalg.inv(view).T)[:, :2]
    assert seen[36, 1] == pytest.approx(seen[42, 1])  # the eyes are level
    assert seen[36, 0] < seen[42, 0]
    assert np.abs(seen).max() < 1 / 1.3  # the whole head with room around it
    assert np.array_equal(views.head_view(np.full((68, 2), np.nan), 100, 120), np.eye(3))


def test_small_and_tilted_heads_are_parsed_as_well(people: np.ndarray) -> None:
    """The head of a frame that is shrunk and turned gives the shrunk and turned mask."""
    frame = Image.fromarray(people[0])
    size, angle = 80, 30
    pasted = Image.new("RGB", (128, 128), tuple(people[0][0, 0]))
    pasted.paste(frame.resize((size, size), Image.Resampling.BICUBIC), (20, 30))
    moved = pasted.rotate(angle, Image.Resampling.BICUBIC)
    mask = Image.fromarray(head_masks(people[:1], PARSER)[0])
    wanted = Image.new("L", (128, 128))
    wanted.paste(mask.resize((size, size), Image.Resampling.BOX), (20, 30))
    expected = np.asarray(wanted.rotate(angle, Image.Resampling.BILINEAR)) > 127
    got = head_masks(np.asarray(moved)[None], PARSER)[0] > 127
    assert (expected & got).sum() / (expected | got).sum() > 0.9


@pytest.mark.slow
def test_small_and_fast_agrees_with_large_and_exact(people: np.ndarray) -> None:
    fast = head_masks(people, FaceParser(384, Compute.resolve("cpu", "bfloat16"))) > 127
    exact = head_masks(people, FaceParser(512, EXACT)) > 127
    overlap = (fast & exact).sum((1, 2)) / (fast | exact).sum((1, 2))
    assert overlap.min() > 0.95


def test_masks_hold_the_head_and_nothing_else(people: np.ndarray) -> None:
    masks = head_masks(people, PARSER)
    assert masks.shape == (3, 128, 128)
    assert masks.dtype == np.uint8
    assert set(np.unique(masks)) > {0, 255}  # soft at the rim
    assert ((masks > 127).mean((1, 2)) > 0.2).all()
    single = masks[0] > 127
    assert not single[0].any()  # some air above the hair
    assert not single[-8:].any()  # neck and shirt are not head
    assert single[64, 64]


def test_faces_are_looked_for_only_where_they_are_not_known(people: np.ndarray) -> None:
    found = found_landmarks(people)
    assert found.shape == (3, 68, 2)
    assert np.isfinite(found).all()
    known = np.full_like(found, 7)
    known[1, 5] = np.nan
    mixed = found_landmarks(people, known)
    assert np.array_equal(mixed[1], found[1])
    assert (mixed[[0, 2]] == 7).all()
    assert np.isnan(found_landmarks(np.zeros_like(people[:1]))).all()
    assert np.array_equal(head_masks(people, PARSER), head_masks(people, PARSER, found))


def test_batches_do_not_change_the_masks(people: np.ndarray) -> None:
    one = head_masks(people, FaceParser(256, EXACT), batch_size=1)
    three = head_masks(people, FaceParser(256, EXACT), batch_size=3)
    assert np.abs(one.astype(int) - three).max() <= 16  # one pixel of the parser's 2 x 2 may tip over
    assert head_masks(people[:0], PARSER).shape == (0, 128, 128)


def test_rim_is_taken_off_all_around(people: np.ndarray) -> None:
    whole = head_masks(people[:1], PARSER)[0] > 127
    less = head_masks(people[:1], PARSER, rim=3 / 128)[0] > 127
    eroded = ndimage.binary_erosion(whole, ndimage.generate_binary_structure(2, 2), iterations=3)
    assert not (less & ~whole).any()
    assert (less & eroded).sum() / (less | eroded).sum() > 0.97


def test_holes_are_filled_but_not_the_outside() -> None:
    rows, columns = np.mgrid[:64, :64]
    head = np.where((rows - 32) ** 2 + (columns - 32) ** 2 < 24**2, 255, 0).astype(np.uint8)
    holed = head.copy()
    holed[28:34, 30:36] = 0
    holed[28, 30] = 100
    assert np.array_equal(fill_holes(holed), head)
    assert np.array_equal(fill_holes(head), head)
    notch = head.copy()
    notch[:20, 30:34] = 0  # open to the outside
    assert np.array_equal(fill_holes(notch), notch)
    ring = np.where(np.abs(np.hypot(rows - 32, columns - 32) - 24) < 2, 255, 0).astype(np.uint8)
    assert np.array_equal(fill_holes(ring), ring)  # too large to be a mistake
