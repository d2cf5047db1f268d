"""Figures from made-up clips and untrained networks: shapes, rules and bytes, not beauty."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch

from head3d.data.store import ClipStore
from head3d.errors import UserError
from head3d.geometry import Pose, pose_from_euler
from head3d.images import to_tensor
from head3d.params import Params
from head3d.report import figures
from head3d.report.figures import (
    compare,
    datasheet,
    heads,
    motion,
    people,
    pictures,
    words,
)
from head3d.report.figures.sheet import GAP, Row, Sheet, png_bytes, resized


def flat(value: int, size: int = 16) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


def test_tiles_stand_where_they_should() -> None:
    sheet = Sheet(rows=[Row([flat(10), None]), Row([flat(20), flat(30)], new_group=True)], block=1)
    canvas, tops, lefts = sheet.canvas(16)
    assert tops[0] == 0
    assert tops[1] > 16 + GAP  # a new group keeps more distance
    assert lefts[1] > 16 + GAP  # so does a new block
    assert (canvas[:16, :16] == 10).all()
    assert (canvas[:16, lefts[1] :] == 255).all()
    assert (canvas[tops[1] : tops[1] + 16, lefts[1] : lefts[1] + 16] == 30).all()


def test_tiles_reach_the_png_unresampled() -> None:
    """One picture pixel on one pixel of the PNG: a checkerboard stays a checkerboard."""
    import io

    from PIL import Image

    board = np.indices((32, 32)).sum(axis=0) % 2 * 255
    tile = np.repeat(board[..., None], 3, axis=-1).astype(np.uint8)
    png = np.asarray(Image.open(io.BytesIO(png_bytes(Sheet(["a"], [Row([tile], "one\ntwo")]).figure(32)))))
    rows, columns = np.where(np.isin(png[..., 0], (0, 255)).reshape(png.shape[:2]))
    assert rows.size and columns.size
    found = [
        (y, x)
        for y in range(png.shape[0] - 31)
        for x in range(png.shape[1] - 31)
        if (png[y : y + 32, x : x + 32] == tile).all()
    ]
    assert len(found) == 1


def test_same_sheet_same_bytes(tmp_path: Path) -> None:
    sheet = Sheet(["a", "b"], [Row([flat(10), flat(200)], "row")], colorbar=("cividis", 0, 1, "label"))
    sheet.save(tmp_path / "one", tile=16)
    sheet.save(tmp_path / "two", tile=16)
    for kind in (".png", ".pdf"):
        assert (tmp_path / "one").with_suffix(kind).read_bytes() == (tmp_path / "two").with_suffix(kind).read_bytes()
    assert b"CreationDate" not in (tmp_path / "one.pdf").read_bytes()


def test_large_sheets_shrink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    monkeypatch.setattr("head3d.report.figures.sheet.MAX_BYTES", 60_000)
    Sheet(["a"], [Row([noise] * 4)]).save(tmp_path / "noise")
    assert (tmp_path / "noise.png").stat().st_size <= 60_000


def test_resized_keeps_what_fits() -> None:
    tile = flat(7)
    assert resized(tile, 16) is tile
    assert resized(tile, 8).shape == (8, 8, 3)


def test_shading_of_a_plane_and_a_sphere() -> None:
    mask = np.ones((65, 65))
    plane = pictures.shading_picture(np.full((65, 65), 1.0), mask, 10.0)
    assert plane.std() == pytest.approx(0, abs=0.5)  # one normal, one grey
    y, x = np.mgrid[:65, :65] / 32 - 1
    sphere = pictures.shading_picture(1.0 - 0.05 * np.sqrt(np.clip(1 - x**2 - y**2, 0, 1)), mask, 10.0)
    assert sphere[20, 20, 0] > sphere[44, 44, 0] + 40  # the lamp is at the upper left


def test_depth_near_is_bright_and_outside_is_white() -> None:
    picture = pictures.depth_picture(np.array([[-5.0, 5.0, 0.0]]), np.array([[1.0, 1.0, 0.0]]), -5.0, 5.0).astype(int)
    assert picture[0, 0].sum() > picture[0, 1].sum()
    assert picture[0, 2].tolist() == [255, 255, 255]


def test_attention_red_is_high_blue_is_low() -> None:
    image = flat(128, 8)
    high = pictures.attention_picture(np.ones((2, 2)), image)[0, 0].astype(int)
    low = pictures.attention_picture(np.zeros((2, 2)), image)[0, 0].astype(int)
    assert high[0] > high[2]
    assert low[2] > low[0]


def test_the_bar_of_figure_6_has_the_colours_of_its_maps(tiny: Params) -> None:
    """Which are mixed with a grey image."""
    bar = heads.attention_sheet(cast("Any", None), [], tiny.animate.motion).colorbar
    assert bar is not None
    figure = Sheet(rows=[Row([flat(0, 128)] * 3)], colorbar=bar).figure(128)
    ((drawn,),) = (axes.images for axes in figure.axes[1:])
    for value in (0.0, 0.25, 0.5, 1.0):
        map_of_it = pictures.attention_picture(np.full((2, 2), value), flat(128, 2))[0, 0]
        assert np.abs(drawn.to_rgba(np.array([[value]]), bytes=True)[0, 0, :3].astype(int) - map_of_it).max() <= 2


def test_outline_is_inside_and_thin() -> None:
    mask = np.zeros((9, 9), np.uint8)
    mask[2:7, 2:7] = 255
    drawn = pictures.outlined(flat(0, 9), mask)
    marked = (drawn == pictures.OUTLINE).all(axis=-1)
    assert marked.sum() == 16
    assert not marked[3:6, 3:6].any()


def test_first_clip_of_every_person(data: Path) -> None:
    store = ClipStore(data)
    chosen, rule = people.choose(store, ("mini-seen", "mini-unseen"))
    assert [record.clip_id for _, record in chosen] == ["cap-0", "franck-0", "wolfgang-0", "carphone-0", "single-0"]
    assert "not a choice" in rule
    with pytest.raises(UserError, match="no test clips"):
        people.choose(store, ("nobody",))


def test_fates(data: Path) -> None:
    table = datasheet.fates(pd.DataFrame([vars(record) for record in ClipStore(data).all_records]))
    assert table.loc["cap", "left out: a cut"] == 1
    assert table.loc["cap", "train"] == 1
    (axes,) = datasheet.fates_figure(table).axes
    assert "cap" in [label.get_text() for label in axes.get_yticklabels()]


def test_videos_of_one_name_have_a_bar_each() -> None:
    """Names are unique in their source only, and a file's is only in its folder."""
    videos = [("folder", "cap"), ("mini", "cap"), ("folder", "a/1.mp4"), ("folder", "b/1.mp4"), ("mini", "franck")]
    rows = [{"source": source, "video": video, "split": "train", "status": "ok"} for source, video in [*videos] * 2]
    table = datasheet.fates(pd.DataFrame(rows))
    assert table["train"].to_dict() == dict.fromkeys(
        ("folder/cap", "mini/cap", "folder/a/1.mp4", "folder/b/1.mp4", "franck"), 2
    )
    (axes,) = datasheet.fates_figure(table).axes
    assert {label.get_text() for label in axes.get_yticklabels()} == set(table.index)


