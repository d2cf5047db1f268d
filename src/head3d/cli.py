"""The ``head3d`` command: one small command for each stage of ``dvc.yaml``, and the user's own commands.

Every import of weight happens inside the functions, so that ``head3d --help`` answers at once and a stage loads only
what it uses. A :class:`~head3d.errors.UserError` is printed as one line with exit code 2.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from head3d.errors import UserError

# Set before torch is loaded: threads that wait for each other give up their core soon. By default they spin on it, and
# two stages on the same two cores run seven to nine times slower each, instead of twice; alone, little is lost.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# command -> (module:function of the stage, the options that follow params in its call)
STAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "fetch": ("head3d.assets:run_fetch", ()),
    "crop": ("head3d.data.crop:run", ("shard",)),
    "parse": ("head3d.data.parse:run", ("shard",)),
    "manifest": ("head3d.data.manifest:run", ()),
    "train geometry": ("head3d.training.geometry:run", ()),
    "train canonical": ("head3d.training.canonical:run", ()),
    "train fusion": ("head3d.training.fusion:run", ("variant",)),
    "train baseline": ("head3d.training.baseline:run", ("method",)),
    "evaluate geometry": ("head3d.evaluation.geometry:run", ("test_set",)),
    "evaluate transfer": ("head3d.evaluation.transfer:run", ("test_set", "method")),
    "evaluate baseline": ("head3d.evaluation.baseline:run", ("test_set", "method")),
    "tables": ("head3d.report.tables:run", ()),
    "figures": ("head3d.report.figures:run", ()),
    "report": ("head3d.report.page:run", ()),
}

# (command, option) -> the list of params.yaml that it is chosen from, where that is not the option's name with an s
CHOSEN_FROM = {("train baseline", "method"): "baselines", ("evaluate baseline", "method"): "baselines"}

HELP = {
    "fetch": "download and verify weights and sample videos into the user's cache",
    "crop": "find faces and cut clips (one shard)",
    "parse": "head masks of the clips (one shard)",
    "manifest": "join the shards: splits, counts, digest",
    "train geometry": "stage 1: depth and pose",
    "train canonical": "stage 2: the canonical head",
    "train fusion": "stage 3: fusion (one variant)",
    "train baseline": "a method that Head3D is compared with",
    "evaluate geometry": "pose and warp errors on a test set",
    "evaluate transfer": "self-reconstruction by Head3D or the floors on a test set",
    "evaluate baseline": "the same by a method that Head3D is compared with",
    "tables": "Tables 1 and 3",
    "figures": "the figures",
    "report": "reports/index.html",
}

OPTIONS: dict[str, dict[str, Any]] = {
    "shard": {"type": int, "metavar": "K", "help": "number of the shard (params.yaml: shards)"},
    "variant": {"metavar": "V", "help": "which variant (params.yaml: variants)"},
    "test_set": {"metavar": "S", "help": "which test set (params.yaml: test_sets)"},
    "method": {
        "metavar": "M",
        "help": "which method (params.yaml: baselines; for `evaluate transfer` floors or one of variants)",
    },
}


def load_function(path: str) -> Callable[..., Any]:
    """The function that ``module:function`` names."""
    module, _, function = path.partition(":")
    return getattr(importlib.import_module(module), function)


def run_stage(name: str, options: dict[str, Any]) -> None:
    """Run one stage of the pipeline with the parameters of ``params.yaml``."""
    from head3d.params import load_params

    params = load_params()
    for option in STAGES[name][1]:
        key = CHOSEN_FROM.get((name, option), f"{option}s")
        known = getattr(params, key)
        if options[option] not in known:
            raise UserError(
                f"--{option.replace('_', '-')} is {options[option]!r}",
                allowed=f"{', '.join(map(str, known))} (params.yaml: {key})",
            )
    load_function(STAGES[name][0])(params, *(options[option] for option in STAGES[name][1]))


def _stage_command(name: str) -> Callable[[argparse.Namespace], None]:
    return lambda args: run_stage(name, vars(args))


def _scale(args: argparse.Namespace) -> None:
    from head3d import scales

    if args.save:
        print(f"{scales.save(args.name)} now holds the values of params.yaml")
    else:
        print(f"params.yaml: {scales.use(args.name)}")


def _sync(args: argparse.Namespace) -> None:
    import runpy
    from pathlib import Path

    script = Path("workflow/sync.py")
    if not script.exists():
        raise UserError(f"{script}: no such file", fix="run head3d sync in the directory of the project")
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name="__main__")


def _doctor(args: argparse.Namespace) -> None:
    from head3d import doctor

    print(doctor.screen())


def _animate(args: argparse.Namespace) -> None:
    from head3d import use

    use.animate(
        subject=args.subject,
        driving=args.driving,
        out=args.out,
        models=args.models,
        variant=args.variant,
        motion=args.motion,
        references=args.references,
        seed=args.seed,
        device=args.device,
    )


def _view(args: argparse.Namespace) -> None:
    from head3d import use

    use.view(
        subject=args.subject,
        out=args.out,
        yaw=args.yaw,
        pitch=args.pitch,
        roll=args.roll,
        frames=args.frames,
        models=args.models,
        variant=args.variant,
        references=args.references,
        seed=args.seed,
        device=args.device,
    )


def _import(args: argparse.Namespace) -> None:
    from pathlib import Path

    from head3d.baselines import convert

    print(convert.convert(args.method, Path(args.checkpoint), Path(args.out), args.align_corners))


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    from head3d import __version__
    from head3d.baselines import NAMES

    parser = argparse.ArgumentParser(
        prog="head3d",
        description="Head3D: 3D-aware talking-head video motion transfer. "
        "Stages of the pipeline (run them all with `dvc repro`), and commands for your own videos.",
    )
    parser.add_argument("--version", action="version", version=f"head3d {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    groups = {"train": "train one of Head3D's three stages, or a baseline", "evaluate": "measure on a test set"}
    nested: dict[str, Any] = {}
    for name, (_, options) in STAGES.items():
        group, _, leaf = name.rpartition(" ")
        if group and group not in nested:
            owner = commands.add_parser(group, help=groups[group], description=groups[group])
            nested[group] = owner.add_subparsers(dest="part", required=True, metavar="PART")
        command = (nested[group] if group else commands).add_parser(
            leaf or name, help=HELP[name], description=f"{HELP[name]}. Parameters come from params.yaml."
        )
        for option in options:
            command.add_argument(f"--{option.replace('_', '-')}", required=True, **OPTIONS[option])
        command.set_defaults(run=_stage_command(name))

    scale = commands.add_parser("scale", help="rewrite params.yaml for a scale: smoke, demo or paper")
    scale.add_argument("name", metavar="NAME", help="a file of workflow/scales without .yaml")
    scale.add_argument("--save", action="store_true", help="the other way: write params.yaml's values to that file")
    scale.set_defaults(run=_scale)

    sync = commands.add_parser("sync", help="after `dvc repro` or `snakemake`: tell the other engine what has been run")
    sync.set_defaults(run=_sync)

    commands.add_parser("doctor", help="what this machine has, lacks, and can run").set_defaults(run=_doctor)

    animate = commands.add_parser("animate", help="move the head of one video as the head of another moves")
    animate.add_argument("--subject", required=True, metavar="VIDEO", help="whose face")
    animate.add_argument("--driving", required=True, metavar="VIDEO", help="whose motion (its sound is kept)")
    _add_use_options(animate)
    animate.add_argument("--motion", choices=("relative", "absolute"), help="default: animate.motion of params.yaml")
    animate.set_defaults(run=_animate)

    view = commands.add_parser("view", help="look at the head of a video from other sides")
    view.add_argument("--subject", required=True, metavar="VIDEO", help="whose face")
    for angle in ("yaw", "pitch", "roll"):
        view.add_argument(f"--{angle}", default="0", metavar="A[:B]", help="degrees, or a sweep as -20:20 (default: 0)")
    view.add_argument("--frames", type=int, default=60, metavar="N", help="frames of the sweep (default: 60)")
    _add_use_options(view)
    view.set_defaults(run=_view)

    take = commands.add_parser("import", help="turn an official checkpoint of a baseline into ours")
    take.add_argument("method", choices=NAMES, help="whose checkpoint")
    take.add_argument("checkpoint", metavar="CHECKPOINT", help="the file that the method's authors published")
    take.add_argument("--out", required=True, metavar="FILE.safetensors", help="the file to write")
    take.add_argument(
        "--align-corners",
        action=argparse.BooleanOptionalAction,
        help="of grid_sample where the weights were trained (default: as the published ones were; true for fomm)",
    )
    take.set_defaults(run=_import)
    return parser


def _add_use_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="FILE.mp4", help="the video to write")
    parser.add_argument("--models", default="models", metavar="DIR", help="trained models (default: models)")
    parser.add_argument("--variant", default="full", metavar="V", help="which fusion model (default: full)")
    parser.add_argument("--references", type=int, metavar="N", help="reference frames (default: model.references)")
    parser.add_argument("--seed", type=int, metavar="S", help="seed of the choice of references (default: seed)")
    parser.add_argument("--device", metavar="D", help="auto, cpu, cuda or cuda:N (default: device of params.yaml)")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the ``head3d`` command; returns the exit code."""
    args = build_parser().parse_args(_keep_negative_values(sys.argv[1:] if argv is None else argv))
    try:
        args.run(args)
    except UserError as error:
        print(f"head3d: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("head3d: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `head3d doctor | head`: the reader has gone, that is no failure
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


def _keep_negative_values(argv: Sequence[str]) -> list[str]:
    """Join ``--yaw -20:20`` to ``--yaw=-20:20``: argparse takes a value with a leading dash for an option."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] in ("--yaw", "--pitch", "--roll") and word.startswith("-") and word[1:2].isdigit():
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


if __name__ == "__main__":
    sys.exit(main())
