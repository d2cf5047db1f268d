"""What the page can do: jobs that go the way of ``head3d animate`` and ``view``, and pictures of a head at any pose."""

from __future__ import annotations

import io
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from head3d import options, use
from head3d.app.jobs import Job, Jobs
from head3d.app.videos import Video, Videos
from head3d.errors import UserError

if TYPE_CHECKING:
    from head3d.api import Head3D

M = TypeVar("M", bound=BaseModel)
MOST_HEADS = 8  # kept in memory, some MB each
SHIFTS = {"x": 0.1, "y": 0.1, "z": 0.3}  # metres at most to either side; about as far as F_P can place a head


class Wish(BaseModel):
    """What a browser asks for: how the head is made. Fields as the options of the same name of ``head3d view``."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    subject: str
    references: int | None = None
    choose: str = "random"
    seed: int | None = None
    face: int | None = None


class AnimateWish(Wish):
    """The same for ``head3d animate``."""

    driving: str
    motion: str | None = None
    driving_face: int | None = None
    paste: bool = False
    compare: bool = False


class ViewWish(Wish):
    """The same for a sweep of ``head3d view``."""

    yaw: str = "0"
    pitch: str = "0"
    roll: str = "0"
    frames: int = 60


class Look(BaseModel):
    """A pose to look at: degrees as in ``head3d view``, metres from the place in the reference frame.

    Attributes:
        whole: the subject's picture with the head turned in it; else the canonical head alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    yaw: float = Field(0.0, ge=-options.LIMITS["yaw"], le=options.LIMITS["yaw"])
    pitch: float = Field(0.0, ge=-options.LIMITS["pitch"], le=options.LIMITS["pitch"])
    roll: float = Field(0.0, ge=-options.LIMITS["roll"], le=options.LIMITS["roll"])
    x: float = Field(0.0, ge=-SHIFTS["x"], le=SHIFTS["x"])
    y: float = Field(0.0, ge=-SHIFTS["y"], le=SHIFTS["y"])
    z: float = Field(0.0, ge=-SHIFTS["z"], le=SHIFTS["z"])
    whole: bool = False


@dataclass(frozen=True)
class Head:
    """A person's canonical head, and the id by which a browser asks for it."""

    id: str
    person: use.Person


class Studio:
    """The model, the videos, the heads and the line of jobs of one server.

    Args:
        model: with a fusion network.
        folder: for videos and results; whoever made it deletes it.
        most_bytes: of one video.
    """

    def __init__(self, model: Head3D, folder: Path, most_bytes: int) -> None:
        self.model, self.folder = model, folder
        self.jobs = Jobs()
        self.videos = Videos(folder, most_bytes, self.jobs.needed)
        self._heads: dict[Wish, Head] = {}
        self._drawing = threading.Lock()  # pictures one after the other: together they would all be late

    def submit(self, kind: str, body: Any) -> Job:
        """Put what a browser wishes in the line.

        Args:
            kind: ``head``, ``animate`` or ``view``.
            body: fields of the wish of that kind.

        Raises:
            UserError: a wrong option, a video that is not there, or too much waiting already.
        """
        wish = read({"head": Wish, "animate": AnimateWish, "view": ViewWish}[kind], body)
        options.check_choice(_options(wish))
        subject = self._video("subject", wish.subject)
        result = self.folder / f"{secrets.token_urlsafe(16)}.mp4"
        if isinstance(wish, AnimateWish):
            options.check_transfer(wish.motion, wish.driving_face)
            driving = self._video("driving", wish.driving)
            name = f"{_stem(subject)}-as-{_stem(driving)}.mp4"
            both = (subject.id, driving.id)
            job = Job(lambda job: self._animate(job, wish, subject, driving), result, name, both)
            job.beside = None if wish.compare else driving.id
        elif isinstance(wish, ViewWish):
            sweeps = options.check_sweeps(wish.yaw, wish.pitch, wish.roll, wish.frames)
            name = f"{_stem(subject)}-turned.mp4"
            job = Job(lambda job: self._view(job, wish, subject, sweeps), result, name, (subject.id,))
        else:
            job = Job(lambda job: self._told(job, lambda: self._head(job, wish, subject)), videos=(subject.id,))
        return self.jobs.add(job)

    def head(self, name: str) -> Head | None:
        """The head with this id, if it is still kept."""
        return next((head for head in list(self._heads.values()) if head.id == name), None)

    def picture(self, head: Head, look: Look) -> bytes:
        """A head at a pose, as PNG of the networks' own size."""
        from PIL import Image

        from head3d.geometry import Pose
        from head3d.images import to_frames
        from head3d.views import hand_pose

        subject = head.person.subject
        turned = hand_pose(subject, look.yaw, look.pitch, look.roll)
        moved = turned.translation + turned.translation.new_tensor((look.x, look.y, look.z))
        pose = Pose(turned.rotation, moved).to(self.model.compute.device)
        with self._drawing:
            made = self.model.view(subject, pose).frames if look.whole else self.model.render(subject, pose)[0]
        out = io.BytesIO()
        Image.fromarray(to_frames(made)[0]).save(out, "PNG", compress_level=1)
        return out.getvalue()

    def _head(self, job: Job, wish: Wish, subject: Video) -> use.Person:
        """The person of a video; found and made once for the same choices."""
        key = Wish(**{name: getattr(wish, name) for name in Wish.model_fields})
        kept = self._heads.pop(key, None)
        if kept is None:
            kept = Head(
                secrets.token_urlsafe(16), use.prepare_person(self.model, subject.path, _options(wish), job.watch)
            )
        self._heads[key] = kept  # at the end: used last
        for old in list(self._heads)[:-MOST_HEADS]:
            del self._heads[old]
        job.head = kept.id
        return kept.person

    def _animate(self, job: Job, wish: AnimateWish, subject: Video, driving: Video) -> None:
        def work() -> None:
            person = self._head(job, wish, subject)
            own = {name: getattr(wish, name) for name in ("motion", "driving_face", "paste", "compare")}
            assert job.result is not None
            job.note = use.transfer(self.model, person, driving.path, job.result, watch=job.watch, **own)

        self._told(job, work)

    def _view(self, job: Job, wish: ViewWish, subject: Video, sweeps: dict[str, tuple[float, float]]) -> None:
        def work() -> None:
            person = self._head(job, wish, subject)
            assert job.result is not None
            use.render_sweep(self.model, person, job.result, sweeps, wish.frames, job.watch)

        self._told(job, work)

    def _told(self, job: Job, work: Any) -> None:
        """Do the work; what is wrong is told with the user's own names of files."""
        job.watch("starting")
        try:
            work()
        except UserError as error:
            raise UserError(self.videos.in_words(str(error))) from error

    def _video(self, role: str, name: str) -> Video:
        found = self.videos.get(name)
        if found is None:
            raise UserError(f"the {role} video is not here any more", fix="give it again")
        return found


def read(model: type[M], body: Any) -> M:
    """A browser's wish, checked.

    Raises:
        UserError: a field that is not there, of a wrong type, or out of range.
    """
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the request"
        raise UserError(f"{where}: {first['msg'][0].lower()}{first['msg'][1:]}") from None


def _options(wish: Wish) -> options.Options:
    return options.Options(references=wish.references, choose=wish.choose, seed=wish.seed, face=wish.face)


def _stem(video: Video) -> str:
    return Path(video.name).stem or "video"
