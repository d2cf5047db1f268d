"""Tell DVC and Snakemake what the other has already run: `head3d sync`, after either engine.

Each engine keeps its own books: DVC the digests in dvc.lock, Snakemake times and parameters under .snakemake. A stage
that one engine holds for up to date, with all stages before it, is written into the books of the other. A stage that
both hold for stale stays so: a changed parameter is never waved through.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from stages import Stage, is_directory, load_stages

from head3d.errors import UserError


def main() -> None:
    """Bring both engines up to date with each other."""
    stages = load_stages()
    by_dvc, by_snakemake = fresh_in_dvc(stages), fresh_in_snakemake(stages)
    to_commit = [stage.name for stage in stages if stage.name in by_snakemake - by_dvc]
    to_touch = [out for stage in stages if stage.name in by_dvc - by_snakemake for out in stage.outs]
    if to_commit:
        _run("dvc", "commit", "--force", "--no-relink", "--quiet", *to_commit)  # relinking would change times
    if to_touch:
        _run("snakemake", "--cores", "1", "--touch", "--force", "--quiet", "all", "--", *to_touch)
    fresh = by_dvc | by_snakemake
    print(f"{len(fresh)} of {len(stages)} stages are up to date in DVC and in Snakemake", end="")
    print(f" ({len(to_commit)} told to DVC, {len(by_dvc - by_snakemake)} told to Snakemake)")
    if len(fresh) < len(stages):
        stale = [stage.name for stage in stages if stage.name not in fresh]
        print(f"not up to date, run `dvc repro` or `snakemake`: {', '.join(stale)}")


def fresh_in_dvc(stages: list[Stage]) -> set[str]:
    """Stages that `dvc status` finds unchanged, and every stage before them too."""
    changed = set(json.loads(_run("dvc", "status", "--json")))
    return {stage.name for stage in stages} - below(stages, changed)


def fresh_in_snakemake(stages: list[Stage]) -> set[str]:
    """Stages that Snakemake would not run and whose outs in place are the ones that it has made or been told of.

    The second is needed because Snakemake takes files that it knows nothing of for up to date if they are younger than
    their inputs, whatever parameters they were made with.
    """
    rules = {stage.rule: stage.name for stage in stages}
    plan = _run("snakemake", "--cores", "1", "--dry-run", "--quiet", "progress", "host")
    jobs = {line.split()[1].rstrip(":") for line in plan.splitlines() if line.startswith(("rule ", "localrule "))}
    unknown = {stage.name for stage in stages if not all(map(_in_snakemakes_books, stage.outs))}
    return {stage.name for stage in stages} - below(stages, {rules[job] for job in jobs if job in rules} | unknown)


def below(stages: list[Stage], names: Iterable[str]) -> set[str]:
    """These stages and all that depend on them."""
    found = set(names)
    maker = {out: stage.name for stage in stages for out in stage.outs}
    grown = True
    while grown:
        more = {stage.name for stage in stages if any(maker.get(dep) in found for dep in stage.deps)} - found
        found |= more
        grown = bool(more)
    return found


def _in_snakemakes_books(out: str) -> bool:
    """Whether Snakemake's record of an out is about the file in place: same time. No readable record counts as no."""
    path = Path(out) / ".snakemake_timestamp" if is_directory(out) else Path(out)
    record = Path(".snakemake/metadata") / base64.b64encode(out.encode()).decode()
    try:
        return abs(json.loads(record.read_text())["endtime"] - path.stat().st_mtime) < 0.01
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _run(tool: str, *words: str) -> str:
    done = subprocess.run([sys.executable, "-m", tool, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise UserError(f"`{tool} {words[0]}` failed: {last}", fix=f"run `{tool} {' '.join(words[:4])}` to see more")
    return done.stdout


if __name__ == "__main__":
    main()
