"""`calibrate`: how well each score tells true captions from damaged ones."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from corpus.corruption import Kind
from corpus.errors import UserError
from pipeline.calibration import language
from pipeline.calibration.filters import ALL, UNPROPOSED, Filter, Values, both, find
from pipeline.calibration.gather import Corpus, judges, open_run, texts, trained_on
from pipeline.calibration.injection import KINDS, Pair, inject, plan, said
from pipeline.calibration.language import Said
from pipeline.calibration.statistics import Auroc, Step, curve, estimate
from stages.stage import Record

WORDS = "words alone"  # the yardstick among scores
SILENT = "drop"  # damage that leaves nothing to judge
HARD = 3  # examples of a kind
OTHERS = 500  # clips that words are learned from besides


@dataclass(frozen=True)
class Told:
    """One score.

    Attributes:
        aurocs: by kind of damage, and of all pairs together.
        missing: share of true captions without it.
        steps: what thresholds keep, by kind and over all.
    """

    score: str
    aurocs: dict[str, Auroc]
    missing: float
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Example:
    """A pair that was hard to tell, for people."""

    kind: str
    true: str
    damaged: str
    scores: tuple[float | None, float | None]


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` found.

    Attributes:
        captions: accepted ones in these clips.
        counts: pairs by kind.
        left_out: videos that the scorer was trained on.
        untold: kinds that nothing here can be damaged by.
        keep: share of true captions that a proposed threshold keeps.
        passes: share that no filter rejects, true captions under ``true`` and damaged by kind.
        hard: pairs that the best score tells worst, with it.
    """

    corpus: str
    run: str
    recipe: str
    seed: int
    rate: float
    clips: int
    videos: int
    captions: int
    left_out: int
    counts: dict[str, int]
    untold: tuple[str, ...]
    scores: tuple[Told, ...]
    keep: float
    filters: tuple[Filter, ...]
    passes: dict[str, float]
    best: str | None
    hard: tuple[Example, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def calibrate(
    place: Path | str,
    *,
    overrides: Sequence[str] = (),
    kinds: Sequence[str] = (),
    rate: float = 0.5,
    clips: int = 500,
    keep: float = 0.95,
    seed: int = 0,
) -> Calibration:
    """Damage accepted captions of a corpus, score both versions, compare. Nothing is stored.

    Args:
        overrides: settings of the sections scores, comparisons and verdicts, instead of the run's.
        kinds: of damage; () for all.
        rate: share of the captions that a kind can change, which it does change.
        clips: at most so many, drawn by their ids.
        keep: share of true captions that proposed thresholds keep.

    Raises:
        UserError: no run, no accepted captions, nothing to damage, settings that cannot work.
    """
    chosen = _kinds(kinds)
    corpus = open_run(place)
    judging = judges(corpus, overrides)
    learned = trained_on(judging.scores.config.weights)
    records = corpus.accepted(clips, seed, learned)
    if not records:
        why = (
            "all of them are in films that the scorer was trained on"
            if learned
            else "see `tv2tv status`"
        )
        raise UserError(f"{place} has no accepted caption to damage: {why}")
    plans = plan(records, chosen, rate, seed)
    if not plans:
        told = sum(sum(map(bool, texts(record))) for record in records)
        raise UserError(
            f"no caption can be damaged: at rate {rate:g} {', '.join(chosen)} change none of "
            f"{told} accepted captions: raise --rate or --clips, or ask for other kinds"
        )
    pairs = list(inject(records, plans, judging))
    by_kind = _by_kind(pairs)
    scores = _scores(by_kind, seed)
    if yardstick := _words(by_kind, _others(corpus, records, chosen, seed), seed):
        scores.append(yardstick)
    filters = find(by_kind, {one.score: one.aurocs[ALL] for one in scores}, judging, keep)
    best = max(
        (one for one in scores if one.score not in UNPROPOSED | {WORDS}),
        key=lambda one: one.aurocs[ALL].value,
        default=None,
    )
    return Calibration(
        corpus=str(place),
        run=corpus.run,
        recipe=judging.recipe.name,
        seed=seed,
        rate=rate,
        clips=len(records),
        videos=len({record["video_id"] for record in records}),
        captions=sum(sum(map(bool, texts(record))) for record in records),
        left_out=len(learned),
        counts=dict(Counter(pair.kind for pair in pairs)),
        untold=tuple(kind for kind in chosen if kind not in plans),
        scores=tuple(scores),
        keep=keep,
        filters=filters.filters,
        passes=filters.passes,
        best=best.score if best else None,
        hard=_hard(by_kind, best.score) if best else (),
    )


def _kinds(given: Sequence[str]) -> list[Kind]:
    strange = sorted(set(given) - set(KINDS))
    if strange:
        raise UserError(f"{strange[0]} is no kind of damage: choose from {', '.join(KINDS)}")
    return [kind for kind in KINDS if not given or kind in given]


def _by_kind(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """Pairs that can be judged; `ALL` has them together."""
    told = [pair for pair in pairs if pair.kind != SILENT]
    if not told:
        raise UserError(f"{SILENT} leaves no text, and nothing to score: ask for other kinds, too")
    found: dict[str, list[Pair]] = {ALL: told}
    for pair in told:
        found.setdefault(pair.kind, []).append(pair)
    return found


def _scores(by_kind: dict[str, list[Pair]], seed: int) -> list[Told]:
    names = sorted({name for pair in by_kind[ALL] for name in pair.true.scores})
    found = []
    for name in names:
        values = {kind: both(pairs, name) for kind, pairs in by_kind.items()}
        found.append(_told(name, values, by_kind, seed))
    return found


def _told(
    name: str, values: dict[str, tuple[Values, Values]], pairs: dict[str, list[Pair]], seed: int
) -> Told:
    aurocs = {
        kind: estimate(*two, [pair.video for pair in pairs[kind]], seed)
        for kind, two in values.items()
    }
    true = values[ALL][0]
    steps = curve(true, {kind: damaged for kind, (_, damaged) in values.items()})
    return Told(name, aurocs, float(np.isneginf(true).mean()), tuple(steps))


def _others(
    corpus: Corpus, records: Sequence[Record], kinds: Sequence[Kind], seed: int
) -> dict[str, list[Said]]:
    """Damage to captions of films outside the sample, of those that a scorer learned from, too."""
    sample = {record["video_id"] for record in records}
    further = corpus.accepted(OTHERS, seed, without=sample)
    found = said(further, plan(further, [kind for kind in kinds if kind != SILENT], 1.0, seed))
    return {ALL: [one for each in found.values() for one in each], **found}


def _words(by_kind: dict[str, list[Pair]], others: dict[str, list[Said]], seed: int) -> Told | None:
    """`language.alone`, fitted to each kind by itself."""
    values = {}
    for kind, pairs in by_kind.items():
        judged = [Said(pair.video, pair.true.text, pair.damaged.text) for pair in pairs]
        told = language.alone(judged, others.get(kind, ()), seed)
        if told is None:
            return None
        values[kind] = told
    return _told(WORDS, values, by_kind, seed)


def _hard(by_kind: dict[str, list[Pair]], score: str) -> tuple[Example, ...]:
    """The pairs of each kind of which a score prefers the damaged one most."""
    found = []
    for kind, pairs in by_kind.items():
        if kind == ALL:
            continue
        true, damaged = both(pairs, score)
        gain = np.nan_to_num(true - damaged, nan=0.0)
        for place in np.argsort(gain, kind="stable")[:HARD]:
            pair = pairs[place]
            told = pair.true.scores.get(score), pair.damaged.scores.get(score)
            found.append(Example(kind, pair.true.text, pair.damaged.text, told))
    return tuple(found)
