"""Near-duplicates: found after what uploads do to films, and told from other shots of a scene."""

import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from corpus.clock import Clock
from corpus.layout import Media
from stages.measures.pixels import shrink
from stages.measures.signature import LENGTH, PICTURE, UNIT, read, signature
from stages.near_duplicates import (
    NearDuplicatesConfig,
    NearDuplicatesStage,
    duplicates,
    pairs,
)
from stages.stage import Context, Record

HEIGHT, WIDTH, COUNT = 144, 256, 33
DEFAULT = NearDuplicatesConfig().likeness


def scene(look: int, action: int, *, moves: bool = True) -> np.ndarray:
    """A fixed camera on a place ``look``, where three things move as ``action`` says."""
    rng = np.random.default_rng(look)
    coarse = rng.integers(20, 236, (9, 16, 3), dtype=np.uint8)
    ground = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    film = np.repeat(ground[None], COUNT, axis=0)
    rng = np.random.default_rng(1000 + action)
    for _ in range(3):
        start, way = rng.uniform((20, 20), (WIDTH - 20, HEIGHT - 20)), rng.uniform(-60, 60, 2)
        colour = tuple(int(c) for c in rng.integers(0, 255, 3))
        for index, frame in enumerate(film):
            x, y = start + way * (index / COUNT if moves else 0)
            cv2.circle(frame, (round(x), round(y)), 18, colour, -1)
    return film


def sign(film: np.ndarray) -> str:
    return signature(shrink(film)[1])


def cropped(film: np.ndarray, share: float) -> np.ndarray:
    down, right = int(HEIGHT * share / 2), int(WIDTH * share / 2)
    inner = film[:, down : HEIGHT - down, right : WIDTH - right]
    return np.stack([cv2.resize(frame, (WIDTH, HEIGHT)) for frame in inner])


