"""What all tests share: shapes and types of tensor functions are checked at run time."""

from __future__ import annotations

import os

import pytest
from jaxtyping import install_import_hook

# Before anything imports them: every jaxtyping annotation in these packages is checked in every test.
install_import_hook(["head3d.geometry", "head3d.models", "head3d.losses"], "beartype.beartype")

# Nothing that a test tracks goes to a store that the environment names, and nothing phones home.
os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.setdefault("MPLBACKEND", "agg")


@pytest.fixture
def in_tmp(tmp_path, monkeypatch):
    """A test's own empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
