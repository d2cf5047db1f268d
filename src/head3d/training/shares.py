"""Which batches the processes of a training share; launch asks before they are started, each training once they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from head3d.errors import UserError
from head3d.ranks import current

if TYPE_CHECKING:
    from head3d.params import Params

DEPTH_EVERY = 3  # the smooth head's depth is learnt from every third frame of the warm start: it is the easier part
LEAST_ROWS = {"geometry.warm_batch": DEPTH_EVERY}  # of a batch that each process must have; of others one


def batches_of(params: Params, training: str, method: str | None = None) -> dict[str, int]:
    """Sizes of the batches that the processes of a training share, by their names in params.yaml.

    Args:
        params: all parameters.
        training: ``geometry`` or another one.
        method: of ``baseline``.
    """
    if training == "baseline":
        settings = getattr(params.baseline, str(method)).model_dump()
        return {f"baseline.{method}.{name}": size for name, size in settings.items() if name.endswith("batch_size")}
    names = ["batch_size"]
    if training == "geometry":
        names += ["hold_batch"] if params.geometry.pose_hold > 0 else []
        names += ["warm_batch"] if params.geometry.has_warm_start else []
    if training == "matching" and params.matching.pairs:
        names.append("pairs")
    return {f"{training}.{name}": getattr(getattr(params, training), name) for name in names}


def check_shares(params: Params, training: str, method: str | None = None) -> None:
    """Raises UserError, before anything is trained, if the ranks can't share the batches; as :func:`batches_of`."""
    ranks = current()
    for name, size in batches_of(params, training, method).items():
        mine, least = ranks.rows(size, name), LEAST_ROWS.get(name, 1)
        if ranks.world_size > 1 and mine.stop - mine.start < least:
            raise UserError(
                f"params.yaml: {name} is {size} for {ranks.world_size} processes",
                allowed=f"at least {least * ranks.world_size}",
                fix="raise it, or start fewer processes",
            )
