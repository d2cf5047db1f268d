"""Official weights, made up with the names and shapes of the official lists, through the loaders into our networks."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models as zoo

from head3d import cli
from head3d.assets import cache as assets
from head3d.assets import lock as asset_lock
from head3d.assets.catalogue import ASSETS
from head3d.baselines import build
from head3d.baselines.dagan.depth import DepthDecoder, DepthEncoder
from head3d.baselines.dagan.method import Dagan
from head3d.baselines.dagan.official import load_depth
from head3d.baselines.dagan.training import Training
from head3d.errors import UserError
from head3d.models.blocks import imagenet
from head3d.models.depth import DepthNet
from head3d.models.head3d import HeadGeometry
from head3d.models.parsing import BiSeNet
from head3d.models.pose import BIN_DEG, PoseNet
from head3d.params import Params
from head3d.training import geometry as stage_1
from head3d.training import official
from head3d.training.baseline import what_is_read
from head3d.training.build.geometry import build_geometry
from head3d.training.weights import seeded_init

HEADS = ("fc_yaw", "fc_pitch", "fc_roll")
KEYS = Path(__file__).parents[1] / "baselines/golden/keys"


def shapes(network: str) -> dict[str, tuple[int, ...]]:
    rows = [line.split() for line in (KEYS / f"{network}.txt").read_text().splitlines() if line]
    return {name: () if shape == "scalar" else tuple(map(int, shape.split("x"))) for name, shape, _ in rows}


def made_up(network: str) -> dict[str, Tensor]:
    """Values of the size that keeps a signal's, different in every tensor."""
    draw = torch.Generator().manual_seed(len(network))
    state = {}
    for name, shape in shapes(network).items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
            continue
        value = torch.randn(shape, generator=draw)
        if name.endswith("running_var"):
            value = value.abs() + 0.5
        elif len(shape) > 1:
            value = value * (2 / value[0].numel()) ** 0.5
        else:
            value = value * 0.1 + (0.0 if name.endswith(("bias", "running_mean")) else 1.0)
        state[name] = value
    return state


@pytest.fixture(scope="module")
def hopenet() -> dict[str, Tensor]:
    return made_up("hopenet")


@pytest.fixture(scope="module")
def face_depth() -> dict[str, Tensor]:
    return made_up("facedepth_mobilenetv2")


def test_every_tensor_of_hopenet_is_used_or_ignored_by_name(hopenet: dict[str, Tensor]) -> None:
    pose = PoseNet("resnet50")
    before = {name: value.clone() for name, value in pose.state_dict().items()}
    official.load_hopenet(pose, hopenet, "hopenet")
    after = pose.state_dict()
    filled = {name for name in after if not torch.equal(after[name], before[name])}
    assert set(after) - filled == {"fc_translation.weight", "fc_translation.bias"}
    assert {name.removeprefix("backbone.") for name in filled} == set(hopenet) - set(official.HOPENET_IGNORED)
    for name in ("backbone.layer3.5.conv2.weight", "fc_pitch.weight", "fc_roll.bias"):
        assert torch.equal(after[name], hopenet[name.removeprefix("backbone.")])


def test_angles_are_those_of_hopenet_in_our_signs(hopenet: dict[str, Tensor]) -> None:
    """Against the official forward pass on torchvision's ResNet-50; yaw alone has the other sign."""
    state = {name: value.clone() for name, value in hopenet.items()}
    for angle in HEADS:  # the outermost class, which has no mirror image, is never seen in the data either
        state[f"{angle}.bias"][0] = -100
    pose = PoseNet("resnet50", 64).eval()
    official.load_hopenet(pose, state, "hopenet")
    net = zoo.resnet50(weights=None)
    net.fc = nn.Identity()  # type: ignore[assignment]
    net.load_state_dict({name: value for name, value in state.items() if not name.startswith("fc_")})
    frames = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        feature = net.eval()(imagenet(frames))
        degrees = []
        for angle in HEADS:
            share = F.linear(feature, state[f"{angle}.weight"], state[f"{angle}.bias"]).softmax(dim=1)
            degrees.append((share * torch.arange(66)).sum(dim=1) * BIN_DEG - 99)
        ours, _ = pose.degrees_and_translation(frames)
    yaw, pitch, roll = degrees
    assert yaw.abs().max() > 1
    torch.testing.assert_close(ours, torch.stack((-yaw, pitch, roll), dim=1), atol=1e-3, rtol=1e-4)


