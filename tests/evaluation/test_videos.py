"""``head3d metrics`` on real and made-up videos with known answers, and every wrong input in one line."""

import csv
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from head3d import cli
from head3d.assets import cache as assets
from head3d.data import video
from head3d.errors import UserError
from head3d.evaluation import against_truth, measures, videos

SIZE = 160


def face(name: str, start: int, count: int = 6) -> np.ndarray:
    """Real frames around a face, uint8 (count, SIZE, SIZE, 3)."""
    from head3d.evaluation.observe import observe

    frames = list(video.read_frames(assets.fetch(f"video-{name}"), start=start, count=count))
    marks = observe(frames[:1]).landmarks[0]
    middle, reach = (marks.min(0) + marks.max(0)) / 2, np.ptp(marks, axis=0).max()
    (x0, y0), (x1, y1) = (middle - reach).tolist(), (middle + reach).tolist()
    return np.stack(
        [
            np.asarray(Image.fromarray(frame).crop((round(x0), round(y0), round(x1), round(y1))).resize((SIZE, SIZE)))
            for frame in frames
        ]
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """made/ and driving/ with a and b; ``a`` is the same in both, ``b`` another person."""
    root = tmp_path_factory.mktemp("videos")
    a, b = face("wolfgang", 300), face("single", 30)
    for name, frames in {"made/a": a, "made/b": a, "driving/a": a, "driving/b": b, "driving/c": b}.items():
        video.write_video(root / f"{name}.mp4", frames, fps=25, crf=8)
    grey = np.full((6, 64, 64, 3), 100, np.uint8)
    video.write_video(root / "grey.mp4", grey, fps=25, crf=0)
    video.write_video(root / "lighter.mp4", grey + 51, fps=25, crf=0)
    video.write_video(root / "short.mp4", a[:5], fps=25)
    video.write_video(root / "slow.mp4", a, fps=20)
    video.write_video(root / "slower.mp4", a[:5], fps=20)
    video.write_video(root / "small.mp4", a[:, ::2, ::2], fps=25)
    video.write_video(root / "tiny.mp4", a[:, ::4, ::4], fps=25)
    (root / "empty").mkdir()
    (root / "text.mp4").write_text("no video")
    return root


def test_a_video_against_itself(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = videos.metrics(folder / "made/a.mp4", folder / "made/a.mp4")[0]
    best = {"ssim": 1.0, "psnr_db": 100.0}
    motion = (*measures.ANGLES, *measures.ABSOLUTE, measures.EXPRESSION, measures.NO_FACE, *against_truth.OF_FACES)
    for name in (*videos.PIXELS, *motion):
        assert row[name] == pytest.approx(best.get(name, 0.0), abs=1e-6), name
    assert float(str(row[measures.IDENTITY])) > 0.95
    assert (row["n_frames"], row["n_found"], row["definitions"]) == (6, 6, measures.VERSION)
    assert "expression_error_dlib68" in capsys.readouterr().out


def test_another_person_is_told_by_identity(folder: Path) -> None:
    row = videos.metrics(folder / "made/b.mp4", folder / "driving/b.mp4", only="motion")[0]
    assert float(str(row[measures.IDENTITY])) < 0.4
    own = videos.metrics(
        folder / "made/b.mp4", folder / "driving/b.mp4", subject=folder / "driving/a.mp4", only="motion"
    )[0]
    assert float(str(own[measures.IDENTITY])) > 0.95
    assert own[measures.ANGLES[0]] == row[measures.ANGLES[0]]  # the person is no matter of the motion
    assert row["mse_01"] != row["mse_01"]  # not measured


def cut(source: Path, target: Path, *options: str) -> None:
    command = [video.ffmpeg_exe(), "-v", "error", "-y", *options[:2], "-i", str(source), *options[2:], str(target)]
    subprocess.run(command, check=True)


def test_frames_that_a_cut_hides_do_not_count(tmp_path: Path) -> None:
    """A cut without encoding begins at a key frame and hides what comes before the cut."""
    grey = np.arange(60, dtype=np.uint8)[:, None, None, None] + np.full((60, 64, 64, 3), 100, np.uint8)
    video.write_video(tmp_path / "whole.mp4", grey, fps=25, crf=0)
    cut(tmp_path / "whole.mp4", tmp_path / "cut.mp4", "-ss", "1.2", "-t", "0.8", "-c", "copy")
    shown = list(video.read_frames(tmp_path / "cut.mp4"))
    assert video.probe(tmp_path / "cut.mp4").n_frames > len(shown), "else this proves nothing"
    video.write_video(tmp_path / "made.mp4", shown, fps=25, crf=0)
    row = videos.metrics(tmp_path / "made.mp4", tmp_path / "cut.mp4", only="pixels")[0]
    assert row["n_frames"] == len(shown)
    assert row["mse_01"] == pytest.approx(0, abs=1e-4)


def test_an_uneven_rate_is_named(tmp_path: Path) -> None:
    grey = np.full((30, 64, 64, 3), 100, np.uint8)
    video.write_video(tmp_path / "even.mp4", grey, fps=25)
    # frames 0 to 9 as they were, the rest half a second later
    uneven = ("-vf", "setpts='PTS+gte(N,10)*0.5/TB'", "-fps_mode", "passthrough")
    cut(tmp_path / "even.mp4", tmp_path / "uneven.mp4", "-v", "error", *uneven)
    video.write_video(tmp_path / "longer.mp4", np.repeat(grey, 2, 0)[:42], fps=video.probe(tmp_path / "uneven.mp4").fps)
    with pytest.raises(UserError, match=r"42 and 30 frames; allowed: as many; .*uneven.mp4 has an uneven rate"):
        videos.metrics(tmp_path / "longer.mp4", tmp_path / "uneven.mp4", only="pixels")


def test_pixels_by_hand(folder: Path) -> None:
    """51 of 255 lighter everywhere: 0.2 of [0, 1], squared 0.04."""
    row = videos.metrics(folder / "lighter.mp4", folder / "grey.mp4")[0]
    assert row["mse_01"] == pytest.approx(0.04, abs=2e-3)
    assert row["mse_pm1"] == pytest.approx(4 * float(str(row["mse_01"])))
    assert row["l1_01"] == pytest.approx(0.2, abs=5e-3)
    assert row["psnr_db"] == pytest.approx(14.0, abs=0.2)  # 10 log10(1 / 0.04)
    a, b = 100 / 255, 151 / 255
    assert row["ssim"] == pytest.approx((2 * a * b + 1e-4) / (a * a + b * b + 1e-4), abs=5e-3)  # flat: of the means
    assert float(str(row["lpips_alex"])) >= 0
    assert row["n_found"] == 0 and row[measures.NO_FACE] == 1
    assert float(str(row[measures.EXPRESSION])) != float(str(row[measures.EXPRESSION]))


def test_folders_are_matched_by_name(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "x.csv"
    command = ["metrics", str(folder / "made"), str(folder / "driving"), "--only", "motion", "--out", str(out)]
    assert cli.main(command) == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == videos.COLUMNS
    assert [Path(row["driving"]).name for row in rows] == ["a.mp4", "b.mp4"]
    assert float(rows[0][measures.EXPRESSION]) == 0 < float(rows[1][measures.EXPRESSION])
    assert rows[0]["mse_01"] == ""
    assert [path.name for path in out.parent.iterdir()] == ["x.csv"]
    said = capsys.readouterr().out
    assert "2 videos, 12 frames" in said and "2 rows" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing.mp4", "made/a.mp4"], "nothing.mp4: no such file or folder"),
        (["made", "made/a.mp4"], "two videos, or two folders"),
        (["made/a.mp4", "driving/a.mp4", "--subject", "driving"], "allowed: one video of the person"),
        (["driving", "made"], "made: no video named c, which"),
        (["empty", "made"], "empty: no video in this folder"),
        (["text.mp4", "made/a.mp4"], "text.mp4: not a readable video"),
        (["made/a.mp4", "short.mp4"], "6 and 5 frames; allowed: as many; cut the longer one"),
        (["slow.mp4", "made/a.mp4"], "20 and 25 frames a second; allowed: one rate; resample one: ffmpeg"),
        (["slower.mp4", "made/a.mp4"], "20 and 25 frames a second; allowed: one rate; resample one: ffmpeg"),
        (["small.mp4", "made/a.mp4"], "frames of 80x80 and 160x160 pixels; allowed: one size"),
        (["tiny.mp4", "tiny.mp4"], "allowed: 64 pixels a side and more"),
        (["made/a.mp4", "made/a.mp4", "--only", "sound"], "--only is 'sound'; allowed: pixels or motion"),
        (["made/a.mp4", "made/a.mp4", "--device", "gpu"], "--device is 'gpu'; allowed: auto, cpu, cuda or cuda:N"),
        (["made/a.mp4", "made/a.mp4", "--out", "x.txt"], "allowed: a file that ends in .csv"),
        (["made/a.mp4", "made/a.mp4", "--out", "text.mp4/x.csv"], "text.mp4 is no directory that can be written"),
    ],
)
def test_wrong_inputs_are_one_clear_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    monkeypatch.chdir(folder)
    assert cli.main(["metrics", *words]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (folder / "x.txt").exists()


def test_a_person_without_a_face_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = folder / "made/a.mp4"
    row = videos.metrics(made, made, subject=folder / "grey.mp4", only="motion")[0]
    assert row[measures.IDENTITY] != row[measures.IDENTITY]
    assert (row["n_found"], row["n_found_driving"], row["n_found_subject"]) == (6, 6, 0)
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if "no face" in line] == [f"{folder / 'grey.mp4'}: no face found in it"]
    row = videos.metrics(folder / "grey.mp4", made, only="motion")[0]
    assert (row["n_found"], row["n_found_driving"], row["n_found_subject"]) == (0, 6, 6)


def test_each_video_is_held_to_the_person_of_its_name(tmp_path: Path) -> None:
    made, drove, who = folders = [tmp_path / name for name in ("made", "drove", "who")]
    for place in folders:
        place.mkdir()
        for name in ("a.mp4", "b.mp4"):
            (place / name).write_bytes(b"")
    assert videos.matched(made, drove, who) == [
        videos.Trio(made / name, drove / name, who / name) for name in ("a.mp4", "b.mp4")
    ]
    assert {trio.subject for trio in videos.matched(made, drove, who / "b.mp4")} == {who / "b.mp4"}
    assert [trio.subject for trio in videos.matched(made, drove, None)] == [drove / "a.mp4", drove / "b.mp4"]


def test_means_do_not_depend_on_how_many_frames_are_measured_together(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    means = []
    for at_once in (1, 4, 99):
        monkeypatch.setattr(videos, "AT_ONCE", at_once * 64 * 64)
        errors = videos.PixelErrors(torch.device("cpu"))
        for number, frame in enumerate(frames):
            errors.add(frame // (number + 1), frame)
        means.append(errors.means())
    assert means[0] == pytest.approx(means[2], rel=1e-4) and means[1] == pytest.approx(means[2], rel=1e-4)
    errors = [((frame / 255 - frame // (number + 1) / 255) ** 2).mean() for number, frame in enumerate(frames)]
    assert means[0]["mse_01"] == pytest.approx(np.mean(errors), rel=1e-4)


def test_sizes_do_not_matter_to_motion(folder: Path) -> None:
    """The same face at half the size: poses and expressions within the landmarks' noise, the same person."""
    row = videos.metrics(folder / "small.mp4", folder / "made/a.mp4", only="motion")[0]
    assert float(str(row[measures.IDENTITY])) > 0.8
    assert max(float(str(row[name])) for name in measures.ANGLES) < 2
    assert float(str(row[against_truth.AKD])) < 8  # pixels of frames that are 256 high, both


def test_several_videos_have_a_mean_a_lowest_and_a_highest() -> None:
    empty: videos.Row = dict.fromkeys(videos.COLUMNS, float("nan"))
    rows = [empty | {"n_frames": 5, "ssim": value} for value in (0.75, 0.25, 0.8, float("nan"))]
    said = videos.table(rows).splitlines()
    assert said[0] == "4 videos, 20 frames"
    [line] = [line for line in said if line.startswith("ssim")]
    assert line.split() == ["ssim", "0.6000", "0.2500", "0.8000", "3"]


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mov"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"both a.mov and a.mp4; allowed: one video a name"):
        videos.matched(tmp_path, tmp_path, None)


def test_a_stream_that_ends_early_is_told(folder: Path) -> None:
    trio = videos.Trio(folder / "made/a.mp4", folder / "short.mp4", folder / "made/a.mp4")
    infos = video.probe(trio.video), video.probe(trio.driving)
    with pytest.raises(UserError, match=r"short.mp4: ends after 5 frames"):
        list(videos._both(trio, infos))
