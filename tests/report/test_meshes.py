"""Meshes as the figures draw them."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from head3d.report.figures import meshes


def test_meshes_are_drawn_upright_and_not_mirrored() -> None:
    """A plane, red at the left and brighter at the top, turned to the picture's right it is narrower."""
    from head3d.mesh import grid_mesh

    y, x = np.mgrid[:17, :17] / 16 * 0.2 - 0.1
    image = np.zeros((17, 17, 3), np.uint8)
    image[:, :8, 0], image[:, 8:, 2] = 250, 250
    image[:8, :, 1] = 120
    mesh = grid_mesh(np.stack((x, y, 0 * x), axis=-1), np.ones((17, 17)), image)
    front = meshes.mesh_picture(mesh, 0.0, side=64).astype(int)
    assert front[40, 16, 0] > 200 > front[40, 16, 2] and front[40, 48, 2] > 200 > front[40, 48, 0]
    assert front[16, 16, 1] > 80 > front[48, 16, 1]
    assert front[0, 0].tolist() == [255, 255, 255]
    turned = meshes.mesh_picture(mesh, 60.0, side=64)
    drawn = (turned[32] < 255).any(axis=-1).sum() / (front[32] < 255).any(axis=-1).sum()
    assert drawn == pytest.approx(0.5, abs=0.06)
    assert (meshes.mesh_picture(mesh, 180.0, side=64) == 255).all()  # from behind there is nothing
    grey = meshes.mesh_picture(mesh, 0.0, textured=False, side=64)[32, 32]
    assert grey[0] == grey[1] == grey[2] > 100


def test_what_is_near_hides_what_is_far() -> None:
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * 0.1
    near, far = (np.column_stack((reach * corners, np.full(4, z))) for reach, z in ((0.5, 0.05), (1.0, 0.0)))
    faces = np.array([(0, 1, 2), (0, 2, 3)])
    colours = np.repeat(np.array([(250, 0, 0), (0, 0, 250)], np.uint8), 4, axis=0)
    mesh: Any = SimpleNamespace(
        positions=np.concatenate((near, far)), faces=np.concatenate((faces, faces + 4)), colours=colours
    )
    picture = meshes.mesh_picture(mesh, 0.0, side=64)
    assert picture[32, 32].tolist() == [250, 0, 0] and picture[32, 8].tolist() == [0, 0, 250]
