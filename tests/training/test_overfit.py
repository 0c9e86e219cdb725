"""Training and generation together: a clip learned by heart can be said and shown again."""

import torch
from layouts import PLAIN

from corpus.codecs import build as build_codec
from training.generate import Prompt, Session, Settings
from training.losses import losses
from training.model import TV2TV
from training.presets import model_config
from training.rows import Budget, pack
from training.sequence import Draws, Sample, Span, Specials, build
from worlds import arena
from worlds.arena_oracle import judge_film

SPECIALS = Specials(pad=0, drop=1, bof=2, eof=3, eos=4)
STEPS, WARMUP, ROWS, LR = 120, 30, 2, 2e-3
CHUNKS = 10


def test_one_clip_is_learned_by_heart_and_reproduced() -> None:
    torch.manual_seed(0)
    codec = build_codec("dct", channels=96)
    episode = arena.episode(3, CHUNKS)
    ids = {word: 5 + i for i, word in enumerate((*arena.ACTIONS, *episode.meta.split()))}
    latent = codec.encode(episode.frames)
    sample = Sample(
        key="3",
        meta=tuple(ids[word] for word in episode.meta.split()),
        spans=tuple(Span(i, i + 1, (ids[word],)) for i, word in enumerate(episode.actions)),
        latent=latent,
        complete=True,
    )
    model = TV2TV(
        model_config("tiny", vocab=5 + len(ids), channels=codec.info.channels, specials=SPECIALS)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=(0.9, 0.95), fused=True)
    for step in range(STEPS):
        batch = pack(
            [
                [build(sample, Draws(0, sample.key, step * ROWS + row), PLAIN, SPECIALS)]
                for row in range(ROWS)
            ],
            Budget(text=5 + 3 * CHUNKS, clean=1 + CHUNKS, noisy=CHUNKS),
            (96, 3, 3),
            model.config.factor,
            SPECIALS,
        )
        share = min(1.0, (step + 1) / WARMUP, (STEPS - step) / (STEPS / 2))
        for group in optimizer.param_groups:
            group["lr"] = LR * share
        found = losses(model(batch), batch, model.config)
        optimizer.zero_grad()
        found.total().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert found.text.mean() < 0.05  # nats
    assert found.video.mean() < 0.01

    session = Session(
        model.eval(),
        Prompt(sample.meta, latent[:, 0]),
        Settings(guidance=1.0, temperature=0.0, steps=4),
    )
    for _ in session.stream(2 * CHUNKS):
        pass
    film = session.film
    assert film.ended
    assert [slot.words for slot in film.slots] == [span.tokens for span in sample.spans]
    ground = arena.background(episode.states[0].blocks)
    shown = judge_film(codec.decode(film.latent), ground)
    assert tuple(judgement.action for judgement in shown) == episode.actions
