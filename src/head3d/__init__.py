"""Head3D: 3D-aware talking-head video motion transfer, as a reproducible pipeline."""

__version__ = "0.1.0"
