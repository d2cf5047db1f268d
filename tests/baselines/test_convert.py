"""``head3d import``: from a made-up official checkpoint to a safetensors file and back into a method."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fill import official_states
from safetensors import safe_open

from head3d import cli
from head3d.baselines import build, convert
from head3d.baselines.method import Method

SMALL = {"width": 4, "most": 8, "residuals": 1, "detector_width": 2, "motion_width": 2}
SMALL |= {"detector_levels": 2, "motion_levels": 2, "detector_most": 8, "motion_most": 8}


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Official widths would be a quarter of a gigabyte a test."""
    monkeypatch.setattr(convert, "build", lambda name, image_size=32, **s: build(name, image_size, **SMALL, **s))


def checkpoint(path: Path, name: str = "fomm", **more: object) -> tuple[Path, Method]:
    method = build(name, 32, **SMALL)
    states = official_states(method)
    torch.save({**states, "optimizer_generator": {"state": {}, "param_groups": []}, "epoch": 99, **more}, path)
    return path, method.load_official(states)


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_a_checkpoint_becomes_ours(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, method = checkpoint(in_tmp / "vox-cpk.pth.tar")
    out = in_tmp / "models/fomm.safetensors"
    assert cli.main(["import", "fomm", str(path), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: fomm, generator, kp_detector, align_corners=true\n"
    assert metadata(out) == {"method": "fomm", "align_corners": "true"}  # as the public weights want it
    loaded = convert.load(out, 32)
    assert loaded.align_corners
    assert not loaded.training
    for name, value in method.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert [p.name for p in out.parent.iterdir()] == ["fomm.safetensors"]


@pytest.mark.parametrize(
    ("name", "flags", "align"),
    [
        ("fomm", ["--no-align-corners"], "false"),
        ("fomm", ["--align-corners"], "true"),
        ("mraa", [], "false"),
        ("mraa", ["--align-corners"], "true"),
    ],
)
def test_align_corners_of_the_file(in_tmp: Path, name: str, flags: list[str], align: str) -> None:
    path, _ = checkpoint(in_tmp / "official.pth", name)
    assert cli.main(["import", name, str(path), "--out", "out.safetensors", *flags]) == 0
    assert metadata(in_tmp / "out.safetensors") == {"method": name, "align_corners": align}


def test_files_of_old_torch(in_tmp: Path) -> None:
    states = official_states(build("fomm", 32, **SMALL))
    torch.save(states, in_tmp / "old.pth.tar", _use_new_zipfile_serialization=False)
    assert cli.main(["import", "fomm", "old.pth.tar", "--out", "out.safetensors"]) == 0


def test_a_checkpoint_without_avd(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = checkpoint(in_tmp / "mraa.pth", "mraa", avd_network=None)
    assert cli.main(["import", "mraa", str(path), "--out", "out.safetensors"]) == 0
    assert "(the checkpoint has no avd_network)" in capsys.readouterr().out
    with safe_open(in_tmp / "out.safetensors", "pt") as file:
        assert not [name for name in file.keys() if name.startswith("avd_network.")]  # noqa: SIM118
    loaded = convert.load(in_tmp / "out.safetensors", 32)
    assert loaded.name == "mraa"
    assert (loaded.motion_across(), build("mraa", 32, **SMALL).motion_across()) == ("relative", "avd")
    assert build("fomm", 32, **SMALL).motion_across() == "relative"


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["import", *words, "--out", "out.safetensors"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert not Path("out.safetensors").exists()
    return printed.err


def test_what_can_not_be_imported(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("fomm.pth", "fomm.safetensors"):
        path, _ = checkpoint(in_tmp / name)
        before = path.read_bytes()
        assert cli.main(["import", "fomm", name, "--out", name]) == 2
        assert capsys.readouterr().err.startswith(f"head3d: --out {name}: ")
        assert path.read_bytes() == before
    assert "head3d: nothing.pth: no such file" in refused(capsys, "fomm", "nothing.pth")
    (in_tmp / "text.pth").write_text("<html>not found</html>")
    assert "text.pth: not a checkpoint of tensors that torch can read" in refused(capsys, "fomm", "text.pth")
    (in_tmp / "empty.pth").touch()
    assert "empty.pth: not a checkpoint" in refused(capsys, "fomm", "empty.pth")
    torch.save({"generator": Path("code")}, in_tmp / "code.pth")
    assert "code.pth: not a checkpoint of tensors" in refused(capsys, "fomm", "code.pth")
    torch.save(torch.zeros(3), in_tmp / "tensor.pth")
    assert "tensor.pth: holds a Tensor; allowed: a dict" in refused(capsys, "fomm", "tensor.pth")
    torch.save(build("fomm", 32, **SMALL).state_dict(), in_tmp / "flat.pth")
    assert "flat.pth: lacks the networks generator, kp_detector" in refused(capsys, "fomm", "flat.pth")
    path, method = checkpoint(in_tmp / "fomm.pth")
    assert "fomm.pth: lacks the networks region_predictor, bg_predictor" in refused(capsys, "mraa", "fomm.pth")
    states = official_states(method)
    del states["generator"]["final.bias"]
    torch.save(states, path)
    assert "1 missing (generator.final.bias)" in refused(capsys, "fomm", "fomm.pth")


def test_what_can_not_be_loaded(in_tmp: Path) -> None:
    from head3d.errors import UserError

    path, _ = checkpoint(in_tmp / "fomm.pth")
    convert.convert("fomm", path, in_tmp / "fomm.safetensors")
    with pytest.raises(UserError, match="tensors do not fit fomm with these settings"):
        convert.load(in_tmp / "fomm.safetensors", 32, keypoints=3)
    with pytest.raises(UserError, match=r"none\.safetensors: no such file"):
        convert.load(in_tmp / "none.safetensors")
    with pytest.raises(UserError, match="not a safetensors file"):
        convert.load(path)
    broken = convert.load(in_tmp / "fomm.safetensors", 32)
    with torch.no_grad():
        broken.state_dict()["generator.final.bias"][0] = torch.nan
    convert.save(broken, in_tmp / "broken.safetensors")
    with pytest.raises(
        UserError, match=r"1 tensors hold values that are no numbers, generator\.final\.bias among them"
    ):
        convert.load(in_tmp / "broken.safetensors", 32)


def test_unknown_methods_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["import", "head3d", "x.pth", "--out", "y.safetensors"])
    assert caught.value.code == 2