def test_every_tensor_of_the_face_depth_network_is_used_or_ignored_by_name(face_depth: dict[str, Tensor]) -> None:
    depth = DepthNet()
    before = {name: value.clone() for name, value in depth.state_dict().items()}
    official.load_face_depth(depth, face_depth, "face-depth")
    after = depth.state_dict()
    kept = {name for name in after if torch.equal(after[name], before[name])}
    norms = {f"up.{i}.norm{which}.{part}" for i in range(6) for which in "AB" for part in ("weight", "bias")}
    assert kept == norms | {"conv3.weight", "conv3.bias"}
    used = {official._face_depth_name(name) for name in set(after) - kept}
    assert used == set(face_depth) - set(official.FACE_DEPTH_IGNORED)
    assert torch.equal(after["up.4.convA.weight"], face_depth["decoder.up4.convA.weight"])
    assert torch.equal(after["encoder.17.conv.2.weight"], face_depth[f"{official.ENCODER}17.conv.2.weight"])


def test_the_first_layer_sees_what_it_was_trained_on(face_depth: dict[str, Tensor]) -> None:
    depth = DepthNet().eval()
    official.load_face_depth(depth, face_depth, "face-depth")
    net = zoo.mobilenet_v2(weights=None).features
    theirs = {name: value for name, value in face_depth.items() if name.startswith(official.ENCODER)}
    net.load_state_dict({name.removeprefix(official.ENCODER): value for name, value in theirs.items()})
    frames = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted, ours = net.eval()[0](frames.flip(1)), depth.encoder[0](imagenet(frames))  # OpenCV's BGR, 0 .. 1
    torch.testing.assert_close(ours[..., 1:, 1:], wanted[..., 1:, 1:], atol=1e-4, rtol=1e-4)


