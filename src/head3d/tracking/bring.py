"""`head3d runs import`: runs that were kept as files, into the MLflow store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from head3d.errors import UserError
from head3d.tracking import journal
from head3d.tracking.journal import OFFLINE
from head3d.tracking.ledger import group_of, ledger, member
from head3d.tracking.store import Store, tracking_uri


def bring(places: Sequence[Path] = (), remove: bool = False) -> Iterator[str]:
    """Bring journals into the store that ``MLFLOW_TRACKING_URI`` names; yields one line a journal, and one in the end.

    What is in the store already is not written twice, so an import that was cut short may simply be repeated, and a
    run that has not ended may be brought again later.

    Args:
        places: journals, or folders of them; by default ``runs/mlflow-offline``.
        remove: delete each journal that has ended, once all of it is in the store.

    Raises:
        UserError: no such folder; the store can't be reached or a journal can't be read.
    """
    found: list[Path] = []
    for place in places or [OFFLINE]:
        if places and not place.is_dir():
            raise UserError(f"{place}: no such folder", allowed=f"a journal, or a folder of journals such as {OFFLINE}")
        found += journal.folders(place)
    found = list(dict.fromkeys(found))
    if not found:
        yield f"no runs in {', '.join(map(str, places or [OFFLINE]))}"
        return
    uri, new = tracking_uri(), 0
    store, folder = None, found[0]
    try:
        ends = _ends(found)
        for folder in found:
            store = store or Store(uri)
            written, line = _bring_one(store, folder, ends, remove)
            new += written > 0
            yield line
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{uri}: the import stopped at {folder}: {reason}",
            fix="set MLFLOW_TRACKING_URI to a store that can be reached and run it again; nothing is written twice",
        ) from error
    yield f"{new} of {len(found)} runs had something new for {uri}"


def _ends(folders: Sequence[Path]) -> dict[str, int]:
    """When the runs of journals ended, those that have: a run that was killed and went on has several journals."""
    ends: dict[str, int] = {}
    for lines in map(journal.read, folders):
        if lines and lines[-1]["kind"] == "end":
            ends[lines[0]["run"]] = max(ends.get(lines[0]["run"], 0), lines[-1]["time"])
    return ends


def _bring_one(store: Store, folder: Path, ends: Mapping[str, int], remove: bool) -> tuple[int, str]:
    """Number of lines written, and what to say."""
    with journal.lock(folder):
        lines = journal.read(folder)
        if not lines:
            return 0, f"{folder.name}: empty, killed before its first line"
        head, last = lines[0], lines[-1]
        with ledger() as groups:
            group = group_of(head["params"], head["commit"], store.uri)
            run_id, created = store.open(head, member(groups, group), group, search=True)
        run = store.get(run_id)
        if run and not created and run.info.end_time and run.info.end_time < last["time"]:
            store.call(lambda c: c.update_run(run_id, status="RUNNING"))  # was killed, and went on in this journal
        written = store.replay(run_id, head["journal"], lines)
        ended = last["status"] if last["kind"] == "end" else None
        if written:
            line = f"{folder.name}: {written} lines into run {run_id}, {ended or 'not ended so far'}"
        else:
            line = f"{folder.name}: already there, run {run_id}"
        gone_on = max(ends.get(head["run"], 0), (run and run.info.end_time) or 0) > last["time"]  # in another journal
        if remove and (ended or gone_on):
            journal.delete(folder)
            line += ", folder deleted"
    return written, line
