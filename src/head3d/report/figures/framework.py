"""Figure 2: the three stages as a drawing, with shapes read off the networks that ran and pictures that they made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from head3d.images import mask_tensor, to_frames, to_tensor
from head3d.models.matching import Matcher
from head3d.report.figures import pictures
from head3d.report.figures.sheet import DPI, STYLE

if TYPE_CHECKING:
    from head3d.api import Head3D, Transfer
    from head3d.params import Params
    from head3d.report.figures.people import Example

WIDE, HIGH = 13.4, 8.6  # of the drawing, inches
BOX = (1.55, 0.82)
PICTURE = 0.8  # side
STAGES = ((7.1, "Stage 1: geometry"), (4.45, "Stage 2: canonical head"), (1.75, "Stage 3: fusion"))
ARROW = {"arrowstyle": "-|>", "color": "#444444", "lw": 0.9, "shrinkA": 2, "shrinkB": 2}
TONES = ("#e8f0fb", "#fdf0d8", "#e4f4ec")  # of the boxes of each stage


@dataclass
class Seen:
    """What a network was given and what it answered, without the batch.

    Attributes:
        given: shape of its first tensor.
        answered: shapes of all tensors of its answer.
        size: number of its parameters.
    """

    given: tuple[int, ...]
    answered: list[tuple[int, ...]]
    size: int

    def words(self) -> str:
        """Shapes, on two lines where there are several answers, and parameters."""
        gap = " " if len(self.answered) == 1 else "\n"
        shapes = f"{cross(self.given)} →{gap}{', '.join(map(cross, self.answered))}"
        return f"{shapes}\n{readable(self.size)} parameters"


def cross(shape: tuple[int, ...]) -> str:
    """A shape as 3×128×128."""
    return "×".join(map(str, shape))


def readable(count: int) -> str:
    """A number of parameters: 120, 12 k, 3.4 M."""
    if count < 1000:
        return str(count)
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.0f} k"


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors of an answer: a tensor, a sequence, or an object with tensors for attributes."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from tensors(one)
    elif hasattr(value, "__dict__"):
        yield from tensors(list(vars(value).values()))


@contextmanager
def watched(networks: dict[str, nn.Module], sizes: dict[str, int] | None = None) -> Iterator[dict[str, Seen]]:
    """What each network sees and says the first time that it runs within the context.

    Args:
        networks: by name.
        sizes: numbers of their parameters, where these networks have others than their training had.
    """
    seen: dict[str, Seen] = {}
    sizes = sizes_of(networks) if sizes is None else sizes

    def note(name: str, network: nn.Module, given: tuple[Any, ...], answered: Any) -> None:
        shapes = [tuple(one.shape[1:]) for one in tensors(answered)]
        seen.setdefault(name, Seen(tuple(next(tensors(given)).shape[1:]), shapes, sizes[name]))

    def watch(name: str, network: nn.Module) -> Callable[[], None]:
        if not isinstance(network, Matcher):
            return network.register_forward_hook(lambda *ran: note(name, *ran)).remove
        plain = network.flow  # the fusion network asks for it past ``forward``, whose hooks hear nothing

        def flow(source: Tensor, target: Tensor) -> Tensor:
            found = plain(source, target)
            note(name, network, (source,), found)
            return found

        network.flow = flow
        return lambda: setattr(network, "flow", plain)

    with ExitStack() as undo:
        for name, network in networks.items():
            undo.callback(watch(name, network))
        yield seen


def sizes_of(networks: dict[str, nn.Module]) -> dict[str, int]:
    """Number of parameters of each."""
    return {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}


def training_sizes(model: Head3D) -> dict[str, int]:
    """Numbers of parameters that are trained; of a loaded model the fusion network is prepared for inference."""
    from head3d.api import Head3D
    from head3d.training.build.canonical import build_canonical
    from head3d.training.build.fusion import build_fusion
    from head3d.training.build.geometry import build_geometry

    params = model.params
    networks = build_geometry(params), build_canonical(params), build_fusion(params)
    return sizes_of(networks_of(Head3D(*networks, params, model.compute)))


def networks_of(model: Head3D) -> dict[str, nn.Module]:
    """The networks of the drawing by the paper's letters."""
    recurrent, fusion = model.canonical_net, model.fusion
    assert recurrent is not None and fusion is not None
    found: dict[str, nn.Module | None] = {
        "F_D": model.geometry.depth,
        "F_P": model.geometry.pose,
        "E_H": recurrent.encoder,
        "Λ": recurrent.recurrence,
        "Ω_H": recurrent.decoder,
        "E_F": fusion.encoder,
        "matcher": fusion.matcher,
        "Φ": fusion.predictor,
        "e_dec": fusion.bottleneck,
        "Ω_F": fusion.decoder,
    }
    return {name: network for name, network in found.items() if network is not None}


