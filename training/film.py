"""From a trained run and what a person asks for to a film with its words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from corpus.errors import UserError
from training.generate import Film, Prompt, Session, Settings
from training.generate.output import write_film
from training.picture import read_picture
from training.run_folder import Run, StartFrame
from training.sequence import Latent

UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Made:
    """A film and how it was made.

    Attributes:
        about: JSON values for the transcript.
    """

    film: Film
    about: dict[str, Any]


def film_of(
    run: Run,
    prompt: str,
    image: Path | None,
    say: list[tuple[float, str]],
    seconds: float,
    seed: int,
    guidance: float | None,
    steps: int | None,
) -> Made:
    """Generate a film; the arguments are those of `training.api.generate`."""
    chunks = run.clock.chunks_of(seconds)
    orders = _orders(run, say, chunks)
    if image is None:
        frame = _stored(run, prompt)
        start, source, caption = frame.latent, frame.name, prompt or frame.meta
    else:
        start, source, caption = _encoded(run, image), image.name, prompt
    settings = settings_of(run, seed, guidance, steps, min_chunks=chunks)
    with torch.inference_mode():
        session = Session(run.model, Prompt(tuple(run.tokenizer.encode(caption)), start), settings)
        for chunk, words in orders.items():
            session.say(chunk, words)
        for _ in session.stream(chunks):
            pass
    about = {
        "start_frame": source,
        "say": [{"seconds": at, "text": text} for at, text in say],
        "step": run.step,
        **settings.model_dump(),
    }
    return Made(session.film, about)


def write(run: Run, made: Made, out: Path) -> dict[str, Path]:
    """Write a film and its words beside it."""
    if out.suffix != ".mp4":
        raise UserError(f"--out {out}: a film's name ends in .mp4")
    out.parent.mkdir(parents=True, exist_ok=True)

    def spell(ids: Sequence[int]) -> str:
        """A young model also writes control characters, which subtitles cannot carry."""
        text = run.tokenizer.decode(ids)
        return "".join(c if c.isprintable() else UNPRINTABLE for c in text)

    return write_film(out, made.film, run.codec, run.clock, spell, made.about)


def settings_of(
    run: Run, seed: int, guidance: float | None, steps: int | None, min_chunks: int
) -> Settings:
    """How to generate: the run's own values where nothing else is asked for."""
    own = run.config.sampling
    if guidance is not None and not (guidance >= 0 and math.isfinite(guidance)):
        raise UserError(f"guidance={guidance}: give a number of at least 0 (1 = none)")
    if steps is not None and steps < 1:
        raise UserError(f"steps={steps}: the solver needs at least one")
    return Settings(
        guidance=own.guidance if guidance is None else guidance,
        guided_until=own.guided_until,
        steps=own.steps if steps is None else steps,
        temperature=own.temperature,
        top_p=own.top_p,
        max_words=max(1, run.head.longest),
        min_chunks=min_chunks,
        seed=seed,
    )


def _orders(run: Run, say: list[tuple[float, str]], chunks: int) -> dict[int, tuple[int, ...]]:
    """The user's words by chunk."""
    orders: dict[int, tuple[int, ...]] = {}
    length = run.clock.chunk_seconds
    for at, text in sorted(say):
        # Half a tick of slack: 0.7 is told as 0.7000000000000001 now and then.
        chunk = math.floor(at / length + 1e-6)
        if not 0 <= chunk < chunks:
            raise UserError(f"--say {at}:{text!r} lies outside of the film's {chunks * length} s")
        if chunk in orders:
            raise UserError(f"--say {at}:{text!r}: something is said in this chunk already")
        orders[chunk] = tuple(run.tokenizer.encode(text))
    return orders


def _stored(run: Run, prompt: str) -> StartFrame:
    """The stored start frame whose own caption shares most with the prompt; ties: the first."""
    if not run.start_frames:
        raise UserError(
            f"{run.root} stored no start frames (sampling.start_frames=0): give one with --image"
        )
    wanted = set(prompt.lower().split())

    def likeness(frame: StartFrame) -> float:
        own = set(frame.meta.lower().split())
        return len(own & wanted) / max(len(own | wanted), 1)

    return max(run.start_frames, key=likeness)


def _encoded(run: Run, path: Path) -> Latent:
    """A picture as a start frame, (C, h, w): cut to the nearest shape that the run knows."""
    sizes = [run.size(shape) for shape in run.head.shapes]
    picture = read_picture(path, [(width, height) for height, width in sizes])
    return run.codec.encode(picture[None])[:, 0]