def test_the_depth_it_starts_with_is_not_saturated(face_depth: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    depth = DepthNet().eval()
    official.load_face_depth(depth, {k: v * 50 if "conv3" in k else v for k, v in face_depth.items()}, "face-depth")
    with torch.no_grad():
        found = depth(torch.rand(1, 3, 64, 64))
    assert found.abs().max() < 0.95 * depth.range_m


@pytest.mark.parametrize(("name", "network"), [("hopenet", "pose"), ("face_depth", "depth")])
def test_wrong_keys_are_one_line_and_change_nothing(name: str, network: str, request: pytest.FixtureRequest) -> None:
    state: dict[str, Tensor] = request.getfixturevalue(name)
    net: nn.Module = PoseNet("resnet50") if network == "pose" else DepthNet()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    first = next(iter(state))
    load = getattr(official, f"load_{name}")
    for wrong, said in (
        ({key: value for key, value in state.items() if key != first}, f"1 missing ({first})"),
        ({**state, "head.weight": torch.zeros(1)}, "1 left over (head.weight)"),
        ({**state, first: torch.zeros(2, 3)}, f"1 of another shape ({first}: (2, 3) instead of"),
    ):
        with pytest.raises(UserError) as error:
            load(net, wrong, "file.pth")
        assert said in str(error.value) and str(error.value).startswith("file.pth: of ")
        assert "\n" not in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    # What old PyTorch wrote: no counters, and a prefix where it trained on several GPUs.
    old = {f"module.{key}": value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    load(net, old, "file.pth")
    assert not torch.equal(net.state_dict()[next(iter(before))], before[next(iter(before))])


def test_other_sizes_say_which_parameter_is_meant(hopenet: dict[str, Tensor], face_depth: dict[str, Tensor]) -> None:
    with pytest.raises(UserError, match=r"is model.pose.backbone resnet50\?"):
        official.load_hopenet(PoseNet("resnet18"), hopenet, "hopenet")
    with pytest.raises(UserError, match=r"model.depth.encoder_width 1.0 and decoder_width 0.6"):
        official.load_face_depth(DepthNet(0.5), face_depth, "face-depth")
    with pytest.raises(UserError, match=r"encoder_width 1.0"):
        official.load_imagenet(DepthNet(0.5).encoder, zoo.mobilenet_v2(weights=None).state_dict(), "mobilenet_v2")


def test_imagenet_fills_whole_encoders() -> None:
    for net, encoder in (
        (zoo.mobilenet_v2(weights=None), DepthNet().encoder),
        (zoo.resnet18(weights=None), PoseNet("resnet18").backbone),
    ):
        state = net.state_dict()
        official.load_imagenet(encoder, state, "file")
        prefix = "features." if any(name.startswith("features.") for name in state) else ""
        assert all(torch.equal(value, state[prefix + name]) for name, value in encoder.state_dict().items())


@pytest.mark.parametrize("layers", [18, 50])
def test_every_tensor_of_dagans_depth_is_used(layers: int, in_tmp: Path) -> None:
    encoder = DepthEncoder(layers)
    decoder = DepthDecoder(encoder.channels)
    states = {part: made_up(f"dagan_depth_{part}{layers}") for part in ("encoder", "decoder")}
    # monodepth2's code writes the size that it was trained at beside the encoder's tensors
    torch.save({**states["encoder"], "height": 256, "width": 256, "use_stereo": False}, "encoder.pth")
    torch.save(states["decoder"], "depth.pth")
    load_depth(encoder, decoder, Path("encoder.pth"), Path("depth.pth"))
    for part, net in (("encoder", encoder), ("decoder", decoder)):
        held = sorted(float(value.double().sum()) for value in net.state_dict().values())
        assert held == sorted(float(value.double().sum()) for value in states[part].values())
    torch.save({**states["decoder"], "more": torch.zeros(1)}, "depth.pth")
    with pytest.raises(UserError, match=r"depth.pth: .*1 left over \(depth_decoder.more\)"):
        load_depth(encoder, decoder, Path("encoder.pth"), Path("depth.pth"))
    other = 68 - layers
    with pytest.raises(UserError, match=r"of another shape|missing"):
        assets.check(ASSETS[f"dagan-depth-encoder{other}"], Path("encoder.pth"))
    assets.check(ASSETS[f"dagan-depth-encoder{layers}"], Path("encoder.pth"))


def test_the_face_parser_has_the_official_tensors() -> None:
    assert {name: tuple(value.shape) for name, value in BiSeNet().state_dict().items()} == shapes("faceparsing_bisenet")


@pytest.mark.parametrize("name", ["fomm", "mraa", "dagan", pytest.param("facev2v", marks=pytest.mark.slow)])
def test_checkpoints_with_the_official_lists_pass_their_check(
    name: str, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = build(name)
    gaussians = dict(zip(method.to_official(method.state_dict()), method.state_dict().values(), strict=True))
    states: dict[str, dict[str, Tensor]] = {}
    for network in method.networks():
        listed = f"{name}_{network}"
        if network in method.optional:
            continue  # files of their own
        states[network] = {
            # Zeros without memory of their own; constants of the code are what they are.
            key: gaussians[f"{network}.{key}"] if key.endswith("down.weight") else torch.zeros(()).expand(shape)
            for key, shape in shapes(listed).items()
        }
    held: dict[str, object] = {**states, "epoch": 99, "optimizer_generator": {"state": {}}}
    monkeypatch.setattr("head3d.baselines.convert.read_checkpoint", lambda path: held)
    monkeypatch.setattr("head3d.baselines.convert.build", lambda name: method)
    asset = next(asset for asset in ASSETS.values() if asset.check[1:] == (name,))
    assets.check(asset, Path(asset.file))
    assert all(
        not value.any() for key, value in gaussians.items() if key.endswith("norm.weight") and "depth_" not in key
    )
    del next(iter(states.values()))[next(iter(next(iter(states.values()))))]
    with pytest.raises(UserError, match="1 missing"):
        assets.check(asset, Path(asset.file))


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
