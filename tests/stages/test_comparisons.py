"""Scores that need all captions: the same whatever the order in which clips came."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpus.clock import Clock
from corpus.errors import UserError
from corpus.layout import Media
from pipeline.plan import make_plan
from pipeline.recipe import load_recipe
from stages.comparisons import ComparisonsConfig, ComparisonsStage, Crowd
from stages.measures.vectors import packed, unpacked
from stages.stage import Context, Record


def clip(name: str, *texts: str, seed: int | None = None) -> Record:
    segments: list[dict[str, Any]] = [
        {
            "segment_id": f"{name}{i}",
            "text": text,
            "scores": {"words": 2.0},
            "verdict": "no_verdict",
        }
        for i, text in enumerate(texts)
    ]
    if seed is not None:
        for number, segment in enumerate(segments):
            rng = np.random.default_rng((seed, number))
            said, seen = (packed(rng.normal(size=8).astype(np.float32)) for _ in range(2))
            segment |= {"said": said, "seen": seen}
    return {"clip_id": name, "segments": segments}


def stage(*, seed: int = 0, **config: Any) -> ComparisonsStage:
    return ComparisonsStage(ComparisonsConfig(**config), Context(Media(Path()), Clock(), seed))


def scores(one: ComparisonsStage, *records: Record) -> dict[str, dict[str, float]]:
    seen = [one.content(record) for record in records]
    return {str(row.id): dict(row.columns["scores"]) for rows in one.process(seen) for row in rows}


def test_a_text_is_rare_by_the_number_of_clips_that_have_it() -> None:
    records = [
        clip("a", "A dog runs.", "a dog runs", "only here"),
        clip("b", "a dog  runs!", ""),
        clip("c", "a cat"),
    ]
    found = scores(stage(use=["rare"]), *records)
    assert found["a0"] == found["a1"] == found["b0"] == {"rare": 0.5}
    assert found["a2"] == found["c0"] == {"rare": 1.0}
    assert found["b1"] == {}, "no text, no score"
    assert found == scores(stage(use=["rare"]), *records[::-1])


def test_a_foreign_text_counts_with_the_clip_that_it_is_put_into() -> None:
    crowd = Crowd([clip("a", "x"), clip("b", "x")], ComparisonsConfig(use=("rare",)), 0)
    assert crowd.scores("a", {"text": "x"}) == {"rare": 1 / 2}
    assert crowd.scores("c", {"text": "x"}) == {"rare": 1 / 3}
    assert crowd.scores("c", {"text": "new"}) == {"rare": 1.0}


def test_random_is_own_likeness_less_that_to_other_clips() -> None:
    records = [clip(name, "x", "y", seed=n) for n, name in enumerate("abc")]
    one = stage(use=["random"], references=2)
    found = scores(one, *records)
    assert set(found["a0"]) == {"random"}
    said, seen = unpacked([records[0]["segments"][0][name] for name in ("said", "seen")])
    likeness = {
        record["clip_id"]: unpacked([s["seen"] for s in record["segments"]]) @ said
        for record in records[1:]
    }
    possible = {
        round(float(said @ seen - (b + c) / 2), 6) for b in likeness["b"] for c in likeness["c"]
    }
    assert round(found["a0"]["random"], 6) in possible, "its own clip is never drawn"
    assert found == scores(one, *records[::-1])


def test_which_clips_are_drawn_follows_from_seed_and_ids_alone() -> None:
    records = [clip(f"c{n}", "x", seed=n) for n in range(30)]
    found = scores(stage(use=["random"], references=3), *records)
    assert found == scores(stage(use=["random"], references=3), *records[::-1])
    assert found != scores(stage(use=["random"], references=3, seed=1), *records)
    assert scores(stage(use=["random"]), records[0]) == {"c00": {}}, "nothing to compare with"


def test_vectors_keep_their_direction() -> None:
    vector = np.random.default_rng(0).normal(size=512).astype(np.float32)
    (read,) = unpacked([packed(vector)])
    assert read @ vector / np.linalg.norm(vector) > 0.9999
    assert np.isfinite(unpacked([packed(np.zeros(4, np.float32))])).all()


def test_the_plan_has_it_where_it_is_asked_for(tmp_path: Path) -> None:
    def names(*settings: str) -> list[str]:
        return [one.name for one in make_plan(load_recipe("real", settings), tmp_path).stages]

    assert "comparisons" not in names()
    asked = names("comparisons.use=[rare]")
    at = asked.index("comparisons")
    assert asked[at - 1 : at + 2] == ["scores", "comparisons", "verdicts"]
    with pytest.raises(UserError, match="random compares what grounding saw"):
        names("comparisons.use=[random]")


def test_scores_of_before_stay() -> None:
    record = clip("a", "x")
    one = stage(use=["rare"])
    (rows,) = one.process([one.content(record)])
    (after,) = one.advance(record, rows)
    assert after["segments"][0]["scores"] == {"words": 2.0, "rare": 1.0}
