"""Stage 1 and DaGAN from official weights that were added by hand; the weights are made up."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from made_up_weights import made_up
from torch import Tensor, nn
from torchvision import models as zoo

from head3d import cli
from head3d.assets import cache as assets
from head3d.assets import lock as asset_lock
from head3d.assets.catalogue import ASSETS
from head3d.baselines.dagan.method import Dagan
from head3d.baselines.dagan.training import Training
from head3d.errors import UserError
from head3d.models.head3d import HeadGeometry
from head3d.params import Params
from head3d.training import geometry as stage_1
from head3d.training import official
from head3d.training.baseline import what_is_read
from head3d.training.build.geometry import build_geometry
from head3d.training.weights import seeded_init


@pytest.fixture
def paper(tiny: Params) -> Params:
    """Networks of official size, warm_start: official."""
    model = tiny.model
    update = {
        "depth": model.depth.model_copy(update={"encoder_width": 1.0, "decoder_width": 0.6}),
        "pose": model.pose.model_copy(update={"backbone": "resnet50"}),
    }
    geometry = {"warm_start": "official", "warm_steps": 0, "epochs": 1, "batch_size": 4, "drivings": 1}
    geometry |= {"hold_batch": 2, "pose_hold": 0.0}
    return tiny.model_copy(
        update={
            "model": model.model_copy(update=update),
            "geometry": tiny.geometry.model_copy(update=geometry),
        }
    )


@pytest.fixture
def project(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project with a cache of its own, and no network."""
    monkeypatch.setenv("HEAD3D_CACHE", str(in_tmp / "cache"))
    Path("params.yaml").write_text("")
    for name in ("hopenet", "mobilenet_v2"):
        asset = ASSETS[name]
        monkeypatch.setitem(ASSETS, name, type(asset)(**{**vars(asset), "sources": (), "sha256": "", "reported": ""}))
    return in_tmp


def add_by_hand(name: str, state: dict[str, Tensor]) -> None:
    torch.save(state, "given.pth")
    assert cli.main(["assets", "add", name, "given.pth"]) == 0


def test_what_the_warm_start_needs(paper: Params, tiny: Params, project: Path, face_depth: dict[str, Tensor]) -> None:
    assert assets.geometry_names(tiny) == []
    assert assets.geometry_names(paper) == ["hopenet", "mobilenet_v2"]
    add_by_hand("face-depth", face_depth)
    assert assets.geometry_names(paper) == ["hopenet", "face-depth"]
    with pytest.raises(UserError, match=r"'hopenet' has no address.*head3d assets add hopenet FILE"):
        assets.fetch_all(assets.geometry_names(paper))


