"""Stores of a test's own, made at once: MLflow takes seconds to build the tables of a new database."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from head3d.params import Params, load_params
from head3d.tracking.store import Store


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, in which nothing is."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "_find_experiment", lambda self: "")  # it would say where artifacts lie
        Store(f"sqlite:///{path}")
    return path


@pytest.fixture
def use_store(empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes a path a new store and tracks there: MLflow remembers engines by their address, not the same for two."""

    def use(path: Path) -> None:
        shutil.copy(empty_store, path)
        monkeypatch.delenv("HEAD3D_TRACKING", raising=False)  # as tests/conftest.py sets it
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")

    return use


@pytest.fixture(autouse=True)
def own_store(in_tmp: Path, use_store: Callable[[Path], None]) -> None:
    """Each test begins with a store of its own, ``mlflow.db``."""
    use_store(in_tmp / "mlflow.db")


@pytest.fixture(scope="session")
def params() -> Params:
    """The committed parameters."""
    return load_params(Path(__file__).parents[2] / "params.yaml")
