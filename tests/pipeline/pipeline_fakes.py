"""Small stages for tests: a "film" is a JSON file that says how each stage shall fare with it.

``{"shots": [{"clips": 2}, {"clips": 0}], "probe": "raise"}`` and the like. Every call of `process`
adds a line to ``<log>/<stage>``, so that tests can count what was computed.
"""

import contextlib
import errno
import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from corpus.errors import UserError
from corpus.files import write_text
from corpus.ids import content_id, segment_id, shot_id
from corpus.rows import Row
from stages.stage import (
    ClipStage,
    Record,
    Resources,
    Stage,
    StageConfig,
    VideoStage,
    children,
    merged,
)


class FakeConfig(StageConfig):
    """``log`` is where calls are counted; ``tag`` changes the fingerprint; ``batch`` does not."""

    log: str = ""
    tag: str = ""
    batch: int = 3


class _Fake(Stage[FakeConfig]):
    """What all fakes share: counting, and the ways to fail that a film asks for."""

    def identity(self) -> dict[str, Any]:
        return {"tag": self.config.tag}

    @property
    def resources(self) -> Resources:
        return Resources(batch=self.config.batch)

    def note(self, text: str) -> None:
        if self.config.log:
            with (Path(self.config.log) / self.name).open("a") as file:
                file.write(text + "\n")

    def open(self) -> None:
        if self.config.tag == "unfit":
            raise UserError("the model is not there")

    def trouble(self, what: str | None) -> None:
        if what == "raise":
            raise ValueError("this film asked for it")
        better = (Path(self.config.log) / "better").exists()
        if what == "sick" and not better:
            raise ValueError("it did not work here")
        if what == "away" and not better:
            raise OSError(errno.ESTALE, "the mount is away")
        if what == "slow":
            time.sleep(0.5)
        if what == "together":
            self.meet()
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)

    def meet(self) -> None:
        """The first film is captioned until the second is cut; that is cut until captions begin."""
        if self.name == "words":
            self.wait("clips", 2)
        else:
            with contextlib.suppress(FileExistsError):
                Path(self.config.log).with_name("first").touch(exist_ok=False)
                return
            self.wait("words", 1)

    def wait(self, stage: str, count: int) -> None:
        """Until a stage was called so often."""
        log, end = Path(self.config.log) / stage, time.monotonic() + 60
        while not log.exists() or len(log.read_text().splitlines()) < count:
            if time.monotonic() > end:
                raise ValueError(f"{stage} does not work while {self.name} does")
            time.sleep(0.02)


class Probe(_Fake, VideoStage[FakeConfig]):
    name = "probe"
    version = "1"
    level = "video"
    reads = ("video_id",)
    Config = FakeConfig
    writes = pa.schema([pa.field("script", pa.string())])

    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        return [self._one(record) for record in records]

    def _one(self, record: Record) -> list[Row]:
        self.note(record["uri"])
        try:
            script = json.loads(Path(record["path"]).read_text())
        except ValueError as error:
            return self.end(record, "failed", "no_film", str(error))
        self.trouble(script.get("probe"))
        if script.get("probe") == "filter":
            return self.end(record, "filtered", "too_short", "it asked for it")
        columns = {"script": json.dumps(script)}
        return [Row("video", None, record["video_id"], columns=columns)]

    def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
        return merged(record, rows)


class Shots(_Fake, VideoStage[FakeConfig]):
    name = "shots"
    version = "1"
    level = "shot"
    reads = ("video_id", "script")
    Config = FakeConfig
    writes = pa.schema([pa.field("number", pa.int32())])

    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        answers = []
        for record in records:
            self.note(record["uri"])
            shots = json.loads(record["script"])["shots"]
            ids = [shot_id(record["video_id"], number, number + 1) for number in range(len(shots))]
            rows = [
                Row("shot", record["video_id"], one, columns={"number": number})
                for number, one in enumerate(ids)
            ]
            answers.append(rows or self.end(record, "filtered", "no_shots", "none in the script"))
        return answers

    def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
        return children(record, rows, "shots", "shot_id")


