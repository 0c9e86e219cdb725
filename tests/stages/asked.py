"""Clips of known brightness, and a backend that answers about them as a test likes."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from corpus.ids import segment_id, sha256_file
from corpus.layout import Media
from corpus.timeline import Timeline, write_timeline
from corpus.video import write_video
from stages.captioning.backend import CaptionAnswer, CaptionBackend, CaptionRequest, View
from stages.stage import Record

CHUNKS = 12
EDGES = [0, 4, 8, 12]
Reply = Callable[[CaptionRequest], CaptionAnswer]


def brightness(request: CaptionRequest) -> str:
    """A caption that says what was really shown: the mean of the last frame."""
    return f"grey {int(request.shown.frames[-1].mean())} at {request.end:g}"


class Scripted(CaptionBackend):
    """Answers all open questions at once, in the order that ``mix`` gives."""

    model = "scripted/1"
    prompt = None
    view = View(fps=8, before=True)
    limit = 16

    def __init__(self, reply: Reply, mix: Callable[[list[Any]], list[Any]] = list) -> None:
        self.sampling: dict[str, Any] = {"temperature": 0}
        self.reply, self.mix = reply, mix
        self.open_questions: list[CaptionRequest] = []
        self.asked: list[list[CaptionRequest]] = []

    def submit(self, requests: Sequence[CaptionRequest]) -> None:
        self.open_questions += requests
        self.asked.append(list(requests))

    def collect(self) -> list[CaptionAnswer]:
        requests, self.open_questions = self.open_questions, []
        return self.mix([self.reply(request) for request in requests])

    def cancel(self) -> None:
        self.open_questions.clear()


def say_what_is_shown(request: CaptionRequest) -> CaptionAnswer:
    return request.answer("ok", brightness(request))


def clip(media: Media, number: int, timeline: Timeline | None = None) -> Record:
    """A clip whose frame i is ``40 * number + i`` bright, with three segments of a second."""
    name = f"{number:032x}"
    path = media.path(media.clip(name))
    frames = [np.full((16, 32, 3), 40 * number + i, np.uint8) for i in range(1 + 4 * CHUNKS)]
    write_video(path, frames, 16, "rgb_lossless")
    sidecar = media.root / f"{number}.timeline.jsonl"
    if timeline is not None:
        write_timeline(sidecar, timeline)
    return {
        "clip_id": name,
        "shot_id": f"shot-{number}",
        "clip": media.clip(name),
        "clip_sha256": sha256_file(path),
        "chunks": CHUNKS,
        "start": 10.0,
        "timeline": str(sidecar) if timeline is not None else None,
        "timeline_sha256": sha256_file(sidecar) if timeline is not None else None,
        "segments": [
            {"segment_id": segment_id(name, a, b), "a": a, "b": b} for a, b in pairwise(EDGES)
        ],
    }
