"""Folders of images as people have them."""

from pathlib import Path

import pytest

from tests.support.image_folders import make_classes, make_parts


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    return make_parts(tmp_path / "images")


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    return make_classes(tmp_path / "images")