class Drawing:
    """Boxes, pictures and arrows; places are centres, in inches from the lower left."""

    def __init__(self, axes: Any) -> None:
        self.axes = axes
        self.halves: dict[str, tuple[float, float, float]] = {}  # name -> x, y, half its width

    def box(self, name: str, at: tuple[float, float], title: str, text: str, tone: str) -> None:
        """A network or a step."""
        from matplotlib.patches import FancyBboxPatch

        (x, y), (w, h) = at, BOX
        corner = (x - w / 2 + 0.06, y - h / 2 + 0.06)
        shape = FancyBboxPatch(corner, w - 0.12, h - 0.12, "round,pad=0.06", fc=tone, ec="#444444", lw=0.8)
        self.axes.add_patch(shape)
        lines = text.count("\n") + 1
        self.axes.text(x, y + 0.05 + 0.06 * lines, title, ha="center", va="center", fontsize=8.5, weight="bold")
        self.axes.text(x, y - 0.12, text, ha="center", va="center", fontsize=6, linespacing=1.3)
        self.halves[name] = (x, y, w / 2)

    def picture(self, name: str, at: tuple[float, float], image: np.ndarray, title: str) -> None:
        """A picture with its name below."""
        x, y = at
        half = PICTURE / 2
        self.axes.imshow(image, extent=(x - half, x + half, y - half, y + half), interpolation="bilinear", zorder=3)
        self.axes.text(x, y - half - 0.05, title, ha="center", va="top", fontsize=7)
        self.halves[name] = (x, y, half)

    def arrows(self, *pairs: tuple[str, str]) -> None:
        """From the right of one thing to the left of another."""
        for start, end in pairs:
            (x1, y1, w1), (x2, y2, w2) = self.halves[start], self.halves[end]
            self.axes.annotate("", (x2 - w2, y2), (x1 + w1, y1), arrowprops=ARROW, zorder=1)

    def rise(self, start: str, end: str) -> None:
        """An arrow from the top of one box to the bottom of another."""
        (x1, y1, _), (x2, y2, _) = self.halves[start], self.halves[end]
        self.axes.annotate("", (x2, y2 - BOX[1] / 2), (x1, y1 + BOX[1] / 2), arrowprops=ARROW, zorder=1)


@torch.inference_mode()
def framework_figure(model: Head3D, example: Example, params: Params):
    """The figure, for one person whose clip's second half drives."""
    import matplotlib
    from matplotlib.figure import Figure

    half, last = example.half, len(example.frames) - 1
    frames, masks = to_tensor(example.frames), mask_tensor(example.masks)
    with watched(networks_of(model), training_sizes(model)) as seen:
        count = min(params.model.references, half)
        subject = model.subject(frames[:half], masks[:half], references=count, seed=params.seed)
        depth = model.geometry.predict(subject.references[:1] * subject.masks[:1]).depth
        moved = model.animate(example.subject, frames[last:], masks[last:])
    heads = to_frames(subject.references * subject.masks)

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDE, HIGH), dpi=DPI)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        drawing = Drawing(axes)
        for y, title in STAGES:
            axes.text(0.25, y + 1.32, title, fontsize=10, weight="bold")
        drawn = depth_of(depth, subject.masks[:1], params)
        draw_geometry(drawing, seen, heads, drawn, to_frames(subject.mean_canonical)[0])
        draw_canonical(drawing, seen, heads, to_frames(subject.canonical)[0])
        draw_fusion(drawing, seen, example, moved)
        axes.set_xlim(0, WIDE)
        axes.set_ylim(0, HIGH)
    return figure


def depth_of(depth: Tensor, mask: Tensor, params: Params) -> np.ndarray:
    """Depth (1, 1, H, W) of a head in metres, and its mask, as a picture, uint8 (H, W, 3)."""
    offset = (depth[0, 0] - params.camera.distance_m).float().cpu().numpy() * 100
    shown = mask[0, 0].float().cpu().numpy()
    inside = offset[shown > 0.5]
    low, high = (float(v) for v in np.percentile(inside, [1, 99])) if inside.size else (-10.0, 10.0)
    return pictures.depth_picture(offset, shown, low, high)


