"""MLflow tracking: the only package that imports mlflow (in store.py).

Use it so::

    with tracking.run(stage="train_fusion", params=params, instance="full") as run:
        run.dataset("mini", store.digest, n=137)
        run.metrics({"loss": 0.1}, step=3)

Tracking must never cost a finished training. Whatever fails here (no server, a locked database, a full disk) is one
warning in the log, and the caller never sees an exception. What the store could not take is kept as files in
``runs/mlflow-offline`` (journal.py) and tried again later; what is left there when the process ends, `head3d runs
import` brings into the store. With ``HEAD3D_TRACKING=files`` nothing else is written and no store is needed.

The store is ``MLFLOW_TRACKING_URI``, by default ``sqlite:///mlflow.db``. A pipeline run (same parameters, same commit)
is a parent run; every stage of it is a nested run under it, and a stage that was killed goes on in the run that it
left unfinished. Writes to an SQLite store go through a file lock: eight processes that start on a missing database
would all crash while creating it.
"""

from __future__ import annotations

import logging
import os
import re
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from head3d.errors import UserError
from head3d.tracking import journal
from head3d.tracking.journal import OFFLINE, Entry, Journal
from head3d.tracking.ledger import LEDGER, git_commit, group_of, ledger, member
from head3d.tracking.store import BATCH, DEFAULT_URI, Store, chunks, tracking_uri

if TYPE_CHECKING:
    from head3d.params import Params

__all__ = ["DEFAULT_URI", "OFFLINE", "Run", "files_only", "git_commit", "run", "tracking_uri"]

log = logging.getLogger("head3d.tracking")

FLUSH_EVERY = 10.0  # seconds between two writes of buffered metrics
RETRY_AFTER = 60.0  # seconds of peace after a failed write, doubled until one succeeds: a dead server costs no time
KEPT = 200_000  # most entries kept in memory while neither the store nor the disk takes them


def files_only() -> bool:
    """Whether runs are only kept as files, which ``HEAD3D_TRACKING=files`` asks for.

    Raises:
        UserError: the variable is something else.
    """
    value = os.environ.get("HEAD3D_TRACKING") or "store"
    if value not in ("store", "files"):
        raise UserError(f"HEAD3D_TRACKING is {value!r}", allowed="store, files", fix="set it to files, or unset it")
    return value == "files"


def run(stage: str, params: Params, instance: str | None = None, silent: bool = False) -> Run:
    """Track one run of a stage; use it in a ``with`` statement.

    Args:
        stage: name of the stage, such as ``train_fusion``.
        params: all parameters; they are logged flat (``fusion.lr``).
        instance: which of a stage's matrix, such as ``full`` or ``shard-0``.
        silent: write nothing: another process of the same training does.

    Raises:
        UserError: as :func:`files_only` does.
    """
    return Run(stage, params, instance, silent)


