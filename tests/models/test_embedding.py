"""Identity of real faces, and the similarity that aligns them."""

import numpy as np
import pytest
import torch

from head3d.assets import cache as assets
from head3d.data import video
from head3d.data.follower import Follower
from head3d.models import embedding


@pytest.fixture(scope="module")
def people() -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Two real frames of each of three people, a second apart, with landmarks."""
    found = {}
    for name, start in (("single", 30), ("franck", 20), ("wolfgang", 300)):
        frames = list(video.read_frames(assets.fetch(f"video-{name}"), start=start, count=26))
        pairs = [(frame, Follower().see(frame)) for frame in (frames[0], frames[-1])]
        found[name] = [(frame, marks) for frame, marks in pairs if marks is not None]
        assert len(found[name]) == 2
    return found


def vectors(faces: list[tuple[np.ndarray, np.ndarray]]) -> torch.Tensor:
    return embedding.embed(np.stack([embedding.aligned(frame, marks) for frame, marks in faces]))


def test_one_person_is_alike_and_others_are_not(people: dict[str, list[tuple[np.ndarray, np.ndarray]]]) -> None:
    first, second = (vectors([faces[number] for faces in people.values()]) for number in (0, 1))
    cosines = first @ second.T
    assert torch.allclose(first.norm(dim=1), torch.ones(3), atol=1e-4)
    assert (cosines.diagonal() > 0.7).all()
    assert (cosines - torch.diag(torch.full((3,), 9.0))).max() < 0.4


def test_a_turned_and_smaller_face_is_the_same_person(people: dict[str, list[tuple[np.ndarray, np.ndarray]]]) -> None:
    from PIL import Image

    frame, marks = people["single"][0]
    half = np.asarray(Image.fromarray(frame).resize((frame.shape[1] // 2, frame.shape[0] // 2), Image.Resampling.BOX))
    turned = half[::-1, ::-1]
    there = np.array(turned.shape[1::-1]) - 1 - ((marks + 0.5) / 2 - 0.5)
    whole, small = vectors([(frame, marks), (np.ascontiguousarray(turned), there)])
    assert float(whole @ small) > 0.85


def test_aligned_eyes_lie_where_the_network_wants_them() -> None:
    """A bright dot at each of the five points comes out at ArcFace's five places."""
    angle, size = np.radians(20), 2.6
    turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.array(embedding.FIVE_POINTS) @ turn.T + (150, 60)
    marks = np.zeros((68, 2))
    marks[36:42], marks[42:48], marks[30], marks[48], marks[54] = points
    y, x = np.mgrid[:500, :500]
    frame = np.zeros((500, 500, 3), np.uint8)
    for place in points:
        frame[(x - place[0]) ** 2 + (y - place[1]) ** 2 < 36] = 255
    made = embedding.aligned(frame, marks)[:, :, 0].astype(float)
    y, x = np.mgrid[: embedding.SIZE, : embedding.SIZE]
    for place in embedding.FIVE_POINTS:
        near = made * ((x - place[0]) ** 2 + (y - place[1]) ** 2 < 64)
        centre = (near * x).sum() / near.sum(), (near * y).sum() / near.sum()
        assert centre == pytest.approx(place, abs=0.6)


def test_no_face_gives_no_vector() -> None:
    assert embedding.embed(np.empty((0, 112, 112, 3), np.uint8)).shape == (0, embedding.DIMENSIONS)
