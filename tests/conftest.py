"""Fixtures shared by all tests: real films where there are some, and no network.

``TV2TV_TEST_VIDEOS`` names their folder, by default ``../shared/videos`` (see CONTRIBUTING.md).
"""

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a background job; tests send some
    signal.signal(signal.SIGINT, signal.default_int_handler)

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


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """URI of an empty bucket on an S3 server of our own; the environment says where it is."""
    import fsspec
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        fsspec.filesystem("s3", use_listings_cache=False).mkdir("s3://tv2tv-tests")
        yield "s3://tv2tv-tests"
    server.stop()
