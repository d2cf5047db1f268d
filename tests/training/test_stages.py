"""Every stage, on a made-up set: it trains, writes its outputs, and survives SIGKILL bit for bit."""

import csv
import gzip
import json
import random
import re
import shutil
import time
from importlib import import_module
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from safetensors.numpy import load_file

from forked import Forked
from head3d.baselines import NAMES
from head3d.compute import Compute
from head3d.data.store import COLUMNS, ClipRecord, ClipStore, write_records
from head3d.errors import UserError
from head3d.params import Params, load_params
from head3d.training import fusion
from head3d.training.batches import load_clips
from head3d.training.build.canonical import build_canonical
from head3d.training.build.geometry import build_geometry
from head3d.training.session import Session, open_session
from head3d.training.weights import load_weights, save_weights

SIZE, LENGTH, CLIPS = 64, 8, 4
ROOT = Path(__file__).resolve().parents[2]
STAGES = {
    "geometry": ("head3d.training.geometry", "models/geometry.safetensors"),
    "canonical": ("head3d.training.canonical", "models/canonical.safetensors"),
    "matching": ("head3d.training.matching", "models/matching.safetensors"),
    "parser": ("head3d.training.parser", "models/parser.safetensors"),
    "fusion": ("head3d.training.fusion", "models/fusion-full.safetensors"),
    **{f"baseline-{name}": ("head3d.training.baseline", f"models/baseline-{name}.safetensors") for name in NAMES},
}


def make_data(root: Path) -> None:
    """A few clips of a coloured disc that wanders, with landmarks on it."""
    draw = np.random.default_rng(0)
    (root / "clips/shard-0").mkdir(parents=True)
    (root / "masks").mkdir()
    frames = np.zeros((CLIPS, LENGTH, SIZE, SIZE, 3), np.uint8)
    masks = np.zeros((CLIPS, LENGTH, SIZE, SIZE), np.uint8)
    points = np.zeros((CLIPS, LENGTH, 68, 2), np.float32)
    y, x = np.mgrid[:SIZE, :SIZE]
    face = draw.uniform(-14, 14, (68, 2))
    for clip in range(CLIPS):
        colour = draw.integers(60, 255, 3)
        for frame in range(LENGTH):
            centre = 32 + 4 * np.sin(frame / 3 + clip), 32 + 2 * np.cos(frame / 2)
            inside = ((x - centre[0]) / 18) ** 2 + ((y - centre[1]) / 22) ** 2 < 1
            masks[clip, frame] = inside * 255
            stripes = (np.sin((x - centre[0]) / 3) * 40 + 128)[..., None] * colour / 255
            frames[clip, frame] = np.where(inside[..., None], stripes, 30)
            points[clip, frame] = face + centre
    np.save(root / "clips/shard-0/frames.npy", frames)
    np.save(root / "masks/shard-0.npy", masks)
    np.save(root / "clips/shard-0/landmarks.npy", points)
    common = {"shard": 0, "source": "mini", "video": "v", "person": "p", "start_frame": 0, "fps": 25.0,
              "x0": 0.0, "y0": 0.0, "x1": 1.0, "y1": 1.0, "status": "ok", "split": "train"}  # fmt: skip
    rows = [common | {"clip_id": f"c{i}", "row": i} for i in range(CLIPS)]
    write_records(root / "manifest.csv", [ClipRecord(**{k: r.get(k, "0" * 64) for k in COLUMNS}) for r in rows])


