"""Official weights of stage 1."""

import pytest
from made_up_weights import made_up
from torch import Tensor


@pytest.fixture(scope="session")
def hopenet() -> dict[str, Tensor]:
    return made_up("hopenet")


@pytest.fixture(scope="session")
def face_depth() -> dict[str, Tensor]:
    return made_up("facedepth_mobilenetv2")