def draw_geometry(
    drawing: Drawing, seen: dict[str, Seen], heads: np.ndarray, depth: np.ndarray, mean: np.ndarray
) -> None:
    """Stage 1, from the reference heads (N, H, W, 3) to the mean canonical head."""
    y, tone = STAGES[0][0], TONES[0]
    drawing.picture("heads", (0.95, y), heads[0], f"x₁ … x_N, N = {len(heads)}")
    drawing.box("F_D", (3.2, y + 0.6), "F_D, depth", seen["F_D"].words(), tone)
    drawing.box("F_P", (3.2, y - 0.6), "F_P, pose", seen["F_P"].words(), tone)
    drawing.picture("depth", (5.3, y + 0.6), depth, "depth, near is bright")
    drawing.box("pose", (5.3, y - 0.6), "R, t", "rotation and translation\nof every frame", "white")
    drawing.box("eq1", (7.5, y), "to canonical", "points turned back and\nsplatted (Eq. 1), mean", "white")
    drawing.picture("mean", (9.6, y), mean, "mean canonical head x̄ᶜ")
    drawing.arrows(("heads", "F_D"), ("heads", "F_P"), ("F_D", "depth"), ("F_P", "pose"))
    drawing.arrows(("depth", "eq1"), ("pose", "eq1"), ("eq1", "mean"))


def draw_canonical(drawing: Drawing, seen: dict[str, Seen], heads: np.ndarray, canonical: np.ndarray) -> None:
    """Stage 2, from the reference heads (N, H, W, 3) to the canonical head."""
    y, tone = STAGES[1][0], TONES[1]
    drawing.picture("heads2", (0.95, y), heads[-1], "x₁ … x_N")
    drawing.box("E_H", (3.0, y), "E_H, encoder", seen["E_H"].words(), tone)
    drawing.box("eq5", (5.1, y), "carried", "features to canonical\nspace (Eq. 5)", "white")
    drawing.box("Λ", (7.2, y), "Λ, ConvLSTM", seen["Λ"].words(), tone)
    drawing.box("Ω_H", (9.3, y), "Ω_H, decoder", seen["Ω_H"].words(), tone)
    drawing.picture("canonical", (11.2, y), canonical, "canonical head x̂ᶜ")
    drawing.arrows(("heads2", "E_H"), ("E_H", "eq5"), ("eq5", "Λ"), ("Λ", "Ω_H"), ("Ω_H", "canonical"))


def draw_fusion(drawing: Drawing, seen: dict[str, Seen], example: Example, moved: Transfer) -> None:
    """Stage 3, from the rendered head, the reference and the driving frame to the output."""
    y, tone = STAGES[2][0], TONES[2]
    output = to_frames(moved.frames)[-1]
    share = pictures.attention_picture(moved.attention[-1, 0].float().cpu().numpy(), output)
    drawing.picture("rendered", (0.95, y + 0.62), to_frames(moved.head)[-1], "x̂_dri: x̂ᶜ rendered (Eq. 3)")
    drawing.picture("reference", (0.95, y - 0.53), to_frames(example.subject.reference)[0], "reference s_ref")
    drawing.picture("driving", (2.6, y - 1.08), example.frames[-1], "driving s_dri")
    drawing.box("E_F", (4.4, y + 0.62), "E_F, encoder", seen["E_F"].words(), tone)
    first = "matcher" if "matcher" in seen else "Φ"
    if first == "matcher":
        drawing.box("matcher", (4.4, y - 0.62), "matching", seen["matcher"].words(), tone)
    drawing.box("Φ", (6.5, y - 0.62), "Φ, flows, attention", seen["Φ"].words(), tone)
    drawing.box("eq7", (7.4, y + 0.62), "warp, weigh", "by two flows and three\nattention maps (Eq. 7)", "white")
    drawing.picture("share", (8.35, y - 0.62), share, "attention to x̂_dri")
    drawing.box("e_dec", (9.3, y + 0.62), "e_dec", seen["e_dec"].words(), tone)
    drawing.box("Ω_F", (11.0, y - 0.2), "Ω_F, decoder", seen["Ω_F"].words(), tone)
    drawing.picture("output", (12.75, y - 0.2), output, "output ŝ_dri")
    drawing.arrows(("rendered", "E_F"), ("reference", "E_F"), ("driving", first), ("reference", first))
    drawing.arrows(("E_F", "eq7"), ("Φ", "share"), ("eq7", "e_dec"), ("e_dec", "Ω_F"), ("Ω_F", "output"))
    if first == "matcher":
        drawing.arrows((first, "Φ"))
    drawing.rise("Φ", "eq7")