def test_fates_of_thousands_of_videos_are_one_bar() -> None:
    """Each of them unreadable for a reason of its own."""
    rows: list[dict] = [{"video": f"{n:06}-0-100.mp4", "split": "train", "status": "ok"} for n in range(2000)]
    rows += [{"video": f"x{n}.mp4", "split": "unused", "status": f"unreadable: byte {n}"} for n in range(500)]
    table = datasheet.fates(pd.DataFrame(rows).assign(source="voxceleb"))
    assert table.to_dict("index") == {"all 2500 videos": {"train": 2000, "left out: unreadable": 500}}
    figure = datasheet.fates_figure(table)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["train (2000)", "left out: unreadable (500)"]


def test_no_test_set_is_left_out_of_the_figures() -> None:
    assert people.shared(["abcdefgh", "ijk"], 6) == list("abcijk")
    assert people.shared(["a", "ijklmn"], 4) == list("aijk")
    assert people.shared(["ab", "", "c"], 6) == list("abc")
    assert people.shared([], 6) == []


def test_dots_leave_out_what_was_not_found() -> None:
    marks = np.array([[2.0, 3.0], [np.nan, np.nan], [99.0, 99.0]])
    drawn = datasheet.dotted(flat(0), marks)
    assert (drawn == datasheet.DOT).all(axis=-1).sum() == 4
    assert tuple(drawn[3, 2]) == datasheet.DOT


