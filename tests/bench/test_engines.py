"""Commands that start are timed; what one of them says when it fails is not lost."""

import sys

import pytest

from head3d.bench import engines
from head3d.errors import UserError
from head3d.params import Params


def test_a_command_that_fails_is_told_with_what_it_said_last() -> None:
    code = "import sys; print('out'); sys.exit('Traceback\\nthe lock is held')"
    with pytest.raises(UserError, match="bench: `dvc status` ended with 1: the lock is held"):
        engines.run("dvc status", [sys.executable, "-c", code])
    with pytest.raises(UserError, match="ended with 3: it said nothing"):
        engines.run("dvc status", [sys.executable, "-c", "raise SystemExit(3)"])


def test_engines_are_of_a_scale_and_commands_are_not(tiny: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "run", lambda what, command: None)
    assert {row.what: row.scale for row in engines.rows(tiny, 1)} == {
        "head3d --help": "", "head3d doctor": "", "dvc status": "smoke", "snakemake -n": "smoke"}  # fmt: skip
