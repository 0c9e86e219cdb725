"""What lies on one reviewer's desk: clips, what was said of them, and a place to put more."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from corpus.errors import UserError
from corpus.settings import explain
from pipeline.review.labels import JUDGEMENTS, KINDS, Judgement, Label, Labels, standing
from pipeline.review.sample import Clip

AT_ONCE = 1000  # statements that one request may hold
SHORTEST_STEP = 1e-6  # seconds by which statements follow each other, whatever the clock says


class Refused(UserError):
    """A request that makes no sense."""


class Stale(UserError):
    """A caption that is not on this desk, or no more."""


class Statement(BaseModel):
    """What a page sends of one caption."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    segment: str
    binding: str
    label: Judgement
    kinds: list[str] = []


class Statements(BaseModel):
    """What a page sends at once."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    labels: list[Statement] = Field(min_length=1, max_length=AT_ONCE)


class Desk:
    """One reviewer's; safe to use from several threads.

    Args:
        now: seconds since 1970.
    """

    def __init__(
        self,
        reviewer: str,
        clips: Sequence[Clip],
        labels: Labels,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.reviewer = reviewer
        self.clips = {clip.clip_id: clip for clip in clips}
        self._places = {about: clip for clip in clips for about in clip.captions()}
        self._labels, self._now = labels, now
        self._turn = threading.Lock()
        mine = [one for one in labels.read() if one.reviewer == reviewer]
        self._last = max((one.at for one in mine), default=0.0)
        self._said = {one.about: one for one in standing(mine) if one.about in self._places}

    @property
    def judged(self) -> int:
        """Captions on the desk with a label."""
        return len(self._said)

    @property
    def captions(self) -> int:
        """Captions on the desk."""
        return len(self._places)

    def session(self) -> dict[str, Any]:
        """All that a page needs to begin."""
        with self._turn:
            said = [_shown(one) for one in self._said.values()]
        clips = [asdict(clip) for clip in self.clips.values()]
        for clip in clips:
            del clip["media"], clip["video_id"]
        return {"reviewer": self.reviewer, "kinds": KINDS, "clips": clips, "labels": said}

    def put(self, data: Any) -> dict[str, Any]:
        """What a page sends: `state`, and an answer for it; Refused where it is none of that."""
        try:
            given = Statements.model_validate(data).labels
        except ValidationError as error:
            raise Refused(explain(error, Statements)) from error
        self.state(given)
        return {"saved": len(given), "judged": self.judged}

    def state(self, given: Sequence[Statement]) -> None:
        """Make statements durable, all or none.

        Raises:
            Refused: kinds that are none, or of what is not rejected.
            Stale: about captions that are not here with that binding.
        """
        for one in given:
            self._check(one)
        with self._turn:
            labels = [self._label(one) for one in given]
            self._labels.write(labels)
            for label in labels:
                self._said.pop(label.about, None)
                if label.label != "none":
                    self._said[label.about] = label

    def _check(self, one: Statement) -> None:
        if (one.segment, one.binding) not in self._places:
            raise Stale(
                f"segment {one.segment} has no caption with binding {one.binding} here: "
                "start `tv2tv review` anew if the corpus was captioned anew"
            )
        unknown = [kind for kind in one.kinds if kind not in KINDS]
        if unknown or len(set(one.kinds)) != len(one.kinds):
            raise Refused(f"kinds {one.kinds}: each once, of {', '.join(KINDS)}")
        if one.kinds and one.label != JUDGEMENTS[1]:
            raise Refused(f"kinds are of rejected captions, not of label {one.label}")

    def _label(self, one: Statement) -> Label:
        """Statements of one reviewer are in order, even where the machine's clock is set back."""
        self._last = max(self._now(), self._last + SHORTEST_STEP)
        clip = self._places[one.segment, one.binding]
        kinds = tuple(kind for kind in KINDS if kind in one.kinds)
        about = (clip.video_id, clip.clip_id, one.segment, one.binding)
        return Label(self.reviewer, *about, one.label, kinds, self._last)


def _shown(label: Label) -> dict[str, Any]:
    """As `Statement` has it."""
    segment, binding = label.about
    kinds = list(label.kinds)
    return {"segment": segment, "binding": binding, "label": label.label, "kinds": kinds}
