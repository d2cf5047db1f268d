"""A damaged file in the cache that two processes see at once."""

import hashlib
from pathlib import Path

import pytest

from head3d.assets import cache as assets
from head3d.assets import download
from head3d.assets.catalogue import ASSETS, Asset, Https

CONTENT = b"the whole of a file"
TOY = Asset("toy", "toy.bin", hashlib.sha256(CONTENT).hexdigest(), 19, "none", "tests", (Https("http://127.0.0.1:9/"),))


@pytest.mark.parametrize("done", ["removed", "mended"])
def test_another_process_has_seen_to_it(done: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be gone, or good again, by the time that its digest is known here."""
    monkeypatch.setenv("HEAD3D_CACHE", str(tmp_path))
    monkeypatch.setitem(ASSETS, "toy", TOY)
    path, real = assets.path_of(TOY), download.sha256
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half")
    hashed: list[Path] = []
    fetched: list[Path] = []

    def sha256(file: Path) -> str:
        hashed.append(file)
        if len(hashed) > 1:
            return real(file)
        if done == "removed":
            file.unlink()
        digest = real(file)
        file.write_bytes(CONTENT)
        return digest

    def fetch_from(_source: Https, _asset: Asset, part: Path, *_: object) -> None:
        fetched.append(part)
        part.write_bytes(CONTENT)

    monkeypatch.setattr(download, "sha256", sha256)
    monkeypatch.setattr(assets, "fetch_from", fetch_from)
    assert assets.fetch("toy").read_bytes() == CONTENT
    assert len(fetched) == (done == "removed")
