"""Doom films replay bit by bit, and the scripted player shows what it should."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from corpus.errors import UserError
from worlds import doom
from worlds.doom import PLACES, Footage, film, place_named, replay
from worlds.doom_player import Buttons


@pytest.fixture(scope="module")
def footage() -> Footage:
    pytest.importorskip("vizdoom", reason="ViZDoom is not installed: pip install 'tv2tv[doom]'")
    return film(place_named("court"), seed=3, chunks=24, lead_in=5)


def test_a_film_has_its_shape(footage: Footage) -> None:
    assert footage.frames.shape == (97, 120, 160, 3) and footage.frames.dtype == np.uint8
    assert len(footage.poses) == 97 and len(footage.inputs) == 96
    assert len(footage.scene.inputs) == 96 + 20


def test_the_same_scene_is_bit_identical_filmed_again_and_replayed(footage: Footage) -> None:
    again = film(place_named("court"), seed=3, chunks=24, lead_in=5)
    assert again.scene == footage.scene and again.poses == footage.poses
    assert (again.frames == footage.frames).all()
    assert (replay(footage.scene) == footage.frames).all()


def test_other_inputs_change_the_film_from_there_on_and_not_before(footage: Footage) -> None:
    at = footage.scene.lead_in + 40
    changed = (
        *footage.scene.inputs[:at],
        *[Buttons(turn=5.0)] * 4,
        *footage.scene.inputs[at + 4 :],
    )
    other = replay(replace(footage.scene, inputs=changed))
    assert (other[:41] == footage.frames[:41]).all()
    assert (other[42:45] != footage.frames[42:45]).any()


def test_another_seed_plays_differently(footage: Footage) -> None:
    assert film(place_named("court"), seed=4, chunks=6, lead_in=5).inputs != footage.inputs[:24]


def test_inputs_are_held_for_whole_chunks(footage: Footage) -> None:
    inputs = footage.inputs
    assert all(len(set(inputs[i : i + 4])) == 1 for i in range(0, len(inputs), 4))


def test_the_player_gets_about_turns_and_the_picture_moves(footage: Footage) -> None:
    xs, ys = np.array([(pose.x, pose.y) for pose in footage.poses]).T
    assert np.hypot(np.diff(xs), np.diff(ys)).sum() > 300
    assert any(used.turn for used in footage.inputs)
    change = np.abs(np.diff(footage.frames.astype(int), axis=0)).mean((1, 2, 3))
    assert np.mean(change > 1) > 0.8


def test_a_film_ends_with_a_whole_chunk_before_death(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vizdoom", reason="ViZDoom is not installed: pip install 'tv2tv[doom]'")
    # On the acid floor health only falls; a player that stands still dies within a minute.
    monkeypatch.setattr(doom.Player, "act", lambda *_: Buttons())
    footage = film(place_named("acid"), seed=0, chunks=400)
    assert 1 < len(footage.frames) < 1601 and len(footage.frames) % 4 == 1
    assert footage.poses[-1].health > 0
    assert len(footage.inputs) == len(footage.frames) - 1
    with pytest.raises(doom.SceneOverError, match="acid, seed 0: over within 400 chunks"):
        film(place_named("acid"), seed=0, chunks=4, lead_in=400)


def test_the_engine_leaves_nothing_behind(
    footage: Footage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    replay(replace(footage.scene, inputs=footage.scene.inputs[:4], lead_in=0))
    assert Path.cwd() == tmp_path and not list(tmp_path.iterdir())


def test_places_have_their_own_names_and_views() -> None:
    assert len({place.name for place in PLACES}) == len({place.view for place in PLACES}) == 21
    with pytest.raises(UserError, match="no place is called 'moon'"):
        place_named("moon")


def test_without_vizdoom_the_user_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "vizdoom", None)
    with pytest.raises(UserError, match=r"pip install 'tv2tv\[doom\]'"):
        film(PLACES[0], seed=0, chunks=1)


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(UserError, match=r"size \(100, 100\) is none of \(160, 120\)"):
        film(PLACES[0], seed=0, chunks=1, size=(100, 100))
