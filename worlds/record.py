"""Writes a world's footage the way any footage comes: films, a timeline per film, a manifest.

::

    FOLDER/
      manifest.jsonl             one row per film: uri, timeline, licence, title, world, ...
      arena-00000.mp4            episodes back to back: each is one shot with hard cuts around it
      arena-00000.timeline.jsonl what is known: shots, meta prompts, a caption per chunk
      doom-00000.scenes.jsonl    doom only: every input and game variable, enough to replay

Nothing here depends on the machine, the time or earlier runs: the same arguments give the same
bytes. A shot of k chunks holds ``1 + 4 k`` frames, so a pipeline that starts a clip with the shot
gets the whole of it and the captions lie exactly on its chunks.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from corpus.clock import Clock
from corpus.errors import UserError
from corpus.files import is_temporary, sweep, write_text
from corpus.timeline import Span, Timeline, write_timeline
from corpus.video import Encoding, write_video
from worlds import arena, doom
from worlds.doom_player import Buttons
from worlds.verbalise import arena_words, doom_words, spans

MANIFEST = "manifest.jsonl"
# Freedoom's licence covers what is seen; ViZDoom's engine only renders it.
LICENCES = {"arena": "Apache-2.0", "doom": "BSD-3-Clause"}
EPISODES_PER_SEED = 1_000_000
SCENE_CHUNKS = (24, 48)
LEAD_IN_CHUNKS = 16
TAKES = 6


@dataclass(frozen=True)
class Shot:
    """One shot of a film: ``frames`` uint8 (1 + n k, H, W, 3), a meta prompt, k chunk texts."""

    frames: np.ndarray
    meta: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Take:
    """What is planned for one doom scene: ``chunks`` of film after ``lead_in`` chunks of play."""

    place: doom.Place
    seed: int
    chunks: int
    lead_in: int


def record_arena(folder: Path, episodes: int, seed: int = 0, per_film: int = 50) -> Path:
    """Film arena episodes.

    Args:
        episodes: how many; episode i has the arena seed ``seed * 1,000,000 + i``.
        seed: below 1,000, so that held-out episodes (``arena.HELD_OUT_SEED`` on) are never filmed.
        per_film: episodes per mp4.

    Returns:
        The manifest.
    """
    if not 0 < episodes <= EPISODES_PER_SEED or per_film < 1:
        raise UserError(
            f"arena: episodes={episodes} must be 1 to {EPISODES_PER_SEED:,} and "
            f"per_film={per_film} at least 1"
        )
    first = seed * EPISODES_PER_SEED
    if not 0 <= first < arena.HELD_OUT_SEED:
        raise UserError(f"arena: seed={seed} must be 0 to 999; what follows is held out")
    starts = range(first, first + episodes, per_film)
    names = [f"arena-{number:05d}" for number in range(len(starts))]
    _check_folder(folder, names)
    rows = []
    for name, start in zip(names, starts, strict=True):
        seeds = range(start, min(start + per_film, first + episodes))
        shots = (_arena_shot(arena.episode(number)) for number in seeds)
        row = _write_film(folder, name, "arena", shots, arena.CLOCK, "rgb_lossless")
        rows.append({**row, "first_seed": seeds[0], "episodes": len(seeds)})
    return _write_manifest(folder, rows)


def record_doom(
    folder: Path,
    seconds: float,
    seed: int = 0,
    per_film: float = 60.0,
    size: tuple[int, int] = (160, 120),
) -> Path:
    """Film the scripted doom player: scenes of 6-12 s, each in another place, cut hard.

    Args:
        seconds: of film in all, at least; the last scene is finished.
        per_film: seconds per mp4, at least; whole scenes, too.
        size: (width, height), see ``doom.SIZES``.

    Returns:
        The manifest.

    Raises:
        UserError: ViZDoom is not installed.
    """
    if not (seconds > 0 and per_film > 0 and seed >= 0):
        raise UserError(
            f"doom: seconds={seconds} and per_film={per_film} must be above 0, "
            f"seed={seed} at least 0"
        )
    films = plan_doom(seconds, seed, per_film)
    names = [f"doom-{number:05d}" for number in range(len(films))]
    _check_folder(folder, names)
    rows = []
    for name, takes in zip(names, films, strict=True):
        scenes = [_shoot(take, size) for take in takes]
        shots = (_doom_shot(footage) for footage in scenes)
        row = _write_film(folder, name, "doom", shots, doom.CLOCK, "yuv420p")
        _write_scenes(folder / f"{name}.scenes.jsonl", scenes)
        places = " ".join(take.place.name for take in takes)
        rows.append({**row, "seed": seed, "places": places})
    return _write_manifest(folder, rows)


def plan_doom(seconds: float, seed: int, per_film: float) -> tuple[tuple[Take, ...], ...]:
    """The takes of each film: every place once, in random order, before any comes again."""
    generator = np.random.default_rng((seed, 1))
    wanted, films, film, length = float(seconds), [], [], 0.0
    places: list[doom.Place] = []
    while wanted > 0:
        places = places or [doom.PLACES[i] for i in generator.permutation(len(doom.PLACES))]
        chunks = int(generator.integers(SCENE_CHUNKS[0], SCENE_CHUNKS[1] + 1))
        lead_in = int(generator.integers(LEAD_IN_CHUNKS + 1))
        film.append(Take(places.pop(), int(generator.integers(2**31)), chunks, lead_in))
        shot = doom.CLOCK.frames(chunks) / doom.CLOCK.fps
        wanted, length = wanted - shot, length + shot
        if length >= per_film or wanted <= 0:
            films.append(tuple(film))
            film, length = [], 0.0
    return tuple(films)


def read_scenes(path: Path) -> tuple[doom.Scene, ...]:
    """The scenes of a recorded doom film, ready for ``doom.replay``."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return tuple(
        doom.Scene(
            row["place"],
            row["seed"],
            tuple(Buttons(*values) for values in row["inputs"]),
            row["lead_in"],
        )
        for row in rows
    )