def shrink_baselines(section: dict) -> None:
    """The smoke scale's networks, trained for a few steps."""

    smoke = YAML(typ="safe").load((ROOT / "workflow/scales/smoke.yaml").read_text())["baseline"]
    section["training"] |= smoke["training"]
    for name in NAMES:
        section[name]["network"] |= smoke.get(name, {}).get("network", {})
        section[name] |= {"epochs": 12, "batch_size": CLIPS}
        if "discriminator_width" in section[name]:
            section[name]["discriminator_width"] = 4
    section["dagan"]["depth_steps"] = 4
    section["facev2v"]["pose_steps"] = 4
    # A hundred steps: enough of them that it is killed among them.
    section["mraa"] |= {"avd_epochs": 5, "avd_milestones": [3], "avd_repeats": 80, "avd_batch_size": 16, "avd_draws": 3}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("stages")
    furnish(place)
    return place


def furnish(place: Path) -> None:
    """Parameters, data, and untrained networks for a stage that is tested without those before it."""
    from ruamel.yaml import YAML

    from head3d.models.matching import Matcher

    values = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    values["scale"], values["device"] = "smoke", "cpu"
    values["data"] |= {"image_size": SIZE, "clip_length": LENGTH}
    model = values["model"]
    model["references"] = 2
    model["depth"] |= {"encoder_width": 0.25, "decoder_width": 0.1}
    model["pose"] |= {"input_size": SIZE}
    model["canonical"] |= {"width": 8, "blocks": 1}
    model["fusion"] |= {"width": 8, "blocks": 1, "flow_width": 8, "flow_max": 32, "flow_scale": 0.5}
    values["geometry"] |= {"warm_start": "generic", "warm_steps": 6, "warm_batch": 4, "epochs": 10, "batch_size": 4}
    values["geometry"] |= {"hold_batch": 4}
    values["canonical"] |= {"epochs": 16, "batch_size": 4}
    values["matching"] |= {"steps": 24, "batch_size": 4}
    values["parser"] |= {"input_size": 64, "width": 8, "steps": 12, "batch_size": 4}
    values["fusion"] |= {"epochs": 12, "batch_size": 4, "drivings": 1, "perceptual_scales": [1.0]}
    values["evaluate"] |= {"references": [1, 2]}
    shrink_baselines(values["baseline"])
    values["train"] |= {"checkpoint_every": 3, "log_every": 2}
    with (place / "params.yaml").open("w") as file:
        YAML().dump(values, file)
    make_data(place / "data")
    params = load_params(place / "params.yaml")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_weights(build_geometry(params), place / "models/geometry.safetensors", {})
        save_weights(build_canonical(params), place / "models/canonical.safetensors", {})
        save_weights(Matcher(), place / "models/matching.safetensors", {})


@pytest.fixture
def workplace(template: Path, tmp_path: Path) -> Path:
    """A test's own copy: with two workers nobody knows which tests ran before it in this process."""
    return Path(shutil.copytree(template, tmp_path / "stages"))


def weights(path: Path) -> dict[str, np.ndarray]:
    return load_file(path)


def start(place: Path, stage: str, environment: dict[str, str] | None = None) -> Forked:
    """The stage in a process of its own."""
    _, _, baseline = stage.partition("-")
    argument = f", {baseline!r}" if baseline else ""
    code = (
        f"from head3d.params import load_params; from {STAGES[stage][0]} import run; "
        f"import torch; torch.set_num_threads(1); run(load_params(){argument})"
    )
    return Forked(place, code, environment)


def finish(place: Path, stage: str, environment: dict[str, str] | None = None) -> None:
    process = start(place, stage, environment)
    output = process.end()
    assert process.returncode == 0, output[-2000:]


def test_without_a_warm_start_statistics_are_learnt(workplace: Path) -> None:
    """Batch normalisation keeps what a warm start has learnt; where nothing was, there is nothing to keep."""
    path = workplace / "params.yaml"
    values = YAML(typ="safe").load(path.read_text())
    values["geometry"] |= {"warm_start": "none", "epochs": 1}
    with path.open("w") as file:
        YAML().dump(values, file)
    finish(workplace, "geometry")
    means = [v for name, v in weights(workplace / "models/geometry.safetensors").items() if "running_mean" in name]
    assert means
    assert all(np.abs(mean).max() > 0 for mean in means)


