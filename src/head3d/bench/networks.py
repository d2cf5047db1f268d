"""What each way of being fast brings: networks at the sizes of params.yaml, a plain and a fast way in turns.

Networks have random weights, so neither data nor trained models are needed.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torchvision.models import vgg16
from tqdm import tqdm

from head3d import baselines
from head3d.baselines.inference import for_inference
from head3d.baselines.method import Method
from head3d.bench.rows import Row, Work, compute_of, in_turns
from head3d.compute import Compute
from head3d.geometry import Pose, box_blur, outside_flow, pose_from_euler
from head3d.losses import PerceptualLoss
from head3d.models.fast import prepare_for_inference
from head3d.models.head3d import Canonical, freeze, recurrent_canonical, rigid_flow
from head3d.models.parsing import BiSeNet
from head3d.models.small_parser import SmallParser
from head3d.params import Params
from head3d.training.build.canonical import build_canonical
from head3d.training.build.fusion import build_fusion
from head3d.training.build.geometry import build_geometry, place_geometry

Pair = tuple[str, str, Work, str, Work]  # what is done; the plain way and its work; the fast way and its work
FRAMES = 4  # driven at once
BATCH = 10  # driving frames of a baseline at once, as in evaluation


def rows(params: Params, rounds: int) -> Iterator[Row]:
    """Time each pair, both ways on one device: a ratio tells of the way and of nothing else."""
    fast = compute_of(params)
    plain = Compute(fast.device, torch.float32, channels_last=False)
    pairs = [(pair, params.scale) for pair in head3d_pairs(params, plain, fast)]
    pairs += [(pair, "") for pair in baseline_pairs(fast)]  # at their papers' sizes, whatever the scale
    for pair, scale in tqdm(pairs, desc="networks", unit="pair", disable=None, leave=False):
        what, plain_way, slow, fast_way, quick = pair
        plain_ms, fast_ms = in_turns(slow, quick, rounds)
        yield Row("networks", what, fast_way, fast_ms, "ms", plain_way, plain_ms, scale=scale, on=fast)


def kind_of(compute: Compute) -> str:
    """Its type of numbers, as a row names it."""
    return str(compute.dtype).removeprefix("torch.")


def head3d_pairs(params: Params, plain: Compute, fast: Compute) -> list[Pair]:
    """Head3D at the sizes of params.yaml."""
    what = f"stage 3, a training step on {2 * FRAMES} frames"
    return [
        (what, "float32", training_step(params, plain), f"{kind_of(fast)}, channels last", training_step(params, fast)),
        *parsing_pairs(params, plain, fast),
        *driving_pairs(params, fast),
        blur_pair(params, fast.device),
    ]


def training_step(params: Params, compute: Compute) -> Work:
    """Forward and backward through fusion and the perceptual loss, without the heads' rendering before it."""
    size = params.data.image_size
    network = compute.place(build_fusion(params)).train()
    compute.place(network.predictor)
    weights = {f"features.{k}": v for k, v in vgg16(weights=None).features.state_dict().items()}
    loss = compute.place(PerceptualLoss("vgg16", weights, tuple(params.fusion.perceptual_scales)))
    images = torch.rand(2 * FRAMES, 3, size, size, device=compute.device)

    def step() -> None:
        network.zero_grad()
        fused = network(images, images.flip(0), images, torch.zeros_like(images[:, :2]))
        loss(fused.frame, images).backward()

    return step


def parsing_pairs(params: Params, plain: Compute, fast: Compute) -> list[Pair]:
    """The face parser at its own size and at that of params.yaml, and the small parser."""
    side = params.parse.input_size
    parser = {compute: compute.place(freeze(BiSeNet())) for compute in (plain, fast)}
    small = SmallParser(params.parser.input_size, params.parser.width).prepare_for_inference(fast)
    views = torch.rand(FRAMES, 3, params.parser.input_size, params.parser.input_size, device=fast.device)

    @torch.inference_mode()
    def parse(compute: Compute, side: int) -> None:
        parser[compute](torch.rand(FRAMES, 3, side, side, device=compute.device))

    what, smaller = f"face parsing, {FRAMES} frames", f"{side} px, {kind_of(fast)}"
    return [
        (what, "512 px, float32", lambda: parse(plain, 512), smaller, lambda: parse(fast, side)),
        (what, smaller, lambda: parse(fast, side), f"small parser, {kind_of(fast)}", lambda: small.heads(views)),
    ]


