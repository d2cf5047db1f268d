"""The canonical head as a mesh, drawn from its own triangles."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from head3d.mesh import Mesh, head_mesh
from head3d.report.figures.sheet import Row, Sheet

if TYPE_CHECKING:
    from head3d.api import Head3D
    from head3d.report.figures.people import Example

YAWS = (-40.0, -15.0, 15.0, 40.0)  # degrees
MOST = 2  # people
SIDE = 256  # pixels of a picture
GREY = 0.62  # of a surface without its texture
LIGHT = np.array((0.35, 0.45, 0.82))  # from the upper right, in front; x right, y up, z to the viewer


def mesh_sheet(model: Head3D, shown: list[Example]) -> Sheet:
    """Each head in its colours, then as a grey surface under one lamp."""
    views = [f"yaw {yaw:+.0f}°" for yaw in YAWS]
    sheet = Sheet(heads=[*views, *views], block=len(YAWS))
    for example in shown[:MOST]:
        mesh = head_mesh(example.subject.head(), model.geometry)
        tiles: list[np.ndarray | None] = [
            mesh_picture(mesh, yaw, textured) for textured in (True, False) for yaw in YAWS
        ]
        sheet.rows.append(Row(tiles, f"{example.label}\n{len(mesh.faces)} faces"))
    return sheet


def mesh_picture(mesh: Mesh, yaw_deg: float, textured: bool = True, side: int = SIDE) -> np.ndarray:
    """A mesh turned about the vertical, seen from the front without perspective, far triangles first.

    Args:
        mesh: the mesh.
        yaw_deg: how far it turns to its left, which is the picture's right.
        textured: in its colours, else grey under one lamp.
        side: of the picture, pixels.

    Returns:
        uint8 (side, side, 3), on white.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure
    from PIL import Image

    angle = np.radians(yaw_deg)
    turn = np.array(((np.cos(angle), 0, np.sin(angle)), (0, 1, 0), (-np.sin(angle), 0, np.cos(angle))))
    corners = (mesh.positions @ turn.T)[mesh.faces]  # (F, 3, 3)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    front = normals[:, 2] > 0  # what looks away is hidden, or would show the inside of the relief
    corners, normals = corners[front], normals[front]
    order = corners[:, :, 2].mean(axis=1).argsort()
    if textured:
        colours = mesh.colours[mesh.faces][front].mean(axis=1) / 255
    else:
        cosine = normals @ LIGHT / (np.linalg.norm(normals, axis=1) * np.linalg.norm(LIGHT) + 1e-12)
        colours = np.repeat((0.15 + (GREY + 0.2) * cosine.clip(0, 1))[:, None], 3, axis=1)
    reach = 1.05 * np.abs(mesh.positions).max()

    figure = Figure(figsize=(1, 1), dpi=side)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach))
    shades = colours[order].clip(0, 1)
    triangles = list(corners[order, :, :2])
    axes.add_collection(PolyCollection(triangles, facecolors=shades, edgecolors=shades, linewidths=0.3))
    raw = io.BytesIO()
    FigureCanvasAgg(figure).print_png(raw)
    return np.asarray(Image.open(raw).convert("RGB"))