def test_clips_of_another_size_than_the_parameters_say(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    params = load_params()
    assert len(load_clips(ClipStore(), "train", params))
    for changed in ({"clip_length": LENGTH + 2}, {"image_size": 2 * SIZE}):
        other = params.model_copy(update={"data": params.data.model_copy(update=changed)})
        with pytest.raises(UserError, match=f"clips of {LENGTH} frames of {SIZE}x{SIZE} pixels; allowed: what params"):
            load_clips(ClipStore(), "train", other)


def test_weights_are_as_open_to_others_as_any_file(workplace: Path) -> None:
    ordinary, path = workplace / "ordinary", workplace / "weights.safetensors"
    ordinary.touch()
    save_weights(torch.nn.Linear(2, 2), path, {})
    assert path.stat().st_mode == ordinary.stat().st_mode


def test_weights_that_are_no_numbers_are_one_line(workplace: Path) -> None:
    params = load_params(workplace / "params.yaml")
    path = workplace / "models/canonical.safetensors"
    network = load_weights(build_canonical(params), path)
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    save_weights(network, path, {})
    with pytest.raises(UserError, match=r"canonical\.safetensors: 1 tensors hold values that are no numbers"):
        load_weights(build_canonical(params), path)


@pytest.mark.parametrize(
    ("stage", "lacking"), [("canonical", "geometry"), ("fusion", "matching"), ("fusion", "canonical")]
)
def test_a_stage_that_comes_too_early_is_one_line(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, stage: str, lacking: str
) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("HEAD3D_TRACKING", "files")
    Path(f"models/{lacking}.safetensors").unlink()
    with pytest.raises(UserError, match=rf"models/{lacking}\.safetensors: not there; run what makes it first"):
        import_module(STAGES[stage][0]).run(load_params())


def test_subjects_of_stage_3_are_kept_as_far_as_memory_reaches_and_made_again_else(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = load_params(workplace / "params.yaml")
    clips = load_clips(ClipStore(workplace / "data"), "train", params)
    networks = build_geometry(params).eval(), build_canonical(params).eval()
    monkeypatch.setattr(fusion, "MAX_CACHE_BYTES", 1)  # reached by the first
    source = fusion.FusionBatches(clips, *networks, params, torch.device("cpu"))

    def subjects(step: int) -> fusion.Subjects:
        return source.subjects(source.cycle_index(step), source.load(step)[0])

    first, second = subjects(0), subjects(1)
    assert list(source.cache) == [0] and subjects(0) is first
    assert source.load(0)[0] is None  # nothing is read of frames that nobody needs
    again = subjects(1)
    assert again is not second
    assert torch.equal(again.canonical.image, second.canonical.image) and torch.equal(again.reference, second.reference)
    each = first.reference[0].numel()
    assert first.reference.untyped_storage().nbytes() == 4 * len(first.reference) * each, "holds other frames too"
    assert first.canonical.depth is not None
    assert first.n_bytes == 4 * len(first.reference) * each // 3 * (3 + 3 + 1 + 1 + 2)
    assert source.cache_bytes == first.n_bytes


def test_a_layout_that_rounds_otherwise_is_another_run(workplace: Path) -> None:
    params = load_params(workplace / "params.yaml")
    other = params.model_copy(update={"train": params.train.model_copy(update={"channels_last": False})})
    runs = [Session("train_matching", p, {}, *[MagicMock()] * 3).directory for p in (params, other, params)]
    assert runs[0] == runs[2] != runs[1]


def test_another_seed_precision_or_clips_start_a_training_afresh(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What every stage depends on is not for each of them to name."""
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    params = load_params(workplace / "params.yaml")

    def directory(changed: Params, **reads: str) -> Path:
        with open_session(changed, "matching", ("matching",), **reads) as session:
            return session.directory

    same = directory(params)
    assert directory(params.model_copy(update={"scale": "renamed"})) == same
    other_lr = params.matching.model_copy(update={"lr": 0.5})
    other_precision = "float32" if Compute.resolve("cpu").dtype == torch.bfloat16 else "bfloat16"
    changes = {"seed": 7, "precision": other_precision, "matching": other_lr}
    found = [directory(params.model_copy(update={name: value})) for name, value in changes.items()]
    found.append(directory(params, teacher="another file"))
    monkeypatch.setattr(ClipStore, "digest", "other clips")
    found.append(directory(params))
    assert len({same, *found}) == 6


# Half a minute each and more; the matcher has the least of its own about the loop that all of them share.
QUICK = "matching"


@pytest.mark.parametrize("stage", [s if s == QUICK else pytest.param(s, marks=pytest.mark.slow) for s in STAGES])
def test_a_killed_stage_ends_in_the_weights_of_one_that_was_never_killed(workplace: Path, stage: str) -> None:
    finish(workplace, stage)
    target = workplace / STAGES[stage][1]
    whole = weights(target)
    name = "train_fusion-full" if stage == "fusion" else f"train_{stage}"
    summary = json.loads((workplace / f"metrics/{name}.json").read_text())
    assert summary["steps"] > 8 and np.isfinite(summary["final_loss"])
    assert re.fullmatch(r"cpu \(\w+\), (float32|bfloat16)", summary["compute"])
    curve = (workplace / f"metrics/curves/{name}.csv").read_text()
    rows = list(csv.DictReader(curve.splitlines()))
    assert {"loss"} <= {r["name"] for r in rows} and int(rows[-1]["step"]) == summary["steps"]

    # Once more from nothing, killed at random moments after its first saved states.
    (run,) = (workplace / "runs" / name).iterdir()
    for file in (*run.iterdir(), target):
        file.unlink()
    moments = random.Random(stage)
    for kill in range(2):
        process = start(workplace, stage)
        first = {"geometry": "warm.pt", "baseline-dagan": "depth.pt", "baseline-facev2v": "pose.pt"}.get(
            stage, "state.pt"
        )
        second = {"baseline-mraa": "avd.pt"}.get(stage, "state.pt")
        assert process.until(run / (first if kill == 0 else second))
        time.sleep(moments.uniform(0, 0.7))
        process.kill()
        process.end()
    finish(workplace, stage)
    again = weights(target)
    assert whole.keys() == again.keys()
    assert all(np.array_equal(whole[k], again[k]) for k in whole)
    assert (workplace / f"metrics/curves/{name}.csv").read_text() == curve


@pytest.mark.slow
def test_the_avd_network_of_mraa_learns_last_and_alone(workplace: Path) -> None:
    finish(workplace, "baseline-mraa")
    (run,) = (workplace / "runs/train_baseline-mraa").iterdir()
    main, avd = (torch.load(run / f"{part}.pt", weights_only=True) for part in ("state", "avd"))
    done = weights(workplace / STAGES["baseline-mraa"][1])
    changed = {name for name, value in main["modules"]["method"].items() if not np.array_equal(done[name], value)}
    assert {name.partition(".")[0] for name in changed} == {"avd_network"}
    assert all(np.array_equal(done[f"avd_network.{k}"], v) for k, v in avd["modules"]["network"].items())
    losses = [value for _, name, value in avd["history"] if name == "loss"]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    summary = json.loads((workplace / "metrics/train_baseline-mraa.json").read_text())
    assert (summary["avd_steps"], summary["avd_loss"]) == (100, round(losses[-1], 6))


@pytest.mark.slow
def test_facev2v_learns_poses_first_and_goes_on_with_them(workplace: Path) -> None:
    finish(workplace, "baseline-facev2v")
    (run,) = (workplace / "runs/train_baseline-facev2v").iterdir()
    pose = torch.load(run / "pose.pt", weights_only=True)
    assert pose["step"] == 4
    done, first = weights(workplace / STAGES["baseline-facev2v"][1]), pose["modules"]["network"]
    moved = {name for name, value in first.items() if not np.array_equal(done[f"he_estimator.{name}"], value)}
    # Nothing of it stays as it was taught, and the rest learns what the first part had no loss for.
    assert {"first.conv.weight", "yaw.weight", "expression.weight", "translation.weight"} <= moved


@pytest.mark.slow
def test_where_the_time_of_steps_goes_is_recorded_on_demand(workplace: Path) -> None:
    finish(workplace, "matching")
    plain = weights(workplace / STAGES["matching"][1])
    shutil.rmtree(workplace / "runs")
    finish(workplace, "matching", {"HEAD3D_PROFILE": "3"})
    folder = workplace / "runs/train_matching/profile"
    with gzip.open(folder / "trace.json.gz") as file:
        events = json.load(file)["traceEvents"]
    steps = {event["name"] for event in events if event.get("name", "").startswith("ProfilerStep#")}
    assert steps == {"ProfilerStep#2", "ProfilerStep#3", "ProfilerStep#4"}
    assert "aten::convolution_backward" in (folder / "operators.txt").read_text()
    (run,) = (workplace / "runs/mlflow-offline").iterdir()
    assert {"trace.json.gz", "operators.txt"} <= {path.name for path in run.rglob("*")}
    seen = weights(workplace / STAGES["matching"][1])
    assert all(np.array_equal(plain[k], seen[k]) for k in plain)
    # A training that is done has no steps left to be looked at.
    process = start(workplace, "matching", {"HEAD3D_PROFILE": "3"})
    assert "too few steps were left to record any; runs/train_matching holds what" in process.end()
    assert process.returncode == 0


def test_a_baseline_may_go_over_people(workplace: Path) -> None:
    """All clips are of one person: an epoch is half a batch, filled up, where it would be two batches of clips."""
    from ruamel.yaml import YAML

    values = YAML(typ="safe").load((workplace / "params.yaml").read_text())
    values["baseline"]["training"] |= {"id_sampling": True, "repeats": 1}
    values["baseline"]["fomm"] |= {"epochs": 3, "batch_size": 2}
    with (workplace / "params.yaml").open("w") as file:
        YAML().dump(values, file)
    finish(workplace, "baseline-fomm")
    summary = json.loads((workplace / "metrics/train_baseline-fomm.json").read_text())
    assert (summary["steps"], summary["clips"], summary["people"]) == (3, CLIPS, 1)


def test_a_wrong_number_of_recorded_steps_is_one_line(workplace: Path) -> None:
    process = start(workplace, "matching", {"HEAD3D_PROFILE": "all"})
    assert "HEAD3D_PROFILE is 'all'; allowed: a number of steps, 0 for none" in process.end()
    assert process.returncode == 1


def test_a_changed_parameter_never_continues_an_old_state(workplace: Path) -> None:
    from head3d.training.loop import run_digest

    params: Params = load_params(workplace / "params.yaml")
    settings = params.canonical.model_dump()
    changed = params.canonical.model_copy(update={"lr": 1e-3}).model_dump()
    assert run_digest(settings, ("models",)) != run_digest(changed, ("models",))
    finish(workplace, "canonical")
    (before,) = (workplace / "runs/train_canonical").iterdir()
    text = (workplace / "params.yaml").read_text()
    try:
        canonical = text.index("\ncanonical:")
        later = text[canonical:].replace("lr: 0.0002", "lr: 0.001", 1).replace("epochs: 16", "epochs: 1", 1)
        (workplace / "params.yaml").write_text(text[:canonical] + later)
        finish(workplace, "canonical")
    finally:
        (workplace / "params.yaml").write_text(text)
    assert len(list((workplace / "runs/train_canonical").iterdir())) == 2
    assert before.exists()
