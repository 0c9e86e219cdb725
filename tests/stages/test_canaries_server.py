"""Canaries through the server backend: real pictures over a real connection, right ids."""

import base64
import io
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from asked import clip
from fake_server import Answering, Asked, Fake, caption, envelope, serving

from corpus.clock import Clock
from corpus.layout import Media
from stages.captioning.backend import BindingError
from stages.captioning.canaries import COLOURS
from stages.captioning.settings import CaptionsConfig
from stages.captions import CaptionsStage
from stages.stage import Context

COUNT = 4


def seen(asked: Asked) -> str:
    """What a model that sees says of the last picture: its colour where it may choose one, else a
    sentence."""
    parts = asked.body["messages"][0]["content"]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    with Image.open(io.BytesIO(base64.b64decode(urls[-1].partition(",")[2]))) as image:
        pixel = np.asarray(image.convert("RGB")).reshape(-1, 3).mean(axis=0)
    schema = asked.body["response_format"]["json_schema"]["schema"]
    if "enum" in schema["properties"]["caption"]:
        return min(COLOURS, key=lambda one: sum(abs(pixel - COLOURS[one])))
    return f"A surface is {pixel.mean():.0f} bright."


def honest(fake: Fake, answering: Answering, asked: Asked) -> None:
    answering.say(200, envelope(asked, caption(seen(asked))))


class Swapping:
    """Two questions that are under way together get each other's texts."""

    def __init__(self) -> None:
        self.meeting = threading.Condition()
        self.first: list[str] | None = None  # the text of one who waits, then also the other's

    def __call__(self, fake: Fake, answering: Answering, asked: Asked) -> None:
        text = seen(asked)
        with self.meeting:
            if self.first is None:
                pair = self.first = [text]
                self.meeting.wait_for(lambda: len(pair) == 2, timeout=0.1)
                self.first = None if self.first is pair else self.first
                text = pair[-1]
            else:
                self.first.append(text)
                text, self.first = self.first[0], None
                self.meeting.notify_all()
        answering.say(200, envelope(asked, caption(text)))


def stage_of(fake: Fake, media: Media, **more: Any) -> CaptionsStage:
    server = {
        **{"address": fake.address, "model": "fake", "dialect": "openai", "show": "images"},
        **{"concurrency": COUNT, "short_side": 16},
    }
    config = CaptionsConfig.model_validate({"backend": "server", "server": server, **more})
    stage = CaptionsStage(config, Context(media, Clock()))
    stage.open()
    return stage


def test_a_server_that_swaps_texts_under_right_ids_is_caught(media: Media) -> None:
    clips = [clip(media, number) for number in range(COUNT)]
    with serving(Swapping()) as fake:
        stage = stage_of(fake, media, canaries=1.0)
        with pytest.raises(BindingError, match="each other's texts"):
            stage.process(clips)


def test_without_canaries_nobody_notices(media: Media) -> None:
    """That is what they are for: ids are right, the texts are captions."""
    clips = [clip(media, number) for number in range(COUNT)]
    with serving(Swapping()) as fake:
        rows = stage_of(fake, media, canaries=0).process(clips)
    with serving(honest) as fake:
        true = stage_of(fake, media, canaries=0).process(clips)
    assert {row.outcome for one in rows for row in one} == {"ok"}
    told, right = ([row.columns["text"] for one in all for row in one] for all in (rows, true))
    assert told != right and len(told) == len(right)


def test_an_honest_server_passes(media: Media) -> None:
    clips = [clip(media, number) for number in range(COUNT)]
    with serving(honest) as fake:
        stage = stage_of(fake, media, canaries=1.0)
        rows = stage.process(clips)
    told = stage.told()
    assert told["canaries"] == {"sight": "sighted", "asked": 4, "right": 4}
    assert told["limit"] == COUNT and told["tokens_out"] == 20 * told["answers"]
    assert [row.columns["text"] for row in rows[1]][1:] == [
        f"A surface is {40 + 4 * b} bright." for b in (4, 8, 12)
    ]
