"""The `motion` backend: describes what is measured. No weights, CPU, deterministic."""

from collections import OrderedDict

from pydantic import BaseModel, ConfigDict

from stages.captioning.backend import OK, CaptionAnswer, CaptionRequest, DirectBackend, Shown, View
from stages.captioning.measure import Measurement, measure
from stages.captioning.words import clip_text, segment_text
from stages.reading.pictures import SHORT_SIDE

FPS = 16.0
REMEMBERED = 256  # measurements: a segment is also part of its clip, and the next one's past


class MotionConfig(BaseModel):
    """The motion backend has no settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class MotionBackend(DirectBackend):
    """Measures frames and puts the numbers into words; see `measure` and `words`."""

    model = "motion/2"
    prompt = "motion/2"
    view = View(fps=FPS, short_side=SHORT_SIDE, before=True, parts=True)

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        self.sampling = config.model_dump()
        self._measured: OrderedDict[str, Measurement] = OrderedDict()

    def reply(self, request: CaptionRequest) -> CaptionAnswer:
        if request.kind == "clip":
            # Made of what its segments are measured to do, so that it cannot contradict them.
            parts = request.parts or (request.shown,)
            return request.answer(OK, clip_text([self._measure(part) for part in parts]))
        now = self._measure(request.shown)
        before = self._measure(request.before) if request.before.times else None
        return request.answer(OK, segment_text(now, before))

    def _measure(self, shown: Shown) -> Measurement:
        """Measurement of these frames, remembered by their content."""
        name = shown.sha256
        if name not in self._measured:
            self._measured[name] = measure(shown.frames, _length(shown))
            if len(self._measured) > REMEMBERED:
                self._measured.popitem(last=False)
        self._measured.move_to_end(name)
        return self._measured[name]


def _length(shown: Shown) -> float:
    """Seconds from the first frame to the last."""
    return shown.times[-1] - shown.times[0]
