"""The MLflow store: a client that is safe from several processes, and how each entry of a run is written to it."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock

from head3d.tracking.journal import Entry, flat
from head3d.tracking.ledger import LOCK_TIMEOUT

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

log = logging.getLogger("head3d.tracking")
T = TypeVar("T")

EXPERIMENT = "head3d"
DEFAULT_URI = "sqlite:///mlflow.db"
BATCH = 1000  # most metrics that MLflow takes in one call
RUN_KEY = "run_key"  # tag: the `run` of the journals (journal.py) that belong to this run
PIPELINE_KEY = "pipeline_key"  # tag of a parent: its key in the ledger
NETWORK = re.compile(r"(fuse\.)?(nfs4?|lustre|beegfs\w*|cifs|smb3|gpfs|ceph|glusterfs|sshfs|panfs|wekafs|afs)")
MOUNTS = Path("/proc/mounts")  # there is none outside Linux
# Passes by itself: `mlflow ui` holds an SQLite file, or two jobs add the same row, which the slower one then finds.
PASSING = re.compile(r"locked|unique ?(constraint|violation)|duplicate (key|entry)", re.IGNORECASE)


def tracking_uri() -> str:
    """Where runs are kept."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def network_file_system(path: Path, table: str) -> str | None:
    """The kind of network file system that a path lies on, such as ``nfs4``; None on a disk of this machine.

    Args:
        path: absolute, without links.
        table: text of /proc/mounts: device, mount point, kind, options in each line.
    """
    deepest, found = -1, ""
    for fields in map(str.split, table.splitlines()):
        if len(fields) < 3:
            continue
        # A space in a mount point is written \040.
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[1])
        if path.is_relative_to(point) and len(point) >= deepest:  # of two in one place the later hides the earlier
            deepest, found = len(point), fields[2]
    return found if NETWORK.fullmatch(found) else None


@functools.cache
def _warn_of_network(path: Path) -> None:
    """One line in the log if an SQLite store lies where its locks are not to be relied on."""
    with contextlib.suppress(OSError):
        if kind := network_file_system(path, MOUNTS.read_text(errors="surrogateescape")):
            log.warning(
                "%s is on a network file system (%s), where jobs of several nodes can break an SQLite file; "
                "docs/cluster.md says what to set MLFLOW_TRACKING_URI to",
                path, kind,
            )  # fmt: skip


