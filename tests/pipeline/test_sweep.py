"""Sweeps over stored scores: what thresholds would keep, alone and with the others."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ledger_fakes import latest_of
from rich.console import Console
from typer.testing import CliRunner

from corpus.errors import UserError
from corpus.rows import Row
from pipeline.cli import app
from pipeline.inputs.sources import Listing
from pipeline.ledger.replay import Answered, Replay, Waiting
from pipeline.ledger.status import Latest
from pipeline.plan import make_plan
from pipeline.recipe import load_recipe
from pipeline.sweep.items import Level
from pipeline.sweep.tables import overview, tell
from pipeline.sweep.thresholds import Histogram, Kept, Likeness, Scores, Step, Sweep
from stages.measures.signature import signature
from stages.stage import Record

# name, chunks, motion, frozen, signature
CLIPS = [
    ("a", 8, 0.0, 1.0, "one"),
    ("b", 8, 0.1, 0.5, "one again"),
    ("c", 16, 0.2, 0.0, "one"),
    ("d", 16, 0.4, 0.0, "other"),
]
SEGMENTS = [("s1", "a", 3.0), ("s2", "b", 0.0), ("s3", "c", 9.0)]


@pytest.fixture(scope="module")
def signatures() -> dict[str, str]:
    one, other = np.random.default_rng(0).integers(0, 200, (2, 17, 24, 40), dtype=np.uint8)
    films = {"one": one, "one again": one + 30, "other": other}
    return {name: signature(film) for name, film in films.items()}


@pytest.fixture
def status(tmp_path: Path, signatures: dict[str, str]) -> Any:
    """Status of a corpus with `CLIPS` and `SEGMENTS`; settings are the recipe's."""

    def made(*settings: str) -> Latest:
        plan = make_plan(load_recipe("real", settings), tmp_path)
        positions = {stage.name: at for at, stage in enumerate(plan.stages)}
        answered = []

        def answer(stage: str, unit: str, row: Row, onward: int = 1) -> None:
            answered.append(Answered(positions[stage], "k", unit, (unit,), [row], onward))

        for name, chunks, motion, frozen, looks in CLIPS:
            answer("clips", "v", Row("clip", "shot", name, columns={"chunks": chunks}))
            quality = [("motion", motion), ("frozen", frozen), ("black", 0.0)]
            columns = {"quality": quality, "signature": signatures[looks]}
            answer("quality", name, Row("clip", None, name, columns=columns))
        lost = Row("clip", None, "e", "failed", "not_finite", columns={"quality": [("motion", 9)]})
        answer("quality", "e", lost, 0)
        if "filters" in positions:
            answer("filters", "a", Row("clip", None, "a", "filtered", "frozen", "", 1.0), 0)
        for name, clip, words in SEGMENTS:
            answer("segments", clip, Row("segment", clip, name, columns={"a": 0, "b": 8}))
            scores = {"scores": [("words", words), ("new", 1.0)]}
            answer("scores", clip, Row("segment", clip, name, columns=scores))
        silent = Row("segment", "d", "s4", columns={"scores": []})
        answer("segments", "d", Row("segment", "d", "s4", columns={"a": 0, "b": 4}))
        answer("scores", "d", silent)
        return latest_of(plan, Listing([], 0), Replay(answered), {})

    return made


def gathered(latest: Latest, level: Level, *, signatures: bool = False) -> Scores:
    scores = Scores(latest.plan, level, signatures=signatures)
    latest.count(scores.add)
    return scores


def sweeps(latest: Latest, level: Level, score: str | None = None) -> list[Sweep]:
    return gathered(latest, level).sweeps(score)


def likeness(latest: Latest) -> Likeness:
    return gathered(latest, "clips", signatures=True).likeness()


def histograms(latest: Latest) -> list[Histogram]:
    levels: tuple[Level, ...] = ("clips", "segments")
    return [one for level in levels for one in gathered(latest, level).histograms()]


def test_each_threshold_keeps_what_lies_within(status: Any) -> None:
    (found,) = sweeps(status(), "clips", "motion")
    assert found.have == Kept(4, 12.0)
    assert found.spread[0] == 0 and found.spread[-1] == 0.4
    ends = {step.threshold: step for step in found.steps}
    assert ends[0.0].at_least == Kept(4, 12.0) and ends[0.0].at_most == Kept(1, 2.0)
    assert ends[0.4].at_least == Kept(1, 4.0) and ends[0.4].at_most == Kept(4, 12.0)