def test_mosaic_repeats_short_clips() -> None:
    lines = [[np.stack([flat(v, 128) for v in (0, 100, 200)]), np.stack([flat(50, 128)])]]
    frames = list(motion.mosaic(["a", "b"], lines))
    assert len(frames) == 3
    assert frames[0].shape == (128 + motion.BAR, 256, 3)
    assert frames[2][motion.BAR, 0, 0] == 200
    assert frames[2][motion.BAR, 255, 0] == 50


def example(person: str, first: int) -> people.Example:
    """Eight frames of one grey, each 5 lighter than the one before; a head whose depth is 0.97 to 1.01 m."""
    frames = np.stack([flat(first + 5 * number) for number in range(8)])
    still = to_tensor(frames[:1])
    place = pose_from_euler(*torch.zeros(3, 1), translation=torch.tensor([[0.01, 0.02, 0.03]]))
    subject: Any = SimpleNamespace(
        reference=still,
        mean_canonical=still,
        canonical=still,
        depth=torch.linspace(0.97, 1.01, 256).reshape(1, 1, 16, 16),
        mask=torch.ones(1, 1, 16, 16),
        reference_pose=place,
    )
    return people.Example(person, "mini-seen", f"{person}-0", 25.0, frames, frames[..., 0], subject)


class Moved:
    """A model that makes driving frames lighter: by 50 the rendered head, by 100 the result; it keeps its poses."""

    poses: Pose

    def animate(self, subject: Any, frames: torch.Tensor, masks: torch.Tensor, *, motion: str) -> Any:
        attention = torch.linspace(0, 1, len(frames))[:, None, None, None].expand(-1, 3, 4, 4)  # high at last
        head, result = frames + 50 / 255, frames + 100 / 255
        return SimpleNamespace(frames=result, head=head, deformed=frames, attention=attention)

    def view(self, subject: Any, poses: Pose) -> Any:
        self.poses = poses
        frames = torch.zeros(len(poses), 3, 16, 16)
        return SimpleNamespace(head=frames, frames=frames)

    def render(self, subject: Any, poses: Pose) -> Any:
        made = self.view(subject, poses)
        return made.head, made.frames[:, :1]


def greys(tiles: Any) -> list[int]:
    return [round(float(tile.mean())) for tile in tiles if tile is not None]


