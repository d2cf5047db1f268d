"""A canonical head as a textured mesh, and its files: glTF 2.0 binary (.glb) and Stanford PLY (.ply).

Metres, y up, the face towards +z, origin at the head's centre: upright and from the front in ordinary viewers.
"""

from __future__ import annotations

import io
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy import ndimage

from head3d.errors import UserError
from head3d.files import replacing

if TYPE_CHECKING:
    from head3d.models.head3d import Canonical, HeadGeometry

INSIDE = 0.5  # mask above which a pixel becomes a vertex
OPAQUE = 0.95  # mask above which a pixel's colour has no black of the outside in it
STEEPEST = 6.0  # pixels' widths that depth may change by from one pixel to the next; more is a jump
_FLOAT, _UINT, _ARRAY, _INDEX = 5126, 5125, 34962, 34963  # glTF's names for types and targets


@dataclass(frozen=True)
class Mesh:
    """A textured mesh.

    Attributes:
        positions: (V, 3) float32, metres.
        normals: (V, 3) float32, of unit length.
        uv: (V, 2) float32 in [0, 1], from the texture's top left corner.
        faces: (F, 3) uint32, counter-clockwise from outside.
        texture: (H, W, 3) uint8.
        colours: (V, 3) uint8.
    """

    positions: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    faces: np.ndarray
    texture: np.ndarray
    colours: np.ndarray


def head_mesh(canonical: Canonical, geometry: HeadGeometry) -> Mesh:
    """The mesh of a canonical head: a vertex for each pixel of the head, without triangles across depth jumps.

    Args:
        canonical: one head.
        geometry: its camera.

    Raises:
        UserError: the mask is too small to give a surface.
    """
    from head3d.geometry import unproject
    from head3d.images import to_frames

    points = unproject(canonical.depth.float(), geometry.k(canonical.image))[0].cpu().numpy()
    mask = canonical.mask[0, 0].float().cpu().numpy()
    return grid_mesh(
        points.reshape(*mask.shape, 3) - np.array([0, 0, geometry.distance_m]), mask, to_frames(canonical.image)[0]
    )


def grid_mesh(points: np.ndarray, mask: np.ndarray, image: np.ndarray) -> Mesh:
    """The same from arrays.

    Args:
        points: (H, W, 3), metres: x right, y down, z away from the camera, about the head's centre.
        mask: (H, W) in [0, 1].
        image: (H, W, 3) uint8.
    """
    height, width = mask.shape
    inside = _largest(mask > INSIDE)
    number = np.arange(height * width).reshape(height, width)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    # y and z change sign together, so nothing is mirrored and this order is counter-clockwise from the front.
    faces = np.concatenate([np.stack(t, axis=-1).reshape(-1, 3) for t in ((a, c, b), (b, c, d))])
    z = points[..., 2].reshape(-1)
    step = float(np.median(np.diff(points[..., 0], axis=1)))
    smooth = np.ptp(z[faces], axis=1) <= STEEPEST * step
    faces = faces[smooth & inside.reshape(-1)[faces].all(axis=1)]
    if len(faces) == 0:
        raise UserError("the canonical head has no surface", fix="give a video that shows the face larger")
    used, faces = np.unique(faces, return_inverse=True)
    faces = faces.reshape(-1, 3).astype(np.uint32)
    positions = (points.reshape(-1, 3)[used] * np.array([1, -1, -1])).astype(np.float32)
    row, column = np.divmod(used, width)
    uv = np.stack([(column + 0.5) / width, (row + 0.5) / height], axis=-1).astype(np.float32)
    texture = _spread(image, inside & (mask > OPAQUE))
    return Mesh(positions, _normals(positions, faces), uv, faces, texture, texture.reshape(-1, 3)[used])


def save(mesh: Mesh, path: str | Path) -> Path:
    """Write a mesh as its file name says, .glb or .ply; the file appears when it is complete."""
    path = Path(path)
    content = glb(mesh) if path.suffix.lower() == ".glb" else ply(mesh)
    try:
        with replacing(path) as file:
            file.write_bytes(content)
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror or error})") from error
    return path


