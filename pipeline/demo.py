"""`tv2tv demo`: the whole way once, on small defaults, from footage to a page of films.

Two legs. The *arena* leg uses a world whose truth is known: it trains until words are obeyed and
has the oracle count how often an instruction given in the middle of a film is carried out. The
*films* leg takes footage of a real game (or the user's own videos) through shot detection, measured
captions and shards, and trains on those for a short while.

Everything lies under one folder. A second call resumes: what is durable is not made again.
"""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corpus.errors import UserError
from corpus.shards import ShardSet
from pipeline.pages.demo_page import Film, Leg, write_page
from pipeline.pages.report import write_report
from pipeline.plan import make_plan
from pipeline.recipe import CONFIGS, load_recipe
from pipeline.runner import Result, run
from pipeline.telemetry.progress import View
from training.api import INSTRUCTIONS, can_resume, evaluate, generate, train
from training.config import load_config
from worlds.record import MANIFEST, record_arena, record_doom

SHARDS = "main"
TOLD_AT = 1.5  # seconds into a film at which it is told what to do
ARENA_SECONDS = 3.75


@dataclass(frozen=True)
class Sizes:
    """How much of everything; the defaults fit two cores and ten minutes.

    Attributes:
        episodes: arena episodes to learn from, 4 s each.
        footage: seconds of game to record.
        instructions: mid-film instructions that the oracle judges.
        arena, films: overrides of the two training configs.
    """

    episodes: int = 800
    footage: float = 180.0
    instructions: int = INSTRUCTIONS
    arena: tuple[str, ...] = ()
    films: tuple[str, ...] = ()


@dataclass
class Steps:
    """Announces the steps of the demo and keeps how long each took."""

    view: View
    seconds: dict[str, float] = field(default_factory=dict)

    def take(self, name: str, work: Callable[[], Any]) -> Any:
        self.view.say(f"-- {name}")
        begun = time.monotonic()
        result = work()
        self.seconds[name] = time.monotonic() - begun
        return result


def demo(out: Path, videos: Path | None, sizes: Sizes, view: View) -> Path:
    """Run everything; the path of the page.

    Args:
        videos: the user's own footage for the films leg; recorded from the game when None.
    """
    if videos is not None and not videos.exists():
        raise UserError(f"--input {videos} does not exist: name a folder of videos")
    out.mkdir(parents=True, exist_ok=True)
    steps = Steps(view)
    arena = _arena(out / "arena", sizes, steps)
    films = _films(out / ("yours" if videos else "films"), videos, sizes, steps)
    return write_page(out / "index.html", [arena, films], steps.seconds)


def _arena(folder: Path, sizes: Sizes, steps: Steps) -> Leg:
    """The leg with an oracle."""
    footage = folder / "footage"
    steps.take("arena: film episodes", lambda: _record(footage, record_arena, sizes.episodes))
    result = _corpus("arena", "arena", footage / MANIFEST, folder, steps)
    trained = _train("arena", "train-tiny", sizes.arena, folder, steps)
    counted = steps.take(
        f"arena: {sizes.instructions} instructions, judged by the oracle",
        lambda: evaluate(
            trained,
            folder / "corpus" / "shards" / SHARDS,
            instructions=sizes.instructions,
            out=folder / "obedience.json",
        ),
    )
    films = steps.take("arena: generate films", lambda: _free_and_told(folder))
    return Leg(
        title="A world with an oracle: the arena",
        text="A sprite in a small world does one of eight things every quarter of a second. The "
        "model writes the next word, then draws the chunk that carries it out. The same start "
        "frame, first left to itself, then told after 1.5 seconds what it did not mean to do:",
        levels=_levels(result),
        report=steps.take("arena: report", lambda: Path(write_report(folder / "corpus"))),
        run=trained,
        shards=_totals(folder),
        films=films,
        obedience=counted.to_json(),
        next=(
            _command(folder, [(1.0, "left"), (2.0, "jump")], 4.0),
            f"tv2tv status {folder / 'corpus'}",
            f"tv2tv train {CONFIGS.name}/train-tiny.yaml --shards "
            f"{folder / 'corpus' / 'shards' / SHARDS} --out {folder / 'run-4s'} "
            "--set captions.every=clip",
        ),
    )


def _free_and_told(folder: Path) -> tuple[Film, ...]:
    """One beginning three times: left to itself, and told two things that it did not mean to do."""
    free = _film(folder, "arena", [], ARENA_SECONDS)
    meant = json.loads(free.film.with_suffix(".json").read_text(encoding="utf-8"))["words"]
    own = [word["text"] for word in meant if word["start"] == TOLD_AT]
    told = [word for word in ("paint", "blink", "jump") if word not in own][:2]
    return free, *(_film(folder, "arena", [(TOLD_AT, word)], ARENA_SECONDS) for word in told)


