"""Pictures from outside are read by a child that can be killed."""

import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from corpus.errors import UserError
from training import picture
from training.picture import PICTURES, read_picture

SIZES = [(64, 32), (32, 32), (32, 64)]


def test_a_picture_is_cut_to_the_nearest_shape_upright(tmp_path: Path) -> None:
    wide = np.zeros((40, 90, 3), np.uint8)
    wide[:20] = (250, 0, 0)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert read_picture(tmp_path / "wide.png", SIZES).shape == (32, 64, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying: turn it by 90 degrees to the right
    Image.fromarray(wide).save(tmp_path / "lying.jpg", exif=exif)
    upright = read_picture(tmp_path / "lying.jpg", SIZES)
    assert upright.shape == (64, 32, 3)
    assert upright[:, -4:, 0].mean() > 200 and upright[:, :4].mean() < 30


def refused(path: Path) -> str:
    with pytest.raises(UserError, match="cannot be read as a picture") as caught:
        read_picture(path, SIZES)
    return str(caught.value)


def bomb(side: int) -> bytes:
    """A PNG of some kilobytes that says, and keeps its word, that it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    packer = zlib.compressobj(9)
    row = b"\0" * (side * 3 + 1)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


def test_what_is_too_much_for_the_child_is_the_pictures_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(9000))  # 243 MB: below what PIL itself refuses, and twice that to convert
    monkeypatch.setattr(picture, "MEMORY", 300 << 20)
    assert "MemoryError" in refused(path) or "memory" in refused(path)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("import os; os.kill(os.getpid(), 11)", "ended with -11"),
        ("import time; time.sleep(60)", "not read after"),
        ("print('64x64\\nx')", "ended with 0"),
    ],
)
def test_a_child_that_crashes_hangs_or_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: str
) -> None:
    child = tmp_path / "child.py"
    child.write_text(body)
    monkeypatch.setattr(picture, "CHILD", child)
    monkeypatch.setattr(picture, "SECONDS", 2)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    begun = time.monotonic()
    assert words in refused(tmp_path / "a.png")
    assert time.monotonic() - begun < 30


def test_broken_pictures_are_refused_with_their_fault(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for kind in PICTURES:
        path = tmp_path / f"a.{kind.lower()}"
        Image.fromarray(rng.integers(0, 255, (60, 80, 3), np.uint8)).save(path, format=kind)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 3])
        assert str(path) in refused(path)
