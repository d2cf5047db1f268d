"""Figures 1, 5 and 6: canonical heads, novel views, attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from head3d.images import to_frames
from head3d.report.figures import people, pictures
from head3d.report.figures.sheet import Row, Sheet
from head3d.views import hand_pose

if TYPE_CHECKING:
    from head3d.api import Head3D, Motion
    from head3d.params import Params
    from head3d.report.figures.people import Example

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
        turned = model.view(subject, hand_pose(subject, yaw=YAWS)).head
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
    poses = [("yaw 0°\n" + "pitch 0°", {})]
    poses += [(f"{name}\n{angle:+.0f}°", {name: angle}) for name, angles in TURNS.items() for angle in angles]
    return _views(model, shown, poses)


def translation_sheet(model: Head3D, shown: list[Example]) -> Sheet:
    """Figure 5, translations: rendered head above, full output below."""
    poses: list[tuple[str, dict]] = [("in place", {})]
    for axis, (name, shifts) in enumerate(SHIFTS.items()):
        for shift in shifts:
            vector = [0.0, 0.0, 0.0]
            vector[axis] = shift
            poses.append((f"{name}\n{shift * 100:+.0f} cm", {"shift_m": vector}))
    return _views(model, shown, poses)


def attention_sheet(model: Head3D, shown: list[Example], motion: Motion) -> Sheet:
    """Figure 6: what fusion is given, where it looks, and what it makes; self first, then across people."""
    heads = ["subject", "driving", "canonical", "deformed", "transformed", "head", "subject", "decoder", "output"]
    heads = [head if number < 5 or number == 8 else f"attention\n{head}" for number, head in enumerate(heads)]
    sheet = Sheet(heads=heads, colorbar=(pictures.ATTENTION_COLORS, 0.0, 1.0, "attention"))
    for number, example in enumerate(shown):
        for driver, how in ((example, "absolute"), (people.driver_of(shown, number), motion)):
            if driver is example and how != "absolute":
                continue  # one person alone has nobody to be driven by
            last = np.array([0, len(driver.frames) - 1])  # relative motion counts from the first
            moved = people.transfer(model, example, driver, last, how)
            driving = driver.frames[last[-1]]
            tiles = [
                *to_frames(example.subject.reference),
                driving,
                *to_frames(example.subject.canonical),
                to_frames(moved.deformed)[-1],
                to_frames(moved.head)[-1],
                *(
                    pictures.attention_picture(one, driving)
                    for one in moved.attention[-1].detach().float().cpu().numpy()
                ),
                to_frames(moved.frames)[-1],
            ]
            label = example.label if driver is example else f"{example.person}\nby {driver.person}"
            sheet.rows.append(Row(tiles, label, new_group=driver is example))
    return sheet


def _views(model: Head3D, shown: list[Example], poses: list[tuple[str, dict]]) -> Sheet:
    sheet = Sheet(heads=["reference", *(head for head, _ in poses)])
    for example in shown:
        views = [model.view(example.subject, hand_pose(example.subject, **pose)) for _, pose in poses]
        reference = to_frames(example.subject.reference)[0]
        rendered = [to_frames(view.head)[0] for view in views]
        output = [to_frames(view.frames)[0] for view in views]
        sheet.rows.append(Row([None, *rendered], f"{example.person}\nhead", new_group=True))
        sheet.rows.append(Row([reference, *output], "output"))
    return sheet


def _depth(example: Example, distance_m: float) -> tuple[np.ndarray, np.ndarray]:
    """(depth in cm from the head's centre, mask), each (H, W)."""
    subject = example.subject
    depth = subject.depth[0, 0].detach().float().cpu().numpy()
    mask = subject.mask[0, 0].detach().float().cpu().numpy()
    return (depth - distance_m) * 100.0, mask
