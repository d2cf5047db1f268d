"""``head3d app``: wrong inputs are one line before anything slow begins."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from head3d import cli, options, use
from head3d.app import server
from head3d.assets import cache as assets

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "models: no geometry.safetensors, fusion-full.safetensors, canonical.safetensors there; "
             "train the models with `make demo` or `dvc repro` first, or name their directory with --models"),
        (["--port", "70000"], "--port is 70000; allowed: 0 to 65535"),
        (["--most-mb", "0"], "--most-mb is 0; allowed: 1 or more megabytes"),
        (["--device", "tpu"], "--device is 'tpu'; allowed: auto, cpu, cuda or cuda:N"),
    ],
)  # fmt: skip
def test_wrong_inputs(in_tmp: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    shutil.copy(ROOT / "params.yaml", in_tmp)
    assert cli.main(["app", *words]) == 2
    assert capsys.readouterr().err == f"head3d: {message}\n"


def test_options_reach_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(use, "load", lambda options: seen.append(options) or "model")
    monkeypatch.setattr(assets, "fetch_all", lambda names: seen.append(names))
    monkeypatch.setattr(server, "serve", lambda *given: seen.append(given))
    words = [
        "--models",
        "m",
        "--variant",
        "no_head",
        "--parser",
        "small",
        "--device",
        "cpu",
        "--host",
        "::1",
        "--port",
        "0",
    ]
    assert cli.main(["app", *words, "--most-mb", "5"]) == 0
    assert seen == [
        options.Options(models="m", variant="no_head", device="cpu", parser="small"),
        ["face-parsing", "landmarks-68"],
        ("model", "::1", 0, 5_000_000),
    ]


def test_nobody_else_reaches_it_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(use, "load", lambda options: "model")
    monkeypatch.setattr(assets, "fetch_all", lambda names: None)
    monkeypatch.setattr(server, "serve", lambda *given: seen.append(given))
    assert cli.main(["app"]) == 0
    assert seen == [("model", "127.0.0.1", 8001, 1_000_000_000)]
