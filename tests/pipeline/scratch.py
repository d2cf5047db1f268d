"""A scratch copy of the project in which both engines can be run, with the real commands or with stand-ins."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from head3d import scales

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow"))

from stages import Stage, load_stages  # noqa: E402 - workflow/ is no package: Snakefile finds it the same way
from sync import below  # noqa: E402

STRANGE = ("MLFLOW_", "DVC_", "PYTEST", "HEAD3D_TRACKING")  # variables that a user would not have set
COPIED = ("dvc.yaml", "params.yaml", "Snakefile", "profiles", "workflow", "src", "study", ".dvc/config", ".dvcignore")

# Stands for `head3d`: makes the outs of a stage from its command, deps and parameters, and notes that it ran.
STAND_IN = """#!{python} -IS
import hashlib, json, os, sys
command = "head3d " + " ".join(sys.argv[1:])
stage = json.load(open(".stand-in.json"))[command]
digest = hashlib.sha256(command.encode())
def read(path):
    if os.path.isdir(path):
        for name in sorted(os.listdir(path)):
            if not name.startswith("."):
                read(os.path.join(path, name))
    else:
        digest.update(open(path, "rb").read())
for dep in stage["deps"]:
    read(dep)
digest.update(json.dumps(stage["params"], sort_keys=True).encode())
for out in stage["outs"]:
    os.makedirs(os.path.dirname(out), exist_ok=True)
    if stage["directories"][out]:
        os.makedirs(out, exist_ok=True)
        out = os.path.join(out, "content")
    with open(out, "w") as file:
        file.write(out + " " + digest.hexdigest() + "\\n")
with open(".ran", "a") as file:
    file.write(stage["name"] + "\\n")
"""


class Scratch:
    """A copy of the project under ``root`` with its own git and DVC."""

    def __init__(self, root: Path, stand_in: bool) -> None:
        self.root, self.stand_in = root, stand_in
        self._stages: tuple[str, list[Stage]] | None = None
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(STRANGE)},
            "PATH": f"{root / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(root / "src"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    def copy(self) -> None:
        """Make the copy, with a git repository of its own."""
        self.root.mkdir(parents=True)
        for name in COPIED:
            source, target = ROOT / name, self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(source, target)
        shutil.copy(ROOT / ".gitignore", self.root)
        self.run("git", "init", "-q", "--initial-branch=main")

    def scale(self, name: str) -> None:
        """Use a scale, and prepare the stand-ins for it."""
        self.run(sys.executable, "-m", "head3d.cli", "scale", name)
        self.prepare()

    def prepare(self) -> None:
        """Write what the stand-ins need to know; to be called after every change of a parameter."""
        if not self.stand_in:
            return
        known = {}
        for stage in self.stages():
            known[stage.command] = {
                "name": stage.name,
                "deps": stage.deps,
                "outs": stage.outs,
                "params": stage.params,
                "directories": {out: not Path(out).suffix for out in stage.outs},
            }
        (self.root / ".stand-in.json").write_text(json.dumps(known))
        command = self.root / "bin" / "head3d"
        command.parent.mkdir(exist_ok=True)
        command.write_text(STAND_IN.format(python=sys.executable))
        command.chmod(0o755)

    def stages(self) -> list[Stage]:
        """The stages as the adapter sees them, read again when a parameter has changed."""
        text = (self.root / "params.yaml").read_text()
        if self._stages is None or self._stages[0] != text:
            self._stages = (text, load_stages(self.root))
        return self._stages[1]

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command in the copy; returns what it printed."""
        done = subprocess.run(
            command, cwd=self.root, env=self.environment, text=True, check=False, timeout=1500,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def dvc(self, *words: str) -> str:
        """Run dvc."""
        return self.run(sys.executable, "-m", "dvc", *words)

    def snakemake(self, *words: str) -> str:
        """Run snakemake on two cores."""
        return self.run(sys.executable, "-m", "snakemake", "--cores", "2", *words)

    def sync(self) -> str:
        """`head3d sync`, the real one."""
        return self.run(sys.executable, "-m", "head3d.cli", "sync")

    def put(self, key: str, value: Any) -> Any:
        """Change one parameter, such as ``fusion.lr``; returns what it was."""
        path = self.root / "params.yaml"
        yaml = scales._yaml()
        section = document = yaml.load(path)
        *sections, last = key.split(".")
        for name in sections:
            section = section[name]
        old, section[last] = section[last], value
        yaml.dump(document, path)
        self.prepare()
        return old

    def stale_dvc(self) -> set[str]:
        """Names of the stages that `dvc repro` would run, if every stage that it runs made something new."""
        changed = set(json.loads(self.dvc("status", "--json").splitlines()[-1]))
        return below(self.stages(), changed)

    def stale_snakemake(self) -> set[str]:
        """The same for Snakemake, in DVC's names."""
        out = self.snakemake("-n", "--quiet", "progress", "host")
        rules = {stage.rule: stage.name for stage in self.stages()}
        jobs = {line.split()[1].rstrip(":") for line in out.splitlines() if line.startswith(("rule ", "localrule "))}
        return {rules[job] for job in jobs if job in rules}

    def ran(self) -> list[str]:
        """Stages that the stand-ins have run since the last call."""
        path = self.root / ".ran"
        names = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return names
