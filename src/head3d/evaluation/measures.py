"""Measures of motion and identity that need no truth; docs/metrics.md is their specification, under ``VERSION``.

All take what :func:`head3d.evaluation.observe.observe` saw, and count only frames in which a face was found; the share
of those in which none was found is a measure of its own.
"""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from head3d.evaluation.observe import DISTANCE_M, Observed, camera, located
from head3d.geometry import euler_from_pose
from head3d.geometry.head_model import MODEL_SCALE, MOVING, landmark_points

VERSION = 3  # of docs/metrics.md; to be raised when a definition changes
IDENTITY, JITTER, NO_FACE = "identity_mobilefacenet", "jitter_dlib68", "no_face_dlib"
ANGLES = ("yaw_error_deg_dlib68", "pitch_error_deg_dlib68", "roll_error_deg_dlib68")  # of changes since the start
ABSOLUTE = ("yaw_absolute_deg_dlib68", "pitch_absolute_deg_dlib68", "roll_absolute_deg_dlib68")
EXPRESSION, GHOSTS = "expression_error_dlib68", "ghosts_bisenet"
OF_MOTION = (IDENTITY, *ANGLES, *ABSOLUTE, EXPRESSION, JITTER, NO_FACE)
MEASURES = (*OF_MOTION, GHOSTS)

EYE_CORNERS = (36, 45)  # outer ones
LIP_CM = 1.8  # how far the middle of the lips stands before the corners of the mouth
# Where the lips' landmarks 48 ... 67 stand between the middle (0) and a corner (1 or -1) of the mouth.
LIPS = (-1, -0.6, -0.25, 0, 0.25, 0.6, 1, 0.6, 0.3, 0, -0.3, -0.6, -0.9, -0.3, 0, 0.3, 0.9, 0.3, 0, -0.3)
SLACK = 2 / 128  # of the frame's height: a head's border may be off by that much and is no ghost
PARSED_PX, RIM = 384, 0.008  # how a result's head is parsed for ghosts, whatever params.yaml says of the data


def identity(result: Observed, person: np.ndarray) -> float:
    """Mean cosine in [-1, 1] between each frame's face and a person's.

    Args:
        result: T frames.
        person: unit vectors (T, D), one for each frame, or (D,), one for all; frames that are NaN are left out.
    """
    return _mean((result.identity * person).sum(-1))


def mean_person(seen: Observed) -> np.ndarray:
    """Unit vector (D,) of a person: the mean over the frames in which the face was found; NaN if there are none."""
    found = seen.identity[seen.found]
    if not len(found):
        return np.full(seen.identity.shape[-1], np.nan, np.float32)
    mean = found.mean(0)
    return mean / np.linalg.norm(mean)


def pose_errors(result: Observed, driving: Observed, absolute: bool = False) -> tuple[float, float, float]:
    """Mean absolute differences of yaw, pitch and roll in degrees, frame against frame.

    Args:
        result: T frames.
        driving: as many.
        absolute: compare the angles as they are. Else each video's change since its :func:`start`: landmarks of two
            people who look the same way give angles that differ all along, by the shapes of their faces, and
            with relative motion a method need not take the driver's first pose over. A still video is then off by all
            that the driver has turned.
    """
    result, driving = alike(result, driving)
    begin = start(result, driving)
    if begin is None:
        return float("nan"), float("nan"), float("nan")
    differences = []
    for ours, theirs in zip(euler_from_pose(result.pose), euler_from_pose(driving.pose), strict=True):
        apart = ours - theirs
        turned = ((apart if absolute else apart - apart[begin]) + 180) % 360 - 180
        differences.append(_mean(turned.abs().numpy()))
    return differences[0], differences[1], differences[2]


def alike(result: Observed, driving: Observed) -> tuple[Observed, Observed]:
    """Both videos with those frames alone that show a face in both.

    A frame beside one without a face is smoothed less: where that is so in one of the two only, it would be an error.
    """
    if (result.found == driving.found).all():
        return result, driving
    known = (result.found & driving.found)[:, None, None]
    made, given = (located(np.where(known, seen.landmarks, np.nan), seen.identity) for seen in (result, driving))
    return made, given


def start(result: Observed, driving: Observed) -> int | None:
    """The first frame in which both videos show a face, where changes are counted from; None if there is none."""
    both = np.flatnonzero(result.found & driving.found)
    return int(both[0]) if len(both) else None


def expression_error(result: Observed, driving: Observed) -> float:
    """How differently two faces move, whoever they are, in percent of the distance of the outer corners of the eyes.

    Poses are taken out (:func:`frontal`), and each video's face at its :func:`start`, so that only the change of brows,
    eyes and mouth since then is left; the root mean square of its difference over landmarks and frames.

    Why the start and not the video's mean: no constant leaves less of the driver's motion than its mean does, so a
    still video would be let off lightly, as would one that holds a wrong face all along after a right beginning.
    Relative motion promises the driver's change since the first frame, so that is what a result is held to.
    """
    result, driving = alike(result, driving)
    begin = start(result, driving)
    if begin is None:
        return float("nan")
    ours, theirs = (changes(seen) for seen in (result, driving))
    apart = (ours - ours[begin]) - (theirs - theirs[begin])
    return float(np.sqrt((apart[result.found & driving.found] ** 2).sum(-1).mean()))


