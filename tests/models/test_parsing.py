"""The face parser with its real weights on real frames."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from head3d.assets import cache as assets
from head3d.data import boxes, video
from head3d.data.faces import FaceTracker
from head3d.models import parsing
from head3d.models.parsing import BiSeNet, fill_holes, head_masks


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Three real frames of three people, 128 x 128."""
    found = []
    for name, index in (("single", 30), ("franck", 20), ("wolfgang", 300)):
        frame = next(iter(video.read_frames(assets.fetch(f"video-{name}"), start=index, count=1)))
        look = boxes.detect_in_frame(0, frame, FaceTracker(32))
        found.append(boxes.square_box([look], *frame.shape[:2], margin=0.3).cut(frame, 128))
    return np.stack(found)


def test_official_weights_load_strictly() -> None:
    weights = torch.load(assets.fetch("face-parsing"), map_location="cpu", weights_only=True)
    assert len(weights) == 191
    BiSeNet().load_state_dict(weights, strict=True)


def test_folded_network_gives_the_same_scores(frames: np.ndarray) -> None:
    plain = BiSeNet()
    plain.load_state_dict(torch.load(assets.fetch("face-parsing"), map_location="cpu", weights_only=True))
    x = torch.from_numpy(frames[:1]).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        slow, fast = plain.eval()(x), parsing.load_parser("cpu", torch.float32)(x)
    head = list(parsing.HEAD_CLASSES)
    order = head + [index for index in range(19) if index not in head]
    assert torch.allclose(slow[:, order], fast, atol=1e-3 * float(slow.abs().max()))
    assert slow.shape == (1, 19, 16, 16)


def test_head_is_the_best_class_at_full_size() -> None:
    torch.manual_seed(0)
    scores = torch.randn(1, 19, 6, 6)  # the head's classes come first
    large = torch.nn.functional.interpolate(scores, (48, 48), mode="bilinear", align_corners=True)
    wanted = large.argmax(1, keepdim=True) < len(parsing.HEAD_CLASSES)
    assert torch.equal(parsing._is_head(scores, 48), wanted.float())


def test_view_turns_the_head_upright() -> None:
    rng = np.random.default_rng(0)
    upright = rng.uniform(-10, 10, (68, 2))
    upright[36:42], upright[42:48] = (-5, -3), (5, -3)
    angle = np.radians(25)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = upright @ turn.T + [70, 50]
    view = parsing.head_view(points, height=100, width=120)
    in_frame = np.concatenate([(points + 0.5) * 2 / [120, 100] - 1, np.ones((68, 1))], axis=1)
    seen = (in_frame @ np.linalg.inv(view).T)[:, :2]
    assert seen[36, 1] == pytest.approx(seen[42, 1])  # the eyes are level
    assert seen[36, 0] < seen[42, 0]
    assert np.abs(seen).max() < 1 / 1.3  # the whole head with room around it
    assert np.array_equal(parsing.head_view(np.full((68, 2), np.nan), 100, 120), np.eye(3))


def test_small_and_tilted_heads_are_parsed_as_well(frames: np.ndarray) -> None:
    """The head of a frame that is shrunk and turned gives the shrunk and turned mask."""
    frame = Image.fromarray(frames[0])
    size, angle = 80, 30
    pasted = Image.new("RGB", (128, 128), tuple(frames[0][0, 0]))
    pasted.paste(frame.resize((size, size), Image.Resampling.BICUBIC), (20, 30))
    moved = pasted.rotate(angle, Image.Resampling.BICUBIC)
    mask = Image.fromarray(head_masks(frames[:1], 384, "cpu", 1)[0])
    wanted = Image.new("L", (128, 128))
    wanted.paste(mask.resize((size, size), Image.Resampling.BOX), (20, 30))
    expected = np.asarray(wanted.rotate(angle, Image.Resampling.BILINEAR)) > 127
    got = head_masks(np.asarray(moved)[None], 384, "cpu", 1)[0] > 127
    assert (expected & got).sum() / (expected | got).sum() > 0.9


@pytest.mark.slow
def test_small_and_fast_agrees_with_large_and_exact(frames: np.ndarray) -> None:
    fast = head_masks(frames, 384, "cpu", 2, "bfloat16") > 127
    exact = head_masks(frames, 512, "cpu", 2, "float32") > 127
    overlap = (fast & exact).sum((1, 2)) / (fast | exact).sum((1, 2))
    assert overlap.min() > 0.95


def test_masks_hold_the_head_and_nothing_else(frames: np.ndarray) -> None:
    masks = head_masks(frames, 384, "cpu", 8)
    assert masks.shape == (3, 128, 128)
    assert masks.dtype == np.uint8
    assert set(np.unique(masks)) > {0, 255}  # soft at the rim
    assert ((masks > 127).mean((1, 2)) > 0.2).all()
    single = masks[0] > 127
    assert not single[0].any()  # some air above the hair
    assert not single[-8:].any()  # neck and shirt are not head
    assert single[64, 64]


def test_faces_are_looked_for_only_where_they_are_not_known(frames: np.ndarray) -> None:
    found = parsing.found_landmarks(frames)
    assert found.shape == (3, 68, 2)
    assert np.isfinite(found).all()
    known = np.full_like(found, 7)
    known[1, 5] = np.nan
    mixed = parsing.found_landmarks(frames, known)
    assert np.array_equal(mixed[1], found[1])
    assert (mixed[[0, 2]] == 7).all()
    assert np.isnan(parsing.found_landmarks(np.zeros_like(frames[:1]))).all()
    assert np.array_equal(head_masks(frames, 256, "cpu"), head_masks(frames, 256, "cpu", landmarks=found))


def test_batches_do_not_change_the_masks(frames: np.ndarray) -> None:
    one = head_masks(frames, 256, "cpu", 1, "float32")
    three = head_masks(frames, 256, "cpu", 3, "float32")
    assert np.abs(one.astype(int) - three).max() <= 16  # one pixel of the parser's 2 x 2 may tip over
    assert head_masks(frames[:0], 256, "cpu").shape == (0, 128, 128)


def test_rim_is_taken_off_all_around(frames: np.ndarray) -> None:
    whole = head_masks(frames[:1], 384, "cpu", 1, "float32")[0] > 127
    less = head_masks(frames[:1], 384, "cpu", 1, "float32", rim=3 / 128)[0] > 127
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
