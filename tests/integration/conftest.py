"""What the tests of the whole path share."""

import os
from pathlib import Path

import pytest

from tests.support import models


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, tweets):
    """EMOTION_CHECKPOINT, or the packaged encoder after two epochs of some of the real tweets."""
    if named := os.environ.get("EMOTION_CHECKPOINT"):
        return Path(named)
    return models.minilm(tmp_path_factory, tweets)
