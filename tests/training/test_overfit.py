"""A model that cannot learn one film by heart cannot learn anything."""

import json
from pathlib import Path

import numpy as np
import torch
from corpora import CODEC, arena_sample, arena_shards, small_config

from training.api import train
from training.generate import Prompt, Session, Settings
from training.metrics import read_lines
from training.run_folder import load_run
from worlds.arena import CHUNKS, background, episode
from worlds.arena_oracle import judge_film

STEPS, LAST = 260, 10


def test_one_film_is_learned_by_heart_and_made_again(tmp_path: Path) -> None:
    shards = arena_shards(tmp_path / "shards", 1)
    config = small_config(
        steps=STEPS,
        model={"preset": "tiny"},
        sequence={"drop_text": 0, "drop_span": 0, "drop_meta": 0, "flip": 0},
        rows={"text": 56, "clean": 17, "noisy": 16, "per_step": 1, "per_pass": 1},
        optimizer={"lr": 1e-3, "warmup": 20, "ema": 0.9, "weight_decay": 0.0},
    )
    run = load_run(train(config, shards, tmp_path / "run"))
    told = [json.loads(line)["loss"] for line in read_lines(run.root / "metrics.jsonl")[-LAST:]]
    assert np.mean([loss["video"] for loss in told]) < 0.01
    assert np.mean([loss["text"] for loss in told]) < 0.05

    film, sample = episode(0), arena_sample(0)
    prompt = Prompt(tuple(run.tokenizer.encode(film.meta)), sample.latent[:, 0])
    settings = Settings(guidance=1.0, steps=6, temperature=0.0)
    with torch.inference_mode():
        session = Session(run.model, prompt, settings)
        list(session.stream(CHUNKS + 1))
    assert session.film.ended
    said = [run.tokenizer.decode(slot.words) for slot in session.film.slots]
    assert said == list(film.actions)
    done = judge_film(CODEC.decode(session.film.latent), background(film.states[0].blocks))
    assert [judgement.action for judgement in done] == list(film.actions)
    assert all(judgement.valid for judgement in done)
