"""Clock, ids, rows, durable files, layout and timelines."""

import json
import math
import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from corpus import ids
from corpus.clock import Clock
from corpus.errors import UserError
from corpus.files import write_bytes, writing
from corpus.layout import create, open_corpus
from corpus.rows import COMMON, Row, table_schema
from corpus.timeline import Span, Timeline, read_timeline, write_timeline


@given(st.integers(1, 60), st.integers(1, 8), st.integers(0, 200))
def test_chunks_tile_the_frames_after_the_start_frame(fps: int, n: int, k: int) -> None:
    clock = Clock(fps, n)
    tiled = [frame for chunk in range(k) for frame in clock.chunk_frames(chunk)]
    assert [0, *tiled] == list(range(clock.frames(k)))
    assert clock.chunks(clock.frames(k)) == k
    assert list(clock.span_frames(0, k)) == tiled


def test_frames_and_seconds_that_are_no_whole_chunks_are_refused() -> None:
    clock = Clock()
    assert clock.chunks_of(4.0) == 16
    with pytest.raises(ValueError, match="not 1"):
        clock.chunks(64)
    for seconds in (3.999, 0.0, -1.0, math.inf, math.nan):
        with pytest.raises(UserError, match=r"multiple of 0\.25"):
            clock.chunks_of(seconds)


def test_ids_are_stable_and_depend_on_every_part() -> None:
    clip = ids.clip_id("v", 0, 16, {"fps": 16})
    assert clip == ids.clip_id("v", 0, 16, {"fps": 16})
    others = [
        ("w", 0, 16, {"fps": 16}),
        ("v", 1, 16, {"fps": 16}),
        ("v", 0, 8, {"fps": 16}),
        ("v", 0, 16, {"fps": 8}),
    ]
    assert len({clip, *(ids.clip_id(*other) for other in others)}) == 5
    # A reader in another language computes the same: SHA-256 of canonical JSON.
    assert ids.content_id("a", 1) == ids.sha256_bytes(b'["a",1]')[:32]
    assert ids.fingerprint("s", "1", {"a": 1, "b": 2}) == ids.fingerprint(
        "s", "1", {"b": 2, "a": 1}
    )


def test_video_id_is_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"film")
    (tmp_path / "b.avi").write_bytes(b"film")
    (tmp_path / "c.mp4").write_bytes(b"other")
    same, again, other = (ids.video_id(tmp_path / n) for n in ("a.mp4", "b.avi", "c.mp4"))
    assert same == again != other


def test_rows_say_why_they_end() -> None:
    with pytest.raises(ValueError, match="reason"):
        Row("clip", "s", "c", "failed")
    with pytest.raises(ValueError, match="reason"):
        Row("clip", "s", "c", "ok", reason="why")
    with pytest.raises(ValueError, match="ends its parent"):
        Row("clip", "s", None)
    row = Row("clip", "s", "c", "filtered", "too_short", "1 s", 1.0, {"chunks": 4})
    stored = row.to_dict("key", "video")
    assert stored["key"] == "key" and stored["chunks"] == 4
    schema = table_schema(pa.schema([pa.field("chunks", pa.int32())]))
    assert Row.read(pa.Table.from_pylist([stored, stored], schema)) == [row, row]
    bare = Row("shot", "v", "s").to_dict("key", "video")
    assert Row.read(pa.Table.from_pylist([bare], COMMON)) == [Row("shot", "v", "s")]
    assert table_schema(COMMON).names[: len(COMMON)] == COMMON.names


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.bin"
    write_bytes(path, b"old")

    def interrupted() -> None:
        with writing(path) as temporary:
            temporary.write_bytes(b"half of the n")
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        interrupted()
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


def test_one_corpus_one_clock(tmp_path: Path) -> None:
    layout = create(tmp_path / "corpus", Clock())
    assert open_corpus(tmp_path / "corpus") == (Clock(), layout)
    assert create(tmp_path / "corpus", Clock()) == layout
    with pytest.raises(UserError, match="one corpus has one clock"):
        create(tmp_path / "corpus", Clock(fps=8))
    with pytest.raises(UserError, match=r"corpus\.json is missing"):
        open_corpus(tmp_path)
    with pytest.raises(UserError, match="not empty"):
        create(tmp_path, Clock())


