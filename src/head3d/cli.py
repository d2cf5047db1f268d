"""The ``head3d`` command: one small command for each stage of ``dvc.yaml``, and the user's own commands.

Every import of weight happens inside the functions, so that ``head3d --help`` answers at once and a stage loads only
what it uses. A :class:`~head3d.errors.UserError` is printed as one line with exit code 2.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from head3d.bench.commands import add_options as bench_options
from head3d.errors import UserError
from head3d.sections.choices import CHOICES, MOTIONS
from head3d.signals import handled

# Set before torch is loaded: threads that wait for each other give up their core soon. By default they spin on it, and
# two stages on the same two cores run seven to nine times slower each, instead of twice; alone, little is lost.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# What a user mends, not we: no permission, a name too long, a full disk, a directory where a file belongs.
_NAMES = "EACCES EPERM EROFS ENAMETOOLONG ENOSPC EDQUOT EFBIG EEXIST EISDIR ENOTDIR"
USERS_OWN = tuple(getattr(errno, name) for name in _NAMES.split())

# command -> (module:function of the stage, the options that follow params in its call)
STAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "fetch": ("head3d.assets.cache:run_fetch", ()),
    "crop": ("head3d.data.crop:run", ("shard",)),
    "parse": ("head3d.data.parse:run", ("shard",)),
    "manifest": ("head3d.data.manifest:run", ()),
    "train geometry": ("head3d.training.geometry:run", ()),
    "train canonical": ("head3d.training.canonical:run", ()),
    "train parser": ("head3d.training.parser:run", ()),
    "train matching": ("head3d.training.matching:run", ()),
    "train fusion": ("head3d.training.fusion:run", ("variant",)),
    "train baseline": ("head3d.training.baseline:run", ("method",)),
    "evaluate parser": ("head3d.evaluation.parser:run", ("test_set",)),
    "evaluate geometry": ("head3d.evaluation.geometry:run", ("test_set",)),
    "evaluate reconstruction": ("head3d.evaluation.reconstruction:run", ("test_set", "method")),
    "evaluate baseline": ("head3d.evaluation.baseline:run", ("test_set", "method")),
    "evaluate cross": ("head3d.evaluation.cross_measure:run", ("test_set",)),
    "transfer pairs": ("head3d.evaluation.pairs:run", ("test_set",)),
    "transfer head3d": ("head3d.evaluation.cross_head3d:run", ("test_set", "method")),
    "transfer baseline": ("head3d.evaluation.cross_baseline:run", ("test_set", "method")),
    "tables": ("head3d.report.tables:run", ()),
    "figures": ("head3d.report.figures:run", ()),
    "report": ("head3d.report.page:run", ()),
}

# (command, option) -> the list of params.yaml that it is chosen from, where that is not the option's name with an s
CHOSEN_FROM = {(f"{group} baseline", "method"): "baselines" for group in ("train", "evaluate", "transfer")}
WRITTEN_AS = {"methods": "variants"}  # what is made of a list of params.yaml -> that list

HELP = {
    "fetch": "download and verify weights and sample videos into the user's cache",
    "crop": "find faces and cut clips (one shard)",
    "parse": "head masks of the clips (one shard)",
    "manifest": "join the shards: splits, counts, digest",
    "train geometry": "stage 1: depth and pose",
    "train canonical": "stage 2: the canonical head",
    "train parser": "the small parser: head masks in real time",
    "train matching": "the matcher of stage 3, before it",
    "train fusion": "stage 3: fusion (one variant)",
    "train baseline": "a method that Head3D is compared with",
    "evaluate parser": "the small parser's masks against the face parser's on a test set",
    "evaluate geometry": "poses and canonical heads against landmarks and head images of a test set",
    "evaluate reconstruction": "self-reconstruction by Head3D or the floors on a test set",
    "evaluate baseline": "self-reconstruction by a method that Head3D is compared with",
    "evaluate cross": "measures of the transfer between people",
    "transfer pairs": "pairs of test clips of different people, with their videos",
    "transfer head3d": "videos of the pairs by Head3D or the floors",
    "transfer baseline": "videos of the pairs by a method that Head3D is compared with",
    "tables": "Tables 1, 2 and 3, transfer between people, paired differences, geometry, the small parser",
    "figures": "the figures",
    "report": "reports/index.html",
}

OPTIONS: dict[str, dict[str, Any]] = {
    "shard": {"type": int, "metavar": "K", "help": "number of the shard (params.yaml: shards)"},
    "variant": {"metavar": "V", "help": "which variant (params.yaml: variants)"},
    "test_set": {"metavar": "S", "help": "which test set (params.yaml: test_sets)"},
    "method": {
        "metavar": "M",
        "help": "which method (params.yaml: baselines; of Head3D's own stages floors or one of variants)",
    },
}


def load_function(path: str) -> Callable[..., Any]:
    """The function that ``module:function`` names."""
    module, _, function = path.partition(":")
    return getattr(importlib.import_module(module), function)


def run_stage(name: str, options: dict[str, Any]) -> None:
    """Run one stage of the pipeline with the parameters of ``params.yaml``."""
    from head3d import launch
    from head3d.params import load_params
    from head3d.training.shares import batches_of

    params = load_params()
    for option in STAGES[name][1]:
        key = CHOSEN_FROM.get((name, option), f"{option}s")
        known = getattr(params, key)
        if options[option] not in known:
            raise UserError(
                f"--{option.replace('_', '-')} is {options[option]!r}",
                allowed=f"{', '.join(map(str, known))} (params.yaml: {WRITTEN_AS.get(key, key)})",
            )
    group, _, training = name.rpartition(" ")
    wanted = launch.wanted() if group == "train" else 1
    if wanted > 1 and (count := launch.fitting(wanted, batches_of(params, training, options.get("method")))) > 1:
        words = name.split()
        for option in STAGES[name][1]:
            words += [f"--{option.replace('_', '-')}", str(options[option])]
        if code := launch.run(words, count, params.device):
            raise SystemExit(code)
        return
    load_function(STAGES[name][0])(params, *(options[option] for option in STAGES[name][1]))


def _stage_command(name: str) -> Callable[[argparse.Namespace], None]:
    return lambda args: run_stage(name, vars(args))


def _scale(args: argparse.Namespace) -> None:
    from head3d import scales

    if args.save:
        print(f"{scales.save(args.name)} now holds the values of params.yaml, as scale: {args.name}")
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


def _bench(args: argparse.Namespace) -> None:
    from head3d.bench import commands

    commands.run(args)


def _doctor(args: argparse.Namespace) -> None:
    from head3d import doctor

    print(doctor.screen())


@contextmanager
def _orderly_end() -> Iterator[None]:
    """Let a kill or a closed terminal end the block as an error would: nothing unfinished is left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    with handled(end, signal.SIGTERM, signal.SIGHUP):
        yield


