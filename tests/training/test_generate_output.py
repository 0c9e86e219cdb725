import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from corpus.clock import Clock
from corpus.codecs import build
from corpus.video import count_frames, read_video
from training.generate import Film, Prompt, Slot
from training.generate.output import (
    STRIP_GAP,
    STRIP_SIDE,
    enlarge,
    strip,
    subtitles,
    write_film,
)

CLOCK = Clock()
NAMES = {1: "left", 2: "jump", 3: "a <b> & c"}


def spell(ids: object) -> str:
    return " ".join(NAMES[i] for i in ids)  # type: ignore[attr-defined]


@pytest.fixture
def film() -> Film:
    codec = build("dct", channels=96)
    frames = np.random.default_rng(0).integers(0, 255, (13, 24, 32, 3)).astype(np.uint8)
    latent = codec.encode(frames)
    slots = (
        Slot((1,), "model", latent[:, 1]),
        Slot((), "model", latent[:, 2]),
        Slot((2, 3), "user", latent[:, 3]),
    )
    return Film(Prompt((1, 2), latent[:, 0]), slots)


def test_a_film_is_written_with_its_words(film: Film, tmp_path: Path) -> None:
    codec = build("dct", channels=96)
    paths = write_film(tmp_path / "out.mp4", film, codec, CLOCK, spell, {"seed": 3})
    assert {name: path.name for name, path in paths.items()} == {
        "film": "out.mp4",
        "transcript": "out.json",
        "subtitles": "out.vtt",
        "strip": "out.png",
    }
    assert count_frames(paths["film"]) == 13
    shown = read_video(paths["film"], [5])[0]
    assert shown.shape == (192, 256, 3)
    decoded = codec.decode(film.latent)[5]
    small = shown.reshape(24, 8, 32, 8, 3).mean((1, 3))
    assert np.abs(small - decoded).mean() < 12

    transcript = json.loads(paths["transcript"].read_text(encoding="utf-8"))
    assert transcript["size"] == [32, 24] and transcript["prompt"] == "left jump"
    assert transcript["made"] == {"seed": 3} and transcript["seconds"] == 0.75
    assert transcript["words"] == [
        {"chunk": 0, "start": 0.0, "end": 0.25, "text": "left", "by": "model"},
        {"chunk": 2, "start": 0.5, "end": 0.75, "text": "jump a <b> & c", "by": "user"},
    ]
    assert paths["subtitles"].read_text(encoding="utf-8") == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:00.500\nleft\n\n"
        "00:00:00.500 --> 00:00:00.750\n<b>jump a &lt;b&gt; &amp; c</b>\n"
    )
    with Image.open(paths["strip"]) as picture:
        assert picture.width > 4 * 96 and picture.height > 96


def test_equal_films_give_equal_bytes(film: Film, tmp_path: Path) -> None:
    codec = build("dct", channels=96)
    first = write_film(tmp_path / "a.mp4", film, codec, CLOCK, spell, {})
    second = write_film(tmp_path / "b.mp4", film, codec, CLOCK, spell, {})
    for name in first:
        assert first[name].read_bytes() == second[name].read_bytes()


def test_small_films_are_enlarged_to_even_sizes_and_large_ones_are_not() -> None:
    def size(height: int, width: int) -> tuple[int, ...]:
        return enlarge(np.zeros((1, height, width, 3), np.uint8), 192).shape[1:3]

    assert size(24, 24) == (192, 192)
    assert size(25, 39) == (200, 312)
    assert size(65, 64) == (260, 256)
    assert size(256, 448) == (256, 448)


def test_subtitles_tell_hours() -> None:
    words = [{"start": 3661.25, "text": "x", "by": "model"}]
    assert "01:01:01.250 --> 01:01:02.000" in subtitles(words, 3662.0)


def test_a_strip_has_a_picture_for_the_start_frame_and_every_chunk() -> None:
    frames = np.full((1 + 4 * 11, 24, 24, 3), 7, np.uint8)
    picture = np.asarray(strip(frames, [], CLOCK))
    assert (picture == 7).all(-1).sum() == 12 * 96 * 96


def test_words_run_on_under_the_pictures_of_their_segment() -> None:
    """A sentence has the room of all its chunks, and no more."""
    frames = np.full((1 + 4 * 6, 24, 24, 3), 7, np.uint8)
    sentence = "the camera pans slowly to the right across a wide green field of grass"

    def ink(*chunks: int) -> np.ndarray:
        words = [{"chunk": i, "text": sentence, "by": "model"} for i in chunks]
        picture = np.asarray(strip(frames, words, CLOCK))
        columns = ((picture < 100) & (picture != 7)).any((0, 2)).nonzero()[0]
        return (columns - STRIP_GAP) // (STRIP_SIDE + STRIP_GAP)

    assert set(ink(0)) >= {1, 2} and ink(0).max() <= 6
    assert set(ink(0, 1)) <= {1, 2, 3, 4, 5, 6}
    assert set(ink(5)) == {6}