def glb(mesh: Mesh) -> bytes:
    """glTF 2.0 binary: one mesh, its texture embedded as PNG."""
    picture = io.BytesIO()
    Image.fromarray(mesh.texture).save(picture, "PNG")
    parts: list[tuple[bytes, int | None]] = [
        (mesh.positions.astype("<f4").tobytes(), _ARRAY),
        (mesh.normals.astype("<f4").tobytes(), _ARRAY),
        (mesh.uv.astype("<f4").tobytes(), _ARRAY),
        (mesh.faces.astype("<u4").tobytes(), _INDEX),
        (picture.getvalue(), None),
    ]
    views, binary = [], b""
    for content, target in parts:
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(content)})
        if target is not None:
            views[-1]["target"] = target
        binary += content + b"\0" * (-len(content) % 4)

    def accessor(view: int, kind: str, values: np.ndarray) -> dict:
        return {"bufferView": view, "componentType": _FLOAT, "count": len(values), "type": kind}

    bounds = {"min": mesh.positions.min(0).tolist(), "max": mesh.positions.max(0).tolist()}
    scene = {
        "asset": {"version": "2.0", "generator": "head3d"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "head"}],
        "meshes": [
            {
                "primitives": [
                    {
                        "attributes": {"POSITION": 0, "NORMAL": 1, "TEXCOORD_0": 2},
                        "indices": 3,
                        "material": 0,
                        "mode": 4,
                    }
                ]
            }
        ],
        "materials": [
            {
                "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "metallicFactor": 0, "roughnessFactor": 1},
                "doubleSided": True,
            }
        ],
        "textures": [{"source": 0, "sampler": 0}],
        "samplers": [{"magFilter": 9729, "minFilter": 9729, "wrapS": 33071, "wrapT": 33071}],
        "images": [{"bufferView": 4, "mimeType": "image/png"}],
        "accessors": [
            accessor(0, "VEC3", mesh.positions) | bounds,
            accessor(1, "VEC3", mesh.normals),
            accessor(2, "VEC2", mesh.uv),
            {"bufferView": 3, "componentType": _UINT, "count": mesh.faces.size, "type": "SCALAR"},
        ],
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    text = json.dumps(scene, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    header = struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(binary))
    return header + struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary


def ply(mesh: Mesh) -> bytes:
    """Binary little-endian PLY with normals and a colour for each vertex."""
    fields = [*((f"float {name}", "<f4") for name in ("x", "y", "z", "nx", "ny", "nz"))]
    fields += [(f"uchar {name}", "u1") for name in ("red", "green", "blue")]
    vertices = np.empty(len(mesh.positions), np.dtype([(name, kind) for name, kind in fields]))
    columns = [*mesh.positions.T, *mesh.normals.T, *mesh.colours.T]
    for (name, _), column in zip(fields, columns, strict=True):
        vertices[name] = column
    faces = np.empty(len(mesh.faces), np.dtype([("count", "u1"), ("corners", "<i4", (3,))]))
    faces["count"], faces["corners"] = 3, mesh.faces
    lines = ["ply", "format binary_little_endian 1.0", "comment metres, y up, face towards +z"]
    lines += [f"element vertex {len(vertices)}", *(f"property {name}" for name, _ in fields)]
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    return "\n".join(lines).encode() + vertices.tobytes() + faces.tobytes()


def _largest(inside: np.ndarray) -> np.ndarray:
    """The largest connected part of a mask (H, W): specks of the parser are no head."""
    labels, count = ndimage.label(inside)  # pyright: ignore[reportGeneralTypeIssues]
    if count < 2:
        return inside
    return labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))


def _spread(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Colours of known pixels carried to all others from the nearest, so that no seam turns black."""
    if known.all() or not known.any():
        return image
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    return image[tuple(np.asarray(nearest))]


def _normals(positions: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Vertex normals (V, 3): those of the triangles around, weighted by area."""
    corners = positions[faces].astype(np.float64)
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.zeros((len(positions), 3))
    for corner in range(3):
        np.add.at(total, faces[:, corner], across)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.where(length > 0, total / np.maximum(length, 1e-30), [0.0, 0.0, 1.0]).astype(np.float32)