class Run:
    """One tracked run of a stage. No method raises because of MLflow."""

    def __init__(self, stage: str, params: Params, instance: str | None, silent: bool = False) -> None:
        self.stage, self.instance, self._params = stage, instance, params
        self._silent = silent
        self._files = files_only()
        self._started = _now()
        self._head: Entry | None = None  # what describes the run, as the first line of a journal
        self._adopted = False  # the ledger was asked for a run that was left unfinished
        self._search = False  # the run may be in the store already
        self._store: Store | None = None
        self._id: str | None = None
        self._pending: list[Entry] = []  # neither in the store nor in the journal
        self._journal: Journal | None = None
        self._behind = False  # the journal has what the store has not
        self._last_flush = time.monotonic()
        self._quiet_until, self._pause = 0.0, RETRY_AFTER
        self._warned = False

    def __enter__(self) -> Run:
        self.flush()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._silent:
            return
        if kind is None:
            status = "FINISHED"
        else:
            status = "FAILED" if issubclass(kind, Exception) else "KILLED"
        self._quiet_until = 0.0  # a last try, however short ago the one before failed
        self._add("end", status=status)
        if self._journal and (self._files or self._behind):
            self._journal.close()
            log.info("%s is kept in %s; `head3d runs import` brings it into MLflow", self._name, self._journal.folder)
        elif self._journal:
            self._journal.remove()
        if status == "FINISHED":
            try:
                with ledger() as groups:
                    member(groups, self._group)["open"].pop(self._name, None)
            except Exception as failure:  # noqa: BLE001 - the run is whole, but may be gone on with by the next one
                log.debug("%s could not be written: %s", LEDGER, failure)

    @property
    def id(self) -> str | None:
        """Id of the MLflow run, to go on with it later; None while the store can't be reached."""
        return self._describe()["run"] if self._files else self._id

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log numbers; they are buffered and written in batches."""
        named = {re.sub(r"[^\w\-. :/]", "_", key): float(value) for key, value in values.items()}
        self._pending.append({"kind": "metrics", "time": _now(), "step": int(step), "values": named})
        full = len(self._pending) % BATCH == 0
        if self._files or full or time.monotonic() - self._last_flush > FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered now."""
        if self._silent:
            self._pending.clear()
            return
        self._last_flush = time.monotonic()
        if not self._files and time.monotonic() >= self._quiet_until:
            try:
                self._send()
                self._pause = RETRY_AFTER
            except Exception as error:  # noqa: BLE001 - whatever MLflow raises, the training must go on
                self._quiet_until = time.monotonic() + self._pause
                self._pause *= 2
                self._search = True  # it may have got as far as creating the run
                self._keep(error)
        else:
            self._keep()

    def tag(self, key: str, value: object) -> None:
        """Set a tag of the run."""
        self._add("tag", key=key, value=str(value))

    def artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Keep a copy of a file with the run."""
        if Path(path).is_file():
            self._add("artifact", path=str(path), folder=folder)
        else:
            self._warn(FileNotFoundError(f"{path}: no such file"))

    def dataset(self, name: str, digest: str, n: int) -> None:
        """Log which data was used: its name, digest (hexadecimal) and number of clips."""
        self.tag("data_digest", digest)
        self.tag("data_clips", n)
        self._add("dataset", name=name, digest=digest, clips=n, context=self.stage)

    # --- inside -----------------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return f"{self.stage}-{self.instance}" if self.instance else self.stage

    @property
    def _group(self) -> str:
        head = self._describe()
        return group_of(head["params"], head["commit"], "files" if self._files else tracking_uri())

    def _add(self, kind: str, **values: Any) -> None:
        self._pending.append({"kind": kind, "time": _now(), **values})
        self.flush()

    def _describe(self) -> Entry:
        """What describes the run; its ``run`` is made up until :meth:`_adopt`."""
        if self._head is None:
            commit = git_commit()
            tags = {
                "stage": self.stage,
                "instance": self.instance or "",
                "scale": self._params.scale,
                "git_commit": commit,
                "mlflow.source.git.commit": commit.removesuffix("-dirty"),
            }
            values = self._params.model_dump(mode="json")
            head = {"kind": "run", "name": self._name, "time": self._started, "scale": self._params.scale}
            head |= {"run": uuid.uuid4().hex, "commit": commit, "tags": tags, "params": values}
            self._head = head
        return self._head

    def _adopt(self, open_runs: dict[str, str]) -> None:
        """Go on with the run that an earlier process left unfinished, if the ledger knows one."""
        head = self._describe()
        if not self._adopted:
            unfinished = open_runs.get(self._name)
            self._search = self._search or unfinished is not None
            head["run"] = unfinished or head["run"]
            self._adopted = True
        open_runs[self._name] = self._id or head["run"]

    def _send(self) -> None:
        """Everything into the store; may raise anything."""
        run_id = self._ensure()
        assert self._store is not None
        if self._journal and self._behind:
            with journal.lock(self._journal.folder):
                self._store.replay(run_id, self._journal.id, journal.read(self._journal.folder))
            self._behind = False
        while self._pending:
            chunk = next(chunks(self._pending))
            self._store.write(run_id, chunk)
            del self._pending[: len(chunk)]

    def _ensure(self) -> str:
        """Id of the run; creates store, parent run and run on first use."""
        if self._id is None:
            head, group = self._describe(), self._group
            self._store = self._store or Store(tracking_uri())
            with ledger() as groups:
                known = member(groups, group)
                self._adopt(known["open"])
                run_id, created = self._store.open(head, known, group, self._search)
                known["open"][self._name] = run_id
            if not created:
                self._store.call(lambda c: c.update_run(run_id, status="RUNNING"))
            if not self._journal:  # whose first line it is
                self._pending.insert(0, head)
            self._id = run_id
        return self._id

    def _keep(self, failure: Exception | None = None) -> None:
        """What is pending into the journal; if even that fails, as much as is bearable stays in memory."""
        try:
            if self._journal is None:
                head = self._describe()
                try:
                    with ledger() as groups:
                        self._adopt(member(groups, self._group)["open"])
                except Exception as error:  # noqa: BLE001 - no locks here: a killed run then goes on in a new one
                    log.debug("%s could not be read: %s", LEDGER, error)
                    self._adopted = True
                self._journal = Journal(OFFLINE, head | {"run": self._id or head["run"]})
                self._behind = True
            while self._pending:
                if self._pending[0]["kind"] != "run":  # that is the journal's first line
                    try:
                        self._journal.put(self._pending[0])
                    except (FileNotFoundError, TypeError, ValueError) as error:  # no JSON, or a file that has gone
                        self._warn(error)
                    self._behind = True
                del self._pending[0]
        except Exception as error:  # noqa: BLE001 - a full disk, a read-only one
            del self._pending[:-KEPT]
            failure = failure or error
        if failure:
            self._warn(failure)

    def _warn(self, error: Exception) -> None:
        """One warning a run."""
        if not self._warned:
            self._warned = True
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            where = f"kept in {self._journal.folder} for `head3d runs import`" if self._journal else "untracked"
            log.warning("tracking of %s failed, the stage goes on, %s: %s", self._name, where, reason)


def _now() -> int:
    """Milliseconds since 1970, as MLflow counts."""
    return int(time.time() * 1000)