def _use(command: str) -> Callable[[argparse.Namespace], None]:
    """Run one of the commands for a user's own videos with all of its options."""

    def run(args: argparse.Namespace) -> None:
        from head3d import use

        getattr(use, command)(**{name: value for name, value in vars(args).items() if name not in ("command", "run")})

    return run


def _metrics(args: argparse.Namespace) -> None:
    from head3d.evaluation import videos

    videos.metrics(args.video, args.driving, args.subject, args.out, args.only, args.device)


def _import(args: argparse.Namespace) -> None:
    from pathlib import Path

    from head3d.assets.cache import fetch
    from head3d.assets.catalogue import ASSETS
    from head3d.baselines import convert
    from head3d.options import check_out

    given = fetch(name) if (name := args.checkpoint) in ASSETS and not Path(name).exists() else Path(name)
    out = check_out(args.out, (".safetensors",), checkpoint=given)
    print(convert.convert(args.method, given, out, args.align_corners))


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    from head3d import __version__, runs_commands
    from head3d.app import commands as app_commands
    from head3d.assets import commands as asset_commands
    from head3d.data import commands as data_commands
    from head3d.study import commands as study_commands

    parser = argparse.ArgumentParser(
        prog="head3d",
        description="Head3D: 3D-aware talking-head video motion transfer. "
        "Stages of the pipeline (run them all with `dvc repro`), and commands for your own videos.",
    )
    parser.add_argument("--version", action="version", version=f"head3d {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_stages(commands)
    _add_project(commands)
    _add_use(commands)
    _add_others(commands)
    asset_commands.add(commands)
    runs_commands.add(commands)
    data_commands.add(commands)
    app_commands.add(commands)
    study_commands.add(commands)
    return parser


def _add_stages(commands: Any) -> None:
    """The stages of the pipeline, some of them in groups: ``head3d train geometry``."""
    groups = {
        "train": "train one of Head3D's three stages, its matcher, the small parser, or a baseline",
        "evaluate": "measure on a test set",
        "transfer": "make the videos in which people of a test set move each other",
    }
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


def _add_project(commands: Any) -> None:
    """What keeps a project and a machine in order."""
    scale = commands.add_parser("scale", help="rewrite params.yaml for a scale: smoke, demo, paper or paper256")
    scale.add_argument("name", metavar="NAME", help="a file of workflow/scales without .yaml")
    scale.add_argument("--save", action="store_true", help="the other way: write params.yaml's values there, as NAME")
    scale.set_defaults(run=_scale)

    sync = commands.add_parser("sync", help="after `dvc repro` or `snakemake`: tell the other engine what has been run")
    sync.set_defaults(run=_sync)

    bench = commands.add_parser("bench", help="how fast this machine is, into reports/bench.csv")
    bench_options(bench)
    bench.set_defaults(run=_bench)

    commands.add_parser("doctor", help="what this machine has, lacks, and can run").set_defaults(run=_doctor)


def _add_use(commands: Any) -> None:
    """What makes something of anybody's videos."""
    from head3d.app.commands import add_parser

    animate = commands.add_parser("animate", help="move the head of one video as the head of another moves")
    animate.add_argument("--subject", required=True, metavar="VIDEO", help="whose face")
    animate.add_argument("--driving", required=True, metavar="VIDEO", help="whose motion (its sound is kept)")
    _add_use_options(animate)
    animate.add_argument("--motion", choices=MOTIONS, help="default: animate.motion of params.yaml")
    add_parser(animate)
    animate.add_argument("--driving-face", type=int, metavar="K", help="whose motion of several (default: the largest)")
    animate.add_argument("--paste", action="store_true", help="put the result back into the subject's whole frame")
    animate.add_argument("--compare", action="store_true", help="subject, driving video and result side by side")
    animate.set_defaults(run=_use("animate"))

    view = commands.add_parser("view", help="look at the head of a video from other sides")
    view.add_argument("--subject", required=True, metavar="VIDEO", help="whose face")
    for angle in ("yaw", "pitch", "roll"):
        view.add_argument(f"--{angle}", default="0", metavar="A[:B]", help="degrees, or a sweep as -20:20 (default: 0)")
    view.add_argument("--frames", type=int, default=60, metavar="N", help="frames of the sweep (default: 60)")
    _add_use_options(view)
    view.set_defaults(run=_use("view"))

    export = commands.add_parser("export", help="write the head of a video as a textured mesh (.glb or .ply)")
    export.add_argument("--subject", required=True, metavar="VIDEO", help="whose head")
    _add_use_options(
        export,
        "FILE.glb|FILE.ply",
        "the mesh to write: y up, face towards +z, in the model's metres, about half a real head's size",
    )
    export.set_defaults(run=_use("export"))


def _add_others(commands: Any) -> None:
    """What is for the work of other people: their videos measured, their weights taken over."""
    from head3d.baselines import NAMES

    metrics = commands.add_parser("metrics", help="measure any video against its driving video or the truth")
    metrics.add_argument("video", metavar="VIDEO", help="what was made: a video, or a folder of videos")
    metrics.add_argument("driving", metavar="DRIVING", help="what drove it, or the truth; of a folder, files by name")
    metrics.add_argument(
        "--subject", metavar="VIDEO", help="whose identity it should have, of a folder by name (default: DRIVING's)"
    )
    metrics.add_argument("--out", metavar="FILE.csv", help="table to write, a row a video")
    metrics.add_argument("--only", metavar="WHAT", help="pixels or motion: leave the other measures out")
    metrics.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda or cuda:N (default: auto)")
    metrics.set_defaults(run=_metrics)

    take = commands.add_parser("import", help="turn an official checkpoint of a baseline into ours")
    take.add_argument("method", choices=NAMES, help="whose checkpoint")
    take.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="the file that its authors published, or its name in `head3d assets`"
    )
    take.add_argument("--out", required=True, metavar="FILE.safetensors", help="the file to write")
    take.add_argument(
        "--align-corners",
        action=argparse.BooleanOptionalAction,
        help="of grid_sample where the weights were trained (default: as the published ones were; true for fomm)",
    )
    take.set_defaults(run=_import)