def test_who_drives_whom_in_figure_4_and_its_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second half of a clip drives its first half; the next person's whole clip drives a person."""
    model: Any = Moved()
    shown = [example("ann", 0), example("bob", 40)]
    own, across = [20, 25, 30, 35], [40, 50, 65, 75]
    subject, driving, made = motion.self_sheet(model, shown[:1]).rows
    assert (greys(subject.tiles), greys(driving.tiles)) == ([0, 5, 10, 15], own)
    assert greys(made.tiles) == [100 + grey for grey in own]
    assert subject.heads == {0: "ann (seen)"}
    subject, driving, made = motion.cross_sheet(model, shown, "relative").rows
    assert (greys(subject.tiles)[:4], greys(driving.tiles)) == ([0, 5, 10, 15], [*across, 0, 10, 25, 35])
    assert greys(made.tiles)[:4] == [100 + grey for grey in across]
    assert subject.heads == {0: "ann driven by bob", 4: "bob driven by ann"}
    written: list[Any] = []
    monkeypatch.setattr(motion, "write", lambda path, heads, lines, fps: written.append((heads, lines[0], fps)))
    motion.self_video(model, shown, Path("a.mp4"))
    motion.cross_video(model, shown, "relative", Path("b.mp4"))
    for (heads_of, line, fps), drives in zip(written, (own, list(range(40, 80, 5))), strict=True):
        assert (heads_of[2:], fps) == (["Head3D", "rendered head"], 25.0)
        still = [0] * len(drives)
        lighter = ([by + grey for grey in drives] for by in (100, 50))
        assert [greys(clip) for clip in line] == [still, drives, *lighter]


def test_heads_are_turned_and_moved_as_their_columns_say() -> None:
    model: Any = Moved()
    shown = [example("ann", 0)]
    place = shown[0].subject.reference_pose
    named = {"yaw": 0, "pitch": 1, "roll": 2}
    camera = SimpleNamespace(distance_m=1.0, fov_deg=10.0)
    canonical = heads.canonical_sheet(model, shown, cast("Any", SimpleNamespace(camera=camera)))
    assert canonical.colorbar is not None
    assert canonical.colorbar[1:3] == pytest.approx((-2.96, 0.96), abs=0.03)  # cm; what is near is negative
    turned = [head for head in canonical.heads if head.startswith("yaw")], model.poses
    rotated = heads.rotation_sheet(model, shown).heads[2:], model.poses[1:]
    for columns, poses in (turned, rotated):
        for number, column in enumerate(columns):
            name, angle = column.replace("°", "").split()
            angles = torch.zeros(3, 1)
            angles[named[name]] = float(angle)
            wanted = pose_from_euler(*angles, translation=place.translation)
            assert torch.allclose(poses.rotation[number], wanted.rotation[0], atol=1e-6), column
            assert torch.allclose(poses.translation[number], place.translation[0]), column
    columns = heads.translation_sheet(model, shown).heads[2:]
    for number, column in enumerate(columns, start=1):
        name, shift = column.removesuffix(" cm").split()
        wanted = place.translation[0].clone()
        wanted["xyz".index(name[-1])] += float(shift) / 100
        assert torch.allclose(model.poses.translation[number], wanted), column


def test_figure_6_shows_the_last_frame_of_the_driver() -> None:
    model: Any = Moved()
    own, across = heads.attention_sheet(model, [example("ann", 0), example("bob", 40)], "relative").rows[:2]
    for row, last in ((own, 35), (across, 75)):
        assert greys(row.tiles[:5]) == [0, last, 0, last, 50 + last] and greys(row.tiles[-1:]) == [100 + last]
        assert all(tile[..., 0].mean() > tile[..., 2].mean() for tile in row.tiles[5:8] if tile is not None)  # high
    assert across.label == "ann\nby bob"