def changes(seen: Observed) -> np.ndarray:
    """Brows, eyes and mouth seen from the front (T, 42, 2), in percent of the distance of the corners of the eyes."""
    numbers, model = landmark_points()
    eyes = [model[numbers.index(corner)] for corner in EYE_CORNERS]
    return frontal(seen)[:, MOVING].numpy() / float((eyes[0] - eyes[1]).norm()) * 100


def frontal(seen: Observed) -> Tensor:
    """Where the moving landmarks lie on a face that looks straight ahead: canonical x and y (T, 68, 2), metres.

    Each landmark is the point on its ray that has the depth of the generic head; the jaw and the nose are NaN.
    """
    depth = canonical_depth()
    k = camera().double()
    points = torch.from_numpy(seen.points).double()
    ray = (points - k[:2, 2]) / k[0, 0]  # (T, 68, 2)
    rotation, shift = seen.pose.rotation.double()[:, None], seen.pose.translation.double()[:, None]
    # The point R (x, y, z) + t + c lies on the ray (a, b, 1): two linear equations in x and y.
    left = rotation[..., :2, :2] - ray[..., None] * rotation[..., 2:, :2]  # (T, 68, 2, 2)
    ahead = rotation[..., 2, 2] * depth + shift[..., 2] + DISTANCE_M  # (T, 68)
    right = ray * ahead[..., None] - rotation[..., :2, 2] * depth[:, None] - shift[..., :2]
    known = ~torch.isnan(right).any(-1)
    solved = torch.full_like(right, torch.nan)
    solved[known] = torch.linalg.solve(left[known], right[known])
    return solved


def canonical_depth() -> Tensor:
    """Canonical z (68,) of the landmarks on the generic head, metres; NaN for the jaw's outline.

    The lips, which its model of rigid points lacks, are an arc between the corners of the mouth.
    """
    numbers, model = landmark_points()
    depth = torch.full((68,), torch.nan, dtype=torch.float64)
    depth[numbers] = model[:, 2].double()
    corner = depth[48].clone()
    for number, place in enumerate(LIPS, start=48):
        depth[number] = corner - 0.01 * MODEL_SCALE * LIP_CM * (1 - place**2)  # towards the camera
    return depth


def jitter(seen: Observed) -> float:
    """How much landmarks tremble, in percent of the distance of the outer corners of the eyes (its mean).

    The root mean square, over landmarks and frames, of p(t-1) - 2 p(t) + p(t+1), the change of the speed from frame to
    frame; three frames in a row must show the face.
    """
    points = seen.landmarks
    if len(points) < 3:
        return float("nan")
    bend = points[:-2] - 2 * points[1:-1] + points[2:]
    whole = np.isfinite(bend).all((1, 2))
    if not whole.any():
        return float("nan")
    eyes = np.nanmean(np.linalg.norm(points[:, EYE_CORNERS[0]] - points[:, EYE_CORNERS[1]], axis=-1))
    return float(np.sqrt((bend[whole] ** 2).sum(-1).mean()) / eyes * 100)


def no_face(seen: Observed) -> float:
    """Share of the frames in which no face was found, in [0, 1]."""
    return float(1 - seen.found.mean())


def ghosts(heads: np.ndarray, rendered: np.ndarray) -> float:
    """Head where none was rendered, in percent of the rendered head's area, mean over frames.

    Args:
        heads: masks of the result's heads by the face parser, uint8 (T, H, W), 255 = head.
        rendered: masks of the rendered heads, the same.
    """
    reach = max(1, round(SLACK * heads.shape[1]))
    ball = ndimage.iterate_structure(ndimage.generate_binary_structure(2, 1), reach)
    shares = []
    for head, wanted in zip(heads >= 128, rendered >= 128, strict=True):
        if wanted.any():
            outside = head & np.logical_not(ndimage.binary_dilation(wanted, ball))
            shares.append(100 * outside.sum() / wanted.sum())
    return _mean(np.array(shares))


def motion_measures(result: Observed, driving: Observed, person: np.ndarray) -> dict[str, float]:
    """Every measure that landmarks and identities give; ``person`` as in :func:`identity`."""
    pair = alike(result, driving)
    return {
        IDENTITY: identity(result, person),
        **dict(zip(ANGLES, pose_errors(*pair), strict=True)),
        **dict(zip(ABSOLUTE, pose_errors(*pair, absolute=True), strict=True)),
        EXPRESSION: expression_error(*pair),
        JITTER: jitter(result),
        NO_FACE: no_face(result),
    }


def texts_of(row: dict[str, object]) -> dict[str, object]:
    """A row of a CSV: numbers to six decimals; what could not be measured is empty."""

    def text(value: object) -> object:
        if isinstance(value, float):
            return f"{value:.6f}" if value == value else ""
        return value

    return {name: text(value) for name, value in row.items()}


def _mean(values: np.ndarray) -> float:
    """Mean of what is not NaN; NaN where nothing is left."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
