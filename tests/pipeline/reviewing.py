"""A review server on a corpus made by hand, in a thread of this process."""

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from corpus.clock import Clock
from corpus.layout import Layout, Media, create
from corpus.video import Encoding, write_video
from pipeline.review.desk import Desk
from pipeline.review.films import Films
from pipeline.review.labels import Labels
from pipeline.review.sample import Clip, clip_of
from pipeline.review.server import Review

HOSTILE = "<script>window.stolen=1</script><img src=x onerror='window.stolen=2'>"
TEXTS = ("goes left", HOSTILE, "", "a door opens & shuts")
CHUNKS = 4  # per segment: a second


def record(media: Media, number: int, *, size: tuple[int, int] = (64, 96)) -> dict[str, Any]:
    """A finished clip; its file is not made."""
    name = f"{number:032x}"
    said = {"scores": {"own": 0.25}, "prompt": "p", "model": "m"}
    segments = [
        {
            **said,
            "segment_id": f"s{number}-{i}",
            "a": i * CHUNKS,
            "b": (i + 1) * CHUNKS,
            "text": text,
            "verdict": "keep" if text else "no_caption",
            "binding": f"b{number}-{i}",
        }
        for i, text in enumerate(TEXTS)
    ]
    return {
        "clip_id": name,
        "video_id": f"v{number // 2}",
        "clip": media.clip(name),
        "uri": f"films/{HOSTILE}.mp4",
        "start": 1.5,
        "chunks": CHUNKS * len(TEXTS),
        "height": size[0],
        "width": size[1],
        "meta_text": f"film {number} {HOSTILE}",
        "segments": segments,
    }


def film(path: Path, seconds: int, size: tuple[int, int], encoding: Encoding = "yuv420p") -> None:
    """Grey that becomes lighter every frame."""
    count = 1 + 16 * seconds
    levels = np.linspace(10, 240, count).astype(np.uint8)
    write_video(path, np.broadcast_to(levels[:, None, None, None], (count, *size, 3)), 16, encoding)


def corpus(place: Path) -> Layout:
    return create(place, Clock())


def clips(
    layout: Layout,
    count: int = 2,
    size: tuple[int, int] = (64, 96),
    encoding: Encoding = "yuv420p",
) -> list[Clip]:
    """Clips with files."""
    made = []
    for number in range(count):
        one = record(layout.media, number, size=size)
        film(layout.media.path(one["clip"]), len(TEXTS), size, encoding)
        made.append(clip_of(one, Clock()))
    return made


def review_of(
    layout: Layout, some: list[Clip], reviewer: str = "ada", encoding: Encoding = "yuv420p"
) -> Review:
    copies = layout.root / "copies"
    copies.mkdir(exist_ok=True)
    desk = Desk(reviewer, some, Labels(layout))
    return Review(desk, Films(layout.media, Clock(), encoding, copies))


@contextmanager
def serving(review: Review) -> Iterator["Client"]:
    """The server, until the block ends."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    over = asyncio.Event()

    async def run() -> None:
        async with review.listening():
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    try:
        assert ready.wait(30)
        yield Client(review)
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(30)
        loop.close()


class Answer:
    """Status, headers and body."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = answer.status, answer.headers, answer.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Asks as a browser would, or as one that means harm."""

    def __init__(self, review: Review) -> None:
        self.review = review
        self.host = f"127.0.0.1:{review.port}"

    def get(self, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> Answer:
        """``path`` below the token."""
        return self.raw(method, f"/{self.review.token}/{path}", headers=headers)

    def post(self, data: Any, headers: dict[str, str] | None = None) -> Answer:
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        ours = {"Content-Type": "application/json", "Origin": f"http://{self.host}"}
        return self.raw("POST", f"/{self.review.token}/labels", body, ours | (headers or {}))

    def raw(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Exactly this, with nothing normalised."""
        connection = http.client.HTTPConnection("127.0.0.1", self.review.port, timeout=30)
        sent = {"Host": self.host} | (headers or {})
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                connection.putheader(name, value)
            if body is not None and "Transfer-Encoding" not in sent:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            return Answer(connection.getresponse())
        finally:
            connection.close()


def said(number: int, segment: int, label: str, *kinds: str) -> dict[str, Any]:
    """A statement as the page sends it."""
    about = {"segment": f"s{number}-{segment}", "binding": f"b{number}-{segment}"}
    return {**about, "label": label, "kinds": list(kinds)}