def _arena_shot(episode: arena.Episode) -> Shot:
    return Shot(episode.frames, episode.meta, arena_words(episode.actions))


def _doom_shot(footage: doom.Footage) -> Shot:
    view = doom.place_named(footage.scene.place).view
    words = doom_words(footage.poses, footage.inputs, doom.CLOCK)
    return Shot(footage.frames, f"a first-person shooter game in {view}", words)


def _shoot(take: Take, size: tuple[int, int]) -> doom.Footage:
    """Film a take; where the player dies too soon, try again, and keep the longest in the end."""
    attempts: list[doom.Footage] = []
    for attempt in range(TAKES):
        with contextlib.suppress(doom.SceneOverError):
            attempts.append(
                doom.film(take.place, take.seed + attempt, take.chunks, take.lead_in, size)
            )
            if len(attempts[-1].inputs) == take.chunks * doom.CLOCK.frames_per_chunk:
                break
    if not attempts:
        raise UserError(
            f"doom: the player died before the film began, {TAKES} times, in {take.place.name!r}: "
            "choose another seed"
        )
    return max(attempts, key=lambda footage: len(footage.inputs))


def _write_film(
    folder: Path, name: str, world: str, shots: Iterable[Shot], clock: Clock, encoding: Encoding
) -> dict[str, Any]:
    """Write a film and its timeline; the manifest row."""
    known: list[tuple[Span, tuple[Span, ...]]] = []
    frames = _with_timeline(shots, clock, known)
    write_video(folder / f"{name}.mp4", frames, clock.fps, encoding)
    metas = tuple(meta for meta, _ in known)
    timeline = Timeline(
        shots=tuple(Span(meta.start, meta.end) for meta in metas),
        metas=metas,
        captions=tuple(caption for _, captions in known for caption in captions),
    )
    write_timeline(folder / f"{name}.timeline.jsonl", timeline)
    return {
        "uri": f"{name}.mp4",
        "timeline": f"{name}.timeline.jsonl",
        "licence": LICENCES[world],
        "title": name,
        "language": "en",
        "world": world,
        "seconds": metas[-1].end,
    }


def _with_timeline(
    shots: Iterable[Shot], clock: Clock, known: list[tuple[Span, tuple[Span, ...]]]
) -> Iterator[np.ndarray]:
    """Pass the frames on one by one and note where each shot and its captions came to lie."""
    frame = 0
    for shot in shots:
        start, end = frame / clock.fps, (frame + len(shot.frames)) / clock.fps
        known.append((Span(start, end, shot.meta), spans(shot.words, start, clock)))
        frame += len(shot.frames)
        yield from shot.frames


def _write_scenes(path: Path, scenes: Iterable[doom.Footage]) -> None:
    """Inputs and game variables of each scene, one JSON line each, in the order of the film."""
    lines = []
    for footage in scenes:
        row = asdict(footage.scene)
        row["inputs"] = [list(astuple(used)) for used in footage.scene.inputs]
        row["poses"] = [list(astuple(pose)) for pose in footage.poses]
        lines.append(json.dumps(row) + "\n")
    write_text(path, "".join(lines))


def _write_manifest(folder: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path = folder / MANIFEST
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return path


def _check_folder(folder: Path, names: Iterable[str]) -> None:
    """Refuse a folder that holds what this run would not write: a pipeline would take it, too.

    What a run that was killed left unfinished is cleared away.
    """
    expected = {MANIFEST} | {
        name + suffix for name in names for suffix in (".mp4", ".timeline.jsonl", ".scenes.jsonl")
    }
    found = sorted(path.name for path in folder.glob("*") if path.name not in expected)
    strange = [name for name in found if not is_temporary(name)]
    if strange:
        raise UserError(
            f"{folder} holds other files ({strange[0]}{', ...' * (len(strange) > 1)}): "
            "record into an empty folder"
        )
    sweep(folder)
