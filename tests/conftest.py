"""Fixtures shared by all tests: real films where there are some, and no network.

``TV2TV_TEST_VIDEOS`` names their folder, by default ``../shared/videos`` (see CONTRIBUTING.md).
"""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "videos"
VIDEOS = Path(os.environ.get("TV2TV_TEST_VIDEOS") or _BESIDE)


def _folder(name: str) -> Path:
    folder = VIDEOS / name
    if not folder.is_dir():
        pytest.skip(f"no real films here: {folder} is missing (TV2TV_TEST_VIDEOS)")
    return folder


@pytest.fixture(scope="session")
def public_videos() -> Path:
    """Folder of real films with known cuts and a MANIFEST.json."""
    return _folder("public")


@pytest.fixture(scope="session")
def bad_videos() -> Path:
    """Folder of real broken files with a MANIFEST.json."""
    return _folder("bad")