def _add_use_options(parser: argparse.ArgumentParser, out: str = "FILE.mp4", what: str = "the video to write") -> None:
    parser.add_argument("--out", required=True, metavar=out, help=what)
    parser.add_argument("--models", default="models", metavar="DIR", help="trained models (default: models)")
    parser.add_argument("--variant", default="full", metavar="V", help="which fusion model (default: full)")
    parser.add_argument("--references", type=int, metavar="N", help="reference frames (default: as in training)")
    parser.add_argument(
        "--choose",
        choices=CHOICES,
        default="random",
        help="which frames are references: drawn with the seed, or the most diverse poses (default: random)",
    )
    parser.add_argument(
        "--face", type=int, metavar="K", help="subject's face, K-th from the left (default: the largest)"
    )
    parser.add_argument(
        "--seed", type=int, metavar="S", help="seed of the choice of references (default: of params.yaml)"
    )
    parser.add_argument("--device", metavar="D", help="auto, cpu, cuda or cuda:N (default: device of params.yaml)")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the ``head3d`` command; returns the exit code."""
    from head3d import ranks

    args = build_parser().parse_args(_keep_negative_values(sys.argv[1:] if argv is None else argv))
    try:
        with nullcontext() if args.command == "train" else _orderly_end():  # trainings end in order by themselves
            args.run(args)
    except UserError as error:
        if ranks.speaks():
            print(f"head3d: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if ranks.speaks():
            print("head3d: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has gone, as of `head3d doctor | head`; work is cut short by it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0 if args.command in ("doctor", "assets") else 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in USERS_OWN:
            raise
        print(f"head3d: {f'{error.filename}: ' if error.filename else ''}{error.strerror}", file=sys.stderr)
        return 2
    return 0


def _keep_negative_values(argv: Sequence[str]) -> list[str]:
    """Join ``--yaw -20:20`` to ``--yaw=-20:20``: argparse takes a value with a leading dash for an option."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] in ("--yaw", "--pitch", "--roll") and re.match(r"-\.?\d", word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


if __name__ == "__main__":
    sys.exit(main())
