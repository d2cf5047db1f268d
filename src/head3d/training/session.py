"""What all trainings do alike before and after their loop: settings, clips, state, tracking, results."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from head3d import tracking
from head3d.compute import Compute
from head3d.data.store import ClipStore, write_json
from head3d.ranks import current
from head3d.tracking.profile import profiled
from head3d.training.batches import Clips, load_clips
from head3d.training.loop import Schedule, State, run_digest, train, write_history
from head3d.training.weights import save_weights

if TYPE_CHECKING:
    from head3d.params import Params

# Code that trained weights depend on: of all stages, and of each.
SHARED = (
    *("geometry", "losses", "checkpoints.py", "compute.py", "ranks.py", "data/store.py"),
    *(f"training/{name}.py" for name in ("prefetch", "batches", "batchnorm", "loop", "seeds", "session", "weights")),
)
_HEAD_GEOMETRY = (
    "models/blocks.py",
    "models/depth.py",
    "models/head3d.py",
    "models/mobilenet.py",
    "models/pose.py",
    "models/resnet.py",
    "training/build/geometry.py",
)
_CANONICAL = (*_HEAD_GEOMETRY, "models/canonical.py", "training/build/canonical.py")
_FUSION = ("models/matching.py", "models/fusion.py", "training/build/fusion.py")
OWN = {
    "geometry": (*_HEAD_GEOMETRY, "training/geometry.py", "training/official.py", "training/shares.py"),
    "canonical": (*_CANONICAL, "training/canonical.py"),
    "matching": ("models/matching.py", "training/expression.py", "training/matching.py"),
    "fusion": (*_CANONICAL, *_FUSION, "training/fusion.py"),
    "parser": (
        *(f"models/{name}.py" for name in ("blocks", "folding", "head_masks", "parsing", "resnet", "small_parser")),
        *("training/parser.py", "training/scenes.py", "training/views.py"),
    ),
    "baseline": (*_HEAD_GEOMETRY, "training/baseline.py", "training/shares.py"),
}


@dataclass
class Session:
    """A training run of a stage; :func:`open_session` makes it.

    Attributes:
        name: ``train_geometry``, ``train_canonical`` or ``train_fusion-VARIANT``; names its files.
        params: all parameters.
        settings: those that this run depends on, with digests of what it reads; changing one starts afresh.
        tracked: its MLflow run.
        compute: where it runs, in which precision.
        store: of the clips.
    """

    name: str
    params: "Params"
    settings: dict[str, Any]
    tracked: "tracking.Run"
    compute: Compute
    store: ClipStore

    def __post_init__(self) -> None:
        own = OWN[self.name.split("-")[0].removeprefix("train_")]
        settings = self.settings | {"channels_last": self.params.train.channels_last}  # another layout rounds otherwise
        self.directory = Path("runs") / self.name / run_digest(settings, (*SHARED, *own))

    def load_clips(self, *, id_sampling: bool = False, poses: bool = False) -> Clips:
        """The training clips, as :func:`load_clips` has them."""
        return load_clips(self.store, "train", self.params, id_sampling=id_sampling, poses=poses)

    def train(
        self,
        state: State,
        schedule: Schedule,
        loss_fn: Callable,
        *,
        part: str = "state",
        clip_norm: float | None = None,
    ) -> None:
        """Run the loop, or the rest of it, and log its losses; ``part`` names one of several loops of a stage."""
        prefix = "" if part == "state" else f"{part}/"
        if current().is_rank_zero and part == "state" and (self.directory / "state.pt").exists():
            print(f"{self.name}: goes on from {self.directory}/state.pt", flush=True)
        name = self.name if part == "state" else f"{self.name} {part}"
        folder = self.directory.parent / ("profile" if part == "state" else f"profile-{part}")
        with profiled(folder, self.tracked if current().is_rank_zero else None) as after_step:
            train(
                state,
                self.directory / f"{part}.pt",
                schedule,
                loss_fn,
                label=name,
                checkpoint_every=self.params.train.checkpoint_every,
                log_every=self.params.train.log_every,
                on_log=lambda step, losses: self.tracked.metrics({prefix + k: v for k, v in losses.items()}, step=step),
                logged_to=self._logged_to,
                after_step=after_step,
                clip_norm=clip_norm,
            )

    def _logged_to(self) -> str | None:
        self.tracked.flush()
        return self.tracked.id

    def finish(self, network: nn.Module, state: State, result: dict[str, Any]) -> None:
        """Write the trained weights, the curves and the summary under their final names; rank 0 does."""
        if not current().is_rank_zero:
            return
        stage = self.name.removeprefix("train_")
        write_history(state.history, Path("metrics/curves") / f"{self.name}.csv")
        last = {name: value for _, name, value in state.history}
        final = {f"final_{k}": round(v, 6) for k, v in last.items()}
        summary = {"steps": state.step, "compute": str(self.compute), "data": self.store.digest, **final, **result}
        write_json(Path("metrics") / f"{self.name}.json", dict(sorted(summary.items())))
        self.tracked.metrics({f"summary/{k}": v for k, v in summary.items() if isinstance(v, int | float)})
        about = {"stage": self.name, "scale": self.params.scale, "seed": self.params.seed, "settings": self.settings}
        save_weights(network, Path("models") / f"{stage}.safetensors", about)


@contextlib.contextmanager
def open_session(
    params: "Params", stage: str, sections: Iterable[str], *, instance: str | None = None, **reads: Any
) -> Iterator[Session]:
    """A stage's training run, with an MLflow run around it; of several processes rank 0 alone writes to that.

    Args:
        params: all parameters.
        stage: ``geometry``, ``canonical``, ``matching``, ``fusion``, ``parser`` or ``baseline``.
        sections: of the parameters, all of which the trained weights depend on.
        instance: which of a stage's trainings this is: a variant or a method.
        reads: what the trained weights depend on besides: other parameters, digests of files, by name.

    Raises:
        UserError: there are no clips, or the device of params.yaml is not here.
    """
    compute = Compute.resolve(params.device, params.precision, params.train.channels_last)
    store = ClipStore()
    settings = {name: getattr(params, name).model_dump() for name in sections} | reads
    settings |= {"seed": params.seed, "data": store.digest, "dtype": str(compute.dtype)}
    name = f"train_{stage}"
    silent = not current().is_rank_zero
    with tracking.run(stage=name, params=params, instance=instance, silent=silent) as tracked:
        tracked.dataset("+".join(params.data.sources), store.digest, len(store.records("train")))
        tracked.tag("compute", compute)
        yield Session(f"{name}-{instance}" if instance else name, params, settings, tracked, compute, store)
