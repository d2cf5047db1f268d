"""A real Slurm of two nodes on this one machine, from Debian's packages: `apt-get install slurm-wlm munge`.

Everything lies in one directory (keys, configuration, spools, logs) and listens on free ports of this machine, so it
meets no other Slurm and needs no rights beyond those of the user who starts it. To try things by hand::

    python tests/pipeline/two_nodes.py /tmp/slurm    # prints what to set, runs until Ctrl-C

Each node says that it has eight cores, 16 GB and one GPU, whatever the machine has. Nothing pins a job to them.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

NODES = ("n1", "n2")
PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "squeue")
SBIN = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"  # daemons are not on an ordinary user's PATH

CONF = """
ClusterName=two
SlurmctldHost={host}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmctldPidFile={root}/slurmctld.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdPidFile={root}/slurmd-%n.pid
SlurmdLogFile={root}/slurmd-%n.log
SlurmdSpoolDir={root}/spool-%n
StateSaveLocation={root}/state
SwitchType=switch/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
# Nodes that say more than the machine has are taken at their word; one that falls silent is soon down.
SlurmdParameters=config_overrides
SlurmdTimeout={timeout}
ReturnToService=2
KillWait={kill_wait}
# As on the plainest cluster: no accounting.
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
# `scontrol show job` tells of jobs that are long over: the tests look at them.
MinJobAge=7200
GresTypes=gpu
NodeName={nodes[0]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=8 RealMemory=16000 Gres=gpu:1
NodeName={nodes[1]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=8 RealMemory=16000 Gres=gpu:1
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """What this machine lacks for it, in words; None if it has all."""
    lacking = [name for name in PROGRAMS if not shutil.which(name, path=SBIN)]
    return f"{', '.join(lacking)} not found; on Debian: apt-get install slurm-wlm munge" if lacking else None


class TwoNodes:
    """The two nodes; use it in a ``with`` statement.

    Attributes:
        environment: variables that make Slurm's commands, and jobs, find this Slurm.
    """

    def __init__(self, root: Path, timeout: int = 10, kill_wait: int = 30) -> None:
        self.root, self.timeout, self.kill_wait = root.resolve(), timeout, kill_wait
        self._daemons: dict[str, subprocess.Popen] = {}
        self.environment = {
            "SLURM_CONF": f"{self.root}/slurm.conf",
            "PATH": f"{self.root}/bin:{os.environ['PATH']}",
        }

    def __enter__(self) -> TwoNodes:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self, *command: str) -> str:
        """One of Slurm's commands; returns what it printed."""
        environment = os.environ | self.environment
        return subprocess.run(
            command, env=environment, text=True, check=True, timeout=60, stdout=subprocess.PIPE
        ).stdout

    def kill_node(self, name: str) -> None:
        """What a power cut does: the node's daemon and all that runs on it die at once, and nobody is told."""
        daemon = self._daemons.pop(name)
        dying = (daemon.pid, *self._on_node(name))
        for number in (signal.SIGSTOP, signal.SIGKILL):  # frozen first: who dies last would tell of the others' end
            for pid in dying:
                _kill(pid, number)
        daemon.wait()

    def start_node(self, name: str) -> None:
        """Start a node's daemon (again)."""
        self._daemon(name, "slurmd", "-D", "-N", name, "-f", f"{self.root}/slurm.conf")
        _wait(lambda: self.states().get(name) == "idle", f"node {name} is not idle; see {self.root}")

    def states(self) -> dict[str, str]:
        """State of each node, such as ``idle``, as `sinfo` says it."""
        lines = self.run("sinfo", "--noheader", "--Node", "--format=%N %T").splitlines()
        return {node: state.rstrip("*") for node, state in map(str.split, lines)}

    def jobs(self) -> list[dict[str, str]]:
        """All jobs that Slurm still knows of, as `scontrol show job` tells them: JobState, NodeList, Comment, …"""
        text = self.run("scontrol", "--oneliner", "--all", "show", "job")
        return [
            dict(word.split("=", 1) for word in line.split() if "=" in word)
            for line in text.splitlines()
            if line.startswith("JobId=")
        ]

    def stop(self) -> None:
        """End the daemons and what they started."""
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
        for daemon in self._daemons.values():
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._daemons.clear()
        for name in NODES:
            for pid in self._on_node(name):
                _kill(pid)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        root = self.root
        for folder in ("state", "bin", *(f"spool-{name}" for name in NODES)):
            (root / folder).mkdir(parents=True, exist_ok=True)
        key = root / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        user, host = pwd.getpwuid(os.getuid()).pw_name, socket.gethostname()
        (root / "slurm.conf").write_text(
            CONF.format(
                root=root, user=user, host=host, ports=_free_ports(3), nodes=NODES,
                timeout=self.timeout, kill_wait=self.kill_wait,
            )
        )  # fmt: skip
        (root / "gres.conf").write_text("Name=gpu File=/dev/null\n")  # counted, never opened
        # The step inside a job drops all SLURM_ variables, SLURM_CONF too, and would look for Slurm in /etc.
        srun = root / "bin/srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={root}/slurm.conf exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)
        self._daemon(
            # --force: the directories above may be closed to others, as those of a test are.
            "munged", "munged", "--foreground", "--force", f"--socket={root}/munge.socket", f"--key-file={key}",
            f"--pid-file={root}/munged.pid", f"--log-file={root}/munged.log", f"--seed-file={root}/munged.seed",
        )  # fmt: skip
        _wait((root / "munge.socket").exists, f"munged does not start; see {root}")
        self._daemon("slurmctld", "slurmctld", "-D", "-f", f"{root}/slurm.conf")
        for name in NODES:
            self._daemon(name, "slurmd", "-D", "-N", name, "-f", f"{root}/slurm.conf")
        _wait(lambda: set(self.states().values()) == {"idle"}, f"the nodes are not idle; see {root}")

    def _daemon(self, name: str, program: str, *words: str) -> None:
        path = shutil.which(program, path=SBIN)
        assert path, program
        with (self.root / f"{name}.out").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                [path, *words], env=os.environ | self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip

    def _on_node(self, name: str) -> set[int]:
        """What runs in the jobs of a node, and the daemons over it, which leave slurmd's family."""
        found = set()
        for pid in _pids():
            try:
                variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                ours = any(os.fsencode(self.root) in variable for variable in variables)
                if ours and f"SLURMD_NODENAME={name}".encode() in variables:
                    found.add(pid)
                    parent = _parent(pid)
                    if Path(f"/proc/{parent}/cmdline").read_bytes().startswith(b"slurmstepd"):
                        found.add(parent)
            except OSError:
                continue  # it has ended meanwhile
        return found


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _parent(pid: int) -> int:
    # The program's name, in brackets, may hold anything; the parent is the second field behind it.
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _kill(pid: int, number: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _wait(happened: Callable[[], bool], otherwise: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.SubprocessError, OSError):  # the controller does not answer yet
            if happened():
                return
        time.sleep(0.2)
    raise TimeoutError(otherwise)


def main() -> None:
    """Start it and wait for Ctrl-C."""
    if lacking := missing():
        sys.exit(lacking)
    with TwoNodes(Path(sys.argv[1])) as slurm:
        print(*(f"export {key}={value}" for key, value in slurm.environment.items()), sep="\n", flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