class Driving:
    """Untrained Head3D, and frames of noise with a head in their middles.

    Args:
        params: sizes.
        compute: where it runs.
    """

    def __init__(self, params: Params, compute: Compute) -> None:
        size, self.n = params.data.image_size, params.model.references
        self.geometry = place_geometry(freeze(build_geometry(params)), compute)
        self.recurrent = compute.place(freeze(build_canonical(params)))
        self.fusion = compute.place(prepare_for_inference(freeze(build_fusion(params))))
        self.frames = torch.rand(max(FRAMES, self.n), 3, size, size, device=compute.device)
        self.mask = torch.zeros(1, 1, size, size, device=compute.device)
        self.mask[..., size // 4 : -size // 4, size // 3 : -size // 3] = 1
        self.background = outside_flow(self.mask)
        self.poses = pose_from_euler(torch.linspace(-10, 10, FRAMES)).to(compute.device)

    @torch.inference_mode()
    def canonical(self) -> Canonical:
        """The canonical head of the references."""
        references, masks = self.frames[: self.n] * self.mask, self.mask.expand(self.n, -1, -1, -1)
        prediction = self.geometry.predict(references)
        return recurrent_canonical(self.geometry, self.recurrent, references, masks, prediction, self.n)[0]

    @torch.inference_mode()
    def drive(self, head: Canonical, poses: Pose) -> None:
        """As many frames as there are poses, together."""
        frames = self.frames[: len(poses)]
        self.geometry.pose(frames * self.mask)
        each = head.repeat(len(poses))
        rendered = self.geometry.render(each, poses)
        flow = rigid_flow(self.geometry, each, rendered, self.poses[:1], self.background)
        self.fusion(rendered.image, self.frames[:1], frames, flow, rendered.mask)

    def one_by_one(self, head: Callable[[], Canonical]) -> None:
        """Every frame alone, with the head that is asked for before it."""
        for i in range(FRAMES):
            self.drive(head(), self.poses[slice(i, i + 1)])


def driving_pairs(params: Params, fast: Compute) -> list[Pair]:
    """What it brings to make the canonical head once, and to drive frames together."""
    driving = Driving(params, fast)
    kept, what = driving.canonical(), f"driving {FRAMES} frames"

    def anew() -> None:
        driving.one_by_one(driving.canonical)

    def one_by_one() -> None:
        driving.one_by_one(lambda: kept)

    return [
        (what, "canonical head made every frame", anew, "made once", one_by_one),
        (what, "one by one", one_by_one, "together", lambda: driving.drive(kept, driving.poses)),
    ]


def blur_pair(params: Params, device: torch.device) -> Pair:
    """A wide blur of flows."""
    flows = torch.rand(10, 2, params.data.image_size, params.data.image_size, device=device)
    return ("blur of 17 pixels", "pooling", lambda: F.avg_pool2d(flows, 17, 1, 8),
            "sums of sums", lambda: box_blur(flows, 17))  # fmt: skip


def baseline_pairs(fast: Compute) -> list[Pair]:
    """The baselines at the sizes of their papers, 128x128: float32 frame by frame against the fast copy in batches."""
    pairs: list[Pair] = []
    source = torch.rand(1, 3, 128, 128, device=fast.device)
    driving = torch.rand(BATCH, 3, 128, 128, device=fast.device)
    for name in baselines.NAMES:
        plain = baselines.build(name).to(fast.device)
        quick = for_inference(plain, fast.dtype)
        of_plain, of_quick = plain.prepare(source), quick.prepare(source)

        def one_by_one(method: Method = plain, state: object = of_plain) -> None:
            for frame in driving:
                method.drive(state, frame[None])

        def together(method: Method = quick, state: object = of_quick) -> None:
            method.drive(state, driving)

        what = f"{name}, driving {BATCH} frames"
        pairs.append((what, "float32, one by one", one_by_one, f"{kind_of(fast)}, together", together))
    return pairs
