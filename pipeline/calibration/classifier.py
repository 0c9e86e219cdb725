"""`classifier fit`: a quality classifier from labels, on the scores that are stored."""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.errors import UserError
from corpus.files import write_text
from pipeline.calibration.gather import open_run
from pipeline.calibration.logistic import folds, logistic
from pipeline.calibration.statistics import Auroc, estimate
from stages.measures.classifier import QUALITY, Classifier
from stages.stage import Record

LEAST_LABELS = 50
LEAST_OF_A_CLASS = 10
GOOD = {"accept", "accepted", "good", "keep", "true", "yes", "1"}
BAD = {"reject", "rejected", "bad", "drop", "false", "no", "0"}
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Fitted:
    """What came of the labels.

    Attributes:
        labels: captions that were learned from, ``accepted`` of them good.
        left_out: why labels were not used, and how many.
        auroc: of captions of videos that were not learned from.
    """

    classifier: Classifier
    labels: int
    accepted: int
    videos: int
    left_out: dict[str, int]
    auroc: Auroc

    def to_json(self) -> dict[str, Any]:
        """The classifier's file; what it does not read of it is for people."""
        about = {name: value for name, value in asdict(self).items() if name != "classifier"}
        return {**self.classifier.to_json(), "fitted": about}


@dataclass(frozen=True)
class _Labelled:
    video: str
    scores: dict[str, float]
    good: bool


def fit_classifier(
    place: Path | str,
    labels: Path,
    out: Path,
    *,
    features: Sequence[str] = (),
    penalty: float = 1.0,
    seed: int = 0,
) -> Fitted:
    """Fit to labels of the latest run's captions, and save.

    Args:
        labels: CSV with the columns ``segment_id`` and ``label`` (accept or reject), one row for
            each judgement; with a column ``text`` only rows count whose text is still there.
        features: names of scores; () for all that every labelled caption has.
        penalty: on large weights.

    Raises:
        UserError: the file cannot be read, or its labels are too few or of one kind.
    """
    judged = read_labels(labels)
    found, left_out = _join(open_run(place).finished(), judged)
    names = _features(found, features)
    usable = [one for one in found if all(name in one.scores for name in names)]
    if len(usable) < len(found):
        left_out["a score is missing"] = len(found) - len(usable)
    _check(usable, labels, left_out)
    if not names:
        raise UserError("no score differs among the labelled captions: there is nothing to go by")
    inputs = np.array([[one.scores[name] for name in names] for one in usable])
    wanted = np.array([float(one.good) for one in usable])
    videos = [one.video for one in usable]
    auroc = _validated(inputs, wanted, videos, penalty, seed)
    classifier = _fit(names, inputs, wanted, penalty)
    fitted = Fitted(
        classifier, len(usable), int(wanted.sum()), len(set(videos)), dict(left_out), auroc
    )
    write_text(out, json.dumps(fitted.to_json(), indent=1, allow_nan=False) + "\n")
    return fitted