def coded(film: np.ndarray) -> np.ndarray:
    """Each frame through a poor JPEG."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 15]
    return np.stack([cv2.imdecode(cv2.imencode(".jpg", f, options)[1], 1) for f in film])


COPIES = {
    "coded": coded,
    "cropped": lambda film: cropped(film, 0.05),
    "brighter": lambda film: (film * 1.15 + 20.0).clip(0, 255).astype(np.uint8),
    "gamma": lambda film: (255 * (film / 255.0) ** 0.75).astype(np.uint8),
    "smaller": lambda film: np.stack([cv2.resize(f, (128, 72)) for f in film]),
    "a frame late": lambda film: film[1:],
    "all of it": lambda film: coded(cropped((film * 0.85).astype(np.uint8), 0.05)),
}


def record(name: str, signed: str, chunks: int = 16, **quality: float) -> Record:
    return {"clip_id": name, "chunks": chunks, "quality": quality, "signature": signed}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("moves", [True, False])
def test_copies_are_found(how: str, moves: bool) -> None:
    for look in range(4):
        film = scene(look, look, moves=moves)
        both = [record("a", sign(film)), record("b", sign(COPIES[how](film)))]
        assert list(duplicates(both, DEFAULT)) == ["b"], look


def test_other_actions_at_the_same_place_and_other_places_are_no_copies() -> None:
    films = [scene(0, action) for action in range(6)]
    films += [scene(look, 0) for look in range(1, 6)]
    films.append(scene(0, 0)[::-1])  # the same backwards
    films.append(scene(0, 0, moves=False))
    films.append(np.stack([cv2.flip(frame, 1) for frame in scene(0, 0)]))
    records = [record(str(i), sign(film)) for i, film in enumerate(films)]
    assert duplicates(records, DEFAULT) == {}


def test_what_shows_nothing_is_like_nothing() -> None:
    plain = np.full((COUNT, HEIGHT, WIDTH, 3), 30, np.uint8)
    assert sign(plain) == ""
    assert duplicates([record("a", ""), record("b", "")], DEFAULT) == {}


def test_the_longest_stays_then_the_sharpest_then_the_first_id() -> None:
    one = sign(scene(0, 0))
    clips = [
        record("a", one, 8, blur=0.1),
        record("b", one, 16, blur=0.5),
        record("c", one, 16, blur=0.3),
        record("d", one, 16, blur=0.3),
    ]
    found = duplicates(clips, DEFAULT)
    assert set(found) == {"a", "b", "d"}
    assert {twin.of for twin in found.values()} == {"c"}


def test_no_order_of_arrival_changes_who_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    films = {(look, how): scene(look, look) for look in range(5) for how in COPIES}
    clips = [record(f"{a}{b}", sign(COPIES[b](film))) for (a, b), film in films.items()]
    whole = duplicates(clips, DEFAULT)
    assert len(whole) == len(clips) - 5
    monkeypatch.setattr("stages.near_duplicates.BLOCK", 4)
    for seed in range(5):
        random.Random(seed).shuffle(clips)
        assert duplicates(clips, DEFAULT) == whole


def test_being_like_one_that_went_is_no_reason() -> None:
    """A chain a - b - c where a and c are unlike: b goes, c stays."""
    film, other = scene(0, 0).astype(np.float64), scene(3, 0).astype(np.float64)
    mixed = [(film * (1 - t) + other * t).astype(np.uint8) for t in (0.0, 0.33, 0.6)]
    a, b, c = (record(name, sign(one)) for name, one in zip("abc", mixed, strict=True))
    found = pairs(read([one["signature"] for one in (a, b, c)]), -1.0)
    least = min(found[0, 1], found[1, 2]) - 1e-3
    assert found[0, 2] < least
    assert list(duplicates([c, b, a], least)) == ["b"]


def test_rows_end_copies_and_let_the_others_go_on(tmp_path: Path) -> None:
    config = NearDuplicatesConfig(filter=True)
    stage = NearDuplicatesStage(config, Context(Media(tmp_path), Clock()))
    film = scene(0, 0)
    clips = [record("a", sign(film)), record("b", sign(coded(film))), record("c", "")]
    rows = stage.process(clips)
    assert [row.outcome for (row,) in rows] == ["ok", "filtered", "ok"]
    ((_,), (gone,), (_,)) = rows
    assert gone.reason == "near_duplicate" and gone.score is not None and gone.score > DEFAULT
    assert "like clip a" in str(gone.message)
    passed: list[Any] = [stage.advance(*one) for one in zip(clips, rows, strict=True)]
    assert passed == [[clips[0]], [], [clips[2]]]


def test_a_signature_has_a_fixed_shape() -> None:
    assert read([sign(scene(0, 0)), sign(scene(0, 0)[:2])]).shape == (2, LENGTH + 1)
    assert read([]).shape == (0, LENGTH + 1)


def drawn(count: int, copies: int, likeness: float) -> np.ndarray:
    """Signatures of still clips: strangers, and of the first some a copy at the end."""
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(count, PICTURE))
    pictures /= np.linalg.norm(pictures, axis=1, keepdims=True)
    away = rng.normal(size=(copies, PICTURE))
    away -= (away * pictures[:copies]).sum(1, keepdims=True) * pictures[:copies]
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    near = likeness * pictures[:copies] + np.sqrt(1 - likeness**2) * away
    found = np.zeros((count + copies, LENGTH + 1), np.int16)
    found[:, :PICTURE] = np.round(UNIT * np.concatenate([pictures, near]))
    found[:, LENGTH] = 1
    return found


def test_among_many_clips_no_copy_is_missed() -> None:
    count, copies = 3000, 200
    found = pairs(drawn(count, copies, 0.9), 0.88)
    assert set(found) == {(one, count + one) for one in range(copies)}


def test_pairs_are_looked_at_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    some = drawn(50, 20, 0.95)
    whole = pairs(some, 0.9)
    monkeypatch.setattr("stages.near_duplicates.BLOCK", 3)
    assert pairs(some, 0.9) == whole and len(whole) == 20
