"""MLflow tracking: the only module that imports mlflow.

Use it so::

    with tracking.run(stage="train_fusion", params=params, instance="full") as run:
        run.dataset("mini", store.digest, n=137)
        run.metrics({"loss": 0.1}, step=3)

Tracking must never cost a finished training. Whatever fails here (no server, a locked database, a full disk) is one
warning in the log; what could not be written is kept and tried again later, and the caller never sees an exception.

The store is ``MLFLOW_TRACKING_URI``, by default ``sqlite:///mlflow.db``. A pipeline run (same parameters, same commit)
is a parent run; every stage of it is a nested run under it, and a stage that was killed goes on in the run that it
left unfinished. Writes to an SQLite store go through a file lock: eight processes that start on a missing database
would all crash while creating it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import re
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock

if TYPE_CHECKING:
    import numpy as np
    from mlflow.tracking import MlflowClient

    from head3d.params import Params

log = logging.getLogger("head3d.tracking")
T = TypeVar("T")

EXPERIMENT = "head3d"
DEFAULT_URI = "sqlite:///mlflow.db"
LEDGER = Path("runs/pipeline.json")  # digest of parameters, commit and store -> ids of the parent and of open runs
FLUSH_EVERY = 10.0  # seconds between two writes of buffered metrics
RETRY_AFTER = 60.0  # seconds of peace after a failed write, doubled each time: a dead server must not slow training
BATCH = 1000  # most metrics that MLflow takes in one call
KEPT = 200_000  # most metrics kept while the store can't be reached
LOCK_TIMEOUT = 60.0  # seconds
NETWORK = re.compile(r"(fuse\.)?(nfs4?|lustre|beegfs\w*|cifs|smb3|gpfs|ceph|glusterfs|sshfs|panfs|wekafs|afs)")
MOUNTS = Path("/proc/mounts")  # there is none outside Linux


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


def run(
    stage: str, params: Params, instance: str | None = None, resume_id: str | None = None, silent: bool = False
) -> Run:
    """Track one run of a stage; use it in a ``with`` statement.

    Args:
        stage: name of the stage, such as ``train_fusion``.
        params: all parameters; they are logged flat (``fusion.lr``).
        instance: which of a stage's matrix, such as ``full`` or ``shard-0``.
        resume_id: id of an earlier run of the same stage that this one goes on with.
        silent: write nothing: another process of the same training does.
    """
    return Run(stage, params, instance, resume_id, silent)


class Run:
    """One tracked run of a stage. No method raises because of MLflow."""

    def __init__(
        self, stage: str, params: Params, instance: str | None, resume_id: str | None, silent: bool = False
    ) -> None:
        self.stage, self.instance, self._params, self._resume_id = stage, instance, params, resume_id
        self._silent = silent
        self._store: _Store | None = None
        self._id: str | None = None
        self._group = ""
        self._parent: str | None = None
        self._metrics: list[tuple[str, float, int, int]] = []  # key, value, step, milliseconds
        self._last_flush = time.monotonic()
        self._quiet_until, self._pause = 0.0, RETRY_AFTER
        self._warned = False

    def __enter__(self) -> Run:
        self._try(self._ensure)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            status = "FINISHED"
        else:
            status = "FAILED" if issubclass(kind, Exception) else "KILLED"
        self._quiet_until = 0.0  # a last try, however short ago the one before failed
        self._try(lambda: self._end(status))

    @property
    def id(self) -> str | None:
        """Id of the MLflow run, to go on with it later; None while the store can't be reached."""
        return self._id

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log numbers; they are buffered and written in batches."""
        now = int(time.time() * 1000)
        for key, value in values.items():
            self._metrics.append((re.sub(r"[^\w\-. :/]", "_", key), float(value), int(step), now))
        del self._metrics[:-KEPT]
        if time.monotonic() - self._last_flush > FLUSH_EVERY or len(self._metrics) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Write the buffered metrics now."""
        self._last_flush = time.monotonic()
        self._try(self._write_metrics)

    def tag(self, key: str, value: object) -> None:
        """Set a tag of the run."""
        self._try(lambda: self._call(lambda c: c.set_tag(self._ensure(), key, str(value))))

    def image(self, name: str, image: np.ndarray, step: int | None = None) -> None:
        """Log a picture, uint8 ``(H, W, 3)``; with a step it becomes one of a series."""
        if step is None:
            self._try(lambda: self._call(lambda c: c.log_image(self._ensure(), image, f"images/{name}.png")))
        else:
            self._try(lambda: self._call(lambda c: c.log_image(self._ensure(), image, key=name, step=step)))

    def artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Keep a copy of a file with the run."""
        self._try(lambda: self._call(lambda c: c.log_artifact(self._ensure(), str(path), folder)))

    def dataset(self, name: str, digest: str, n: int) -> None:
        """Log which data was used: its name, digest (hexadecimal) and number of clips."""
        self.tag("data_digest", digest)
        self.tag("data_clips", n)
        self._try(lambda: self._write_dataset(name, digest, n))

    # --- inside: everything below may raise and is called through _try ---------------------------------------------

    def _try(self, action: Callable[[], object]) -> None:
        """Do it; a failure is one warning per run, and a pause before the next try."""
        if self._silent or time.monotonic() < self._quiet_until:
            return
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever MLflow raises, the training must go on
            self._quiet_until = time.monotonic() + self._pause
            self._pause *= 2
            if not self._warned:
                self._warned = True
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                log.warning("tracking of %s failed, the stage goes on untracked: %s", self._name, reason)

    @property
    def _name(self) -> str:
        return f"{self.stage}-{self.instance}" if self.instance else self.stage

    def _call(self, action: Callable[[MlflowClient], T]) -> T:
        self._ensure()
        assert self._store is not None
        return self._store.call(action)

    def _ensure(self) -> str:
        """Id of the run; creates store, parent run and run on first use."""
        if self._id is not None:
            return self._id
        self._store = self._store or _Store(tracking_uri())
        commit = git_commit()
        tags = {
            "stage": self.stage,
            "instance": self.instance or "",
            "scale": self._params.scale,
            "git_commit": commit,
            "mlflow.source.git.commit": commit.removesuffix("-dirty"),
        }
        text = json.dumps([self._params.model_dump(mode="json"), commit, tracking_uri()], sort_keys=True)
        self._group = hashlib.sha256(text.encode()).hexdigest()
        values = _flat(self._params.model_dump(mode="json"))
        with _ledger() as groups:
            known = groups.setdefault(self._group, {"parent": "", "open": {}})
            if not known["parent"] or not self._store.alive(known["parent"]):
                parent_tags = {"scale": self._params.scale, "git_commit": commit, "stage": "pipeline"}
                known["parent"] = self._store.create(f"{self._params.scale}-{self._group[:8]}", parent_tags, values)
            self._parent = known["parent"]
            unfinished = self._resume_id or known["open"].get(self._name)
            if unfinished and self._store.alive(unfinished):
                self._store.call(lambda c: c.update_run(unfinished, status="RUNNING"))
                run_id = unfinished
            else:
                run_id = self._store.create(self._name, tags | {"mlflow.parentRunId": known["parent"]}, values)
            known["open"][self._name] = run_id
        self._id = run_id
        return run_id

    def _write_metrics(self) -> None:
        from mlflow.entities import Metric

        run_id = self._ensure()
        while self._metrics:
            batch = [Metric(key, value, when, step) for key, value, step, when in self._metrics[:BATCH]]
            self._call(lambda c, batch=batch: c.log_batch(run_id, metrics=batch))
            del self._metrics[: len(batch)]

    def _write_dataset(self, name: str, digest: str, n: int) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        short = digest[:36]  # MLflow takes no longer one; the tag data_digest has it whole
        data = Dataset(name, short, "local", json.dumps({"root": "data"}), profile=json.dumps({"clips": n}))
        inputs = [DatasetInput(data, [InputTag("mlflow.data.context", self.stage)])]
        self._call(lambda c: c.log_inputs(self._ensure(), inputs))

    def _end(self, status: str) -> None:
        self._write_metrics()
        self._call(lambda c: c.set_terminated(self._ensure(), status))
        parent = self._parent
        if parent:
            self._call(lambda c: c.set_terminated(parent, status))
        if status == "FINISHED":
            with _ledger() as groups:
                groups.get(self._group, {"open": {}})["open"].pop(self._name, None)


class _Store:
    """A client of the MLflow store whose calls are safe from several processes."""

    def __init__(self, uri: str) -> None:
        # Nothing phones home, and a server that is away costs seconds, not minutes; the environment may say otherwise.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside mlflow's own imports
            from mlflow.tracking import MlflowClient
        for noisy, level in (("mlflow", logging.WARNING), ("alembic", logging.WARNING), ("urllib3", logging.ERROR)):
            logging.getLogger(noisy).setLevel(level)
        path = uri.removeprefix("sqlite:///") if uri.startswith("sqlite:///") else None
        on_disk = path and path != ":memory:"
        self._lock = FileLock(f"{path}.lock", timeout=LOCK_TIMEOUT) if on_disk else contextlib.nullcontext()
        if path and on_disk:
            _warn_of_network(Path(path).resolve())
        with self._lock:  # the first client creates the database
            self._client = MlflowClient(uri)
            experiment = self._client.get_experiment_by_name(EXPERIMENT)
            self._experiment = experiment.experiment_id if experiment else self._client.create_experiment(EXPERIMENT)

    def call(self, action: Callable[[MlflowClient], T]) -> T:
        """``action(client)`` under the store's lock; a database that `mlflow ui` holds for a moment is tried again."""
        for pause in (0.1, 0.5, 2.0, None):
            try:
                with self._lock:
                    return action(self._client)
            except Exception as error:
                if pause is None or "locked" not in str(error):
                    raise
                time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def alive(self, run_id: str) -> bool:
        """Whether the store still has this run."""
        from mlflow.exceptions import MlflowException

        try:
            return self.call(lambda c: c.get_run(run_id)).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def create(self, name: str, tags: Mapping[str, str], values: Mapping[str, str]) -> str:
        """Create a run with tags and parameters; returns its id."""
        from mlflow.entities import Param

        run_id = self.call(lambda c: c.create_run(self._experiment, tags=dict(tags), run_name=name)).info.run_id
        params = [Param(key, value) for key, value in values.items()]
        for start in range(0, len(params), 100):  # MLflow takes at most 100 in one call
            self.call(lambda c, part=params[start : start + 100]: c.log_batch(run_id, params=part))
        return run_id


@contextlib.contextmanager
def _ledger() -> Iterator[dict[str, Any]]:
    """The ledger of pipeline runs, locked; what the body changes in it is kept."""
    LEDGER.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{LEDGER}.lock", timeout=LOCK_TIMEOUT):
        groups: dict[str, Any] = {}
        with contextlib.suppress(FileNotFoundError, ValueError):  # a broken file costs only the grouping of runs
            groups = json.loads(LEDGER.read_text())
        yield groups
        temporary = LEDGER.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(groups, indent=1))
        os.replace(temporary, LEDGER)


def git_commit() -> str:
    """Commit of the code, with ``-dirty`` if code or parameters differ from it; ``unknown`` without git."""
    code = ["src", "params.yaml", "dvc.yaml"]
    try:
        head = _git("rev-parse", "HEAD")
        return f"{head}-dirty" if _git("status", "--porcelain", "--", *code) else head
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """``{"fusion": {"lr": 0.1}}`` as ``{"fusion.lr": "0.1"}``."""
    return dict(_pairs(values, prefix))


def _pairs(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _pairs(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
