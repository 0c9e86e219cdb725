"""Doom: real first-person footage from ViZDoom and the Freedoom data that its wheel carries.

A scripted, seeded player walks about, turns away from walls, fights what it sees. One frame is two
tics of the game (35 tics/s), close to the corpus clock of 16 frames a second.

**Replay** is this world's oracle: a `Scene` (place, seed, every input) gives bit-identical frames
each time, so the true film of any other input can be rendered and compared.

ViZDoom is an optional extra and is imported when a game starts.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from corpus.errors import UserError
from worlds.doom_player import CLOCK, TICS_PER_FRAME, Buttons, Player, Pose

SIZES = {(160, 120): "RES_160X120", (320, 240): "RES_320X240"}
SKILL = 2


class SceneOverError(Exception):
    """The player died, or left the map, before the film began."""


@dataclass(frozen=True)
class Place:
    """Where a scene is filmed.

    Attributes:
        name: unique, short.
        wad: game data of the wheel.
        scenario: a small map of the wheel that replaces the game's, or None.
        level: map name.
        view: what one sees there from the start on; becomes part of the meta prompt.
    """

    name: str
    wad: str
    scenario: str | None
    level: str
    view: str


_ONE, _TWO = "freedoom1.wad", "freedoom2.wad"
PLACES = (
    Place("rooms", _TWO, "my_way_home.wad", "map01", "small rooms with patterned walls"),
    Place("ring", _TWO, "defend_the_center.wad", "map01", "a wide arena of pale stone"),
    Place("line", _TWO, "defend_the_line.wad", "map01", "a wide hall of tan brick"),
    Place("acid", _TWO, "health_gathering.wad", "map01", "a walled yard with a green floor"),
    Place("base", _TWO, None, "map01", "a dark base"),
    Place("lamps", _TWO, None, "map04", "a hall with yellow lamps"),
    Place("panels", _TWO, None, "map08", "dim brown corridors"),
    Place("rocks", _TWO, None, "map10", "rocky caves"),
    Place("hedges", _TWO, None, "map11", "a brown building with green hedges"),
    Place("dungeon", _TWO, None, "map21", "a dungeon of green stone"),
    Place("torches", _TWO, None, "map29", "a dark temple with green torches"),
    Place("windows", _ONE, None, "e1m2", "a dim base"),
    Place("stone", _ONE, None, "e1m3", "stone halls"),
    Place("court", _ONE, None, "e1m5", "a court of tan stone"),
    Place("yard", _ONE, None, "e1m7", "a base with an open yard"),
    Place("rust", _ONE, None, "e1m9", "rust-brown corridors"),
    Place("metal", _ONE, None, "e2m2", "metal rooms"),
    Place("grass", _ONE, None, "e2m7", "grassy ground under an orange sky"),
    Place("canyon", _ONE, None, "e3m1", "a canyon of red rock"),
    Place("docks", _ONE, None, "e4m2", "metal walls around dark blue water"),
    Place("brick", _ONE, None, "e4m4", "halls of tan brick"),
)


# In the order of the fields of Buttons.
_ENGINE_BUTTONS = (
    "MOVE_FORWARD",
    "MOVE_BACKWARD",
    "MOVE_LEFT",
    "MOVE_RIGHT",
    "TURN_LEFT_RIGHT_DELTA",
    "ATTACK",
)


# In the order of the fields of Pose.
_ENGINE_VARIABLES = (
    "POSITION_X",
    "POSITION_Y",
    "ANGLE",
    "HEALTH",
    "SELECTED_WEAPON_AMMO",
    "KILLCOUNT",
)


@dataclass(frozen=True)
class Scene:
    """Everything that decides a scene's frames.

    Attributes:
        inputs: one per frame after the first, lead-in included.
        lead_in: frames played before the film begins, whole chunks of them.
    """

    place: str
    seed: int
    inputs: tuple[Buttons, ...]
    lead_in: int


@dataclass(frozen=True)
class Footage:
    """A filmed scene.

    Attributes:
        frames: uint8 (1 + 4 k, H, W, 3).
        poses: one per frame.
    """

    scene: Scene
    frames: np.ndarray
    poses: tuple[Pose, ...]

    @property
    def inputs(self) -> tuple[Buttons, ...]:
        """The 4 k inputs of the film: input j leads from frame j to frame j + 1."""
        return self.scene.inputs[self.scene.lead_in :]


def film(
    place: Place, seed: int, chunks: int, lead_in: int = 0, size: tuple[int, int] = (160, 120)
) -> Footage:
    """Let the scripted player play and film it.

    Args:
        chunks: how long at most; the film ends with the last whole chunk before the player dies or
            leaves the map, so it may be shorter, down to a single frame.
        lead_in: chunks to play before the film begins.
        size: (width, height), a key of `SIZES`.

    Raises:
        SceneOverError: nothing is left after the lead-in.
        UserError: ViZDoom is not installed, or does not know the size.
    """
    player = Player(np.random.default_rng(seed))
    before = lead_in * CLOCK.frames_per_chunk
    inputs: list[Buttons] = []
    frames: list[np.ndarray] = []
    poses: list[Pose] = []
    with _game(place, seed, size, eyes=True) as game:
        for number in range(before + CLOCK.frames(chunks)):
            state = game.get_state()
            if state is None or game.is_player_dead():
                break
            pose = Pose(*map(float, state.game_variables))
            if number >= before:
                frames.append(state.screen_buffer.copy())
                poses.append(pose)
            inputs.append(player.act(state, pose))
            game.make_action(inputs[-1].vector(), TICS_PER_FRAME)
    if not frames:
        raise SceneOverError(f"{place.name}, seed {seed}: over within {lead_in} chunks of lead-in")
    kept = CLOCK.frames((len(frames) - 1) // CLOCK.frames_per_chunk)
    scene = Scene(place.name, seed, tuple(inputs[: before + kept - 1]), before)
    return Footage(scene, np.stack(frames[:kept]), tuple(poses[:kept]))


def replay(scene: Scene, size: tuple[int, int] = (160, 120)) -> np.ndarray:
    """The frames of a scene, rendered anew from its inputs: uint8 (T, H, W, 3)."""
    frames = []
    with _game(place_named(scene.place), scene.seed, size, eyes=False) as game:
        for number, buttons in enumerate((*scene.inputs, None)):
            state = game.get_state()
            if state is None:
                break
            if number >= scene.lead_in:
                frames.append(state.screen_buffer.copy())
            if buttons is not None:
                game.make_action(buttons.vector(), TICS_PER_FRAME)
    return np.stack(frames)


def place_named(name: str) -> Place:
    """A place by its name; UserError when there is none."""
    for known in PLACES:
        if known.name == name:
            return known
    raise UserError(f"doom: no place is called {name!r}; the scene was recorded by another version")


@contextlib.contextmanager
def _game(place: Place, seed: int, size: tuple[int, int], eyes: bool) -> Iterator[Any]:
    """A running game. ``eyes`` adds depth and labels for the player; they change no pixel."""
    if size not in SIZES:
        raise UserError(f"doom: size {size} is none of {', '.join(map(str, SIZES))}")
    vizdoom = _vizdoom()
    data = Path(vizdoom.scenarios_path).parent
    game = vizdoom.DoomGame()
    game.set_doom_game_path(str(data / place.wad))
    if place.scenario is not None:
        game.set_doom_scenario_path(str(data / "scenarios" / place.scenario))
    game.set_doom_map(place.level)
    game.set_doom_skill(SKILL)
    game.set_seed(seed % 2**31)
    game.set_mode(vizdoom.Mode.PLAYER)
    game.set_episode_timeout(0)
    # The first tics show the level fading in.
    game.set_episode_start_time(14)
    game.set_screen_resolution(getattr(vizdoom.ScreenResolution, SIZES[size]))
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    for switch_off in ("hud", "crosshair", "messages", "screen_flashes"):
        getattr(game, f"set_render_{switch_off}")(False)
    game.set_window_visible(False)
    game.set_sound_enabled(False)
    game.set_depth_buffer_enabled(eyes)
    game.set_labels_buffer_enabled(eyes)
    game.set_available_buttons([getattr(vizdoom.Button, name) for name in _ENGINE_BUTTONS])
    game.set_available_game_variables(
        [getattr(vizdoom.GameVariable, name) for name in _ENGINE_VARIABLES]
    )
    # The engine drops its settings and a scratch folder where it runs.
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        game.set_doom_config_path(str(Path(scratch) / "vizdoom.ini"))
        game.init()
        try:
            yield game
        finally:
            game.close()


def _vizdoom() -> ModuleType:
    try:
        import vizdoom
    except ImportError as error:
        raise UserError(
            "the doom world needs ViZDoom, which is not installed: pip install 'tv2tv[doom]'"
        ) from error
    return vizdoom
