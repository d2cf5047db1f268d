"""Self-reconstruction by a baseline: from one reference frame, with absolute motion."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from head3d.baselines import build, convert
from head3d.baselines.inference import for_inference
from head3d.baselines.method import Method
from head3d.compute import Compute
from head3d.data.store import ClipRecord, ClipStore
from head3d.evaluation.protocol import (
    Case,
    MethodFrames,
    Row,
    reenact,
    run_evaluation,
    score,
)
from head3d.references import reference_of
from head3d.training.weights import load_weights

if TYPE_CHECKING:
    from head3d.params import Params


class BaselineMethod:
    """A baseline as the evaluation sees every method (:class:`head3d.evaluation.protocol.Reenactor`).

    Args:
        method: trained.
        compute: where and in which type it runs.
        batch_size: driving frames at once; no frame depends on the others.
    """

    def __init__(self, method: Method, compute: Compute, batch_size: int) -> None:
        self.method = for_inference(method.to(compute.device), compute.dtype)
        self.device, self.batch_size = compute.device, batch_size

    def prepare(self, frames: Tensor, masks: Tensor, seed: int) -> Any:
        return self.method.prepare(frames.to(self.device), reference_of(len(frames), seed))

    def drive(self, state: Any, driving: Tensor, masks: Tensor, motion: str = "absolute") -> Tensor:
        driving = driving.to(self.device)
        batches = driving.split(self.batch_size)
        return torch.cat([self.method.drive(state, part, motion, driving[0]) for part in batches]).float()


def load(params: "Params", name: str, models: str | Path = "models") -> BaselineMethod:
    """A baseline: trained here, or what `head3d import` has made of an official checkpoint.

    Raises:
        UserError: it is not there, with other networks than params.yaml asks for, or lacks some that it cannot do
            without.
    """
    compute = Compute.resolve(params.device, params.precision, params.train.channels_last)
    network = getattr(params.baseline, name).network.model_dump()
    path, size = Path(models) / f"baseline-{name}.safetensors", params.data.image_size
    if path.is_file() and convert.is_imported(path):
        method = convert.load(path, size, name, **network)
        method.complete()
    else:
        method = load_weights(build(name, size, **network), path)
    return BaselineMethod(method.eval(), compute, params.evaluate.batch_size)


def evaluate(
    params: "Params", test_set: str, method: str, store: ClipStore, models: str | Path = "models"
) -> list[Row]:
    """Rows of every clip and draw of a baseline on a test set.

    Raises:
        UserError: the test set is empty, or the baseline is not trained.
    """
    store.split(test_set)  # an empty one is told before the model is loaded
    trained = load(params, method, models)

    def make(record: ClipRecord, case: Case) -> MethodFrames:
        return reenact(trained, method, params, record, case)

    return score(store, test_set, method, trained.device, make)


def run(params: "Params", test_set: str, method: str) -> None:
    """Evaluate a baseline on a test set; writes metrics/reconstruction/SET-METHOD.csv."""
    run_evaluation(params, test_set, method, evaluate)
