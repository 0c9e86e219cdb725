"""Captions as a policy shows them.

`ready` looks once at all clips that may be asked for, in any order; the `View` that it gives
answers clip by clip, the same on every worker. `bind` holds the clips as well, for a loader.

What a span shows has the verdict ``keep``, since the policy has judged; a span that shows nothing
because all of it was rejected keeps the first reason. So the same text is seen where a view was
written into shards and is read without a further policy.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from corpus.captions import KEEP, Caption, ClipCaptions, SegmentCaption, Segments
from corpus.clock import Clock
from corpus.corruption import CorruptionPlan, plan_corruptions
from corpus.errors import UserError
from corpus.ids import segment_id
from corpus.policy import CLIP, STORED, Keep, Policy, width_of

Index = Iterable[tuple[str, ClipCaptions]]


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


@dataclass(frozen=True)
class View:
    """A policy that has seen its index.

    Attributes:
        width: density in chunks; None for that of the stored captions or for whole clips.
    """

    policy: Policy
    clock: Clock
    width: int | None
    corruptions: CorruptionPlan

    def captions(self, key: str, stored: ClipCaptions) -> ClipCaptions:
        """What is shown of a clip: spans that partition its chunks, and its meta-caption if that is
        good enough; no ladders.

        Args:
            key: the clip, as the index called it.
        """
        meta = (replace(one, verdict=KEEP) for one in meta_captions(self.policy, stored)[:1])
        named = (
            span if span.segment_id else replace(span, segment_id=segment_id(key, span.a, span.b))
            for span in self.segments(key, stored)
        )
        return ClipCaptions(tuple(meta), tuple(named))

    def segments(self, key: str, stored: ClipCaptions) -> Segments:
        """The spans alone; ids of those that are not stored segments are left empty."""
        spans = seen(self.policy, self.clock, self.width, stored)
        if not self.corruptions:
            return spans
        return tuple(self._damaged(key, place, span) for place, span in enumerate(spans))

    def _damaged(self, key: str, place: int, span: SegmentCaption) -> SegmentCaption:
        if (key, place) not in self.corruptions:
            return span
        text, kind = self.corruptions[key, place]
        return replace(span, caption=Caption(text, corruption=kind))


def ready(policy: Policy, clock: Clock, index: Index, made_with: Policy | None = None) -> View:
    """Ready a policy for a set of clips, which are looked at once.

    Args:
        index: (key, captions) of every clip that may be asked for, in any order.
        made_with: the policy that these captions have been through already, if they are a view's.

    Raises:
        UserError: the policy asks for text that is not there: finer than stored, a ladder or scores
            that nothing has, or more damage than there are captions which an operator can change.
    """
    width = width_of(policy.every, clock)
    _check_made_with(policy, clock, made_with)
    survey, texts = _Survey(policy, clock), dict[str, tuple[str, ...]]()
    for key, captions in index:
        survey.add(key, captions)
        if policy.corrupt:
            spans = seen(policy, clock, width, captions)
            texts[key] = tuple(span.caption.text for span in spans)
    survey.check(width)
    return View(policy, clock, width, plan_corruptions(policy.corrupt, policy.seed, texts))


@dataclass(frozen=True)
class BoundPolicy:
    """A view with the captions it looks at."""

    view: View
    stored: Mapping[str, ClipCaptions]

    @property
    def policy(self) -> Policy:
        return self.view.policy

    def captions(self, key: str) -> ClipCaptions:
        """See `View.captions`."""
        return self.view.captions(key, self.stored[key])

    def spans(self, key: str) -> tuple[TextSpan, ...]:
        """Text per span of one clip: an exact partition of its chunks, in order."""
        return tuple(
            TextSpan(span.a, span.b, span.caption.text, span.caption.corruption or None)
            for span in self.view.segments(key, self.stored[key])
        )


def bind(
    policy: Policy, clock: Clock, index: Index, made_with: Policy | None = None
) -> BoundPolicy:
    """`ready`, for clips that are in memory."""
    stored = dict(index)
    return BoundPolicy(ready(policy, clock, stored.items(), made_with), stored)


def meta_captions(policy: Policy, captions: ClipCaptions) -> list[Caption]:
    """Captions of the whole clip that are good enough to be shown."""
    if policy.keep.rejected == "keep":
        return list(captions.meta)
    return [caption for caption in captions.meta if policy.keep.tolerates(caption)]


# -- density ----------------------------------------------------------------------------------


def seen(policy: Policy, clock: Clock, width: int | None, captions: ClipCaptions) -> Segments:
    """Density and quality of one clip."""
    if policy.every == STORED:
        groups = [[segment] for segment in captions.segments]
    elif policy.by_ladder:
        groups = [[span] for span in _ladder(policy, clock, captions)]
    else:
        groups = _groups(captions, captions.chunks if width is None else width)
    say = partial(_said, policy.keep, _fallback(policy, clock, captions))
    return tuple(_one(policy, group, say) for group in groups)


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


def _ladder(policy: Policy, clock: Clock, captions: ClipCaptions) -> Segments:
    """The captions made for a density, however it is spelt; UserError where there are none."""
    wanted = _density(policy.every, clock)
    for every, spans in captions.all_ladders.items():
        if _density(every, clock) == wanted:
            return spans
    raise LookupError(policy.every)


def _density(every: int | str, clock: Clock) -> int | str:
    width = width_of(every, clock)
    return CLIP if width is None else width


# -- quality ----------------------------------------------------------------------------------

Say = Callable[[SegmentCaption], Caption]


def _one(policy: Policy, group: Sequence[SegmentCaption], say: Say) -> SegmentCaption:
    """Captions of one span as one."""
    a, b = group[0].a, group[-1].b
    said = [say(segment) for segment in group]
    told: list[Caption] = []
    for caption in said:
        if caption.text and (not told or told[-1].text != caption.text):
            told.append(caption)
    if policy.coarser == "first":
        told = told[:1]
    if len(group) == 1:
        return SegmentCaption(a, b, said[0], group[0].segment_id)
    if not told:
        reasons = [caption.verdict for caption in said if caption.verdict != KEEP]
        return SegmentCaption(a, b, Caption("", verdict=reasons[0] if reasons else KEEP))
    return SegmentCaption(a, b, told[0] if len(told) == 1 else _joined(told))


def _joined(captions: Sequence[Caption]) -> Caption:
    """Several texts as one. Nobody scored it, and no single answer is bound to it."""

    def common(values: Iterable[str]) -> str:
        found = set(values)
        return found.pop() if len(found) == 1 else ""

    return Caption(
        " ".join(caption.text for caption in captions),
        prompt=common(caption.prompt for caption in captions),
        model=common(caption.model for caption in captions),
        corruption="+".join(sorted({one.corruption for one in captions if one.corruption})),
    )


def _said(
    keep: Keep, fallback: Callable[[SegmentCaption], Caption | None], segment: SegmentCaption
) -> Caption:
    """What is shown for a segment."""
    caption = segment.caption
    verdict = keep.judge(caption)
    if verdict == KEEP or keep.rejected == "keep":
        return caption if caption.verdict == KEEP else replace(caption, verdict=KEEP)
    instead = fallback(segment) if keep.rejected == "fallback" else None
    if instead is not None:
        return replace(instead, verdict=KEEP)
    return replace(caption, text="", verdict=verdict)


def _fallback(
    policy: Policy, clock: Clock, captions: ClipCaptions
) -> Callable[[SegmentCaption], Caption | None]:
    """Gives what was said of more than a rejected segment, by the finest ladder that knows."""

    def width(spans: Segments) -> int:
        return max((span.b - span.a for span in spans), default=0)

    ladders = sorted(captions.ladders.values(), key=width)

    def find(segment: SegmentCaption) -> Caption | None:
        around = (
            span.caption
            for spans in ladders
            for span in spans
            if span.a <= segment.a
            and segment.b <= span.b
            and span.b - span.a > segment.b - segment.a
        )
        for caption in (*around, *captions.meta[:1]):
            if caption.text and policy.keep.tolerates(caption):
                return caption
        return None

    return find


# -- what cannot be shown ---------------------------------------------------------------------


class _Survey:
    """What the clips of an index have, gathered one by one."""

    def __init__(self, policy: Policy, clock: Clock) -> None:
        self._policy, self._clock = policy, clock
        self._inner = Counter[int]()  # widths of segments that are not the last of their clip
        self._last = Counter[int]()
        self._scores = set[str]()
        self._texts = False

    def add(self, key: str, captions: ClipCaptions) -> None:
        policy = self._policy
        judged = captions.segments
        if policy.by_ladder:
            try:
                judged = _ladder(policy, self._clock, captions)
            except LookupError:
                known = ", ".join(captions.all_ladders) or "none"
                raise UserError(
                    f"policy: clip {key} has no captions made for every={policy.every} "
                    f"(ladders: {known}): caption at that density, or let coarser be merge or first"
                ) from None
        else:
            widths = [segment.b - segment.a for segment in captions.segments]
            self._inner.update(widths[:-1])
            self._last.update(widths[-1:])
        for segment in judged:
            self._texts = self._texts or bool(segment.caption.text)
            if policy.keep.scores:
                self._scores.update(segment.caption.scores)

    def check(self, width: int | None) -> None:
        """UserError unless the policy can be met.

        Density means the median segment. A clip's last segment is no witness, where there are
        others: it takes the remainder, and may be longer or shorter.
        """
        stored = median(self._inner or self._last)
        if width is not None and width < stored:
            raise UserError(
                f"policy: every={self._policy.every} is finer than the stored captions (median "
                f"{stored * self._clock.chunk_seconds:g} s): caption at that density first, or ask "
                "for a coarser one"
            )
        missing = self._policy.keep.scores - self._scores
        if missing and self._texts:
            known = ", ".join(sorted(self._scores)) or "none"
            raise UserError(
                f"policy: no caption has a score {', '.join(sorted(missing))} (there are: {known})"
                ": correct the name, or score the captions first; joined ones of a view have none"
            )


def median(counts: Mapping[int, int]) -> int:
    """The middle of counted numbers, of two the lower; 0 of none."""
    left = (sum(counts.values()) - 1) // 2
    for value in sorted(counts):
        left -= counts[value]
        if left < 0:
            return value
    return 0


def _check_made_with(policy: Policy, clock: Clock, made_with: Policy | None) -> None:
    """What a view has given up cannot be had back."""
    if made_with is None:
        return
    width, had = width_of(policy.every, clock), width_of(made_with.every, clock)
    whole = made_with.every == CLIP and policy.every not in (STORED, CLIP)
    if whole or (width is not None and had is not None and width < had):
        raise UserError(
            f"policy: every={policy.every} is finer than these shards, a view with "
            f"every={made_with.every}: read the corpus' main shards, or ask for a coarser one"
        )
    if policy.corrupt and made_with.corrupt:
        raise UserError(
            "policy: the captions of these shards were damaged already, as their manifest says: "
            "damage those of the corpus' main shards"
        )
