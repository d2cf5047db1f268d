# Rules made from dvc.yaml, the one list of stages: `snakemake --cores 8` makes the same files as `dvc repro`.
# profiles/default is loaded by itself; `head3d sync` tells DVC afterwards what has been made here.
import os
import sys

sys.path.insert(0, os.path.join(workflow.basedir, "workflow"))
from head3d.errors import UserError
from stages import is_directory, load_stages

try:
    STAGES = load_stages(workflow.basedir, max_runtime=config.get("max_runtime"))
except UserError as error:
    sys.exit(f"snakemake: {error}")


# `gpu: 1` in profiles/default is about the GPUs of this machine; Slurm counts those of a cluster itself.
resource_scopes:
    gpu="local",


rule all:
    input:
        [out for stage in STAGES for out in stage.outs],


for stage in STAGES:

    rule:
        name:
            stage.rule
        input:
            stage.deps,
        output:
            [directory(out) if is_directory(out) else out for out in stage.outs],
        log:
            f"logs/{stage.rule}.log",
        params:
            cmd=stage.command,  # a Python variable in `shell:` would bind late: every rule would run the last stage
            tracked=stage.params,  # so that Snakemake sees the same changes as DVC
        threads: stage.threads
        resources:
            **stage.resources,
        shell:
            "exec {params.cmd} >> {log} 2>&1"  # no shell that dies of a SIGTERM while the training still saves its state
