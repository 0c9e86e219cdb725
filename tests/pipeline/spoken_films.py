"""Films with a caption per second, and the corpus that they make."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from small_corpus import make_corpus

from corpus.timeline import Span, Timeline, write_timeline
from corpus.video import write_video

FPS = 16
SETTINGS = (
    "clips.buckets=[[32,32]]",
    "segments.seconds=1",
    "latents.settings.channels=12",
)


def film(seed: int, seconds: int) -> np.ndarray[Any, Any]:
    """A bright square crosses a room of its own colour."""
    room = np.random.default_rng(seed).integers(0, 120, 3)
    frames = np.full((1 + FPS * seconds, 32, 32, 3), room, np.uint8)
    for number, frame in enumerate(frames):
        frame[10:16, number % 26 : number % 26 + 6] = (250, 240, 30)
    return frames


def spoken_corpus(
    folder: Path, words: Mapping[str, Sequence[str]], settings: Sequence[str] = ()
) -> Path:
    """A corpus of films by name, with their captions, a second each."""
    inputs = folder / "films"
    inputs.mkdir(parents=True)
    for seed, (name, captions) in enumerate(words.items()):
        write_video(inputs / f"{name}.mp4", film(seed, len(captions)), FPS)
        spans = tuple(Span(float(i), float(i + 1), text) for i, text in enumerate(captions))
        line = Timeline((Span(0.0, len(captions) + 1 / FPS),), (), spans)
        write_timeline(inputs / f"{name}.timeline.jsonl", line)
    make_corpus(folder / "corpus", inputs, "arena", (*SETTINGS, *settings))
    return folder / "corpus"