@pytest.mark.slow
def test_whole_stage(
    tiny: Params, models: Path, data: Path, made_up: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(motion, "SWEEP_FRAMES", 4)
    monkeypatch.setattr(people, "MOST", 2)
    figures.draw(tiny, data, models, made_up.metrics, made_up.reports)
    folder = made_up.reports / "figures"
    entries = json.loads((folder / "captions.json").read_text())
    for entry in entries:
        assert entry["caption"].startswith("Smoke scale")
        assert entry["alt"]
        kinds = [".mp4"] if entry["name"].startswith("video") else [".png", ".pdf"]
        for kind in kinds:
            path = folder / f"{entry['name']}{kind}"
            assert 1000 < path.stat().st_size < 1_500_000, path
    assert {path.stem for path in folder.iterdir()} == {"captions", *(entry["name"] for entry in entries)}


def test_one_person_alone_is_driven_by_nobody_else(params: Params) -> None:
    there = {one.name: one for one in words.of_model(params, ["ann", "bob"], "")}
    alone = {one.name: one for one in words.of_model(params, ["ann"], "")}
    assert there.keys() - alone.keys() == {"figure4_cross", "video_cross"}
    assert "next person" in there["figure6"].caption and "next person" not in alone["figure6"].caption


def test_the_frame_that_is_compared_differs_most_from_the_reference() -> None:
    frames = np.stack([flat(v) for v in (0, 255, 10, 40, 20)])
    assert compare.most_different(frames, 2, flat(0)) == 3  # the first half does not drive
    assert compare.most_different(frames, 2, flat(45)) == 2


def test_errors_are_black_where_nothing_differs() -> None:
    truth, off = flat(100), flat(100)
    off[:8] = 255
    picture = compare.error_picture(off, truth).astype(int)
    assert picture[12, 0].sum() < 20 < picture[0, 0].sum()


def test_every_method_stands_in_figure_3(tiny: Params, models: Path, data: Path) -> None:
    """Each method's frame is the one that it makes behind the interface of the evaluation, from the frame shown."""
    from head3d.api import Head3D
    from head3d.evaluation import baseline
    from head3d.evaluation.protocol import Reenactor
    from head3d.evaluation.reconstruction import Head3DMethod
    from head3d.images import mask_tensor, to_frames, to_tensor
    from head3d.references import reference_of

    model = Head3D.load(models, params=tiny)
    store = ClipStore(data)
    shown, _ = people.examples(model, store, tiny)
    methods: dict[str, Reenactor] = {name: baseline.load(tiny, name, models) for name in tiny.baselines}
    methods["head3d"] = Head3DMethod(model, tiny.model.references)
    sheet = compare.comparison_sheet(methods, shown[:1], store, tiny)
    assert sheet.heads[2:] == ["FOMM", "MRAA", "DaGAN", "FaceV2V", "Head3D\n(N = 2)"]
    frames, errors, *_ = sheet.rows
    assert len(frames.tiles) == len(errors.tiles) == 7
    assert errors.tiles[0] is errors.tiles[1] is None
    example = shown[0]
    reference, truth, *made = (tile for tile in frames.tiles if tile is not None)
    assert np.array_equal(reference, example.frames[reference_of(example.half, tiny.seed)])
    index = compare.most_different(example.frames, example.half, reference)
    assert np.array_equal(truth, example.frames[index])
    images, masks = to_tensor(example.frames), mask_tensor(example.masks)
    for method, frame, error in zip(methods.values(), made, errors.tiles[2:], strict=True):
        state = method.prepare(images[: example.half], masks[: example.half], tiny.seed)
        wanted = to_frames(method.drive(state, images[example.half :], masks[example.half :]))[index - example.half]
        assert np.array_equal(frame, wanted)
        assert error is not None and np.array_equal(error, compare.error_picture(wanted, truth))


def test_figure_3_ends_with_what_was_measured_across_people(tiny: Params, data: Path) -> None:
    """Two pairs of each test set: the still subject, the driver's frame, and the methods' exact frames."""
    store = ClipStore(data)
    rows = compare.cross_rows(store, tiny)
    assert [row.label for row in rows] == [
        "cap\nby franck", "franck\nby cap", "carphone\nby single", "single\nby carphone"]  # fmt: skip
    assert "there is no truth" in rows[0].heads[0]
    driving = store.frames(next(record for record in store.records("mini-seen") if record.clip_id == "franck-0"))
    index = compare.most_different(driving, 0, driving[0])
    subject, moves, *made = rows[0].tiles
    assert moves is not None and np.array_equal(moves, driving[index])
    # conftest: copy is 10, paste 20, then the baselines, then Head3D
    assert [int(tile.mean()) for tile in (subject, *made) if tile is not None] == [10, 30, 40, 50, 60, 70]