def read_labels(path: Path) -> dict[str, tuple[str | None, list[bool]]]:
    """By segment: the text that was judged, where the file says so, and the judgements.

    Raises:
        UserError: no such file, columns that are missing, a label that means nothing, or two texts
            of one segment.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = {"segment_id", "label"} - set(reader.fieldnames or ())
            if missing:
                raise UserError(
                    f"{path} has no column {', '.join(sorted(missing))}: labels need segment_id "
                    "and label (accept or reject)"
                )
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"labels {path} cannot be read: {error}") from error
    found: dict[str, tuple[str | None, list[bool]]] = {}
    for number, row in enumerate(rows, 2):
        label = (row["label"] or "").strip().lower()
        if label not in GOOD | BAD:
            raise UserError(f"{path}, line {number}: {label!r} is no label; write accept or reject")
        name, text = row["segment_id"], row.get("text")
        known, judgements = found.setdefault(name, (text, []))
        if known != text:
            raise UserError(
                f"{path}, line {number}: segment {name} was judged with another text further up; "
                "leave the rows of one of them"
            )
        judgements.append(label in GOOD)
    return found


def _join(
    records: Iterable[Record], judged: dict[str, tuple[str | None, list[bool]]]
) -> tuple[list[_Labelled], Counter[str]]:
    """Labels with the stored scores of their captions; ties are nobody's opinion."""
    left_out = Counter[str]()
    open_names = dict(judged)
    found = []
    for record in records:
        for segment in record["segments"]:
            told = open_names.pop(segment["segment_id"], None)
            if told is not None:
                why = _unusable(segment, *told)
                if why:
                    left_out[why] += 1
                    continue
                good = sum(told[1]) * 2 > len(told[1])
                scores = {n: v for n, v in segment["scores"].items() if n != QUALITY}
                found.append(_Labelled(record["video_id"], scores, good))
    if open_names:
        left_out["not in the latest run"] = len(open_names)
    return sorted(found, key=lambda one: (one.video, sorted(one.scores.items()))), left_out


def _unusable(segment: Record, text: str | None, judgements: Sequence[bool]) -> str | None:
    if text is not None and text.strip() != (segment["text"] or "").strip():
        return "captioned anew since"
    if not segment["scores"]:
        return "no scores"
    if 2 * sum(judgements) == len(judgements):
        return "judges differ"
    return None


def _features(found: Sequence[_Labelled], asked: Sequence[str]) -> list[str]:
    """Scores to learn from; such as never differ are none."""
    there = {name for one in found for name in one.scores}
    if strange := sorted(set(asked) - there):
        raise UserError(
            f"no labelled caption has a score {strange[0]}; there are: {', '.join(sorted(there))}"
        )
    names = [name for name in there if all(name in one.scores for one in found)]
    varied = [name for name in names if len({one.scores[name] for one in found}) > 1]
    return sorted(asked or varied)


def _check(usable: Sequence[_Labelled], path: Path, left_out: Counter[str]) -> None:
    good = sum(one.good for one in usable)
    bad = len(usable) - good
    if len(usable) >= LEAST_LABELS and min(good, bad) >= LEAST_OF_A_CLASS:
        if len({one.video for one in usable}) < 2:
            raise UserError(
                f"all labels in {path} are of one video, and nobody could say how the classifier "
                "does on another: label captions of several"
            )
        return
    lost = "".join(f"; {number} not used: {why}" for why, number in sorted(left_out.items()))
    raise UserError(
        f"{path} gives {good} accepted and {bad} rejected captions{lost}. A classifier needs "
        f"{LEAST_LABELS} labels, at least {LEAST_OF_A_CLASS} of either kind: label more"
    )


def _fit(names: Sequence[str], inputs: Values, wanted: Values, penalty: float) -> Classifier:
    mean, scale = inputs.mean(0), inputs.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    weights, bias = logistic((inputs - mean) / scale, wanted, penalty)
    return Classifier(
        tuple(names),
        tuple(map(float, mean)),
        tuple(map(float, scale)),
        tuple(map(float, weights)),
        bias,
    )


def _validated(
    inputs: Values, wanted: Values, videos: Sequence[str], penalty: float, seed: int
) -> Auroc:
    """AUROC of accepted against rejected captions, each scored without its video."""
    names = [str(n) for n in range(inputs.shape[1])]
    scores = np.full(len(wanted), np.nan)
    for learn, judge in folds(videos, seed):
        if len(set(wanted[learn])) < 2:
            raise UserError(
                "without the captions of some videos all labels are of one kind: label accepted "
                "and rejected captions in more of them"
            )
        made = _fit(names, inputs[learn], wanted[learn], penalty)
        for place in np.flatnonzero(judge):
            told = made.score(dict(zip(names, inputs[place], strict=True)))
            scores[place] = np.nan if told is None else told
    good, owners = wanted == 1, np.asarray(videos)
    return estimate(scores[good], scores[~good], owners[good], seed, owners[~good])
