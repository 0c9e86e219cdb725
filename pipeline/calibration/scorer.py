"""`scorer fit`: a scorer of the corpus' own, in the folder format of open_clip."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from corpus.corruption import swap_verbs
from corpus.errors import UserError
from corpus.files import writing_folder
from corpus.shards.writing import ShardPlan, split_videos
from corpus.video import read_video
from pipeline.calibration import contrastive
from pipeline.calibration.contrastive import MEAN, STD, FitConfig, Pairs
from pipeline.calibration.gather import NOTE, Corpus, open_run, texts
from stages.measures import montage
from stages.measures.openclip import FILES
from stages.stage import Record

LEAST_PAIRS, LEAST_TEXTS = 64, 2


@dataclass(frozen=True)
class Fitted:
    """What `fit_scorer` made.

    Attributes:
        pairs, distinct: captions that it learned from, and how many texts they are.
        videos: of the training side; ``held_out``: of the other.
    """

    folder: Path
    pairs: int
    distinct: int
    clips: int
    videos: int
    held_out: int


def fit_scorer(
    place: Path | str,
    out: Path,
    *,
    config: FitConfig | None = None,
    clips: int = 2000,
    say: Callable[[str], None] = lambda text: None,
) -> Fitted:
    """Train on accepted captions of the corpus' training videos, and save.

    Videos are held out as the shards of the latest run hold them out.

    Args:
        out: a new folder, or one that this command wrote.
        clips: at most so many, drawn by their ids.

    Raises:
        UserError: no run, nothing held out, too few captions, or a folder of something else.
    """
    config = config or FitConfig()
    _check_folder(out)
    if config.side % config.patch:
        raise UserError(f"side={config.side} is no multiple of patch={config.patch}")
    corpus = open_run(place)
    training, held_out = _split(corpus)
    records = corpus.accepted(clips, config.seed, only=training)
    pairs = _pairs(corpus, records, config.side)
    distinct = len(set(pairs.texts))
    if len(pairs.texts) < LEAST_PAIRS or distinct < LEAST_TEXTS:
        raise UserError(
            f"{place} has {len(pairs.texts)} accepted captions ({distinct} distinct) in its "
            f"training videos; a scorer needs {LEAST_PAIRS}, and {LEAST_TEXTS} distinct ones"
        )
    say(f"{len(pairs.texts)} captions, {distinct} distinct, of {len(records)} clips")
    built = contrastive.model_config(config, pairs.texts)
    state = contrastive.fit(pairs, built, config, say)
    used = sorted({record["video_id"] for record in records})
    _save(out, state, built, {"videos": sorted(training), "pairs": len(pairs.texts)}, config)
    return Fitted(out, len(pairs.texts), distinct, len(records), len(used), len(held_out))


def _split(corpus: Corpus) -> tuple[set[str], set[str]]:
    """Videos to learn from, and those held out."""
    settings = corpus.plan.recipe.model_dump()
    plan = ShardPlan(seed=settings["seed"], validation=settings["shards"]["validation"])
    videos = {record["video_id"] for record in corpus.finished()}
    held_out = split_videos(videos, plan)
    if not held_out:
        why = "shards.validation is 0" if not plan.validation else "there is but one video"
        raise UserError(
            f"{corpus.place}: nothing is held out ({why}), and a scorer can only be judged on "
            "films that it never saw: run with --set shards.validation=0.1 on several videos"
        )
    return videos - held_out, held_out


def _pairs(corpus: Corpus, records: Sequence[Record], side: int) -> Pairs:
    """Montages and texts of all accepted captions, clip by clip."""
    clock, media = corpus.plan.recipe.clock.clock(), corpus.plan.layout.media
    pictures, told, swapped, clips = [], list[str](), list[str | None](), list[int]()
    for number, record in enumerate(records):
        spans = {
            text_at: clock.span_frames(segment["a"], segment["b"])
            for text_at, segment in enumerate(record["segments"])
        }
        accepted = [(n, text) for n, text in enumerate(texts(record)) if text]
        chosen = {n: montage.chosen(spans[n]) for n, _ in accepted}
        indices = sorted({index for each in chosen.values() for index in each})
        frames = dict(zip(indices, read_video(media.path(record["clip"]), indices), strict=True))
        for n, text in accepted:
            pictures.append(montage.montage([frames[i] for i in chosen[n]], side))
            told.append(text)
            swapped.append(swap_verbs(text))
            clips.append(number)
    shape = (0, side, side, 3)
    stacked = np.stack(pictures) if pictures else np.zeros(shape, np.uint8)
    return Pairs(stacked, tuple(told), tuple(swapped), np.array(clips, np.intp))


def _check_folder(out: Path) -> None:
    strange = sorted(path.name for path in out.glob("*") if path.name not in (*FILES, NOTE))
    if out.exists() and (not out.is_dir() or strange):
        raise UserError(f"{out} is there and is no scorer of ours: choose another --out")


def _save(
    out: Path,
    state: dict[str, Any],
    built: dict[str, Any],
    about: dict[str, Any],
    config: FitConfig,
) -> None:
    """As open_clip saves models, and a note of what it was trained on: all of it or none."""
    transform = {"mean": [MEAN] * 3, "std": [STD] * 3, "interpolation": "bicubic"}
    note = {"input": "montage", "fit": config.model_dump(), **about}
    settings, weights = FILES
    with writing_folder(out) as folder:
        (folder / NOTE).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
        held = {"model_cfg": built, "preprocess_cfg": transform}
        (folder / settings).write_text(json.dumps(held, indent=2) + "\n", encoding="utf-8")
        save_file(state, folder / weights)