class Clips(_Fake, VideoStage[FakeConfig]):
    name = "clips"
    version = "1"
    level = "clip"
    reads = ("video_id", "script", "shots")
    Config = FakeConfig
    writes = pa.schema([pa.field("chunks", pa.int32()), pa.field("words", pa.list_(pa.string()))])

    def subjects(self, record: Record) -> list[str]:
        return [shot["shot_id"] for shot in record["shots"]]

    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        answers = []
        for record in records:
            self.note(record["uri"])
            script = json.loads(record["script"])
            self.trouble(script.get("clips"))
            answers.append([row for shot in record["shots"] for row in self._shot(shot, script)])
        return answers

    def _shot(self, shot: dict[str, Any], script: dict[str, Any]) -> list[Row]:
        clips = script["shots"][shot["number"]]
        if not clips:
            return [Row("clip", shot["shot_id"], None, "filtered", "too_short", "no clips")]
        return [
            Row(
                "clip",
                shot["shot_id"],
                content_id(shot["shot_id"], number),
                columns={"chunks": len(words), "words": words},
            )
            for number, words in enumerate(clips)
        ]

    def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
        film = {"video_id": record["video_id"], "uri": record["uri"], "start": 0.0}
        return [
            {**film, "shot_id": r.parent, "clip_id": r.id, **r.columns}
            for r in rows
            if r.id is not None and r.outcome == "ok"
        ]


class Segments(_Fake, ClipStage[FakeConfig]):
    name = "segments"
    version = "1"
    level = "segment"
    reads = ("clip_id", "chunks")
    Config = FakeConfig
    writes = pa.schema([pa.field("a", pa.int32()), pa.field("b", pa.int32())])

    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        return [self._one(record) for record in records]

    def _one(self, record: Record) -> list[Row]:
        self.note(record["clip_id"])
        return [
            Row(
                "segment",
                record["clip_id"],
                segment_id(record["clip_id"], a, a + 1),
                columns={"a": a, "b": a + 1},
            )
            for a in range(record["chunks"])
        ]

    def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
        return children(record, rows, "segments", "segment_id")


class Words(_Fake, ClipStage[FakeConfig]):
    """Speaks of existing segments: ``bad`` is filtered, ``raise`` raises, ``kill`` kills."""

    name = "words"
    version = "1"
    level = "segment"
    reads = ("clip_id", "segments", "words")
    Config = FakeConfig
    writes = pa.schema([pa.field("text", pa.string())])

    def subjects(self, record: Record) -> list[str]:
        return [segment["segment_id"] for segment in record["segments"]]

    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        return [self._one(record) for record in records]

    def _one(self, record: Record) -> list[Row]:
        self.note(record["clip_id"])
        rows = []
        for segment in record["segments"]:
            word, one = record["words"][segment["a"]], segment["segment_id"]
            self.trouble(word)
            columns = {"text": word + self.config.tag}
            if word == "bad":
                rows.append(
                    Row("segment", record["clip_id"], one, "filtered", "bad", columns=columns)
                )
            else:
                rows.append(Row("segment", record["clip_id"], one, columns=columns))
        return rows

    def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
        before = {segment["segment_id"]: segment for segment in record["segments"]}
        return [
            {**clip, "segments": [{**before[s["segment_id"]], **s} for s in clip["segments"]]}
            for clip in children(record, rows, "segments", "segment_id")
        ]


class Latents(_Fake, ClipStage[FakeConfig]):
    name = "latents"
    version = "1"
    level = "clip"
    reads = ("clip_id", "chunks")
    Config = FakeConfig
    writes = pa.schema([pa.field("codec", pa.string())])

    def identity(self) -> dict[str, Any]:
        return {"tag": self.config.tag, "codec": {"id": "fake"}}

    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        for record in records:
            self.note(record["clip_id"])
        return [[Row("clip", None, r["clip_id"], columns={"codec": "fake"})] for r in records]

    def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
        return merged(record, rows)


class FiledClips(Clips):
    """Clips that are files."""

    makes = "clip"

    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        answers = super().process(records)
        for record, rows in zip(records, answers, strict=True):
            for item in self.advance(record, rows):
                write_text(self.context.media.path(item["clip"]), "a clip")
        return answers

    def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
        items = super().advance(record, rows)
        return [{**item, "clip": self.context.media.clip(item["clip_id"])} for item in items]


class FiledLatents(Latents):
    """Latents that are files, and need those of the clips."""

    makes = "latent"

    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        for record in records:
            assert self.context.media.path(record["clip"]).read_text() == "a clip"
            write_text(self.context.media.path(self._name(record)), "a latent")
        return super().process(records)

    def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
        return [{**item, "latent": self._name(item)} for item in super().advance(record, rows)]

    def _name(self, record: Record) -> str:
        return self.context.media.latent(self.fingerprint, record["clip_id"])


STAGES = (Probe, Shots, Clips, Segments, Words, Latents)
WITH_FILES = (Probe, Shots, FiledClips, Segments, Words, FiledLatents)
