"""A corpus of real stages on a few seconds of film, made in this process and without Ray."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from corpus import layout
from corpus.timeline import Span, Timeline, write_timeline
from corpus.video import write_video
from pipeline.inputs.listing import list_sources
from pipeline.inputs.naming import identify
from pipeline.inputs.sources import Listing, write_listing
from pipeline.ledger.tables import Table
from pipeline.ledger.walk import slices
from pipeline.plan import Plan, make_plan
from pipeline.recipe import parse_recipe

FPS = 16
RECIPE: dict[str, Any] = {
    "probe": {"min_seconds": 0.5},
    "shots": {"detectors": [{"kind": "given"}]},
    "clips": {"min_seconds": 1, "max_seconds": 4, "buckets": [[96, 64]]},
    "quality": {"use": []},
    "segments": {"mode": "fixed", "seconds": 1},
    "captions": {"backend": "given", "ladders": ["2s"]},
    "latents": {"settings": {"channels": 12}},
    "shards": {"validation": 0},
}


def film(seed: int, seconds: int) -> np.ndarray[Any, Any]:
    """A bright square crosses a room of its own colour."""
    generator = np.random.default_rng(seed)
    room = generator.integers(0, 60, (64, 96, 3)) + generator.integers(0, 120, 3)
    frames = np.repeat(room[None].astype(np.uint8), 1 + FPS * seconds, axis=0)
    for number, frame in enumerate(frames):
        left = (number * 2) % 76
        frame[20:40, left : left + 20] = (250, 240, 30)
    return frames


def footage(folder: Path, words: dict[str, Sequence[str]]) -> Path:
    """Films by name, with one caption per second; the first says what the film is about."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, captions) in enumerate(words.items()):
        write_video(folder / f"{name}.mp4", film(seed, len(captions)), FPS)
        spans = tuple(Span(float(i), float(i + 1), text) for i, text in enumerate(captions))
        whole = (Span(0.0, float(len(captions)), f"film {name}"),)
        shots = (Span(0.0, len(captions) + 1 / FPS),)
        line = Timeline(shots, whole, spans)
        write_timeline(folder / f"{name}.timeline.jsonl", line)
    return folder


def make_corpus(place: Path, inputs: Path, settings: Sequence[str] = ()) -> Plan:
    """All stages on all films, and a run's folder that says so; no shards."""
    plan = make_plan(parse_recipe(RECIPE, settings, "test", "test"), place)
    layout.create(plan.layout.store, plan.recipe.clock.clock())
    listing = list_sources(inputs, plan.recipe.source)
    cache = plan.layout.table("sources", "1")
    listing = identify(listing, plan.recipe.source, cache, rehash=False)
    run = plan.layout.runs.at("20260101T000000Z-1")
    run.write_text("recipe.yaml", plan.recipe.to_yaml())
    write_listing(run, listing)
    while _step(plan, listing):
        pass
    return plan


def _step(plan: Plan, listing: Listing) -> bool:
    """Answer all records that wait; False when none does."""
    waiting = [one for part in slices(plan, listing) for one in part.found.waiting]
    for one in waiting:
        stage = plan.stages[one.stage]
        stage.open()
        (rows,) = stage.process([stage.seen(one.record)])
        Table.of(plan.layout, stage).write([(one.key, one.record["video_id"], rows)])
    return bool(waiting)
