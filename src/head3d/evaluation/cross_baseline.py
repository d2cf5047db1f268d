"""Transfer between people by a baseline, from one reference frame."""

from typing import TYPE_CHECKING

from head3d.evaluation import baseline
from head3d.evaluation.cross import CrossCase, RenderedVideo, make_videos
from head3d.sections.choices import Motion

if TYPE_CHECKING:
    from head3d.params import Params


def reenact_pair(method: baseline.BaselineMethod, case: CrossCase, motion: Motion) -> RenderedVideo:
    """A baseline's frames, moved as its authors' configuration files have it for other people; it renders no head.

    So relative motion keeps the driver's scale (``adapt_movement_scale: False``); their demonstration scripts can scale
    it to the subject's head (``--adapt_scale``).
    """
    state = method.prepare(case.subject, case.subject_masks, case.seed)
    own = method.method.motion_across() if motion == "relative" else motion
    return method.drive(state, case.driving, case.driving_masks, own), None


def run(params: "Params", test_set: str, method: str) -> None:
    """Videos of all pairs of a test set by a baseline; data/transfer/SET/METHOD."""
    trained = baseline.load(params, method)

    def make(case: CrossCase, motion: Motion) -> dict[str, RenderedVideo]:
        return {method: reenact_pair(trained, case, motion)}

    make_videos(params, test_set, method, (method,), trained.device, make)
