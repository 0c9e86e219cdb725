"""`classifier fit`: labels in, a JSON file out, and a score that verdicts can judge by."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spoken_films import spoken_corpus
from typer.testing import CliRunner

from corpus.clock import Clock
from corpus.errors import UserError
from corpus.layout import Media
from pipeline.calibration.classifier import fit_classifier, read_labels
from pipeline.calibration.gather import open_run
from pipeline.cli import app
from stages.measures.classifier import Classifier, read_classifier
from stages.stage import Context, Record
from stages.verdicts import VerdictsConfig, VerdictsStage

SHORT, LONG = "it moves", "it moves left and right and left and then it moves up and down again"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight films of eight captions, short and long ones."""
    words = {f"film{n}": [(SHORT, LONG)[(n + i) % 2] for i in range(8)] for n in range(8)}
    return spoken_corpus(tmp_path_factory.mktemp("classifier"), words)


def segments(corpus: Path) -> list[Record]:
    return [s for record in open_run(corpus).accepted(100, 0) for s in record["segments"]]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def label(segment: Record, **more: Any) -> dict[str, Any]:
    """People like long captions."""
    good = "accept" if segment["text"] == LONG else "reject"
    return {"segment_id": segment["segment_id"], "label": good, "text": segment["text"], **more}


def test_labels_become_a_score_that_judges(corpus: Path, tmp_path: Path) -> None:
    labels = write(tmp_path / "labels.csv", [label(one) for one in segments(corpus)])
    made = fit_classifier(corpus, labels, tmp_path / "quality.json")
    assert (made.labels, made.accepted, made.videos, made.left_out) == (64, 32, 8, {})
    assert made.auroc.value == 1.0 and "words" in made.classifier.features
    read = read_classifier(tmp_path / "quality.json")
    assert read == made.classifier
    config = VerdictsConfig(classifier=str(tmp_path / "quality.json"), at_least={"quality": 0.5})
    stage = VerdictsStage(config, Context(Media(tmp_path), Clock()))
    record = open_run(corpus).accepted(1, 0)[0]
    fresh = [{**one, "verdict": "no_verdict"} for one in record["segments"]]
    (rows,) = stage.process([{**record, "segments": fresh}])
    assert [row.reason for row in rows] == [
        None if one["text"] == LONG else "low_quality" for one in fresh
    ]
    (after,) = stage.advance({**record, "segments": fresh}, rows)
    assert all(0 <= one["scores"]["quality"] <= 1 for one in after["segments"])


def test_a_classifier_counts_by_content(corpus: Path, tmp_path: Path) -> None:
    one = Classifier(("words",), (1.0,), (2.0,), (3.0,), 0.5)
    for name in "ab":
        (tmp_path / f"{name}.json").write_text(json.dumps({**one.to_json(), "fitted": name}))
    prints = {
        VerdictsStage(
            VerdictsConfig(classifier=str(tmp_path / f"{name}.json")),
            Context(Media(tmp_path), Clock()),
        ).fingerprint
        for name in "ab"
    }
    assert len(prints) == 1
    none = VerdictsStage(VerdictsConfig(), Context(Media(tmp_path), Clock()))
    assert none.fingerprint not in prints


def test_a_missing_score_gives_no_quality_and_is_not_kept(tmp_path: Path) -> None:
    one = Classifier(("words", "own"), (1.0, 0.0), (2.0, 1.0), (3.0, 1.0), 0.5)
    assert one.score({"words": 2.0}) is None
    assert one.score({"words": 2.0, "own": math.nan}) is None
    (tmp_path / "q.json").write_text(json.dumps(one.to_json()))
    config = VerdictsConfig(classifier=str(tmp_path / "q.json"), at_least={"quality": 0.0})
    stage = VerdictsStage(config, Context(Media(tmp_path), Clock()))
    segment = {"segment_id": "s", "text": "x", "scores": {"words": 2.0}, "verdict": "no_verdict"}
    (rows,) = stage.process([{"clip_id": "c", "segments": [segment]}])
    assert rows[0].reason == "no_score"


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_quality_is_a_probability_that_grows_with_its_score(low: float, high: float) -> None:
    one = Classifier(("own",), (0.0,), (1.0,), (2.0,), 0.0)
    low, high = sorted((low, high))
    found = [one.score({"own": value}) for value in (low, high)]
    assert found[0] is not None and found[1] is not None
    assert 0 <= found[0] <= found[1] <= 1


def test_too_few_labels_or_of_one_kind_are_refused(corpus: Path, tmp_path: Path) -> None:
    rows = [label(one) for one in segments(corpus)]
    out = tmp_path / "q.json"
    for kept, why in (
        (rows[:20], "A classifier needs 50 labels"),
        ([{**row, "label": "accept"} for row in rows], "gives 64 accepted and 0 rejected"),
        ([{**row, "label": "accept"} for row in rows[5:]] + [], "at least 10 of either kind"),
    ):
        with pytest.raises(UserError, match=why):
            fit_classifier(corpus, write(tmp_path / "l.csv", kept), out)
    assert not out.exists()
    with pytest.raises(UserError, match="no labelled caption has a score own; there are: "):
        fit_classifier(corpus, write(tmp_path / "l.csv", rows), out, features=["own"])


def test_labels_of_other_texts_and_other_corpora_and_ties_are_told(
    corpus: Path, tmp_path: Path
) -> None:
    known = segments(corpus)
    rows = [label(one) for one in known]
    rows[0]["text"] = "an older caption"
    rows += [{"segment_id": "elsewhere", "label": "accept", "text": "x"}]
    rows += [{**label(known[1]), "label": "reject" if known[1]["text"] == LONG else "accept"}]
    made = fit_classifier(corpus, write(tmp_path / "l.csv", rows), tmp_path / "q.json")
    assert made.labels == 62
    assert made.left_out == {
        "captioned anew since": 1,
        "not in the latest run": 1,
        "judges differ": 1,
    }


def test_a_file_that_is_no_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_labels(tmp_path / "none.csv")
    for rows, why in (
        ([{"segment_id": "a", "verdict": "1"}], "has no column label"),
        ([{"segment_id": "a", "label": "perhaps"}], "line 2: 'perhaps' is no label"),
        (
            [{"segment_id": "a", "label": "1", "text": t} for t in "xy"],
            "line 3: segment a was judged with another text",
        ),
    ):
        with pytest.raises(UserError, match=why):
            read_labels(write(tmp_path / "l.csv", rows))
    (tmp_path / "q.json").write_text('{"schema": 1, "features": [], "bias": 0}')
    with pytest.raises(UserError, match="is no quality classifier"):
        read_classifier(tmp_path / "q.json")


def test_the_command(corpus: Path, tmp_path: Path) -> None:
    labels = write(tmp_path / "labels.csv", [label(one) for one in segments(corpus)])
    out = tmp_path / "quality.json"
    asked = ["classifier", "fit", str(corpus), "--labels", str(labels), "--out", str(out)]
    answer = CliRunner().invoke(app, asked)
    assert answer.exit_code == 0, answer.output
    assert "64 labels (32 accepted) of 8 videos; AUROC on other videos 1.000" in answer.output
    assert json.loads(out.read_text())["fitted"]["labels"] == 64
