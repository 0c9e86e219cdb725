"""The caption policy: which text a model sees.

A policy is a pure function of a clip's stored captions. It decodes nothing, encodes nothing and
invents no text, so density, quality and corruption are views of one corpus:

* ``every`` - density: ``stored``, ``clip``, ``"2s"`` or a number of chunks;
* ``keep`` - quality: verdicts and thresholds on stored scores;
* ``corrupt`` - labelled damage at exact, seeded rates (`corpus.corruption`).

Two places use it, through `corpus.views`: a loader reads stored captions by a policy, and the
shards stage writes a set of shards with the text that a policy shows.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, field_validator

from corpus.captions import KEEP, WHOLE, Caption
from corpus.clock import Clock
from corpus.corruption import Corruption

STORED, CLIP = "stored", WHOLE
Every = StrictInt | str  # no bool, and no 4.0 that somebody took for seconds


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Keep(_Model):
    """Which captions are good enough.

    Attributes:
        verdicts: reject captions whose stored verdict is not ``keep``.
        at_least: lowest accepted value per score; a missing score rejects (fail closed).
        at_most: highest accepted value per score, likewise.
        rejected: ``drop`` leaves no text there; ``fallback`` shows what was said of more: the
            finest ladder's caption that covers the span, or else the clip's meta-caption; ``keep``
            shows the text all the same.
    """

    verdicts: bool = True
    at_least: dict[str, float] = Field(default_factory=dict)
    at_most: dict[str, float] = Field(default_factory=dict)
    rejected: Literal["drop", "fallback", "keep"] = "drop"

    def judge(self, caption: Caption) -> str:
        """``keep``, or why not: the stored verdict, ``low_<score>``, ``high_<score>``, or
        ``no_score`` where a score is missing."""
        if self.verdicts and caption.verdict != KEEP:
            return caption.verdict
        if any(name not in caption.scores for name in self.scores):
            return "no_score"
        return self._bounds(caption)

    def tolerates(self, caption: Caption) -> bool:
        """Whether a caption that no stage scores, of a clip or a ladder, may be shown: its verdict
        counts, and such scores as it has."""
        judged = not self.verdicts or caption.verdict == KEEP
        return judged and self._bounds(caption) == KEEP

    @property
    def scores(self) -> set[str]:
        """Names of the scores that it asks for."""
        return {*self.at_least, *self.at_most}

    def _bounds(self, caption: Caption) -> str:
        have = caption.scores
        for name, bound in self.at_least.items():
            if name in have and not have[name] >= bound:
                return f"low_{name}"
        for name, bound in self.at_most.items():
            if name in have and not have[name] <= bound:
                return f"high_{name}"
        return KEEP


class Policy(_Model):
    """See the module's text.

    Attributes:
        coarser: how captions of one span become one: ``merge`` joins them (a text equal to its
            neighbour is said once), ``first`` takes the first that has text, ``ladder`` takes the
            captions that were made for this very density (that of ``clip``: the meta-caption).
        seed: of the corruption draws.
    """

    every: Every = STORED
    coarser: Literal["merge", "first", "ladder"] = "merge"
    keep: Keep = Keep()
    corrupt: tuple[Corruption, ...] = ()
    seed: Annotated[int, Field(ge=0)] = 0

    @field_validator("every")
    @classmethod
    def _readable(cls, every: Every) -> Every:
        if every in (STORED, CLIP) or (isinstance(every, int) and every > 0):
            return every
        if isinstance(every, str) and every.endswith("s"):
            try:
                if float(every[:-1]) > 0:
                    return every
            except ValueError:
                pass
        raise ValueError("every must be 'stored', 'clip', a number of chunks, or seconds like '2s'")

    @property
    def by_ladder(self) -> bool:
        """Whether text comes from captions of another density than the stored one."""
        return self.coarser == "ladder" and self.every != STORED


def width_of(every: Every, clock: Clock) -> int | None:
    """A density in chunks; None for that of the stored captions, or for whole clips.

    Raises:
        UserError: seconds that are no whole number of chunks.
    """
    if every in (STORED, CLIP):
        return None
    return every if isinstance(every, int) else clock.chunks_of(float(every[:-1]))
