"""Sentences that stand under every table: scale, what is measured, and where this scale leaves the paper."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any

from head3d.report.names import plain

if TYPE_CHECKING:
    from head3d.params import Params

MEANING = (
    "mse_01 is the mean squared error of full frames with RGB in [0, 1]; mse_pm1 is the same in [-1, 1], four times "
    "that. lpips_alex is LPIPS 0.1 with AlexNet. Lower is better."
)
PROTOCOL = (
    "Self-reconstruction: the first half of a clip is the subject video, the second half drives and is the truth. "
    "Draws of the reference frames are averaged within a clip, then clips are averaged; low and high bound the 95 % "
    "bootstrap interval over clips. Clips of one video or person resemble each other, so the intervals are narrower "
    "than they would be over people."
)
PAPER = (
    "paper_l2 and paper_lpips are the paper's printed numbers on its own data (named in paper_dataset): for "
    "orientation, not for comparison."
)
CROSS = (
    "The whole clip of one person drives the first half of another's clip, the same pairs for every method, with "
    "{motion} motion where a method knows the difference; nobody knows the right picture. "
    "{laid}Each pair has one number, then pairs are averaged; brackets (in the CSV low and high) bound the 95 % "
    "bootstrap interval over pairs, which share people and are no independent draws. "
    "identity_mobilefacenet: cosine of face embeddings against the mean of the subject video; higher is better. "
    "yaw, pitch and roll_error_deg_dlib68: mean absolute difference in degrees between the changes, since the first "
    "frame, of the result's and the driver's head pose, fitted to landmarks (Head3D's pose network, which also teaches "
    "FaceV2V, learnt from poses fitted by the same detector, which may favour both). "
    "expression_error_dlib68: root mean square difference between those changes of brows, eyes and mouth, the pose "
    "taken out, in percent of the distance of the outer corners of the eyes. "
    "jitter_dlib68: trembling of the landmarks, root mean square, in the same unit; a still video has none, the "
    "driving video shows what its motion and the detector bring along. "
    "ghosts_bisenet: head pixels beside the rendered head, in percent of its area, of methods that render one. "
    "no_face_dlib: share of the frames in which no face was found; no other measure knows those. "
    "A pair in which a measure found no frame at all is not in its mean: (k of n) says how many pairs are. "
    "Of identity more is better, of jitter what the driving video has, of all others less. "
    "docs/metrics.md defines each (version 3)."
)
LAID = (
    "Head3D lays the driver's face on the subject's by landmarks of one picture of each, dlib's as those of the "
    "measures below; the paper leaves that to the poses. "
)
BLOCKS, RANGE_M = (3, 6), 0.1  # where the paper leaves the choice to us: no deviation, another value is one
SCALES = (1.0, 0.5, 0.25, 0.125)  # of FOMM's pyramid, which the perceptual loss of [39] is
FEW = 10  # below this many clips a bootstrap interval covers less than it says
SMOKE = "Smoke scale: the numbers only prove that the pipeline runs. They are meaningless."


def deviations(params: Params, stages: tuple[int, ...] = (1, 2, 3)) -> list[str]:
    """What this scale does otherwise than the paper in the named stages, in words; empty when nothing."""
    model, geometry, fusion = params.model, params.geometry, params.fusion
    depth, net = model.depth, model.fusion
    narrow = model.canonical.width < 64 or net.width < 64 or net.flow_width < 64 or net.flow_max < 1024
    narrow = narrow or depth.encoder_width < 1 or depth.decoder_width < 0.6
    blocks = (model.canonical.blocks, net.blocks)
    camera = (params.camera.fov_deg, params.camera.distance_m)
    batches = (geometry.batch_size, params.canonical.batch_size, fusion.batch_size)
    weights = (geometry.symmetry, geometry.smoothness)
    known = [
        (2, model.canonical.residual, "canonical head as a residual on the mean canonical head"),
        (3, model.fusion.image_skip, "image skip in fusion, images sampled bicubically"),
        (2, True, "stage 2 renders its canonical head with the depth of the mean one"),
        (3, model.fusion.rigid_flow, "the reference's flow starts from the head's rigid motion"),
        (3, model.fusion.matching, f"Φ starts from an explicit matching, {_taught(params)}"),
        (3, model.fusion.masked_attention, "no attention to the rendered head where it is black"),
        (3, model.fusion.flow_scale != 0.25, f"Φ works at {model.fusion.flow_scale:g} of the resolution, not 0.25"),
        (1, params.data.clips_per_video > 1, f"up to {params.data.clips_per_video} clips of a video, not one"),
        (
            1,
            params.data.seen_fraction > 0,
            f"the last {params.data.seen_fraction:.0%} of training videos for tests",
        ),
        (1, params.data.clip_length != 40, f"clips of {params.data.clip_length} frames, not 40"),
        (1, params.data.fps is not None, f"videos sampled at {params.data.fps or 0:g} frames a second"),
        (1, params.data.image_size != 128, f"frames of {params.data.image_size} pixels, not 128"),
        (1, params.parse.input_size != 512, f"faces parsed at {params.parse.input_size} pixels, not 512"),
        (1, params.parse.rim > 0, "a rim of background taken off the head masks"),
        (1, model.references != 5, f"{model.references} reference frames in training, not 5"),
        (1, geometry.pose_hold > 0, f"poses held to landmark poses (weight {geometry.pose_hold:g})"),
        (1, geometry.area_normalised, "symmetry and smoothness divided by the head's area"),
        (1, weights != (0.1, 0.1), f"weights of symmetry and smoothness {weights[0]:g} and {weights[1]:g}, not 0.1"),
        (1, True, "depth counts in units of its range in the smoothness loss"),
        (1, True, "F_P's translation starts from where and how large the head mask is"),
        (1, geometry.holds_statistics, "batch statistics of F_D and F_P held in stage 1"),
        (1, True, "the mean canonical head averages only the references that see a pixel"),
        (2, True, "the ConvLSTM is told which pixels a reference sees"),
        (2, True, "the canonical head is black where the mean one is"),
        (2, True, "pre-activation residual blocks, nearest-neighbour upsampling in the decoders"),
        (3, True, "residual blocks of stage 3 on the bottleneck path only"),
        (3, True, "the perceptual loss's pyramid averages areas"),
        (1, bool(norms := _norms(params, stages)), f"gradients clipped to norms of {norms}"),
        (1, geometry.lr_decay == "cosine", "cosine learning-rate decay in stage 1"),
        (3, fusion.lr_decay != "constant", f"{fusion.lr_decay} learning-rate decay in stage 3"),
        (3, fusion.driving_jitter > 0, f"colour jitter of the driving frame that Φ sees ({fusion.driving_jitter:g})"),
        (1, params.augment.flip, "clips mirrored at random"),
        (1, params.augment.color > 0, f"colour jitter of clips ({params.augment.color:g})"),
        (1, params.augment.similarity > 0, f"similarity augmentation of clips ({params.augment.similarity:g})"),
        (3, fusion.pixel_weight > 0, f"L1 term beside the perceptual loss (weight {fusion.pixel_weight:g})"),
        (3, fusion.perceptual != "vgg19", f"perceptual loss on {fusion.perceptual.upper()} instead of VGG19"),
        (3, fusion.perceptual_scales != SCALES, f"perceptual loss at {_scales(fusion.perceptual_scales)}"),
        (3, fusion.perceptual_weight != 10, f"weight of the perceptual loss {fusion.perceptual_weight:g}, not 10"),
        (3, fusion.equivariance != 10, f"weight of the equivariance loss {fusion.equivariance:g}, not 10"),
        (1, model.pose.backbone != "resnet50", f"pose network on {_backbone(model.pose.backbone)}, not ResNet-50"),
        (1, narrow, "narrower networks"),
        (2, blocks != BLOCKS, f"{blocks[0]} and {blocks[1]} residual blocks in stages 2 and 3"),
        (1, camera != (10, 1), f"a camera of {camera[0]:g} degrees at {camera[1]:g} m, not 10 at 1"),
        (1, depth.range_m != RANGE_M, f"depth within ±{depth.range_m:g} m, not {RANGE_M:g}"),
        (1, set(batches) != {5}, f"{', '.join(map(str, batches))} videos a step in stages 1 to 3, not 5"),
        (1, model.pose.input_size != 224, f"the pose network sees {model.pose.input_size} pixels, not 224"),
        (1, geometry.warm_start == "none", "stage 1 started from nothing"),
        (1, geometry.warm_start == "generic", _generic_start(geometry.warm_steps)),
        (
            1,
            geometry.warm_start == "official" and geometry.warm_steps > 0,
            f"{geometry.warm_steps} steps on landmark poses and a smooth generic head for what official weights lack",
        ),
        (1, geometry.warmup_steps > 0, f"learning rates of stage 1 rise over {geometry.warmup_steps} steps"),
        (3, fusion.warmup_steps > 0, f"the learning rate of stage 3 rises over {fusion.warmup_steps} steps"),
        (1, geometry.drivings > 1, f"{geometry.drivings} driving frames a video and step in stage 1"),
        (3, fusion.drivings > 1, f"{fusion.drivings} driving frames a video and step in stage 3"),
        (3, fusion.reference_draws > 0, f"references drawn afresh for {fusion.reference_draws} epochs of stage 3"),
    ]
    found = [text for stage, on, text in known if on and stage in stages]
    return found + _schedules(params, stages)


def _generic_start(steps: int) -> str:
    """What stage 1 starts from without official weights, in words."""
    taught = "landmark poses and a smooth generic head" if steps > 0 else "a face parser's ResNet"
    return f"stage 1 started from {taught}"


def _norms(params: Params, stages: tuple[int, ...]) -> str:
    """What gradients of the named stages are clipped to, in words; empty where none are."""
    norms = {1: params.geometry.clip_norm, 2: params.canonical.clip_norm, 3: params.fusion.clip_norm}
    return ", ".join(f"{norm:g} in stage {stage}" for stage in stages if (norm := norms[stage]) is not None)


def _scales(scales: tuple[float, ...]) -> str:
    """The pyramid of a perceptual loss in words."""
    if len(scales) == len(SCALES):
        ours, theirs = (", ".join(f"{scale:g}" for scale in one) for one in (scales, SCALES))
        return f"scales {ours}, not {theirs}"
    return f"{len(scales)} scale{'s' * (len(scales) > 1)}, not {len(SCALES)}"


def _taught(params: Params) -> str:
    """Whether the matcher is taught before stage 3, and what it learns from."""
    if params.matching.steps == 0:
        return "not taught beforehand"
    by_landmarks = " and on landmarks of training clips (dlib's, as the expression error's are)"
    with_pairs = params.matching.pairs > 0 and params.matching.pair_weight > 0
    return f"taught beforehand for {params.matching.steps} steps on made-up motions{by_landmarks * with_pairs}"


def _schedules(params: Params, stages: tuple[int, ...]) -> list[str]:
    """One entry for all stages that run with other epochs or learning rates than the paper."""
    geometry, canonical, fusion = params.geometry, params.canonical, params.fusion
    same = {
        1: (geometry.epochs, geometry.depth_lr, geometry.pose_lr) == (10, 2e-4, 2e-5)
        and (geometry.lr_decay == "cosine" or geometry.lr_drop_epoch == 5),
        2: (canonical.epochs, canonical.lr, canonical.lr_drop_epoch) == (20, 2e-4, 10),
        3: (fusion.epochs, fusion.lr) == (50, 2e-4),
    }
    changed = [str(stage) for stage in stages if not same[stage]]
    return [f"other epochs or learning rates in stage {', '.join(changed)}"] if changed else []


def scale_sentence(params: Params, stages: tuple[int, ...] = (1, 2, 3)) -> str:
    """The scale and its deviations in the named stages, one or two sentences."""
    found = deviations(params, stages)
    where = f"Deviations from the paper: {'; '.join(found)}." if found else "No deviation from the paper is on."
    return f"Scale: {params.scale}. {where}"


def scale_pointer(params: Params, section: str) -> str:
    """The scale, and where on the same page its deviations are listed."""
    count = len(deviations(params))
    where = f"Its {count} deviations from the paper are listed under “{section}”." if count else ""
    return f"Scale: {params.scale}. {where}".strip()


def clips_sentence(clips: dict[str, int]) -> str:
    """Number of clips of each test set, {test set: clips}."""
    return "Clips: " + ", ".join(f"{name} {count}" for name, count in clips.items()) + "."


def baselines_sentence(params: Params) -> str:
    """What the compared methods are, how long each was trained against Head3D, and what replaces their teachers."""
    section, fusion = params.baseline, params.fusion
    ours = (fusion.epochs * fusion.drivings, fusion.batch_size * fusion.drivings)
    theirs = {
        name: (getattr(section, name).epochs * section.training.repeats, getattr(section, name).batch_size)
        for name in params.baselines
    }
    matched = params.model.fusion.matching and params.matching.steps > 0
    least, step = min(theirs.values(), default=ours)
    people = section.training.id_sampling
    pace = {(getattr(section, name).lr, section.training.lr_decay) for name in params.baselines}
    alike = set(theirs.values()) == {(least, step)} and step == ours[1] and pace == {(fusion.lr, fusion.lr_decay)}
    if alike and least >= ours[0] and not people:
        more = "as many" if least == ours[0] else f"{least / ours[0]:g} times as many"
        budget = (
            f"Budget: every baseline learns from {least} driving frames a training clip, {step} a step, which is "
            f"{100 * least / step:g} optimiser steps a hundred clips, with the augmentation and the learning rate of "
            f"stage 3 of Head3D. Stage 3 learns from {ours[0]}: the baselines have {more} for the same transfer, as "
            "Head3D's stages 1 and 2 come before and have no counterpart in them, whose networks of motion start "
            "untrained." + f" Head3D's matcher is {_taught(params)}, which comes before it too." * matched
        )
    else:
        each = ", ".join(f"{plain(name, 0)} {frames} ({batch})" for name, (frames, batch) in theirs.items())
        budget = (
            "Budgets differ, each method trains as its section of params.yaml says. Driving frames a training clip (a "
            f"step): stage 3 of Head3D {ours[0]} ({ours[1]}), {each}."
            + " The baselines' numbers are per person, not per clip: their passes go over people."
            * people
        )
    changed = [
        (section.training.perceptual != "vgg19", f"perceptual loss on {section.training.perceptual.upper()}"),
        (section.training.perceptual_scales != SCALES, f"at {_scales(section.training.perceptual_scales)}"),
        (section.training.pixel_weight > 0, f"L1 term (weight {section.training.pixel_weight:g})"),
        (section.training.lr_decay != "step", f"{section.training.lr_decay} learning-rate decay"),
    ]
    found = [text for on, text in changed if on] + _not_official(params)
    found += [f"{plain(name, 0)}'s {text}" for name in params.baselines for text in getattr(section, name).replaced]
    text = "Every method moves the same reference frame of a draw, with absolute motion. "
    return f"{text}{budget}" + (f" Deviations of the baselines: {'; '.join(found)}." if found else "")


def _not_official(params: Params) -> list[str]:
    """Where numbers of the baselines' sections are not their authors', in words."""
    found, sizes = [], []
    schedules = False
    for name in params.baselines:
        settings = getattr(params.baseline, name)
        for key, official in settings.official.items():
            value = reduce(getattr, key.split("."), settings)
            part, _, last = key.rpartition(".")
            if value == official:
                continue
            schedules |= key in {"epochs", "lr"}
            if part == "network" or key == "discriminator_width":
                sizes.append(value < official)
            elif part:
                found.append(f"{plain(name, 0)}'s weight of {last} {value:g}, not {official:g}")
    if sizes:
        found.insert(0, "narrower networks" if all(sizes) else "networks of other sizes")
    return ["other epochs or learning rates"] * schedules + found


def table_caption(params: Params, clips: dict[str, int], which: str) -> str:
    """Whole caption of ``table1`` or ``table3``, without its title."""
    parts = [MEANING, PROTOCOL, clips_sentence(clips)]
    if min(clips.values(), default=0) < FEW:
        parts.append(f"An interval over fewer than {FEW} clips is a hint, not a proof.")
    if which == "table3":
        parts += row_notes(params)
    parts += [PAPER, scale_sentence(params)]
    if which == "table1" and params.baselines:
        parts.append(baselines_sentence(params))
    return with_smoke(params, " ".join(parts))


def row_notes(params: Params) -> list[str]:
    """What rows of Table 3 are that their names do not say."""
    found = []
    if params.animate.reference == "nearest":
        found.append(
            "s_ref is the first of the drawn reference frames, whatever N; where it is nearest in pose, it is the "
            "one of them that suits all driving frames best, where head3d animate goes by the first one."
        )
    follows = [
        (params.model.fusion.rigid_flow, "the rigid flow that Φ starts from"),
        (params.model.fusion.masked_attention, "the masked attention"),
    ]
    if "no_head" in params.variants and (lost := [text for on, text in follows if on]):
        found.append(f"The variant without the rendered head also lacks what follows from it: {' and '.join(lost)}.")
    return found


def cross_caption(params: Params, pairs: dict[str, int], scale: str | None = None) -> str:
    """Caption of the table of transfer between people, {test set: pairs}; sets of one person have no pair.

    ``scale`` stands where the scale and its deviations would.
    """
    counts = ", ".join(f"{name} {pairs.get(name, 0)}" for name in params.test_sets)
    few = f" An interval over fewer than {FEW} pairs is a hint, not a proof." * (min(pairs.values(), default=0) < FEW)
    laid = LAID if params.animate.motion == "relative" else ""
    unscaled = [one for name in params.baselines if (one := getattr(params.baseline, name)).unscaled]
    if params.animate.motion == "relative" and unscaled:
        titles = ", ".join(one.title for one in unscaled)
        laid += f"As their authors' configuration files have it, motion is not scaled to the subject by {titles}. "
    if params.animate.motion == "relative" and "mraa" in params.baselines:
        less = ", whose network was trained for less than its authors'" * params.baseline.mraa.avd_is_short
        laid += f"MRAA moves as its authors animate, by disentanglement (AVD){less}. "
    text = f"{CROSS.format(motion=params.animate.motion, laid=laid)} Pairs: {counts}.{few} "
    text += scale or scale_sentence(params)
    return with_smoke(params, text)


def parser(params: Params) -> str:
    """What the table of the small parser holds."""
    return with_smoke(
        params,
        "Head masks of the small parser (head3d animate --parser small) against those of the face parser, both cut at "
        "a half: intersection over union of each frame, its mean, its 5 % quantile and its worst, and how much larger "
        "or smaller all heads are. Both are shown the head upright and enlarged, the small one at "
        f"{params.parser.input_size} pixels instead of {params.parse.input_size}, by the clips' landmarks in one "
        f"frame of {params.data.crop.detect_every}, much as by head3d animate. It was taught on the training clips for "
        f"{params.parser.steps} steps.",
    )


def origin_sentences(trained: Mapping[str, Any]) -> str:
    """Which weights and clips the numbers come from, as far as ``metrics/train_geometry.json`` says so."""
    used, digest = str(trained.get("pretrained", "none")), str(trained.get("data", ""))
    started = f" Pretrained in stage 1: {used}." if used != "none" else ""
    return started + (f" All clips together: SHA-256 {digest[:16]} (first 16 digits)." if digest else "")


def with_smoke(params: Params, text: str) -> str:
    """``text`` behind a warning if the scale is smoke."""
    return f"{SMOKE} {text}" if params.scale == "smoke" else text


def _backbone(name: str) -> str:
    return name.replace("resnet", "ResNet-")
