"""`calibrate` on a small corpus: known damage, exact counts, a safe page, nothing changed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from spoken_films import spoken_corpus
from typer.testing import CliRunner

from corpus.captions import KEEP
from corpus.corruption import swap_verbs
from corpus.errors import UserError
from corpus.ids import sha256_file
from pipeline.calibration import calibrate as calibrating
from pipeline.calibration import filters, page
from pipeline.calibration.calibrate import Calibration, calibrate
from pipeline.calibration.gather import NOTE, judges, open_run, texts, trained_on
from pipeline.calibration.injection import Pair, Sentence, inject, plan
from pipeline.calibration.statistics import Auroc
from pipeline.cli import app
from stages.scores import Measured, ScoresStage
from stages.verdicts import VerdictsConfig

WAYS = ("moves left", "moves right", "jumps up", "rests <b>", "appears to move")


def words(films: int = 6, seconds: int = 4) -> dict[str, list[str]]:
    return {
        f"film{n}": [f"it {WAYS[(n + i) % len(WAYS)]}" for i in range(seconds)]
        for n in range(films)
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six films of four captions, of which those with "appears to" are rejected."""
    return spoken_corpus(tmp_path_factory.mktemp("calibration"), words())


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): sha256_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_damage_is_exact_and_of_accepted_captions_only(corpus: Path) -> None:
    run = open_run(corpus)
    records = run.accepted(100, 0)
    told = {record["clip_id"]: texts(record) for record in records}
    accepted = sum(bool(text) for one in told.values() for text in one)
    hedged = sum("appears" in s["text"] for r in records for s in r["segments"])
    assert accepted == 24 - hedged and hedged > 0
    plans = plan(records, ["negation", "verb_swap"], 0.5, 0)
    assert len(plans["negation"]) == round(0.5 * accepted)
    can = sum(swap_verbs(text) is not None for one in told.values() for text in one)
    assert len(plans["verb_swap"]) == round(0.5 * can) > 0
    pairs = list(inject(records, plans, judges(run, ())))
    assert len(pairs) == len(plans["negation"]) + len(plans["verb_swap"])
    for pair in pairs:
        assert pair.true.text == told[pair.clip][pair.place] != pair.damaged.text
        assert pair.damaged.text == plans[pair.kind][pair.clip, pair.place]
        assert pair.true.verdict == KEEP and pair.true.scores["words"] == len(
            pair.true.text.split()
        )
    assert plan(records[::-1], ["negation"], 0.5, 0)["negation"] == plans["negation"]


def test_which_clips_are_drawn_follows_from_their_ids(corpus: Path) -> None:
    run = open_run(corpus)
    few, all_of_them = run.accepted(3, 0), run.accepted(100, 0)
    assert [r["clip_id"] for r in few] == [r["clip_id"] for r in all_of_them[:3]]
    assert {r["clip_id"] for r in run.accepted(3, 1)} != {r["clip_id"] for r in few}
    video = few[0]["video_id"]
    assert all(r["video_id"] != video for r in run.accepted(100, 0, without={video}))
    assert {r["video_id"] for r in run.accepted(100, 0, only={video})} == {video}


