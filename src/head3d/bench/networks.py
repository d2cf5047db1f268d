"""What each way of being fast brings: networks at the sizes of params.yaml, a plain and a fast way in turns.

Networks have random weights, so neither data nor trained models are needed.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torchvision.models import vgg16
from tqdm import tqdm

from head3d import baselines
from head3d.baselines.inference import for_inference
from head3d.baselines.method import Method
from head3d.bench.rows import Row, Work, in_turns
from head3d.compute import Compute
from head3d.geometry import Pose, box_blur, outside_flow, pose_from_euler
from head3d.losses import PerceptualLoss
from head3d.models.head3d import Canonical, freeze, recurrent_canonical, rigid_flow
from head3d.models.parsing import BiSeNet
from head3d.models.small_parser import SmallParser
from head3d.params import Params
from head3d.training.build.canonical import build_canonical
from head3d.training.build.fusion import build_fusion
from head3d.training.build.geometry import build_geometry, place_geometry

Pair = tuple[str, str, Work, str, Work]
FRAMES = 4  # driven at once
BATCH = 10  # driving frames of a baseline at once, as in evaluation


def rows(params: Params, rounds: int) -> Iterator[Row]:
    """Time each pair."""
    pairs = head3d_pairs(params) + baseline_pairs()
    for what, plain, slow, quick, fast in tqdm(pairs, desc="networks", unit="pair", disable=None, leave=False):
        plain_ms, fast_ms = in_turns(slow, fast, rounds)
        yield Row("networks", what, quick, fast_ms, "ms", plain, plain_ms)


def kind_of(compute: Compute) -> str:
    """Its type of numbers, as a row names it."""
    return str(compute.dtype).removeprefix("torch.")


def head3d_pairs(params: Params) -> list[Pair]:
    """Head3D at the sizes of params.yaml."""
    size, n = params.data.image_size, params.model.references
    whole, fast = Compute(torch.device("cpu"), torch.float32, channels_last=False), Compute.resolve(params.device)
    frames = torch.rand(2 * FRAMES, 3, size, size, device=fast.device)
    mask = torch.zeros(1, 1, size, size, device=fast.device)
    mask[..., size // 4 : -size // 4, size // 3 : -size // 3] = 1

    def step(compute: Compute) -> Work:
        network = compute.place(build_fusion(params)).train()
        compute.place(network.predictor)
        weights = {f"features.{k}": v for k, v in vgg16(weights=None).features.state_dict().items()}
        loss = compute.place(PerceptualLoss("vgg16", weights, tuple(params.fusion.perceptual_scales)))
        images = frames.to(compute.device)

        def run() -> None:
            network.zero_grad()
            fused = network(images, images.flip(0), images, torch.zeros_like(images[:, :2]))
            loss(fused.frame, images).backward()

        return run

    geometry = freeze(place_geometry(build_geometry(params), fast))
    recurrent, fusion = freeze(fast.place(build_canonical(params))), freeze(fast.place(build_fusion(params)))
    references, masks = frames[:n], mask.expand(n, -1, -1, -1)
    poses = pose_from_euler(torch.linspace(-10, 10, FRAMES)).to(fast.device)
    background = outside_flow(mask)

    @torch.inference_mode()
    def canonical() -> Canonical:
        prediction = geometry.predict(references * masks)
        return recurrent_canonical(geometry, recurrent, references * masks, masks, prediction, n)[0]

    @torch.inference_mode()
    def drive(head: Canonical, at: Pose, count: int) -> None:
        geometry.pose(frames[:count] * mask)
        each = head.repeat(count)
        rendered = geometry.render(each, at)
        flow = rigid_flow(geometry, each, rendered, poses[slice(0, 1)], background)
        fusion(rendered.image, frames[:count], frames[:count], flow, rendered.mask)

    kept = canonical()

    def every(makes: bool) -> None:
        for i in range(FRAMES):
            drive(canonical() if makes else kept, poses[slice(i, i + 1)], 1)

    parser = {c: freeze(c.place(BiSeNet())) for c in (whole, fast)}

    @torch.inference_mode()
    def parse(compute: Compute, side: int) -> None:
        parser[compute](torch.rand(FRAMES, 3, side, side, device=compute.device))

    small = SmallParser(params.parser.input_size, params.parser.width).prepare_for_inference(fast)
    crops = frames[:FRAMES]

    blurred = torch.rand(10, 2, size, size)
    return [
        ("stage 3, a training step on 8 frames", "float32", step(whole), f"{kind_of(fast)}, channels last", step(fast)),
        (f"face parsing, {FRAMES} frames", "512 px, float32", lambda: parse(whole, 512),
         f"{params.parse.input_size} px, {kind_of(fast)}", lambda: parse(fast, params.parse.input_size)),
        (f"face parsing, {FRAMES} frames", f"{params.parse.input_size} px, {kind_of(fast)}",
         lambda: parse(fast, params.parse.input_size), f"small parser, {kind_of(fast)}", lambda: small.masks(crops)),
        (f"driving {FRAMES} frames", "canonical head made every frame", lambda: every(True), "made once",
         lambda: every(False)),
        (f"driving {FRAMES} frames", "one by one", lambda: every(False), "together",
         lambda: drive(kept, poses, FRAMES)),
        ("blur of 17 pixels", "one pass", lambda: F.avg_pool2d(blurred, 17, 1, 8), "two passes",
         lambda: box_blur(blurred, 17)),
    ]  # fmt: skip


def baseline_pairs() -> list[Pair]:
    """The baselines at the sizes of their papers, 128x128: float32 frame by frame against the fast copy in batches."""
    pairs: list[Pair] = []
    compute = Compute.resolve("cpu")  # as in evaluation: bfloat16 that is only emulated has no end
    source, driving = torch.rand(1, 3, 128, 128), torch.rand(BATCH, 3, 128, 128)
    for name in baselines.NAMES:
        plain = baselines.build(name)
        quick = for_inference(plain, compute.dtype)
        of_plain, of_quick = plain.prepare(source), quick.prepare(source)

        def slow(method: Method = plain, state: object = of_plain) -> None:
            for frame in driving:
                method.drive(state, frame[None])

        def fast(method: Method = quick, state: object = of_quick) -> None:
            method.drive(state, driving)

        pairs.append(
            (f"{name}, driving {BATCH} frames", "float32, one by one", slow, f"{kind_of(compute)}, together", fast)
        )
    return pairs
