"""``head3d animate`` and ``head3d view`` on made-up videos with untrained networks, and every wrong input."""

import dataclasses
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from head3d import cli, options, streaming, use, views
from head3d.api import Head3D, Transfer
from head3d.data import footage, video
from head3d.data.boxes import Square
from head3d.data.footage import Footage
from head3d.errors import UserError
from head3d.models.small_parser import SmallParser
from head3d.params import Params
from whole_frames import whole_frames

FRAMES = 11  # more than one batch of the tiny parameters, and not a multiple of it


@pytest.fixture(autouse=True)
def _faces_without_faces(heads_in_the_middle: None, monkeypatch: pytest.MonkeyPatch, tiny: Params) -> None:
    """The made-up videos show no face and no parser is fetched: the whole frame is the crop, its middle the head."""

    def survey(path: str, params: Params, **_: Any) -> Footage:
        info = video.probe(path)
        return whole_frames(Path(path), info)

    monkeypatch.setattr("head3d.data.footage.survey", survey)


def frames(seed: int, count: int = FRAMES) -> list[np.ndarray]:
    """A coloured ramp that moves."""
    x = np.arange(64)[None, :, None] + 3 * seed
    return [
        np.broadcast_to((x * 2 + 4 * t + np.array([0, 40, 80])) % 256, (64, 64, 3)).astype(np.uint8)
        for t in range(count)
    ]


@pytest.fixture
def subject(tmp_path: Path) -> Path:
    video.write_video(tmp_path / "subject.mp4", frames(1), fps=25)
    return tmp_path / "subject.mp4"


@pytest.fixture
def driving(tmp_path: Path) -> Path:
    """A video at 12.5 frames a second with sound that ends before the frames do."""
    silent, path = tmp_path / "silent.mp4", tmp_path / "driving.mp4"
    video.write_video(silent, frames(5), fps=12.5)
    sound = ["-f", "lavfi", "-i", "sine=duration=0.4"]
    command = [
        video.ffmpeg_exe(),
        "-loglevel",
        "error",
        "-i",
        str(silent),
        *sound,
        "-c:v",
        "copy",
        "-c:a",
        "aac",
        str(path),
    ]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=60)
    return path


def read(path: Path) -> np.ndarray:
    return np.stack(list(video.read_frames(path)))


@pytest.mark.parametrize("motion", ["relative", "absolute"])
def test_animate(tiny: Params, models: Path, subject: Path, driving: Path, tmp_path: Path, motion: str, capsys) -> None:
    out = tmp_path / "new" / "folder" / "out.mp4"
    use.animate(subject, driving, out, models=models, motion=motion, params=tiny)
    info = video.probe(out)
    assert (info.width, info.height, info.n_frames, info.fps) == (64, 64, FRAMES, 12.5)
    assert info.has_audio
    printed = capsys.readouterr()
    assert "11 frames of 64x64, 12.5 a second" in printed.out
    assert printed.err == ""  # no bars where nobody watches
    assert [path.name for path in out.parent.iterdir()] == ["out.mp4"]
    assert use.SYNTHETIC.encode() in out.read_bytes()  # what players show as the comment


def test_a_watcher_sees_every_frame(tiny: Params, models: Path, subject: Path, driving: Path, tmp_path: Path) -> None:
    """Whether or not a terminal shows the bars."""
    seen: list[tuple[str, int, int]] = []
    out, given = tmp_path / "out.mp4", {"models": models, "params": tiny}
    use.animate(subject, driving, out, watch=lambda *step: seen.append(step), **given)
    assert [step for step in seen if step[0] == "animate"] == [("animate", k, FRAMES) for k in range(FRAMES + 1)]


def test_batches_change_nothing(tiny: Params, models: Path, subject: Path, driving: Path, tmp_path: Path) -> None:
    """Relative motion counts from the first frame of the video, not of the batch."""
    use.animate(subject, driving, tmp_path / "a.mp4", models=models, motion="relative", params=tiny)
    whole = tiny.model_copy(update={"parse": tiny.parse.model_copy(update={"batch_size": 32})})
    use.animate(subject, driving, tmp_path / "b.mp4", models=models, motion="relative", params=whole)
    assert np.abs(read(tmp_path / "a.mp4").astype(int) - read(tmp_path / "b.mp4")).max() <= 2


