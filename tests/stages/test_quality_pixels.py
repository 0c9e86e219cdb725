"""Scores of pixels against clips whose truth is known, before and after coding."""

import subprocess
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from corpus.video import ffmpeg
from stages.measures.pixels import NAMES, RATE, blur, scores, shrink
from stages.reading import pictures

Film = NDArray[np.uint8]
HEIGHT, WIDTH, COUNT = 144, 256, 33  # four seconds


def ground(seed: int = 0, height: int = 400, width: int = 700) -> Film:
    """A textured picture, coloured, with edges."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 226, (height // 12, width // 12, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)


def camera(path: NDArray[np.float64], seed: int = 0) -> Film:
    """What a camera sees of the ground from places (T, 2) right and down of its middle."""
    big = ground(seed)
    views = []
    for right, down in path:
        shift = np.float64([[1, 0, -150 - right], [0, 1, -100 - down]])
        views.append(cv2.warpAffine(big, shift, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC))
    return np.stack(views)


def pan(speed: float, count: int = COUNT) -> NDArray[np.float64]:
    """``speed`` short sides per second to the right."""
    return np.stack([np.arange(count) / RATE * speed * HEIGHT, np.zeros(count)], axis=1)


def coded(film: Film) -> Film:
    """Through a lossy codec once, as downloads are."""
    height, width = film.shape[1:3]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "8"]
    to = ["-c:v", "libx264", "-crf", "28", "-threads", "1", "-pix_fmt", "yuv420p"]
    quiet = [ffmpeg(), "-v", "error"]
    mkv = subprocess.run(
        [*quiet, *raw, "-i", "-", *to, "-f", "matroska", "-"],
        input=film.tobytes(),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    back = ["-i", "-", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    data = subprocess.run([*quiet, *back], input=mkv, stdout=subprocess.PIPE, check=True).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, height, width, 3)


def measured(film: Film) -> dict[str, float]:
    with pictures.one_thread():
        return scores(*shrink(film), RATE)


def as_it_is(film: Film) -> Film:
    return film


both = pytest.mark.parametrize("seen", [as_it_is, coded])
Seen = Callable[[Film], Film]


@both
@pytest.mark.parametrize("speed", [0.05, 0.2, 0.5])
def test_motion_is_the_speed_of_a_pan(seen: Seen, speed: float) -> None:
    found = measured(seen(camera(pan(speed))))
    assert found["motion"] == pytest.approx(speed, rel=0.2)
    assert found["shake"] < 0.003 and found["frozen"] == 0


@both
def test_trembling_is_shake_and_smooth_ways_are_not(seen: Seen) -> None:
    rng = np.random.default_rng(1)
    for size in (0.01, 0.03):
        tremble = rng.normal(0, size / np.sqrt(2) * HEIGHT, (COUNT, 2))
        found = measured(seen(camera(pan(0.2) + tremble)))
        assert 0.5 * size < found["shake"] < 1.5 * size
    faster = pan(0.2) * np.linspace(0, 2, COUNT)[:, None]
    turning = np.stack([pan(0.3)[:, 0], 40 * np.sin(np.arange(COUNT) / RATE)], axis=1)
    for path in (pan(0.5), faster, turning):
        assert measured(seen(camera(path)))["shake"] < 0.003


def test_one_bump_is_no_shake() -> None:
    path = pan(0.1)
    path[16:, 1] += 12
    assert measured(camera(path))["shake"] < 0.01


@both
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_frozen_is_the_share_of_time_that_stands_still(seen: Seen, share: float) -> None:
    moves = COUNT - 1 - round(share * (COUNT - 1))
    path = pan(0.2)
    path[moves:] = path[moves]
    assert measured(seen(camera(path)))["frozen"] == pytest.approx(share, abs=0.07)


def test_a_small_thing_that_moves_is_not_frozen_and_noise_is_not_either() -> None:
    film = np.repeat(camera(pan(0)[:1]), COUNT, axis=0)
    small = film.copy()
    for index, frame in enumerate(small):
        cv2.circle(frame, (60 + 2 * index, 70), 4, (255, 255, 255), -1)
    assert measured(small)["frozen"] == 0
    noise = np.random.default_rng(0).normal(0, 8, film.shape)
    assert measured((film + noise).clip(0, 255).astype(np.uint8))["frozen"] == 0


def test_drawn_films_hold_their_pictures_for_less_than_frozen_ones() -> None:
    path = pan(0.3)[np.arange(COUNT) // 3 * 3]  # a new picture every 3/8 s
    assert measured(camera(path))["frozen"] == 0


@both
@pytest.mark.parametrize("black", [0, 8, 33])
def test_black_is_the_share_of_black_frames(seen: Seen, black: int) -> None:
    film = camera(pan(0.2))
    film[:black] = 3
    found = measured(seen(film))
    assert found["black"] == pytest.approx(black / COUNT, abs=0.04)
    assert found["letterbox"] == found["pillarbox"] == 0


@both
@pytest.mark.parametrize(("above", "beside"), [(0, 0), (18, 0), (0, 30), (10, 20)])
def test_bars_are_counted_to_the_line(seen: Seen, above: int, beside: int) -> None:
    film = camera(pan(0.2))
    film[:, :above] = film[:, HEIGHT - above :] = 0
    film[:, :, :beside] = film[:, :, WIDTH - beside :] = 0
    found = measured(seen(film))
    slack = 0 if seen is as_it_is else 1
    assert abs(found["letterbox"] * HEIGHT - 2 * above) <= 2 * slack
    assert abs(found["pillarbox"] * WIDTH - 2 * beside) <= 2 * slack


def test_a_dark_sky_is_no_bar() -> None:
    film = camera(pan(0.2))
    film[:, :50] = 0
    assert measured(film)["letterbox"] == 0


def test_blur_grows_with_every_wider_blur_and_not_with_light() -> None:
    picture = cv2.cvtColor(camera(pan(0)[:1])[0], cv2.COLOR_RGB2GRAY)
    found = [blur(cv2.GaussianBlur(picture, (0, 0), sigma)) for sigma in (0.5, 1, 2, 4)]
    assert all(low < high for low, high in zip([blur(picture), *found[:-1]], found, strict=True))
    dim = (picture * 0.5 + 40).astype(np.uint8)
    assert blur(dim) == pytest.approx(blur(picture), abs=0.03)
    assert blur(np.full((50, 60), 9, np.uint8)) == 1


def test_light_is_what_it_is() -> None:
    plain = measured(np.full((COUNT, HEIGHT, WIDTH, 3), 51, np.uint8))
    assert plain["brightness"] == pytest.approx(0.2, abs=0.01) and plain["contrast"] == 0
    halves = np.zeros((COUNT, HEIGHT, WIDTH, 3), np.uint8)
    halves[:, :, WIDTH // 2 :] = 255
    assert measured(halves)["contrast"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("count", [1, 2, 3, 9])
@pytest.mark.parametrize("size", [(24, 24), (144, 256), (256, 144)])
def test_every_clip_has_every_score(count: int, size: tuple[int, int]) -> None:
    film = np.random.default_rng(count).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    found = measured(film)
    assert set(found) == set(NAMES)
    assert all(np.isfinite(value) and value >= 0 for value in found.values())
    assert found == measured(film)
