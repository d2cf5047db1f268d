"""A PostgreSQL of a test's own, and `mlflow server` on it, on free ports of this machine.

PostgreSQL is Debian's package (`apt-get install postgresql`), of which only the programs are used: it is not run by
root, so root starts it as the user ``nobody``, in a directory of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

USER = "head3d"


def binaries() -> Path | None:
    """Directory of PostgreSQL's programs, which Debian keeps off the PATH: the newest."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve().parent)
    return max(found, key=lambda path: int((re.findall(r"\d+", str(path)) or ["0"])[0]), default=None)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def stop(process: subprocess.Popen, how: signal.Signals) -> None:
    """Signal a process and those that it started, and wait for its end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, how)
    process.wait(30)


class Postgres:
    """An empty PostgreSQL with one user, who needs no password; use it in a ``with`` statement."""

    def __enter__(self) -> Postgres:
        programs = binaries()
        assert programs is not None
        self.port = free_port()
        self.root = Path(tempfile.mkdtemp(prefix="head3d-postgres-"))  # pytest's own is closed to other users
        user, group, groups = None, None, None
        if os.getuid() == 0:
            other = pwd.getpwnam("nobody")
            user, group, groups = other.pw_uid, other.pw_gid, []
            os.chown(self.root, user, group)
        data = str(self.root / "data")
        locale = ("--encoding=UTF8", "--locale=C")
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", USER, "--auth=trust", "--no-sync", *locale],
            check=True, stdout=subprocess.DEVNULL, cwd=self.root, user=user, group=group, extra_groups=groups,
        )  # fmt: skip
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.root), "fsync": "off"}
        words = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        self._log = (self.root / "log").open("w")
        self._process = subprocess.Popen(
            [programs / "postgres", "-D", data, "-p", str(self.port), *words], start_new_session=True,
            stdout=self._log, stderr=self._log, cwd=self.root, user=user, group=group, extra_groups=groups,
        )  # fmt: skip
        return self

    @property
    def uri(self) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    def rows(self, query: str) -> list[tuple]:
        """What a query gives."""
        driver = importlib.import_module("psycopg2")  # an extra, which need not be there
        with contextlib.closing(driver.connect(self.uri)) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall()

    def __exit__(self, *_: object) -> None:
        stop(self._process, signal.SIGINT)  # what it calls a fast shutdown
        self._log.close()
        shutil.rmtree(self.root)


class Server:
    """`mlflow server` on a store, which may be killed and started again at the same address."""

    def __init__(self, root: Path, store: str) -> None:
        self.root, self.store, self.port = root, store, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", self.store, "--artifacts-destination", str(self.root / "artifacts")]
        # Its jobs are for evaluating language models: seven processes more, in sessions of their own.
        own = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.root / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                command, cwd=self.root, env=os.environ | own, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + 200
        while True:
            assert self._process.poll() is None and time.monotonic() < end, (self.root / "server.log").read_text()
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
            time.sleep(0.2)

    def kill(self) -> None:
        """End it at once, whatever it is doing."""
        stop(self._process, signal.SIGKILL)
