"""Fixtures shared by all tests: real films where the workspace has them, and no network."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")

SHARED_VIDEOS = Path(__file__).resolve().parents[2] / "shared" / "videos"


def _folder(name: str) -> Path:
    folder = SHARED_VIDEOS / name
    if not folder.is_dir():
        pytest.skip(f"no real films here: ../shared/videos/{name} is missing")
    return folder


@pytest.fixture(scope="session")
def public_videos() -> Path:
    """Folder of real films with known cuts and a MANIFEST.json."""
    return _folder("public")


@pytest.fixture(scope="session")
def bad_videos() -> Path:
    """Folder of real broken files with a MANIFEST.json."""
    return _folder("bad")
