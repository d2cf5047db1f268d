"""The one interface of every method that moves a subject's head as a driving video says."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from jaxtyping import Float
from torch import Tensor, nn

from head3d.baselines import official
from head3d.errors import UserError

M = TypeVar("M", bound="Method")


class Method(nn.Module, ABC):
    """A method: its networks, and how frames go through them. Images are RGB in [0, 1].

    A method's children are its networks and carry their official names, so ``state_dict`` names every tensor
    ``<network>.<our name>``.

    Args:
        image_size: side of the frames that the method is for, pixels.
        multiple: what the sides of frames must be divisible by.
        align_corners: of the method's sampling (see :func:`head3d.baselines.keypoints.sample`).

    Attributes:
        name: as in ``head3d.baselines.NAMES``.
        table: names of its tensors in official checkpoints (see :mod:`head3d.baselines.official`).
        optional: networks that official checkpoints may lack.
        exact: networks that always compute in float32: those of points, and of the depth that points are seen in.
            Inverses and axes of their local frames magnify what bfloat16 rounds, without a bound where a frame is
            nearly singular.
        motions: what :meth:`drive` accepts.
        lacks: optional networks that the loaded weights had none for.
        public_align_corners: align_corners that the published weights were trained with.
    """

    name: ClassVar[str]
    table: ClassVar[official.Table] = official.BLOCKS
    optional: ClassVar[tuple[str, ...]] = ()
    exact: ClassVar[tuple[str, ...]] = ()
    motions: ClassVar[tuple[str, ...]] = ("absolute", "relative")
    public_align_corners: ClassVar[bool] = False

    def __init__(self, image_size: int, multiple: int, align_corners: bool) -> None:
        super().__init__()
        self.image_size, self.multiple, self.align_corners = image_size, multiple, align_corners
        self.lacks: tuple[str, ...] = ()
        self.check_size(image_size, image_size)

    def motion_across(self) -> str:
        """Of ``motions``, how the authors move one person by another; relative motion, if there is such."""
        return "relative" if "relative" in self.motions else self.motions[0]

    def networks(self) -> dict[str, nn.Module]:
        """Networks by official name."""
        return dict(self.named_children())

    @abstractmethod
    def prepare(self, frames: Float[Tensor, "t 3 h w"], frame: int = 0) -> Any:
        """What driving needs to know of a subject, computed once.

        Args:
            frames: of the subject.
            frame: the one to move, for methods that use a single one.
        """

    @abstractmethod
    def drive(
        self,
        state: Any,
        driving: Float[Tensor, "m 3 h w"],
        motion: str = "absolute",
        first: Float[Tensor, "3 h w"] | None = None,
    ) -> Float[Tensor, "m 3 h w"]:
        """The subject as in each driving frame; frames do not influence each other.

        Args:
            state: of :meth:`prepare`.
            driving: driving frames.
            motion: ``absolute`` takes the driving frame's pose, ``relative`` its change since the video's first frame.
            first: that first frame, for relative motion; ``driving[0]`` if None.
        """

    @abstractmethod
    def forward_pair(self, source: Float[Tensor, "b 3 h w"], driving: Float[Tensor, "b 3 h w"]) -> dict[str, Tensor]:
        """``prediction`` (B, 3, H, W) of each driving frame from its source frame, and every intermediate by name."""

    def load_official(self: M, states: Mapping[str, object], what: str | None = None) -> M:
        """Take official weights.

        Args:
            states: official state dict of each network by its official name; other entries are ignored.
            what: what errors call them.

        Raises:
            UserError: something is missing, left over, or of another shape; then nothing is changed.
        """
        what = what or f"{self.name} weights"
        official.load_official(self.networks(), states, self.table, what, self.optional)
        self.lacks = tuple(name for name in self.optional if not isinstance(states.get(name), Mapping))
        return self

    def complete(self) -> None:
        """Fill networks that the loaded weights lack from files that the method's authors publish apart.

        Raises:
            UserError: such a file is not there.
        """

    @classmethod
    def from_official(cls, names: Iterable[str]) -> list[str]:
        """Our names of official ones, both with their network in front."""
        return official.from_official(names, cls.table)

    @classmethod
    def to_official(cls, names: Iterable[str]) -> list[str]:
        """Official names of ours, both with their network in front."""
        return official.to_official(names, cls.table)

    def check_size(self, height: int, width: int) -> None:
        """Raises UserError if frames of this size do not go through the networks."""
        if height <= 0 or width <= 0 or height % self.multiple or width % self.multiple:
            raise UserError(
                f"{self.name}: frames of {width}x{height}",
                allowed=f"sides that are multiples of {self.multiple}",
                fix="resize them, or build the method with fewer levels",
            )

    def check_motion(self, motion: str) -> None:
        """Raises UserError if the method has no such motion."""
        if motion not in self.motions:
            raise UserError(f"{self.name}: motion is {motion!r}", allowed=", ".join(self.motions))
