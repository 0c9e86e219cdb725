"""The report's part on captions: what each question saw and took, and what bounded the stage."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_corpus import RUN, make_corpus

from corpus.video import write_video
from pipeline.ledger.status import latest
from pipeline.pages.captions import CaptionsSeen
from pipeline.pages.captions_load import CaptionLoad, bound, canary_words, read_load
from pipeline.pages.report import write_report
from pipeline.telemetry.events import event
from stages.captioning.backend import (
    CaptionAnswer,
    CaptionBackend,
    CaptionRequest,
    Detail,
    View,
)
from stages.captioning.canaries import COLOURS, SCHEMA
from stages.captioning.settings import BACKENDS

HOSTILE = "<script>alert('x')</script>"


class FakeModel(CaptionBackend):
    """Sees colours, loops where the last second is asked about, and says hostile things."""

    model, prompt, view = "fake@1", None, View(fps=2, before=True)
    limit = 4

    def __init__(self, blind: bool = False) -> None:
        self.sampling: dict[str, Any] = {"temperature": 0}
        self.again = {"temperature": 0.7}
        self.blind = blind
        self._open: list[CaptionRequest] = []

    def submit(self, requests: Sequence[CaptionRequest]) -> None:
        self._open += requests

    def cancel(self) -> None:
        self._open.clear()

    def collect(self) -> list[CaptionAnswer]:
        return [self._reply(self._open.pop(0))]

    def _reply(self, request: CaptionRequest) -> CaptionAnswer:
        spent = Detail(321, 17, 0.25)
        if request.choices:
            return request.answer("ok", "yes", detail=spent, likely={"yes": 0.9, "no": 0.1})
        if request.schema == SCHEMA:
            pixel = request.shown.frames[0, 0, 0].astype(int)
            seen = min(COLOURS, key=lambda one: sum(abs(pixel - COLOURS[one])))
            return request.answer("ok", "grey" if self.blind else seen, detail=spent)
        if request.kind == "segment" and request.start == 2.0 and request.sampling == self.sampling:
            return request.answer("degenerate", "la la la", "repeats 'la '", spent)
        if request.kind == "segment" and request.start == 1.0:
            return request.answer("truncated", "grey and", "not finished", spent)
        return request.answer("ok", f"{HOSTILE} at {request.end:g}", detail=spent)


def films_of(tmp_path: Path) -> Path:
    """Two films of three seconds in which something moves."""
    films = tmp_path / "films"
    films.mkdir(exist_ok=True)
    for number in range(2):
        frames = [np.full((96, 128, 3), 40 + 3 * i + number, np.uint8) for i in range(49)]
        for i, frame in enumerate(frames):
            frame[20:50, i : i + 20] = (200, 40, 30 + number)
        write_video(films / f"{number}.mp4", frames, 16, "yuv420p")
    return films


def corpus_settings() -> list[str]:
    return [
        *("clips.min_seconds=2", "clips.buckets=[[128, 96]]", "segments.mode=fixed"),
        *("segments.seconds=1", "probe.min_size=8", "captions.backend=fake"),
        *("captions.ladders=[3s]", "filters.at_most.frozen=2"),
    ]


def corpus_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: CaptionBackend, *more: str
) -> Path:
    monkeypatch.setitem(BACKENDS, "fake", lambda config: backend)
    make_corpus(tmp_path / "corpus", films_of(tmp_path), "real", [*corpus_settings(), *more])
    return tmp_path / "corpus"


def part(corpus: Path) -> str:
    run = latest(corpus)
    seen = CaptionsSeen(run.plan)
    run.count(seen.add)
    return str(seen.render(corpus / "runs" / RUN / "events.jsonl"))


def plain(html: str) -> str:
    """Words of a page."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_it_tells_what_was_seen_taken_and_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = corpus_of(tmp_path, monkeypatch, FakeModel())
    html = part(corpus)
    words = plain(html)
    assert "whole clips 2 2 100.0 %" in words and "segments 6 4 66.7 %" in words
    assert "ladder 3s 2 2 100.0 %" in words
    assert "Rejected: 2 truncated." in words
    assert "4 were asked a second time with other decoding, which gave 2 captions." in words
    assert "321 tokens read per caption" not in words  # two tries count twice
    assert "of the 4 that the backend works on at once were open" in words
    assert "2 of 2 canaries were told their colour" in words
    assert "fake@1 · prompt generic/2" in words
    assert "3 of 128×96, and 3 before" in words  # 1 s at 2 fps, and as much before it
    assert "Shown at 2 2.5 3 s. Before: 1 1.5 2 s." in words
    for temperature in ("0", "0.7"):  # of first tries and of second ones
        assert f"decoding {{&#34;temperature&#34;:{temperature}}}" in words
    assert "642, 34" in words and "0.50" in words  # a second try: tokens and seconds of both
    assert "<script>" not in html and "&lt;script&gt;" in html
    assert html.count("<img ") >= 2 * 5 * 2 and "http" not in html
    whole = Path(write_report(corpus, clips=2)).read_text()
    assert "<h2>Captions</h2>" in whole and "<script>" not in whole


