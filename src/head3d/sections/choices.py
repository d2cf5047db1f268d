"""Words to choose between that params.yaml, the command line and the functions share; it imports nothing of weight."""

from pathlib import Path
from typing import Literal, get_args

Motion = Literal["relative", "absolute"]  # a subject takes what a driver's poses have changed by, or the poses
Choice = Literal["random", "diverse"]  # reference frames: drawn, or those of the most diverse poses
Parser = Literal["full", "small"]  # of driving frames

MOTIONS: tuple[str, ...] = get_args(Motion)
CHOICES: tuple[str, ...] = get_args(Choice)
PARSERS: tuple[str, ...] = get_args(Parser)
# Methods that Head3D is compared with: a folder that is there is known.
BASELINES = tuple(sorted(path.parent.name for path in Path(__file__).parents[1].glob("baselines/*/settings.py")))