class Store:
    """A client of the MLflow store. Every method may raise whatever MLflow raises."""

    def __init__(self, uri: str) -> None:
        # Nothing phones home, and a server that is away costs seconds, not minutes; the environment may say otherwise.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside mlflow's own imports
            from mlflow.tracking import MlflowClient
        for noisy, level in (("mlflow", logging.WARNING), ("alembic", logging.WARNING), ("urllib3", logging.ERROR)):
            logging.getLogger(noisy).setLevel(level)
        path = uri.removeprefix("sqlite:///") if uri.startswith("sqlite:///") else None
        on_disk = path and path != ":memory:"
        self.uri = uri
        self._lock = FileLock(f"{path}.lock", timeout=LOCK_TIMEOUT) if on_disk else contextlib.nullcontext()
        if path and on_disk:
            _warn_of_network(Path(path).resolve())
        with self._lock:  # the first client creates the database
            self._client = MlflowClient(uri)
            self._experiment = self._find_experiment()

    def _find_experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        for left in (1, 0):
            if experiment := self._client.get_experiment_by_name(EXPERIMENT):
                return experiment.experiment_id
            try:
                return self._client.create_experiment(EXPERIMENT)
            except MlflowException as error:
                # A server has no lock of ours: of several first clients one creates it, the others find it.
                if not left or error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
        raise AssertionError("the last try returns or raises")

    def call(self, action: Callable[[MlflowClient], T]) -> T:
        """``action(client)`` under the store's lock; tried again after an error that passes by itself."""
        for pause in (0.1, 0.5, 2.0, None):
            try:
                with self._lock:
                    return action(self._client)
            except Exception as error:
                if pause is None or not PASSING.search(str(error)):
                    raise
                time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def get(self, run_id: str) -> Run | None:
        """The run, or None if the store does not have it or it was deleted."""
        from mlflow.exceptions import MlflowException

        try:
            run = self.call(lambda c: c.get_run(run_id))
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return run if run.info.lifecycle_stage == "active" else None

    def tagged(self, key: str, value: str) -> str | None:
        """Id of the run that has this tag; the latest of several."""
        found = self.call(lambda c: c.search_runs([self._experiment], f"tags.{key} = '{value}'", max_results=1))
        return found[0].info.run_id if found else None

    def open(self, head: Entry, known: dict[str, Any], group: str, search: bool) -> tuple[str, bool]:
        """Id of the run that the head of a journal describes, and whether it was created just now.

        Args:
            head: first line of a journal (journal.py); its parameters are written by :meth:`write`, not here.
            known: what the ledger knows of the pipeline run, whose parent is created too if need be.
            group: key of that in the ledger.
            search: whether the run may be there already, with the id that the head has or made from it.
        """
        run = head["run"]
        if search and (found := run if self.get(run) else self.tagged(RUN_KEY, run)):
            return found, False
        if not known["parent"] or not self.get(known["parent"]):
            tags = {"scale": head["scale"], "git_commit": head["commit"], "stage": "pipeline", PIPELINE_KEY: group}
            earlier = self.tagged(PIPELINE_KEY, group) if search else None
            known["parent"] = earlier or self._create(f"{head['scale']}-{group[:8]}", tags, head["time"])
        tags = head["tags"] | {"mlflow.parentRunId": known["parent"], RUN_KEY: run}
        return self._create(head["name"], tags, head["time"]), True

    def _create(self, name: str, tags: Mapping[str, str], start: int) -> str:
        run = self.call(lambda c: c.create_run(self._experiment, start, tags=dict(tags), run_name=name))
        return run.info.run_id

    def write(self, run_id: str, chunk: Sequence[Entry]) -> None:
        """Write entries, one of :func:`chunks`. What MLflow will never take is left out, with a warning."""
        from mlflow.exceptions import MlflowException

        kind = chunk[0]["kind"]
        one = {
            "run": self._write_run,
            "tag": self._write_tag,
            "dataset": self._write_dataset,
            "artifact": self._write_artifact,
            "end": self._write_end,
        }
        try:
            if kind == "metrics":
                self._write_metrics(run_id, chunk)
            elif kind in one:
                one[kind](run_id, chunk[0])
            else:
                raise ValueError("no such kind of entry")
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            log.warning("MLflow refuses %s of run %s: %s", kind, run_id, " ".join(str(error).split())[:200])
        except (TypeError, ValueError, FileNotFoundError) as error:  # of another hand, or a lost file
            log.warning("%s of run %s is left out: %s", kind, run_id, error)

    def replay(self, run_id: str, journal: str, entries: Sequence[Entry]) -> int:
        """Write those entries of a journal that are not in the run yet; returns how many.

        How far it has come is a tag of the run, so an interrupted replay goes on and a second one writes nothing.
        """
        mark = f"journal.{journal}"
        done = int(self.call(lambda c: c.get_run(run_id)).data.tags.get(mark, 0))
        new = entries[done:]
        for chunk in chunks(new):
            self.write(run_id, chunk)
            done += len(chunk)
            self.call(lambda c, done=done: c.set_tag(run_id, mark, str(done)))
        return len(new)

    def _write_run(self, run_id: str, entry: Entry) -> None:
        from mlflow.entities import Param

        for run in self._with_parent(run_id):  # also of a parent whose creator was cut short
            values = [Param(key, value) for key, value in flat(entry["params"]).items() if key not in run.data.params]
            for start in range(0, len(values), 100):  # MLflow takes at most 100 in one call
                part = values[start : start + 100]
                self.call(lambda c, run=run, part=part: c.log_batch(run.info.run_id, params=part))

    def _write_metrics(self, run_id: str, chunk: Sequence[Entry]) -> None:
        from mlflow.entities import Metric

        found = [Metric(key, value, e["time"], e["step"]) for e in chunk for key, value in e["values"].items()]
        for start in range(0, len(found), BATCH):
            self.call(lambda c, part=found[start : start + BATCH]: c.log_batch(run_id, metrics=part))

    def _write_tag(self, run_id: str, entry: Entry) -> None:
        self.call(lambda c: c.set_tag(run_id, entry["key"], entry["value"]))

    def _write_dataset(self, run_id: str, entry: Entry) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        short = entry["digest"][:36]  # MLflow takes no longer one; the tag data_digest has it whole
        profile = json.dumps({"clips": entry["clips"]})
        data = Dataset(entry["name"], short, "local", json.dumps({"root": "data"}), profile=profile)
        inputs = [DatasetInput(data, [InputTag("mlflow.data.context", entry["context"])])]
        self.call(lambda c: c.log_inputs(run_id, inputs))

    def _write_artifact(self, run_id: str, entry: Entry) -> None:
        self.call(lambda c: c.log_artifact(run_id, entry["path"], entry["folder"]))

    def _write_end(self, run_id: str, entry: Entry) -> None:
        """Terminate the run and its parent, unless they have ended later than that."""
        for run in self._with_parent(run_id):
            if (run.info.end_time or 0) <= entry["time"]:
                self.call(lambda c, run=run: c.set_terminated(run.info.run_id, entry["status"], entry["time"]))

    def _with_parent(self, run_id: str) -> list[Run]:
        """The run and, unless it was deleted, its parent."""
        run = self.call(lambda c: c.get_run(run_id))
        above = run.data.tags.get("mlflow.parentRunId")
        parent = self.get(above) if above else None
        return [run, parent] if parent else [run]


def chunks(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Entries in the order they came, in pieces that are written by one call: metrics in a row, else one."""
    start = 0
    while start < len(entries):
        stop = start + 1
        if entries[start]["kind"] == "metrics":
            values = len(entries[start]["values"])
            while stop < len(entries) and entries[stop]["kind"] == "metrics":
                values += len(entries[stop]["values"])
                if values > BATCH:
                    break
                stop += 1
        yield entries[start:stop]
        start = stop