def test_a_score_that_sees_the_truth_is_told_from_one_that_does_not(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``oracle`` is right about every caption, ``guess`` knows nothing, ``gone`` is missing."""
    told = {name: set(all_words) for name, all_words in words().items()}
    said = {text for every in told.values() for text in every}
    measure = ScoresStage.measure

    def measured(self: ScoresStage, clips: Sequence[Any]) -> list[list[Measured]]:
        found = measure(self, clips)
        for (_, _, segments), many in zip(clips, found, strict=True):
            for place, (segment, one) in enumerate(zip(segments, many, strict=True)):
                if segment["text"]:
                    one.scores["oracle"] = float(segment["text"] in said) + place / 100
                    one.scores["guess"] = (17 * segment["a"] + 5) % 7.0
                    if segment["text"] in said:
                        one.scores["gone"] = 1.0
        return found

    monkeypatch.setattr(ScoresStage, "measure", measured)
    found = calibrate(corpus, kinds=["negation", "object_insertion", "drop"], rate=1.0)
    scores = {one.score: one for one in found.scores}
    assert scores["oracle"].aurocs["all"].value == 1.0
    assert scores["gone"].aurocs["negation"].value == 1.0, "what is missing is not kept"
    assert scores["guess"].aurocs["all"].value == 0.5
    assert scores["words alone"].aurocs["negation"].value == 1.0
    assert found.counts["drop"] > 0 and "drop" not in scores["oracle"].aurocs
    assert found.best in ("oracle", "gone")
    (proposed,) = [one for one in found.filters if one.score == "oracle"]
    assert proposed.proposed and proposed.least and proposed.damaged["all"] == 1.0
    assert proposed.true <= 1 - found.keep and not [f for f in found.filters if f.score == "guess"]
    assert found.passes["all"] == 0.0


def pair(kind: str, video: str, true: dict[str, float], damaged: dict[str, float]) -> Pair:
    return Pair(
        kind,  # type: ignore[arg-type]
        video,
        "c",
        0,
        Sentence("x", true, KEEP),
        Sentence("y", damaged, "low"),
    )


def test_filters_tell_who_is_first_and_who_says_the_same(corpus: Path) -> None:
    good = {"words": 5.0, "plain": 1.0, "own": 0.9, "other": 0.9}
    pairs = [
        pair("negation", "v", good, {**good, "plain": 0.5, "own": 0.1}),
        pair("negation", "v", good, {**good, "own": 0.1}),
        pair("negation", "v", good, {**good, "own": 0.1, "other": 0.1}),
        pair("negation", "v", good, {name: n for name, n in good.items() if name != "plain"}),
    ]
    judging = judges(open_run(corpus), ["verdicts.at_least.own=0.5"])
    found = filters.find(
        {"all": pairs, "negation": pairs},
        {name: Auroc(0.5 if name == "other" else 0.9, None, None) for name in good},
        judging,
        0.95,
    )
    by_name = {one.rule: one for one in found.filters}
    plain, own = by_name["plain ≥ 1"], by_name["own ≥ 0.5"]
    assert not plain.proposed and not own.proposed and "other ≥ 0.9" not in by_name
    assert (plain.damaged["all"], own.damaged["all"]) == (0.5, 0.75), "missing is not kept"
    assert (plain.first["all"], own.first["all"]) == (0.5, 0.5)
    assert found.passes == {"all": 0.0, "negation": 0.0, "true": 1.0}
    places = {one.rule: n for n, one in enumerate(found.filters)}
    assert own.also[places["plain ≥ 1"]] == pytest.approx(1 / 3)
    assert by_name["words ≥ 1"].also == (None,) * len(found.filters)


def test_no_row_is_changed_and_the_page_is_safe(corpus: Path, tmp_path: Path) -> None:
    before = tree(corpus)
    asked = ["calibrate", str(corpus), "--rate", "1", "--set", "comparisons.use=[rare]"]
    answer = CliRunner().invoke(app, [*asked, "--out", str(tmp_path)])
    assert answer.exit_code == 0, answer.output
    assert tree(corpus) == before
    assert "negation" in answer.output and "rare" in answer.output
    text = (tmp_path / "calibration.html").read_text()
    assert "it rests &lt;b&gt;" in text and "<b>it rests" not in text and "rests <b>" not in text
    assert "http" not in text.replace("http-equiv", "") and "<script" not in text
    found = json.loads((tmp_path / "calibration.json").read_text())
    assert {one["score"] for one in found["scores"]} >= {"words", "rare", "words alone"}
    inside = CliRunner().invoke(app, asked)
    assert inside.exit_code == 0
    new = set(tree(corpus)) - set(before)
    assert {Path(name).name for name in new} == {"calibration.html", "calibration.json"}


def test_the_same_again_is_the_same(corpus: Path) -> None:
    one, two = (calibrate(corpus, rate=0.5, seed=3) for _ in range(2))
    assert one == two
    assert {s.score: s.aurocs for s in one.scores} != {
        s.score: s.aurocs for s in calibrate(corpus, rate=0.5, seed=4).scores
    }


def test_mistakes_are_told(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lies is no kind of damage: choose from neighbour_swap"):
        calibrate(corpus, kinds=["lies"])
    with pytest.raises(UserError, match="only scores, comparisons, verdicts can be set here"):
        calibrate(corpus, overrides=["clips.min_seconds=2"])
    with pytest.raises(UserError, match="drop leaves no text"):
        calibrate(corpus, kinds=["drop"])
    with pytest.raises(UserError, match=r"at rate 0 .*verb_swap.* change none of \d+ accepted"):
        calibrate(corpus, rate=0.0)
    with pytest.raises(UserError, match=r"at rate 0.01 negation change none of"):
        calibrate(corpus, rate=0.01, kinds=["negation"])
    with pytest.raises(UserError, match="is no corpus"):
        calibrate(tmp_path)


def test_films_that_the_scorer_learned_from_are_left_out(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = sorted({record["video_id"] for record in open_run(corpus).finished()})
    (tmp_path / NOTE).write_text(json.dumps({"videos": videos[:4]}))
    assert trained_on(str(tmp_path)) == frozenset(videos[:4]) and trained_on(None) == frozenset()
    monkeypatch.setattr(calibrating, "trained_on", lambda weights: trained_on(str(tmp_path)))
    found = calibrate(corpus, rate=1.0)
    assert (found.left_out, found.videos) == (4, 2)
    (tmp_path / NOTE).write_text(json.dumps({"videos": videos}))
    with pytest.raises(UserError, match="all of them are in films that the scorer was trained on"):
        calibrate(corpus)
    (tmp_path / NOTE).write_text("{}")
    with pytest.raises(UserError, match="is damaged"):
        trained_on(str(tmp_path))


def test_tables_name_every_score_and_kind(corpus: Path) -> None:
    found: Calibration = calibrate(corpus, rate=1.0)

    def shown(width: int) -> str:
        console = Console(width=width)
        with console.capture() as capture:
            console.print(page.table(found))
            console.print(page.filter_table(found))
        return capture.get()

    for kind in set(found.counts) - {"drop"}:
        assert kind.replace("_", " ") in shown(300)
    for name in (*(one.score for one in found.scores), *(one.rule for one in found.filters)):
        assert name in shown(300) and name in shown(80), "nothing is cut short"
    assert "…" not in shown(80) and ".500 ±.000" in shown(300)
    assert any("drop leaves no text" in note for note in page.notes(found))
    assert VerdictsConfig().at_least == {} and np.isfinite(found.scores[0].aurocs["all"].value)
