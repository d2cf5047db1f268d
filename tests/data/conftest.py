"""Videos for the tests of the data stages: some made by ffmpeg on the spot, some of the real mini set."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from head3d.assets import cache as assets
from head3d.data import video
from head3d.data.video import ffmpeg_exe
from head3d.params import Params, load_params

ROOT = Path(__file__).resolve().parents[2]


def ffmpeg(*arguments: object) -> None:
    """Run ffmpeg as anybody would, to make what the code under test must read."""
    command = [ffmpeg_exe(), "-nostdin", "-y", "-loglevel", "error", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def gradient(n: int, height: int, width: int) -> list[np.ndarray]:
    """Smooth frames of which each has its own brightness, so that they can be told apart after compression."""
    y, x = np.mgrid[:height, :width]
    frames = []
    for index in range(n):
        red, green = 200 * x / width, 200 * y / height
        frames.append(np.stack([red, green, np.full_like(red, 20 + 200 * index / n)], axis=-1).astype(np.uint8))
    return frames


@pytest.fixture(scope="session")
def demo() -> Params:
    """The committed parameters."""
    return load_params(ROOT / "params.yaml")


def with_data(params: Params, **changes: object) -> Params:
    """The same parameters with other values in the section ``data``."""
    return params.model_copy(update={"data": params.data.model_copy(update=changes)})


@pytest.fixture(scope="session")
def two_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of 100 frames with two people side by side, a large one on the right."""
    small = list(video.read_frames(assets.fetch("video-carphone"), count=100))
    large = list(video.read_frames(assets.fetch("video-single"), count=100))
    height = max(small[0].shape[0], large[0].shape[0])
    path = tmp_path_factory.mktemp("two") / "pair.mp4"

    def beside(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.concatenate([np.pad(one, ((0, height - one.shape[0]), (0, 40), (0, 0))) for one in (a, b)], axis=1)

    video.write_video(path, map(beside, small, large), 25.0)
    return path


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stand-in for YouTube serves."""
    from .vox import film  # which imports from here

    return film(tmp_path_factory.mktemp("film") / "film.mp4")


@pytest.fixture
def server(movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A stand-in for YouTube, with one for yt-dlp on the PATH."""
    from .vox import Server, put_on_path

    put_on_path(tmp_path / "bin", monkeypatch)
    running = Server(movie)
    yield running
    running.shutdown()
    running.server_close()