def test_timeline_round_trip(tmp_path: Path) -> None:
    timeline = Timeline(
        shots=(Span(0.0, 4.0625), Span(4.0625, 8.125)),
        metas=(Span(0.0, 4.0625, "a räd square"),),
        captions=(Span(0.0, 0.25, "left"), Span(0.25, 0.5, "right")),
    )
    write_timeline(tmp_path / "t.jsonl", timeline)
    assert read_timeline(tmp_path / "t.jsonl") == timeline


def test_a_corpus_that_cannot_be_there_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is no folder"):
        create(tmp_path / "file", Clock())
    with pytest.raises(UserError, match="no corpus can be made"):
        create(tmp_path / "file" / "corpus", Clock())
    with pytest.raises(UserError, match="no corpus can be made"):
        create(tmp_path / os.fsdecode(b"d\xe9"), Clock())


@pytest.mark.parametrize(
    "change",
    [
        {"clock": None},
        {"clock": {"fps": 16, "frames": 4}},
        {"clock": {"fps": "16", "frames_per_chunk": 4}},
        {"tool_version": ...},
        {"schema": ...},
    ],
)
def test_a_damaged_header_is_named(tmp_path: Path, change: dict[str, object]) -> None:
    create(tmp_path, Clock())
    path = tmp_path / "corpus.json"
    head = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({name: value for name, value in head.items() if value is not ...}))
    with pytest.raises(UserError, match=r"corpus\.json is damaged"):
        open_corpus(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"'])
def test_a_header_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    create(tmp_path, Clock())
    (tmp_path / "corpus.json").write_text(text)
    with pytest.raises(UserError, match=r"corpus\.json is damaged"):
        create(tmp_path, Clock())


_TIMES = st.tuples(st.floats(0, 1e6), st.floats(1e-3, 1e3)).map(lambda t: (t[0], t[0] + t[1]))
_TEXTS = st.text(min_size=1).filter(lambda text: bool(text.strip()))


def _spans(texts: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[Span, ...]]:
    spans = st.builds(lambda times, text: Span(*times, text), _TIMES, texts)
    places = st.lists(spans, max_size=3, unique_by=lambda span: (span.start, span.end))
    return places.map(lambda found: tuple(sorted(found, key=lambda s: (s.start, s.end))))


@settings(max_examples=40, deadline=None)  # a durable write may take its time
@given(_spans(st.just("")), _spans(_TEXTS), _spans(_TEXTS))
@example((), (), (Span(0.0, 1.0, "one\u2028line\x85of\x0cwords\r"),))
def test_every_timeline_that_we_write_can_be_read(
    shots: tuple[Span, ...], metas: tuple[Span, ...], captions: tuple[Span, ...]
) -> None:
    timeline = Timeline(shots, metas, captions)
    with tempfile.TemporaryDirectory() as folder:
        write_timeline(Path(folder) / "t.jsonl", timeline)
        assert read_timeline(Path(folder) / "t.jsonl") == timeline


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2"),
        ('{"kind": "shot"}', "expected kind, start, end"),
        ('{"kind": "shot", "start": 1' + "0" * 400 + "}", "expected kind, start, end"),
        ("[" * 100_000, "expected kind, start, end"),
        ('{"kind": "scene", "start": 0, "end": 1}', "none of shot"),
        ('{"kind": "shot", "start": 2, "end": 1}', "no stretch"),
        ('{"kind": "shot", "start": 0, "end": NaN}', "no stretch"),
        ('{"kind": "caption", "start": 0, "end": 1}', "needs a text"),
        ('{"kind": "caption", "start": 0, "end": 1, "text": "half \\ud83d"}', "line 2"),
        ("[1]", "line 2"),
    ],
)
def test_timeline_mistakes_name_file_and_line(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"kind": "shot", "start": 0, "end": 1}\n' + line + "\n")
    with pytest.raises(UserError, match=says) as error:
        read_timeline(path)
    assert "t.jsonl" in str(error.value)
