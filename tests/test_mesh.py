"""The exported mesh: an ellipsoid whose surface is known, and both file formats read back byte by byte."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from head3d import mesh
from head3d.errors import UserError
from head3d.geometry import intrinsics
from head3d.models.head3d import Canonical

SIZE, STEP, RADIUS = 48, 0.002, 0.04


def made() -> mesh.Mesh:
    """A half sphere towards the camera: red eyes above, a blue mouth below, a speck beside it."""
    v, u = np.mgrid[:SIZE, :SIZE]
    x, y = (u - (SIZE - 1) / 2) * STEP, (v - (SIZE - 1) / 2) * STEP
    inside = x**2 + y**2 < (0.8 * RADIUS) ** 2
    z = -np.sqrt(np.maximum(RADIUS**2 - x**2 - y**2, 0))
    mask = inside.astype(float)
    mask[2:4, 2:4] = 1
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[inside] = (200, 180, 160)
    image[17:19, 17:19] = image[17:19, 29:31] = (255, 0, 0)
    image[32:34, 22:26] = (0, 0, 255)
    return mesh.grid_mesh(np.stack([x, y, z], axis=-1), mask, image)


def test_upright_facing_forward_and_smooth() -> None:
    head = made()
    red, blue = (head.colours == (255, 0, 0)).all(1), (head.colours == (0, 0, 255)).all(1)
    assert head.positions[red, 1].min() > head.positions[blue, 1].max()
    assert sorted(np.sign(head.positions[red, 0])) == [-1] * 4 + [1] * 4
    assert np.allclose(np.linalg.norm(head.positions, axis=1), RADIUS, atol=1e-6)  # and not the speck
    outward = (head.normals * head.positions).sum(1) / RADIUS
    assert outward.min() > 0.95
    assert (head.positions[:, 2] > 0).all()
    corners = head.positions[head.faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (across[:, 2] > 0).all()


def test_texture_agrees_with_the_vertices_and_has_no_black() -> None:
    head = made()
    column, row = (head.uv * SIZE - 0.5).round().astype(int).T
    assert (head.texture[row, column] == head.colours).all()
    assert head.texture.max(axis=2).min() > 0


def test_a_soft_rim_takes_the_colour_beside_it() -> None:
    v, u = np.mgrid[:8, :8] * STEP
    mask, image = np.ones((8, 8)), np.full((8, 8, 3), 200, np.uint8)
    mask[:, :2], image[:, :2] = 0.7, 140  # black shines through
    head = mesh.grid_mesh(np.stack([u, v, 0 * u], axis=-1), mask, image)
    assert len(head.positions) == 64 and (head.colours == 200).all()


def test_no_triangle_crosses_a_depth_jump() -> None:
    v, u = np.mgrid[:20, :20] * STEP
    z = np.where(u < 10 * STEP, 0.0, 0.05)
    head = mesh.grid_mesh(np.stack([u, v, z], axis=-1), np.ones((20, 20)), np.full((20, 20, 3), 9, np.uint8))
    assert np.ptp(head.positions[head.faces][..., 2], axis=1).max() == 0
    assert len(head.faces) == 2 * 2 * 19 * 9


def test_the_origin_is_the_heads_centre() -> None:
    """A flat head two centimetres in front of it, as wide as the camera sees there."""
    image, mask = torch.ones(1, 3, 32, 32), torch.ones(1, 1, 32, 32)
    geometry: Any = SimpleNamespace(k=lambda image: intrinsics(32, 32, 10.0), distance_m=1.5)
    head = mesh.head_mesh(Canonical(image, mask, 1.48 * mask), geometry)
    assert head.positions[:, 2] == pytest.approx(0.02, abs=1e-6)
    assert head.positions[:, :2].mean(axis=0) == pytest.approx(0, abs=1e-5)
    assert np.ptp(head.positions[:, :2], axis=0) == pytest.approx(2 * 1.48 * np.tan(np.radians(5)), rel=1e-4)


def test_no_head_is_one_line() -> None:
    with pytest.raises(UserError, match="no surface"):
        mesh.grid_mesh(np.zeros((8, 8, 3)), np.zeros((8, 8)), np.zeros((8, 8, 3), np.uint8))


def test_glb(tmp_path: Path) -> None:
    head = made()
    data = mesh.save(head, tmp_path / "new" / "Head.GLB").read_bytes()
    magic, version, length, text_length, kind = struct.unpack("<4sIII4s", data[:20])
    assert (magic, version, length, kind) == (b"glTF", 2, len(data), b"JSON")
    scene = json.loads(data[20 : 20 + text_length])
    binary_length, kind = struct.unpack("<I4s", data[20 + text_length : 28 + text_length])
    binary = data[28 + text_length :]
    assert (kind, binary_length, scene["buffers"][0]["byteLength"]) == (b"BIN\0", len(binary), len(binary))

    def values(index: int) -> np.ndarray:
        accessor = scene["accessors"][index]
        view = scene["bufferViews"][accessor["bufferView"]]
        assert view["byteOffset"] % 4 == 0
        part = binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
        width = {"VEC3": 3, "VEC2": 2, "SCALAR": 1}[accessor["type"]]
        found = np.frombuffer(part, {5126: "<f4", 5125: "<u4"}[accessor["componentType"]]).reshape(-1, width)
        assert len(found) == accessor["count"]
        return found

    primitive = scene["meshes"][0]["primitives"][0]
    positions = values(primitive["attributes"]["POSITION"])
    assert (positions == head.positions).all()
    assert scene["accessors"][0]["min"] == positions.min(0).tolist()
    assert scene["accessors"][0]["max"] == positions.max(0).tolist()
    assert np.allclose(np.linalg.norm(values(primitive["attributes"]["NORMAL"]), axis=1), 1, atol=1e-5)
    assert (values(primitive["attributes"]["TEXCOORD_0"]) == head.uv).all()
    indices = values(primitive["indices"])
    assert (indices.reshape(-1, 3) == head.faces).all()
    assert indices.max() == len(positions) - 1
    view = scene["bufferViews"][scene["images"][0]["bufferView"]]
    picture = Image.open(io.BytesIO(binary[view["byteOffset"] :][: view["byteLength"]]))
    assert (np.asarray(picture) == head.texture).all()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["Head.GLB"]


def test_ply(tmp_path: Path) -> None:
    head = made()
    text, _, body = mesh.save(head, tmp_path / "head.ply").read_bytes().partition(b"end_header\n")
    assert f"element vertex {len(head.positions)}\n".encode() in text
    assert f"element face {len(head.faces)}\n".encode() in text
    assert len(body) == len(head.positions) * 27 + len(head.faces) * 13
    assert struct.unpack("<3f", body[:12]) == tuple(head.positions[0])
    assert struct.unpack("<3f", body[12:24]) == tuple(head.normals[0])
    assert tuple(body[24:27]) == tuple(head.colours[0])
    assert struct.unpack("<B3i", body[-13:]) == (3, *head.faces[-1])
