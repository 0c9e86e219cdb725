"""The caption policy: which text a model sees, chosen when shards are read.

A policy is a pure function of a clip's stored captions. It decodes nothing, encodes nothing and
invents no text, so density, quality and corruption are views of one corpus:

* ``every`` - density: ``stored``, ``clip``, ``"2s"`` or a number of chunks;
* ``keep`` - quality: verdicts and thresholds on stored scores;
* ``corrupt`` - labelled damage at exact, seeded rates (`corpus.corruption`).

`bind` looks at the whole index once (corruption needs donors and exact counts); the bound policy
then answers per clip, the same on every worker.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median_low
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from corpus.captions import KEEP, Caption, ClipCaptions, SegmentCaption
from corpus.clock import Clock
from corpus.corruption import Corruption, CorruptionPlan, plan_corruptions
from corpus.errors import UserError

Every = int | str


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Keep(_Model):
    """Which captions are good enough.

    Attributes:
        verdicts: reject captions whose stored verdict is not ``keep``.
        at_least: lowest accepted value per score; a missing score rejects (fail closed).
        rejected: ``drop`` leaves no text there, ``fallback`` shows the clip's meta-caption in
            place of a rejected text, ``keep`` shows it all the same.
    """

    verdicts: bool = True
    at_least: dict[str, float] = Field(default_factory=dict)
    rejected: Literal["drop", "fallback", "keep"] = "drop"

    def accepts(self, caption: Caption) -> bool:
        if self.verdicts and caption.verdict != KEEP:
            return False
        return all(
            caption.scores.get(name, float("-inf")) >= bound
            for name, bound in self.at_least.items()
        )


class Policy(_Model):
    """See the module's text.

    Attributes:
        coarser: how captions of one span become one: ``merge`` joins them (a text equal to its
            neighbour is said once), ``first`` takes the first that has text.
        seed: of the corruption draws.
    """

    every: Every = "stored"
    coarser: Literal["merge", "first"] = "merge"
    keep: Keep = Keep()
    corrupt: tuple[Corruption, ...] = ()
    seed: Annotated[int, Field(ge=0)] = 0

    @field_validator("every")
    @classmethod
    def _readable(cls, every: Every) -> Every:
        if every in ("stored", "clip") or (isinstance(every, int) and every > 0):
            return every
        if isinstance(every, str) and every.endswith("s"):
            try:
                if float(every[:-1]) > 0:
                    return every
            except ValueError:
                pass
        raise ValueError("every must be 'stored', 'clip', a number of chunks, or seconds like '2s'")


@dataclass(frozen=True)
class TextSpan:
    """What the model reads before it sees the chunks ``[a, b)``.

    Attributes:
        text: empty when there is no text here.
        corruption: kind of damage done to it, or None.
    """

    a: int
    b: int
    text: str
    corruption: str | None = None


Index = Iterable[tuple[str, ClipCaptions]]


def bind(policy: Policy, clock: Clock, index: Index) -> "BoundPolicy":
    """Ready a policy for a set of clips.

    Args:
        index: (key, captions) of every clip that may be asked for, in any order.

    Raises:
        UserError: the policy asks for finer text than stored, or for more corruption than there
            are captions which an operator can really change.
    """
    width = None
    if policy.every not in ("stored", "clip"):
        every = policy.every
        width = every if isinstance(every, int) else clock.chunks_of(float(str(every)[:-1]))
    clips = dict(index)
    if width is not None:
        _check_density(width, clips)
    views = {key: _view(policy, width, captions) for key, captions in clips.items()}
    return BoundPolicy(policy, views, plan_corruptions(policy.corrupt, policy.seed, _texts(views)))


@dataclass(frozen=True)
class BoundPolicy:
    """A policy that has seen its index; `spans` is a look-up."""

    policy: Policy
    views: Mapping[str, tuple[TextSpan, ...]]
    corruptions: CorruptionPlan

    def spans(self, key: str) -> tuple[TextSpan, ...]:
        """Text per span of one clip: an exact partition of its chunks, in order."""
        return tuple(
            TextSpan(span.a, span.b, *self.corruptions.get((key, place), (span.text, None)))
            for place, span in enumerate(self.views[key])
        )


def _texts(views: Mapping[str, tuple[TextSpan, ...]]) -> dict[str, tuple[str, ...]]:
    return {key: tuple(span.text for span in spans) for key, spans in views.items()}


def _check_density(width: int, clips: Mapping[str, ClipCaptions]) -> None:
    """Text finer than what is stored would have to be invented. Density means the median segment:
    a clip's last segment may be longer, since remainders are merged and never dropped."""
    widths = [s.b - s.a for captions in clips.values() for s in captions.segments]
    if widths and width < median_low(widths):
        raise UserError(
            f"policy: every={width} chunks is finer than the stored captions (median "
            f"{median_low(widths)} chunks): caption at that density first, or ask for a coarser one"
        )


def _view(policy: Policy, width: int | None, captions: ClipCaptions) -> tuple[TextSpan, ...]:
    """Density and quality of one clip."""
    if policy.every == "stored":
        groups = [[segment] for segment in captions.segments]
    else:
        groups = _groups(captions, captions.chunks if width is None else width)
    return tuple(
        TextSpan(group[0].a, group[-1].b, _join(policy, group, captions)) for group in groups
    )


def _groups(captions: ClipCaptions, width: int) -> list[list[SegmentCaption]]:
    """Stored segments gathered into spans of ``width`` chunks; the last one takes the rest.

    A segment that straddles a span's end closes that span where the segment ends, so text never
    stands before or after the chunks it was made for.
    """
    groups: list[list[SegmentCaption]] = []
    end = 0
    for segment in captions.segments:
        if segment.a >= end:
            groups.append([])
            end = segment.a + width
        groups[-1].append(segment)
    return groups


def _join(policy: Policy, group: list[SegmentCaption], captions: ClipCaptions) -> str:
    texts: list[str] = []
    for segment in group:
        text = _text(policy.keep, segment.caption, captions)
        if text and (not texts or texts[-1] != text):
            texts.append(text)
    return " ".join(texts if policy.coarser == "merge" else texts[:1])


def _text(keep: Keep, caption: Caption, captions: ClipCaptions) -> str:
    if keep.accepts(caption) or keep.rejected == "keep":
        return caption.text
    if keep.rejected == "fallback" and captions.meta:
        return captions.meta[0].text
    return ""