def test_the_recipe_s_other_thresholds_hold_but_never_the_swept_one(status: Any) -> None:
    now = status("filters.at_least.motion=0.15")
    (motion,) = sweeps(now, "clips", "motion")
    (held,) = [step for step in motion.steps if step.quantile is None]
    assert (motion.at_least, motion.at_most) == (0.15, None)
    assert held.threshold == 0.15 and held.at_least == Kept(2, 8.0)
    everything = motion.steps[0]
    assert everything.at_least == Kept(4, 12.0)
    assert everything.at_least_too == Kept(3, 10.0), "a is frozen"
    assert motion.kept == Kept(2, 8.0)


def test_segments_are_swept_as_verdicts_judges_them(status: Any) -> None:
    words, new = sorted(sweeps(status(), "segments"), key=lambda one: one.score != "words")
    assert words.have == Kept(3, 6.0) and words.at_least == 1.0 and words.at_most == 120.0
    assert new.at_least is None and words.kept == Kept(2, 4.0)
    strict = status("verdicts.at_least.own=0.2")
    assert sweeps(strict, "segments", "words")[0].kept == Kept(0, 0.0), "fail closed"


def test_near_duplicates_are_swept_among_what_passes(status: Any) -> None:
    found = likeness(status())
    assert found.holds is None and dict(found.steps)[0.85] == Kept(2, 8.0)
    assert dict(likeness(status("filters={}")).steps)[0.85] == Kept(2, 8.0)
    asked = status("near_duplicates.filter=true", "near_duplicates.likeness=0.83")
    assert likeness(asked).holds == 0.83


def test_histograms_hold_every_score_once(status: Any) -> None:
    found = {(one.level, one.score): one for one in histograms(status())}
    assert set(found) == {
        *(("clips", "black"), ("clips", "frozen"), ("clips", "motion")),
        *(("segments", "new"), ("segments", "words")),
    }
    frozen = found["clips", "frozen"]
    assert frozen.at_most == 0.98 and frozen.at_least is None
    assert sum(frozen.counts) == 4 and len(frozen.edges) == len(frozen.counts) + 1
    assert frozen.edges[0] == 0 and frozen.edges[-1] == 1
    beyond = sum(n for n, edge in zip(frozen.counts, frozen.edges, strict=False) if edge > 0.98)
    assert beyond == 1, "no bar holds what is kept and what is not"


def shown(told: Any) -> str:
    console = Console(width=160, record=True, quiet=False, file=None)
    with console.capture() as capture:
        for part in told.shown():
            console.print(part)
    return capture.get()


def test_what_people_and_machines_are_told(status: Any) -> None:
    now = status()
    whole = tell(now, "clips", None)
    names: list[Record] = json.loads(json.dumps(whole.to_json()))["scores"]
    assert [one["score"] for one in names] == ["black", "frozen", "motion", "near_duplicate"]
    line = next(text for text in shown(whole).splitlines() if text.startswith("frozen"))
    assert "<= 0.98" in line and "3 (10 s)" in line
    assert "in force" in shown(tell(now, "clips", "frozen"))
    assert "0.85" in shown(tell(now, "clips", "near_duplicate"))
    for level, score, words in (
        ("shots", None, "choose from clips, segments"),
        ("clips", "beauty", "no clip has a score beauty; there are: black, frozen, motion"),
    ):
        with pytest.raises(UserError, match=words):
            tell(now, level, score)


def test_a_corpus_without_scores_says_so(tmp_path: Path) -> None:
    plan = make_plan(load_recipe("arena"), tmp_path)
    empty = latest_of(plan, Listing([], 0), Replay(), {})
    assert "no clips have scores" in shown(tell(empty, "clips", None))
    assert histograms(empty) == []
    record = Waiting(0, "k", "v", ("v",), {})
    waits = latest_of(plan, Listing([], 0), Replay(waiting=[record]), {})
    assert "1 records wait" in shown(tell(waits, "segments", None))


def test_the_command(status: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pipeline.ledger.status.latest", lambda corpus: status())
    asked = CliRunner().invoke(app, ["sweep", str(tmp_path), "clips", "--score", "motion"])
    assert asked.exit_code == 0 and "quantile" in asked.output
    machine = CliRunner().invoke(app, ["sweep", str(tmp_path), "segments", "--json"])
    found = json.loads(machine.output)
    assert [one["score"] for one in found["scores"]] == ["new", "words"]
    assert found["scores"][1]["kept"] == {"count": 2, "seconds": 4.0}


def test_a_terminal_shows_names_and_numbers_whole() -> None:
    kept = Kept(71, 142.0)
    spread = (0.0001234, 0.002345, 0.02345, 0.2345, 0.3456)
    step = Step(0.98, None, kept, kept, kept, kept)
    one = Sweep("clips", "claims_per_second", kept, spread, None, 0.98, kept, (step,))
    narrow = Console(width=80)
    with narrow.capture() as capture:
        narrow.print(overview([one]))
    assert [len(line.split()) for line in capture.get().splitlines()] == [9, 12]
