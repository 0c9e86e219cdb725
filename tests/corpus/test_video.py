import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from corpus.codecs import psnr
from corpus.errors import UserError
from corpus.ids import sha256_file
from corpus.video import count_frames, ffmpeg, read_video, write_video


def film(frames: int, height: int, width: int) -> np.ndarray:
    t, y, x = np.mgrid[0:frames, 0:height, 0:width]
    waves = [np.sin(x / 9 + y / 7 + t / 5 + phase) for phase in (0.0, 1.0, 2.0)]
    return np.rint(127 + 100 * np.stack(waves, -1)).astype(np.uint8)


# Widths on both sides of decord's limit: it fails where a row is no multiple of 32 bytes.
SIZES = [(16, 16), (24, 24), (48, 32), (72, 40), (96, 64), (160, 120), (256, 448), (448, 256)]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_lossless_films_come_back_exactly(tmp_path: Path, width: int, height: int) -> None:
    frames = film(9, height, width)
    write_video(tmp_path / "f.mp4", frames, 16, "rgb_lossless")
    assert count_frames(tmp_path / "f.mp4") == 9
    assert (read_video(tmp_path / "f.mp4") == frames).all()
    assert (read_video(tmp_path / "f.mp4", [7, 0, 3]) == frames[[7, 0, 3]]).all()


@pytest.mark.parametrize(("width", "height"), [(48, 32), (448, 256)])
def test_yuv_films_are_near_lossless_in_place_and_colour(
    tmp_path: Path, width: int, height: int
) -> None:
    frames = film(9, height, width)
    write_video(tmp_path / "f.mp4", frames, 16)
    back = read_video(tmp_path / "f.mp4")
    assert psnr(back, frames) > 33
    assert abs(back.astype(float).mean((0, 1, 2)) - frames.mean((0, 1, 2))).max() < 2


def test_equal_frames_make_equal_bytes(tmp_path: Path) -> None:
    frames = film(5, 32, 32)
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, iter(frames), 16)
    assert sha256_file(tmp_path / "a.mp4") == sha256_file(tmp_path / "b.mp4")


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    frames = list(film(3, 32, 32))
    with pytest.raises(ValueError, match="frame"):
        write_video(tmp_path / "f.mp4", [*frames, frames[0][:16]], 16)
    with pytest.raises(ValueError, match="at least one"):
        write_video(tmp_path / "f.mp4", [], 16)
    with pytest.raises(OSError, match="ffmpeg could not write"):
        write_video(tmp_path / "f.mp4", film(3, 31, 33), 16)  # odd sizes do not fit yuv420p
    assert list(tmp_path.iterdir()) == []


def test_unreadable_films_say_so(tmp_path: Path) -> None:
    (tmp_path / "f.mp4").write_bytes(b"no film")
    for path in (tmp_path / "f.mp4", tmp_path / "missing.mp4"):
        with pytest.raises(UserError, match="cannot be read back"):
            read_video(path)
    write_video(tmp_path / "g.mp4", film(3, 32, 32), 16)
    with pytest.raises(UserError, match="cannot be read back"):
        read_video(tmp_path / "g.mp4", [99])


def test_a_configured_ffmpeg_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    ffmpeg.cache_clear()
    monkeypatch.setenv("TV2TV_FFMPEG", "/no/such/ffmpeg")
    with pytest.raises(UserError, match="TV2TV_FFMPEG"):
        ffmpeg()
    ffmpeg.cache_clear()


@pytest.mark.parametrize("module", ["corpus.video", "stages.latents"])
def test_reading_films_leaves_pictures_readable(module: str) -> None:
    """decord brings an old zlib for the whole process; OpenCV must have its own by then."""
    code = (
        f"import {module}, cv2, numpy; picture = numpy.full((8, 8, 3), 7, numpy.uint8); "
        "assert (cv2.imdecode(cv2.imencode('.png', picture)[1], 1) == 7).all()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