def test_the_small_parser_is_for_driving_frames_alone(
    tiny: Params, models: Path, subject: Path, driving: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def masks(name: str, frames: torch.Tensor) -> torch.Tensor:
        asked.append((name, len(frames)))
        found = torch.zeros(len(frames), 1, 64, 64)
        found[:, :, 12:52, 16:48] = 1
        return found

    def masks_by(self: Head3D, frames: torch.Tensor, parser: object, landmarks: object) -> torch.Tensor:
        return masks("small" if isinstance(parser, SmallParser) else "full", frames)

    monkeypatch.setattr(Head3D, "masks", lambda self, frames, landmarks=None: masks("full", frames))
    monkeypatch.setattr(Head3D, "_masks", masks_by)
    for parser, name in (("small", "small"), ("full", "full")):
        asked.clear()
        use.animate(subject, driving, tmp_path / f"{parser}.mp4", models=models, params=tiny, parser=parser)
        assert asked[0] == ("full", tiny.model.references)
        assert {who for who, _ in asked[1:]} == {name}
        assert sum(count for _, count in asked[1:]) == FRAMES
    assert np.array_equal(read(tmp_path / "small.mp4"), read(tmp_path / "full.mp4"))


def test_view(tiny: Params, models: Path, subject: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    use.view(subject, out, yaw="-20:20", pitch=5, frames=7, models=models, params=tiny)
    assert video.probe(out).n_frames == 7
    assert not video.probe(out).has_audio
    moved = read(out).astype(int)
    assert np.abs(moved[0] - moved[-1]).mean() > 0.5


def test_seed_chooses_the_references(tiny: Params, models: Path, subject: Path, tmp_path: Path) -> None:
    made = []
    for name, seed in (("a", 0), ("b", 0), ("c", 3)):
        out = tmp_path / f"{name}.mp4"
        use.view(subject, out, frames=1, models=models, params=tiny, seed=seed, references=3)
        made.append(out.read_bytes())
    assert made[0] == made[1] != made[2]


def test_references_are_those_of_the_whole_video(tiny: Params, models: Path, subject: Path) -> None:
    """Taking the frames before making a tensor of them chooses the same ones as Head3D.subject, in the same order."""
    from head3d.images import to_tensor

    model = Head3D.load(models, params=tiny)
    _, ours, indices = use.prepare_person(model, subject, options.Options(references=3, seed=4))
    theirs = model.subject(to_tensor(read(subject)), references=3, seed=4)
    assert torch.equal(ours.references, theirs.references) and torch.equal(ours.canonical, theirs.canonical)
    assert torch.equal(ours.references, to_tensor(read(subject)[indices]))


def test_wrong_inputs_are_one_clear_line(
    tiny: Params, models: Path, subject: Path, driving: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    empty = tmp_path / "nothing-here"
    empty.mkdir()

    def animate(message: str, **changed: Any) -> None:
        given = {"subject": subject, "driving": driving, "out": out, "models": models, "params": tiny} | changed
        with pytest.raises(UserError, match=message) as caught:
            use.animate(**given)
        assert "\n" not in str(caught.value)
        assert not out.exists()

    animate("--subject .*missing.mp4: not there", subject=tmp_path / "missing.mp4")
    animate("--driving .*: a directory, not a video", driving=tmp_path)
    animate(r"no mp4 file; name it out.mp4", out=tmp_path / "out.avi")
    animate("--out .*: the same file as --subject", out=subject)
    (tmp_path / "link.mp4").symlink_to(driving)
    animate("--out .*: the same file as --driving", out=tmp_path / "link.mp4")
    animate("no directory that can be written", out=subject / "out.mp4")
    animate("no geometry.safetensors, .*`dvc repro` first", models=empty)
    animate("no fusion-other.safetensors there; allowed: variants full", variant="other")
    animate("--references is 0; allowed: 1 or more", references=0)
    animate("12 reference frames are wanted; allowed: at most 11", references=12)
    animate("--choose is 'best'; allowed: random or diverse", choose="best")
    animate("--seed is 4294967296; allowed: 0 to 4294967295", seed=2**32)
    animate("--parser is 'tiny'; allowed: full or small", parser="tiny")
    animate("--face is 0; allowed: 1 or more", face=0)
    animate("--driving-face is 0", driving_face=0)
    animate("--motion is 'both'; allowed: relative or absolute", motion="both")
    animate("--device is 'tpu'", device="tpu")
    (tmp_path / "directory.mp4").mkdir()
    animate("a directory", out=tmp_path / "directory.mp4")
    with pytest.raises(UserError, match="--frames is 0"):
        use.view(subject, out, frames=0, models=models, params=tiny)
    (tmp_path / "text.mp4").write_text("this is no video")
    animate("text.mp4: not a readable video", subject=tmp_path / "text.mp4")
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in models.iterdir():
        (broken / path.name).write_bytes(b"nonsense")
    animate("not a safetensors file", models=broken)


def test_a_failure_half_way_leaves_nothing(
    tiny: Params, models: Path, subject: Path, driving: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = Head3D.animate, []

    def fail_late(self: Head3D, *args: Any, **named: Any):
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return real(self, *args, **named)

    monkeypatch.setattr(Head3D, "animate", fail_late)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        use.animate(subject, driving, tmp_path / "out.mp4", models=models, params=tiny)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_command_line(models: Path, subject: Path, driving: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """The commands as the README prints them, negative sweep and all."""
    seen: dict[str, Any] = {}
    for name in ("animate", "view", "export"):
        monkeypatch.setattr(use, name, lambda name=name, **given: seen.update({name: given}))
    a, b = str(subject), str(driving)
    assert cli.main(["animate", "--subject", a, "--driving", b, "--out", "c.mp4"]) == 0
    assert cli.main(["view", "--subject", a, "--yaw", "-20:20", "--out", "d.mp4"]) == 0
    assert cli.main(["export", "--subject", a, "--out", "head.glb"]) == 0
    shared = {"models": "models", "variant": "full", "references": None, "seed": None, "choose": "random"}
    shared |= {"face": None, "device": None, "subject": a}
    moved = {"driving_face": None, "motion": None, "paste": False, "compare": False, "parser": "full"}
    assert seen["animate"] == shared | moved | {"driving": b, "out": "c.mp4"}
    swept = {"yaw": "-20:20", "pitch": "0", "roll": "0", "frames": 60}
    assert seen["view"] == shared | swept | {"out": "d.mp4"}
    assert seen["export"] == shared | {"out": "head.glb"}
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["animate", "--subject", "gone.mp4", "--driving", "gone.mp4", "--out", "c.mp4"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("head3d: --subject gone.mp4: not there")
    assert printed.count("\n") == 1


def test_paste_and_compare(tiny: Params, models: Path, subject: Path, driving: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    use.animate(subject, driving, out, models=models, params=tiny, paste=True, compare=True, choose="diverse")
    made = read(out).astype(int)
    assert made.shape == (FRAMES, 64, 192, 3)
    assert np.abs(made[:, :, 64:128] - read(driving)).mean() < 6  # the middle is the driving video


def test_the_result_is_pasted_where_the_head_was(
    tiny: Params, models: Path, driving: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside the crop every frame is the subject's, inside it is the model's: here in negative, to be seen."""
    from head3d.data import footage

    person, still = tmp_path / "person.mp4", np.zeros((120, 160, 3), np.uint8)
    still[..., 0], still[..., 1] = np.arange(160), np.arange(120)[:, None]
    video.write_video(person, [still] * 5, fps=25)
    real = footage.survey

    def survey(path: str, params: Params, **named: Any) -> Footage:
        found = real(path, params, **named)
        return dataclasses.replace(found, square=Square(72, 32, 64)) if Path(path) == person else found

    def negative(self: Head3D, *args: Any, **named: Any) -> Transfer:
        found = animate(self, *args, **named)
        return dataclasses.replace(found, frames=1 - found.frames)

    animate = Head3D.animate
    monkeypatch.setattr(Head3D, "animate", negative)
    monkeypatch.setattr(footage, "survey", survey)
    use.animate(person, driving, tmp_path / "out.mp4", models=models, params=tiny, paste=True)
    change = np.abs(read(tmp_path / "out.mp4").astype(int) - still)
    assert change.shape == (FRAMES, 120, 160, 3)
    inside = np.zeros((120, 160), bool)
    inside[32:96, 72:136] = True
    assert change[:, ~inside].mean() < 3
    assert change[:, 56:72, 96:112].mean() > 30


def test_the_box_fits_the_frame_of_a_video_that_was_surveyed_smaller(tmp_path: Path) -> None:
    large = tmp_path / "large.mp4"
    video.write_video(large, [np.zeros((80, 2200, 3), np.uint8)] * 3, fps=25)
    info = dataclasses.replace(video.probe(large), width=1100, height=40)
    found = dataclasses.replace(whole_frames(large, info), square=Square(10, 5, 30))
    frame, square = found.whole(1)
    assert (frame.shape, square) == ((80, 2200, 3), Square(20, 10, 60))


def test_lost_faces_are_held(
    tiny: Params, models: Path, subject: Path, driving: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """No head in frames 0 and 5 to 7: before the first head its output stands, later the last one."""
    from head3d.data import footage

    real_survey, real_masks, told = footage.survey, Head3D.masks, {0, 5, 6, 7}

    def survey(path: str, params: Params, **named: Any) -> Footage:
        found = real_survey(path, params, **named)
        if Path(path) == driving:
            found.seen[list(told)] = False
        return found

    pictures = read(driving)

    def masks(self: Head3D, shown: torch.Tensor, landmarks: np.ndarray | None = None) -> torch.Tensor:
        found = real_masks(self, shown, landmarks)
        for row, frame in enumerate((shown * 255).round().byte().permute(0, 2, 3, 1).numpy()):
            if any(np.array_equal(frame, pictures[index]) for index in told):
                found[row] = 0
        return found

    monkeypatch.setattr(footage, "survey", survey)
    monkeypatch.setattr(Head3D, "masks", masks)
    use.animate(subject, driving, tmp_path / "out.mp4", models=models, params=tiny)
    said = "no head found in 4 of 11 frames (0.0-0.1 s, 0.4-0.6 s); held"
    assert said in capsys.readouterr().out
    made = read(tmp_path / "out.mp4").astype(int)
    for held, shown in ((0, 1), (5, 4), (6, 4), (7, 4)):
        assert np.abs(made[held] - made[shown]).max() <= 12, held


def test_export(tiny: Params, models: Path, subject: Path, tmp_path: Path) -> None:
    use.export(subject, tmp_path / "head.glb", models=models, params=tiny)
    assert (tmp_path / "head.glb").read_bytes()[:4] == b"glTF"
    with pytest.raises(UserError, match=r"no glb or ply file; name it head.glb"):
        use.export(subject, tmp_path / "head.obj", models=models, params=tiny)


@pytest.mark.parametrize("motion", ["relative", "absolute"])
def test_motion_and_faces_are_those_that_were_asked_for(
    tiny: Params,
    models: Path,
    subject: Path,
    driving: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    motion: str,
) -> None:
    asked: dict[str, Any] = {}
    survey, drive = footage.survey, streaming.Drive

    def look(path: Path, params: Params, *, face: int | None, name: str, **more: Any) -> Footage:
        asked[name] = (path, face)
        return survey(path, params, **more)

    monkeypatch.setattr(footage, "survey", look)
    monkeypatch.setattr(streaming, "Drive", lambda *given: asked.update(motion=given[3]) or drive(*given))
    chosen = {"motion": motion, "face": 2, "driving_face": 3}
    use.animate(subject, driving, tmp_path / "out.mp4", models=models, params=tiny, **chosen)
    assert asked == {"subject": (subject, 2), "driving": (driving, 3), "motion": motion}


@pytest.mark.parametrize("paste", [False, True])
def test_the_reference_is_what_is_shown_beside(
    tiny: Params,
    models: Path,
    subject: Path,
    driving: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    paste: bool,
) -> None:
    monkeypatch.setattr(Head3D, "choose_reference", lambda self, one, *_: dataclasses.replace(one, reference_index=2))
    chosen: dict[str, Any] = {"models": models, "params": tiny, "references": 3, "seed": 4}
    use.animate(subject, driving, tmp_path / "out.mp4", compare=True, paste=paste, **chosen)
    indices = use.prepare_person(
        Head3D.load(models, params=tiny), subject, options.Options(references=3, seed=4)
    ).indices
    shown = read(tmp_path / "out.mp4")[0, :, :64].astype(int)
    assert np.abs(read(subject) - shown).mean((1, 2, 3)).argmin() == indices[2]


def test_each_angle_goes_its_own_way(
    tiny: Params, models: Path, subject: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    pose = views.hand_pose
    monkeypatch.setattr(views, "hand_pose", lambda one, *angles: asked.append(angles) or pose(one, *angles))
    turns = {"yaw": "-20:20", "pitch": 5, "roll": "1:3"}
    use.view(subject, tmp_path / "out.mp4", frames=3, models=models, params=tiny, **turns)
    assert np.concatenate(asked, axis=1).tolist() == [[-20, 0, 20], [5, 5, 5], [1, 2, 3]]
