"""A scorer trained on the arena notices false captions in films it never saw. The full proof, on
more footage and on doom, is `python -m benchmarks calibration`."""

from pathlib import Path

import pytest
from small_corpus import make_corpus

from pipeline.calibration.calibrate import calibrate
from pipeline.calibration.contrastive import FitConfig
from pipeline.calibration.scorer import fit_scorer
from worlds.record import record_arena


@pytest.mark.slow
def test_swapped_words_are_seen_and_cannot_be_heard(tmp_path: Path) -> None:
    footage = record_arena(tmp_path / "footage", episodes=160, per_film=8)
    settings = ["shards.validation=0.25", "latents.settings.channels=12"]
    make_corpus(tmp_path / "corpus", footage, "arena", settings)
    made = fit_scorer(tmp_path / "corpus", tmp_path / "scorer", config=FitConfig(steps=1000))
    assert made.distinct == 8 and made.held_out >= 1
    found = calibrate(
        tmp_path / "corpus",
        overrides=[
            "scores.use=[rules, grounding]",
            f"scores.weights={tmp_path / 'scorer'}",
            "scores.grounding.input=montage",
        ],
        kinds=["verb_swap", "neighbour_swap"],
        rate=1.0,
    )
    own, words = (
        next(one for one in found.scores if one.score == name) for name in ("own", "words alone")
    )
    for kind in ("verb_swap", "neighbour_swap"):
        assert own.aurocs[kind].value >= 0.95, kind
        assert 0.3 < words.aurocs[kind].value < 0.7, (
            kind
        )  # few films: a coin that is not quite fair