def test_without_the_weights_of_20_the_encoder_starts_from_imagenet(
    paper: Params, project: Path, hopenet: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    add_by_hand("hopenet", hopenet)
    add_by_hand("mobilenet_v2", zoo.mobilenet_v2(weights=None).state_dict())
    geometry = seeded_init(0, build_geometry, paper)
    used = official.start(geometry, assets.fetch_all(assets.geometry_names(paper))).used
    assert used == "F_P: HopeNet; F_D: encoder of mobilenet_v2 of ImageNet"
    assert "no public address" in capsys.readouterr().err


def test_dagan_may_have_its_own_depth(tiny: Params, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tiny.baseline.dagan.model_copy(update={"depth_steps": 0})
    method = Dagan(128, **{**settings.network.model_dump(), "depth_layers": 18})
    settings = settings.model_copy(update={"network": settings.network.model_copy(update={"depth_layers": 18})})
    with pytest.raises(UserError, match="head3d assets add dagan-depth-encoder18 FILE"):
        Training(method, settings, lambda a, b: (a - b).abs().mean())
    for part in ("encoder", "decoder"):
        add_by_hand(f"dagan-depth-{part}18", made_up(f"dagan_depth_{part}18"))
    objective = Training(method, settings, lambda a, b: (a - b).abs().mean())
    assert objective.pretraining(4) is None
    assert "official depth weights, frozen: dagan-depth-encoder18" in objective.notes["depth"]
    assert settings.replaced == ()
    params = tiny.model_copy(update={"baseline": tiny.baseline.model_copy(update={"dagan": settings})})
    reads = what_is_read(params, "dagan", geometry=False)
    assert reads["official"]["dagan-depth-encoder18"] == asset_lock.digest("dagan-depth-encoder18")
    wanted = made_up("dagan_depth_encoder18")["encoder.layer4.1.conv2.weight"]
    assert torch.equal(method.depth_encoder.state_dict()["encoder.layer4.1.conv2.weight"], wanted)
    assert not any(p.requires_grad for p in (*method.depth_encoder.parameters(), *method.depth_decoder.parameters()))
    taught = Training(method, tiny.baseline.dagan, lambda a, b: (a - b).abs().mean())
    assert taught.pretraining(4) is not None
    assert len(tiny.baseline.dagan.replaced) == 1


def test_fetch_brings_what_the_parameters_start_from(
    paper: Params, tiny: Params, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But its record, which all the data depend on, is the same for every start."""
    asked: list[list[str]] = []

    def fetch_all(names: list[str]) -> dict[str, Path]:
        asked.append(list(names))
        Path("file").write_bytes(b"content")
        return {name: Path("file") for name in names}

    monkeypatch.setattr(assets, "fetch_all", fetch_all)
    run = SimpleNamespace(artifact=lambda path: None)
    monkeypatch.setattr("head3d.tracking.run", lambda **_: nullcontext(run))
    records = []
    dagan = paper.baseline.dagan.model_copy(update={"depth_steps": 0})
    own_depth = paper.model_copy(update={"baseline": paper.baseline.model_copy(update={"dagan": dagan})})
    for params in (tiny, paper, own_depth):
        assets.run_fetch(params)
        records.append(Path("data/assets.json").read_bytes())
    assert records[0] == records[1] == records[2]
    assert [entry["name"] for entry in json.loads(records[0])] == asked[0][: len(json.loads(records[0]))]
    assert not {"hopenet", "mobilenet_v2", "face-depth"} & set(asked[0])
    assert set(asked[1]) - set(asked[0]) == {"hopenet", "mobilenet_v2"}
    layers = dagan.network.depth_layers
    assert set(asked[2]) - set(asked[1]) == {f"dagan-depth-encoder{layers}", f"dagan-depth-decoder{layers}"}


def test_the_warm_start_teaches_what_official_weights_lack(
    paper: Params, project: Path, hopenet: dict[str, Tensor], face_depth: dict[str, Tensor]
) -> None:
    def held(files: dict[str, Path]) -> tuple[set[str], bool, bool]:
        """What learns, and whether statistics of F_P and of F_D's encoder are kept."""
        network = seeded_init(0, build_geometry, paper).train()
        stage_1.hold(network, official.start(network, files).official)
        depth, pose = (len(group["params"]) for group in stage_1.optimizer_of(network, 1.0, 1.0).param_groups)
        learning = {name for name, weight in network.named_parameters() if weight.requires_grad}
        assert depth + pose == len(learning)
        kept = [not any(part.training for part in norms(of)) for of in (network.pose, network.depth.encoder)]
        stage_1.hold(network, ())
        assert all(weight.requires_grad for weight in network.parameters())
        return learning, kept[0], kept[1]

    def norms(network: nn.Module) -> list[nn.Module]:
        return [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]

    for name, state in (("hopenet", hopenet), ("face-depth", face_depth)):
        torch.save(state, f"{name}.pth")
    torch.save(zoo.mobilenet_v2(weights=None).state_dict(), "imagenet.pth")
    files = {"hopenet": Path("hopenet.pth"), "face-depth": Path("face-depth.pth")}
    learning, pose_kept, depth_kept = held(files)
    assert pose_kept and depth_kept
    assert {name for name in learning if name.startswith("pose.")} == {
        f"pose.fc_translation.{part}" for part in ("weight", "bias")
    }
    of_depth = {name.removeprefix("depth.") for name in learning if name.startswith("depth.")}
    assert of_depth and all(name.startswith("conv3.") or ".norm" in name for name in of_depth)
    assert not any(name.startswith("encoder.") for name in of_depth)
    learning, pose_kept, depth_kept = held({"hopenet": files["hopenet"], "mobilenet_v2": Path("imagenet.pth")})
    assert pose_kept and not depth_kept  # ImageNet knows no depth
    assert "depth.encoder.0.0.weight" in learning and "pose.fc_yaw.weight" not in learning


@pytest.mark.slow
def test_training_starts_from_official_weights(
    paper: Params,
    project: Path,
    hopenet: dict[str, Tensor],
    face_depth: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from test_stages import make_data

    paper = paper.model_copy(update={"geometry": paper.geometry.model_copy(update={"warm_steps": 2, "warm_batch": 4})})
    warm: dict[str, Tensor] = {}

    def learn(network: HeadGeometry, *rest: Any) -> Any:
        warm.update({name: value.clone() for name, value in network.state_dict().items()})
        return learn_from_rendering(network, *rest)

    learn_from_rendering = stage_1.learn_from_rendering
    monkeypatch.setattr(stage_1, "learn_from_rendering", learn)
    add_by_hand("hopenet", hopenet)
    add_by_hand("face-depth", face_depth)
    make_data(project / "data")
    stage_1.run(paper)
    said = json.loads(Path("metrics/train_geometry.json").read_text())
    assert said["pretrained"] == "F_P: HopeNet; F_D: face depth network of [20]"
    assert said["steps"] >= 1
    assert Path("models/geometry.safetensors").exists()
    start = seeded_init(0, build_geometry, paper)
    official.load_hopenet(start.pose, hopenet, "it")
    official.load_face_depth(start.depth, face_depth, "it")
    taught = {name for name, value in start.state_dict().items() if not torch.equal(value, warm[name])}
    assert taught >= {"pose.fc_translation.weight", "depth.conv3.weight"}
    assert all(name.startswith(("pose.fc_translation.", "depth.conv3.", "depth.up.")) for name in taught)
