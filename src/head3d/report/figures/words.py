"""Titles, captions and alternative texts of all figures and videos."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from head3d.report.captions import with_smoke
from head3d.report.figures.failures import MOST
from head3d.report.figures.meshes import MOST as MESHES
from head3d.report.figures.motion import SWEEP_DEG

if TYPE_CHECKING:
    from head3d.params import Params


@dataclass(frozen=True)
class Words:
    """What is said of one file of ``reports/figures/``; ``alt`` is for those who do not see it."""

    name: str
    title: str
    caption: str
    alt: str


def of_data(kept: int, left_out: int, fates: str, most: int) -> list[Words]:
    """Loss curves and data sheet."""
    return [
        Words(
            "curves",
            "Training losses",
            "Losses of the three stages, of the matcher, of the small parser and of the baselines by optimiser step: "
            "raw values thin, a running median thick. The variants of stage 3 are those of Table 3. A baseline's "
            "`loss` is the sum of its own weighted terms: only terms of the same name compare.",
            "Small line plots, one for each loss.",
        ),
        Words(
            "data_crops",
            "Data sheet: crops",
            f"The first clip of every video (at most {most}) at four moments with the outline of its head mask, "
            "the landmarks of the first frame, and head images x (everything but face and hair masked).",
            "Rows of face crops with an orange outline around each head, then heads on black.",
        ),
        Words(
            "data_clips",
            "Data sheet: clips",
            f"What became of each video's clips: {kept} kept, by split, and {left_out} left out, by reason.",
            f"Bar chart of clips by video. In total: {fates}.",
        ),
    ]


def of_model(params: Params, people: list[str], rule: str) -> list[Words]:
    """Figures 1 to 7, the mesh and the videos; ``rule`` says how the clips were chosen."""
    who, motion = ", ".join(people), params.animate.motion
    found = [
        Words(
            "figure1",
            "Figure 1. Canonical heads",
            "From the first half of a clip: a reference frame, the mean canonical head x̄ᶜ of "
            f"{params.model.references} reference frames, the recurrent network's canonical head x̂ᶜ, its depth, "
            "the same depth as a grey surface under one lamp, and the canonical head turned by hand.",
            f"Canonical heads of {who} with depth maps and views from four yaw angles.",
        ),
        Words(
            "figure2",
            "Figure 2. The framework as it ran",
            "Networks with the shapes (channels, height, width) that went in and came out and the number of their "
            f"parameters, read off the networks of the scale {params.scale} while they moved {people[0]}; the pictures "
            "are theirs. White boxes are geometry without weights. The three stages are trained one after the other.",
            "Three rows of boxes joined by arrows, one row for each stage of training.",
        ),
        Words(
            "figure3",
            "Figure 3. Every method side by side",
            "Subject: the reference frame that all methods are given; Head3D is given more, "
            f"{params.model.references} in all. Driving: the frame of the clip's second half that differs most from "
            "it, so also the truth. Below each output its difference from the truth: black is right, bright is wrong. "
            f"Last rows: another person drives, with {motion} motion, where there is no truth: the first two pairs of "
            "each test set in reports/tables/cross_identity_pairs.csv, at the driver's frame that differs most from "
            "its first.",
            f"For each of {who}: a reference frame, a driving frame, outputs of all methods, heat maps of errors; then "
            "rows in which one person is moved by another.",
        ),
        Words(
            "figure4_self",
            "Figure 4a. Self-reconstruction",
            "Subject frames, driving frames (from the second half of the same clip, so they are also the truth), "
            "and Head3D's output.",
            f"For each of {who}: a row of subject frames, a row of driving frames, a row of outputs.",
        ),
        Words(
            "figure4_cross",
            "Figure 4b. Motion from another person",
            f"As 4a, but each person is driven by the next one in the list, with {motion} motion. There is no truth "
            "here: look whether the identity is the subject's and the pose the driver's.",
            f"For each of {who}: a row of subject frames, a row of another person's frames, a row of outputs.",
        ),
        Words(
            "figure5_rotation",
            "Figure 5a. Head turned by hand",
            "Rendered canonical head (above) and Head3D's output (below) at poses given by hand, one angle at a time.",
            f"Heads of {who} turned left and right, up and down, and tilted.",
        ),
        Words(
            "figure5_translation",
            "Figure 5b. Head moved by hand",
            "As 5a for translations of the reference frame's own pose: t_x to the right, t_y down, t_z away from "
            "the camera.",
            f"Heads of {who} moved sideways, up and down, nearer and farther.",
        ),
        Words(
            "figure6",
            "Figure 6. Attention",
            "Deformed: the subject frame warped by the flow f(s_ref ← s_dri). Transformed: the canonical head at the "
            "driving pose. The three attention maps (red high, blue low; they sum to one at every pixel) weigh the "
            "transformed head, the deformed subject frame and the decoder's own feature. Last frame of the driving "
            "clip; each person is driven by the own clip" + (", then by the next person." if len(people) > 1 else "."),
            f"For each of {who}: inputs of the fusion network, three attention maps, and the output.",
        ),
        Words(
            "figure7",
            "Figure 7. Failures",
            f"The worst canonical heads of all test clips, one a person and at most {MOST}, by this score: the head is "
            "rendered at the pose of each of its reference frames and compared with the head in that frame; the score "
            "is the mean absolute difference, RGB in [0, 1], over where either of the two is (below each name, with "
            "the overlap of both as intersection over union). Orange: the outline of the parse that the head was made "
            "of. Fits worst: the reference of the highest difference, with the rendered head beside it.",
            "Rows of reference frames with outlined heads, then the canonical head made of them.",
        ),
        Words(
            "mesh",
            "The canonical head as a mesh",
            "What `head3d export` writes, drawn from its triangles and colours at four yaw angles, for the first "
            "people of Figure 1. It is a relief seen from the front: what no reference frame shows is not there.",
            f"Heads of {', '.join(people[:MESHES])} as coloured surfaces, turned.",
        ),
        Words(
            "video_self",
            "Self-reconstruction",
            "Left to right: reference frame of the subject, driving frames (the truth), Head3D, the rendered "
            "canonical head alone.",
            f"Video of {who}: the output follows the driving frames.",
        ),
        Words(
            "video_cross",
            "Motion from another person",
            "Left to right: reference frame of the subject, driving frames, Head3D, the rendered canonical head "
            f"alone. Each person is driven by the next one, with {motion} motion.",
            f"Video of {who}, each moved by another person.",
        ),
        Words(
            "video_yaw",
            "Yaw sweep",
            f"The head turned by hand through ±{SWEEP_DEG:.0f}° of yaw: reference frame, rendered canonical head, "
            "Head3D.",
            f"Video of {who} turning their heads left and right.",
        ),
    ]
    left_out = ([] if params.baselines else ["figure3"]) + ([] if len(people) > 1 else ["figure4_cross", "video_cross"])
    drawn = [one for one in found if one.name not in left_out]
    own_rule = ("figure2", "figure7", "mesh")
    return [
        one if one.name in own_rule else Words(one.name, one.title, f"{one.caption} {rule}", one.alt) for one in drawn
    ]


def entries(words: list[Words], params: Params) -> list[dict[str, str]]:
    """What ``captions.json`` holds."""
    return [asdict(one) | {"caption": with_smoke(params, one.caption)} for one in words]
