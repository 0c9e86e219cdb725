"""Known damage: every accepted caption that an operator can change, beside what became of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from corpus.corruption import OPERATORS, Corruption, Kind, plan_corruptions
from corpus.errors import UserError
from pipeline.calibration.gather import Judges, texts
from pipeline.calibration.language import Said
from stages.comparisons import Crowd
from stages.scores import Measured
from stages.stage import Record
from stages.verdicts import judge

KINDS: tuple[Kind, ...] = tuple(OPERATORS)
CLIPS_AT_ONCE = 16


@dataclass(frozen=True)
class Sentence:
    """A caption as it was scored.

    Attributes:
        scores: all there are; a missing one counts as the worst.
        verdict: ``keep``, or the reason why the recipe's thresholds reject it.
    """

    text: str
    scores: dict[str, float]
    verdict: str


@dataclass(frozen=True)
class Pair:
    """A true caption and its damaged version, at one place of a film."""

    kind: Kind
    video: str
    clip: str
    place: int
    true: Sentence
    damaged: Sentence


Plans = dict[Kind, dict[tuple[str, int], str]]


def plan(records: Sequence[Record], kinds: Sequence[Kind], rate: float, seed: int) -> Plans:
    """Damaged texts by (clip, place), for each kind as if there were no other.

    Kinds that change nothing here are left out.
    """
    clips = {record["clip_id"]: texts(record) for record in records}
    found: Plans = {}
    for kind in kinds:
        try:
            planned = plan_corruptions([Corruption(kind=kind, rate=rate)], seed, clips)
        except UserError:
            continue  # no caption here can be damaged that way
        if planned:
            found[kind] = {place: text for place, (text, _) in planned.items()}
    return found


def said(records: Sequence[Record], plans: Plans) -> dict[str, list[Said]]:
    """What a plan changes, as words alone; nothing is scored."""
    told = {record["clip_id"]: (record["video_id"], texts(record)) for record in records}
    return {
        kind: [Said(told[c][0], told[c][1][at], text) for (c, at), text in planned.items()]
        for kind, planned in plans.items()
    }


def inject(records: Sequence[Record], plans: Plans, judges: Judges) -> Iterator[Pair]:
    """Score every caption that was damaged, before and after.

    A damaged caption stands among damaged ones at the plan's rate, as it would in such a corpus.
    """
    stage = judges.scores
    whole: list[tuple[Record, list[Measured]]] = []
    damaged: dict[tuple[Kind, str], list[Measured]] = {}
    for start in range(0, len(records), CLIPS_AT_ONCE):
        for record in records[start : start + CLIPS_AT_ONCE]:
            looked = stage.look(record)
            versions = [(kind, _texts(record, plans[kind])) for kind in plans]
            versions = [(kind, told) for kind, told in versions if told != texts(record)]
            asked = [texts(record), *(told for _, told in versions)]
            measured = stage.measure([(record, looked, _segments(record, told)) for told in asked])
            whole.append((record, measured[0]))
            for (kind, _), one in zip(versions, measured[1:], strict=True):
                damaged[kind, record["clip_id"]] = one
    crowd = _crowd(whole, judges)
    for kind, planned in plans.items():
        for record, true in whole:
            clip = record["clip_id"]
            told = texts(record)
            for place in range(len(told)):
                if (clip, place) in planned:
                    after = damaged[kind, clip][place]
                    yield Pair(
                        kind,
                        record["video_id"],
                        clip,
                        place,
                        _sentence(clip, told[place], true[place], crowd, judges),
                        _sentence(clip, planned[clip, place], after, crowd, judges),
                    )


def _texts(record: Record, planned: dict[tuple[str, int], str]) -> tuple[str, ...]:
    """A clip's captions after the damage of one kind."""
    return tuple(
        planned.get((record["clip_id"], place), text) for place, text in enumerate(texts(record))
    )


def _segments(record: Record, told: Sequence[str]) -> list[Record]:
    return [
        {**segment, "text": text} for segment, text in zip(record["segments"], told, strict=True)
    ]


def _crowd(whole: Sequence[tuple[Record, list[Measured]]], judges: Judges) -> Crowd | None:
    """The true captions of the sample, for scores that compare with others."""
    if judges.comparisons is None:
        return None
    records = [
        {
            "clip_id": record["clip_id"],
            "segments": [
                {"text": text, "said": one.said, "seen": one.seen}
                for text, one in zip(texts(record), measured, strict=True)
            ],
        }
        for record, measured in whole
    ]
    return Crowd(records, judges.comparisons.config, judges.comparisons.context.seed)


def _sentence(
    clip: str, text: str, measured: Measured, crowd: Crowd | None, judges: Judges
) -> Sentence:
    scores = dict(measured.scores)
    if crowd is not None:
        scores |= crowd.scores(clip, {"text": text, "said": measured.said, "seen": measured.seen})
    scores |= judges.verdicts.added(scores)
    verdict, _, _ = judge(scores, judges.verdicts.config)
    return Sentence(text, scores, verdict)
