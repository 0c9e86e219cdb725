"""The `given` backend: captions that come with the data, as rows of the timeline sidecar."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from corpus.timeline import Span
from stages.captioning.backend import (
    OK,
    CaptionAnswer,
    CaptionRequest,
    DirectBackend,
    Needs,
    View,
)

NO_CAPTION = "no_caption"


class GivenConfig(BaseModel):
    """
    Attributes:
        allow_empty: a stretch without rows is captioned with "" instead of being rejected.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    allow_empty: bool = False


class GivenBackend(DirectBackend):
    """Joins the rows of a stretch; it needs no pictures."""

    model = "given/1"
    prompt = "given/1"
    view = View(fps=0)
    needs = Needs(cpus=0.25)

    def __init__(self, config: GivenConfig) -> None:
        super().__init__()
        self.sampling = config.model_dump()

    def reply(self, request: CaptionRequest) -> CaptionAnswer:
        return request.answer(OK, join(request.known))


def overlapping(rows: Sequence[Span], start: float, end: float, least: float) -> tuple[Span, ...]:
    """Rows that share at least ``least`` seconds with ``[start, end)``, in order.

    A row that lies wholly inside counts however short it is.
    """
    tolerance = 1e-6  # of seconds: times come from rational time bases
    found = []
    for row in rows:
        shared = min(row.end, end) - max(row.start, start)
        wanted = min(least, row.end - row.start)
        if shared > 0 and shared >= wanted - tolerance:
            found.append(row)
    return tuple(found)


def join(rows: Sequence[Span]) -> str:
    """Texts in order; a text that is held over several rows is said once."""
    texts: list[str] = []
    for row in rows:
        text = " ".join(row.text.split())
        if not texts or texts[-1] != text:
            texts.append(text)
    return (
        " ".join(_sentence(text) for text in texts) if _are_sentences(texts) else ", ".join(texts)
    )


def _are_sentences(texts: Sequence[str]) -> bool:
    return len(texts) > 1 and any(text[-1] in ".!?" for text in texts)


def _sentence(text: str) -> str:
    return text if text[-1] in ".!?" else f"{text}."
