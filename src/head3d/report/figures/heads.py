"""Figures 1, 5 and 6: canonical heads, novel views, attention."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from head3d.images import to_frames
from head3d.report.figures import people, pictures
from head3d.report.figures.sheet import Row, Sheet
from head3d.views import hand_pose, moved_pose

if TYPE_CHECKING:
    from head3d.api import Head3D, Subject
    from head3d.geometry import Pose
    from head3d.params import Params
    from head3d.report.figures.people import Example
    from head3d.sections.choices import Motion

    Placing = Callable[[Subject], Pose]

YAWS = (-30.0, -15.0, 15.0, 30.0)  # degrees, Figure 1
TURNS = {"yaw": (-30.0, -15.0, 15.0, 30.0), "pitch": (-15.0, 15.0), "roll": (-20.0, 20.0)}  # degrees, Figure 5
SHIFTS = {"t_x": (-0.02, 0.02), "t_y": (-0.02, 0.02), "t_z": (-0.15, 0.15)}  # metres, Figure 5


def canonical_sheet(model: Head3D, shown: list[Example], params: Params) -> Sheet:
    """Figure 1: reference, mean canonical head, canonical head, its depth and shading, the head turned."""
    depths = [_depth(example, params.camera.distance_m) for example in shown]
    inside = np.concatenate([offset[mask > 0.5] for offset, mask in depths] or [np.zeros(1)])
    low, high = np.percentile(inside, [1, 99]) if inside.size else (-10.0, 10.0)
    sheet = Sheet(
        heads=["reference", "mean x̄ᶜ", "canonical x̂ᶜ", "depth", "shading", *(f"yaw {yaw:+.0f}°" for yaw in YAWS)],
        colorbar=(pictures.DEPTH_COLORS, float(low), float(high), "depth: cm from the head's centre, near is bright"),
    )
    for example, (offset, mask) in zip(shown, depths, strict=True):
        subject = example.subject
        turned, _ = model.render(subject, hand_pose(subject, yaw=YAWS))
        metres = offset / 100 + params.camera.distance_m
        tiles = [
            *to_frames(subject.reference),
            *to_frames(subject.mean_canonical),
            *to_frames(subject.canonical),
            pictures.depth_picture(offset, mask, float(low), float(high)),
            pictures.shading_picture(metres, mask, params.camera.fov_deg),
            *to_frames(turned),
        ]
        sheet.rows.append(Row(tiles, example.label))
    return sheet


def rotation_sheet(model: Head3D, shown: list[Example]) -> Sheet:
    """Figure 5, rotations: rendered head above, full output below."""
    poses: list[tuple[str, Placing]] = [("straight\nahead", hand_pose)]
    for name, angles in TURNS.items():
        poses += [(f"{name}\n{angle:+.0f}°", partial(hand_pose, **{name: angle})) for angle in angles]
    return _views(model, shown, poses)


def translation_sheet(model: Head3D, shown: list[Example]) -> Sheet:
    """Figure 5, translations of the reference frame's own pose: rendered head above, full output below."""
    poses: list[tuple[str, Placing]] = [("in place", lambda subject: moved_pose(subject, (0.0, 0.0, 0.0)))]
    for axis, (name, shifts) in enumerate(SHIFTS.items()):
        for shift in shifts:
            vector = [0.0, 0.0, 0.0]
            vector[axis] = shift
            poses.append((f"{name}\n{shift * 100:+.0f} cm", partial(moved_pose, shift_m=vector)))
    return _views(model, shown, poses)


def attention_sheet(model: Head3D, shown: list[Example], motion: Motion) -> Sheet:
    """Figure 6: what fusion is given, where it looks, and what it makes; self first, then across people."""
    inputs = ["subject", "driving", "canonical", "deformed", "transformed"]
    maps = [f"attention\n{name}" for name in ("head", "subject", "decoder")]
    bar = (pictures.attention_colors(), 0.0, 1.0, "attention, over middle grey")
    sheet = Sheet(heads=[*inputs, *maps, "output"], colorbar=bar)
    for number, example in enumerate(shown):
        sheet.rows.append(Row(_attention(model, example, example, "absolute"), example.label, new_group=True))
        driver = people.driver_of(shown, number)
        if driver is not example:  # one person alone has nobody to be driven by
            label = f"{example.person}\nby {driver.person}"
            sheet.rows.append(Row(_attention(model, example, driver, motion), label))
    return sheet


def _attention(model: Head3D, example: Example, driver: Example, motion: Motion) -> list[np.ndarray | None]:
    """The line of Figure 6 for the last frame of the driver's clip; relative motion counts from its first."""
    frames = np.array([0, len(driver.frames) - 1])
    moved = people.transfer(model, example, driver, frames, motion)
    output = to_frames(moved.frames)[-1]
    maps = moved.attention[-1].float().cpu().numpy()
    return [
        *to_frames(example.subject.reference),
        driver.frames[frames[-1]],
        *to_frames(example.subject.canonical),
        to_frames(moved.deformed)[-1],
        to_frames(moved.head)[-1],
        *(pictures.attention_picture(one, output) for one in maps),
        output,
    ]


def _views(model: Head3D, shown: list[Example], poses: list[tuple[str, Placing]]) -> Sheet:
    from head3d.geometry import Pose

    sheet = Sheet(heads=["reference", *(head for head, _ in poses)])
    for example in shown:
        views = model.view(example.subject, Pose.cat([place(example.subject) for _, place in poses]))
        reference = to_frames(example.subject.reference)[0]
        sheet.rows.append(Row([None, *to_frames(views.head)], f"{example.person}\nhead", new_group=True))
        sheet.rows.append(Row([reference, *to_frames(views.frames)], "output"))
    return sheet


def _depth(example: Example, distance_m: float) -> tuple[np.ndarray, np.ndarray]:
    """(depth in cm from the head's centre, mask), each (H, W)."""
    subject = example.subject
    depth = subject.depth[0, 0].detach().float().cpu().numpy()
    mask = subject.mask[0, 0].detach().float().cpu().numpy()
    return (depth - distance_m) * 100.0, mask