def _films(folder: Path, videos: Path | None, sizes: Sizes, steps: Steps) -> Leg:
    """The leg with real footage: recorded here, or the user's own."""
    given = videos
    if given is None:
        footage = folder / "footage"
        steps.take("films: record the game", lambda: _record(footage, record_doom, sizes.footage))
        given = footage / MANIFEST
    result = _corpus("films", "films", given, folder, steps)
    if result.counts["clips"].ok == 0:
        raise UserError(
            f"no clip of {given} came through the pipeline: "
            f"`tv2tv status {folder / 'corpus'}` says why; name other footage with --input"
        )
    trained = _train("films", "train-films", sizes.films, folder, steps)
    say = [(TOLD_AT, "The camera pans left.")]
    film = steps.take("films: generate a film", lambda: _film(folder, "films", say, 3.0))
    return Leg(
        title="Your videos" if videos else "Footage of a real game: Doom",
        text="Cuts are found, clips normalised, and every two seconds are captioned from what is "
        "measured: camera motion, what moves where, what appears. This model was trained for a "
        "moment only: the machinery turns, but its films are noise still. Train it longer (below).",
        levels=_levels(result),
        report=steps.take("films: report", lambda: Path(write_report(folder / "corpus"))),
        run=trained,
        shards=_totals(folder),
        films=(film,),
        obedience=None,
        next=(
            f"tv2tv run films --input YOUR_VIDEOS --corpus {folder / 'my-corpus'}",
            f"tv2tv train {CONFIGS.name}/train-films.yaml --shards "
            f"{folder / 'corpus' / 'shards' / SHARDS} --out {folder / 'longer'} --set steps=5000",
        ),
    )


def _record(footage: Path, record: Callable[[Path, Any], Path], amount: float) -> None:
    """Film a world, once."""
    if not (footage / MANIFEST).exists():
        record(footage, amount)


def _corpus(name: str, recipe: str, given: Path, folder: Path, steps: Steps) -> Result:
    """Bring footage through the pipeline."""

    def work() -> Result:
        plan = make_plan(load_recipe(recipe), folder / "corpus")
        return run(plan, str(given), steps.view)

    result: Result = steps.take(f"{name}: films to shards", work)
    return result


def _train(name: str, config: str, overrides: Sequence[str], folder: Path, steps: Steps) -> Path:
    """Train, or go on training; a run of other footage or another config makes room."""
    shards = folder / "corpus" / "shards" / SHARDS
    resolved = load_config(CONFIGS / f"{config}.yaml", overrides)
    if (folder / "run").exists() and not can_resume(resolved, shards, folder / "run"):
        steps.view.say(f"{folder / 'run'} learned from something else: it is trained anew")
        shutil.rmtree(folder / "run")
    trained: Path = steps.take(
        f"{name}: train, {resolved.steps} steps",
        lambda: train(resolved, shards, folder / "run", resume=True),
    )
    return trained


def _film(folder: Path, name: str, say: list[tuple[float, str]], seconds: float) -> Film:
    words = " ".join(text.strip(".").replace(" ", "-").lower() for _, text in say) or "free"
    out = folder / "films" / f"{name}-{words}.mp4"
    out.parent.mkdir(parents=True, exist_ok=True)
    made = generate(folder / "run", "", None, say, seconds, out)
    title = f"told at {say[0][0]} s: “{say[0][1]}”" if say else "left to itself"
    return Film(title, _command(folder, say, seconds, out), made["film"], made["strip"])


def _command(
    folder: Path, say: list[tuple[float, str]], seconds: float, out: Path | None = None
) -> str:
    """The command that makes a film from the run's own start frame."""
    told = "".join(f' --say {at}:"{text}"' for at, text in say)
    return (
        f'tv2tv generate {folder / "run"} --prompt ""{told} --seconds {seconds:g} '
        f"--out {out or folder / 'films' / 'mine.mp4'}"
    )


def _levels(result: Result) -> dict[str, Any]:
    return {name: level.to_json() for name, level in result.counts.items()}


def _totals(folder: Path) -> dict[str, Any]:
    return dict(ShardSet.open(folder / "corpus" / "shards" / SHARDS).manifest["totals"])


def closing_words(out: Path, page: Path, videos: Path | None) -> list[str]:
    """Where everything is, and what to try next."""
    arena, films = out / "arena", out / ("yours" if videos else "films")
    return [
        "",
        f"The page: {page}",
        f"Corpora:  {arena / 'corpus'}, {films / 'corpus'} (shards in shards/{SHARDS})",
        f"Runs:     {arena / 'run'}, {films / 'run'}",
        f"Films:    {arena / 'films'}, {films / 'films'}",
        "",
        "Try next (the command lies in .venv/bin):",
        f"  {_command(arena, [(1.0, 'left'), (2.0, 'jump')], 4.0)}",
        f"  tv2tv evaluate {arena / 'run'} --shards {arena / 'corpus' / 'shards' / SHARDS}",
        f"  tv2tv status {films / 'corpus'}",
        f"  tv2tv run real --input YOUR_VIDEOS --corpus {out / 'mine'}",
        "  make demo INPUT=YOUR_VIDEOS",
    ]
