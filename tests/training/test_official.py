"""Official weights, made up with the names and shapes of the official lists, through the loaders into our networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from made_up_weights import made_up, shapes
from torch import Tensor, nn
from torchvision import models as zoo

from head3d.assets import cache as assets
from head3d.assets.catalogue import ASSETS
from head3d.baselines import build
from head3d.baselines.dagan.depth import DepthDecoder, DepthEncoder
from head3d.baselines.dagan.official import load_depth
from head3d.errors import UserError
from head3d.models.blocks import imagenet
from head3d.models.depth import DepthNet
from head3d.models.parsing import BiSeNet
from head3d.models.pose import BIN_DEG, PoseNet
from head3d.training import official

HEADS = ("fc_yaw", "fc_pitch", "fc_roll")


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