def test_what_checks_took_is_told_besides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may ask more than captions did, and a hosted model has its price for each."""
    more = ["scores.use=[rules, checks]", "scores.checks.backend=fake"]
    words = plain(part(corpus_of(tmp_path, monkeypatch, FakeModel(), *more)))
    asked = 2 * 2 * 2  # polarities, captions that there are, films
    assert f"Checks asked {asked} questions besides: {321 * asked:,} tokens read" in words
    assert "of the 4 that their backend works on at once were open" in words


def test_a_blind_model_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = plain(part(corpus_of(tmp_path, monkeypatch, FakeModel(blind=True))))
    assert "does not tell plain colours (red: grey, green: grey" in words
    assert "canaries were blind and guarded nothing" in words


def test_a_clip_whose_file_is_gone_is_told_without_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = corpus_of(tmp_path, monkeypatch, FakeModel())
    run = latest(corpus)
    seen = CaptionsSeen(run.plan)
    run.count(seen.add)
    for path in (corpus / "media" / "clips").rglob("*.mp4"):
        path.unlink()
    html = str(seen.render(corpus / "runs" / RUN / "events.jsonl"))
    assert "<img" not in html and "cannot be read back" in html


def log_of(path: Path, *batches: tuple[str, float, float, dict[str, Any]]) -> Path:
    """Events of caption batches: (worker, begun, seconds, what was told beside the usual)."""
    told = dict.fromkeys(("asks", "questions", "open", "starved", "ending", "again"), 0)
    found = []
    for worker, begun, seconds, more in batches:
        found.append(
            event(
                "batch",
                stage="captions",
                worker=worker,
                begun=begun,
                seconds=seconds,
                told={**told, "limit": 8, "full": 0.0, **more},
            )
        )
    path.write_text("".join(json.dumps(one) + "\n" for one in found))
    return path


def test_a_full_backend_is_caption_bound(tmp_path: Path) -> None:
    log = log_of(
        tmp_path / "log",
        ("a", 0, 10, {"full": 9.5, "asks": 4, "open": 3.9, "tokens_out": 1000}),
        ("b", 1, 10, {"full": 9.0, "asks": 4, "open": 3.5, "tokens_out": 1000}),
    )
    load = read_load(log)
    assert load.span == 20 and load.between == 0
    assert load.filled == pytest.approx(7.4 / 8) and load.tokens_per_second == 100
    assert sum(load.shares.values()) == pytest.approx(1)
    assert "at work 92% of the workers' time: caption-bound" in bound(load)


def test_a_backend_that_waits_for_clips_is_decode_starved_within_batches_and_between(
    tmp_path: Path,
) -> None:
    within = read_load(log_of(tmp_path / "w", ("a", 0, 10, {"full": 3.0, "starved": 6.0})))
    assert "waited 60% for clips" in bound(within) and "decode-starved" in bound(within)
    between = read_load(
        log_of(tmp_path / "b", ("a", 0, 1, {"full": 1.0}), ("a", 9, 1, {"full": 1.0}))
    )
    assert between.between == 8 and "waited 80% for clips" in bound(between)


def test_short_batches_and_own_work_are_called_by_their_names(tmp_path: Path) -> None:
    ends = read_load(log_of(tmp_path / "e", ("a", 0, 10, {"full": 3.0, "ending": 6.0})))
    assert "60% went by at the ends of batches" in bound(ends)
    own = read_load(log_of(tmp_path / "o", ("a", 0, 10, {"full": 3.0})))
    assert "70% was the stage's own work" in bound(own)


def test_a_log_without_captions_says_nothing(tmp_path: Path) -> None:
    load = read_load(tmp_path / "none")
    assert bound(load) == "" and canary_words(load) == "" and load.filled == 0
    assert canary_words(CaptionLoad(sight={"a": "off"})) == "Canaries were switched off."
    some = CaptionLoad(sight={"a": "unanswered", "b": "sighted"})
    assert "Some workers got no answer" in canary_words(some)
