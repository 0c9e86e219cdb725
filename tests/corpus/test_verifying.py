"""`verify` finds whatever is wrong with a set, and says where."""

import io
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from shard_sets import CODEC, HEADER, caption, good_sample, good_set, key_of

from corpus.captions import ClipCaptions, SegmentCaption
from corpus.errors import UserError
from corpus.ids import segment_id
from corpus.shards import Sample, ShardSet, writing
from corpus.shards.manifest import sealed, spelled
from corpus.shards.tar import TarWriter, end
from corpus.shards.verifying import verify

GOOD = good_sample(0)
FILES = ("shard-000000.tar", "samples.parquet", "manifest.json", "README.md")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "main"
    good_set(folder)
    return folder


@pytest.fixture
def one(made: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(made, tmp_path / "main"))


def faults(folder: Path, **how: Any) -> list[str]:
    return [str(fault) for fault in verify(folder, **{"workers": 1, **how}).faults]


def test_a_good_set_is_whole_however_many_check_it(made: Path) -> None:
    alone = verify(made, workers=1)
    assert (alone.faults, alone.samples) == ((), 12)
    assert alone.shards == len(ShardSet.open(made).manifest["shards"]) > 2
    assert alone.bytes == sum(path.stat().st_size for path in made.iterdir())
    assert verify(made, workers=2) == alone


def flip(path: Path, at: int, bit: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= bit
    path.write_bytes(data)


@pytest.mark.parametrize("name", FILES)
def test_any_flipped_bit_is_found(one: Path, name: str) -> None:
    path, generator = one / name, random.Random(name)
    data = path.read_bytes()
    places = [0, len(data) - 1, *(generator.randrange(len(data)) for _ in range(12))]
    for at in places:
        flip(path, at, 1 << generator.randrange(8))
        found = faults(one)
        assert found and all(text.startswith(name) for text in found), (at, found)
        path.write_bytes(data)
    assert faults(one) == []


def test_names_with_a_dot_are_nobody_s_here_and_remotely(one: Path) -> None:
    """File managers leave them, and repositories of the Hub."""
    (one / ".gitattributes").write_text("*.tar filter=lfs")
    (one / "notes.txt").write_text("?")
    stranger = ["notes.txt: does not belong here: manifest.json does not know it"]
    store, uri = fsspec.filesystem("memory"), "memory://dotted/main"
    store.put(f"{one}/", "/dotted/main", recursive=True)
    assert store.exists("/dotted/main/.gitattributes")
    remote = [str(fault) for fault in verify(uri, workers=1).faults]
    assert faults(one) == remote == stranger


PLACES: dict[str, tuple[int, str]] = {
    "name": (0, "header"),
    "mode": (100, "mode"),
    "owner": (110, "uid"),
    "mtime": (140, "mtime"),
    "checksum": (150, "checksum"),
    "type": (156, "type is"),
    "magic": (258, "magic"),
    "unused": (511, "padding"),
}


@pytest.mark.parametrize(("offset", "word"), PLACES.values(), ids=PLACES)
def test_a_header_is_told_by_shard_key_member_and_field(one: Path, offset: int, word: str) -> None:
    entry = ShardSet.open(one).entries[1]
    name = sorted(entry.members)[offset % len(entry.members)]
    flip(one / entry.shard, entry.members[name]["offset"] - 512 + offset)
    (found,) = faults(one)
    assert found.startswith(f"{entry.shard}, sample {entry.key}, {name}: ") and word in found


def test_a_member_and_the_zeros_behind_it_are_told_by_shard_and_key(one: Path) -> None:
    entry = ShardSet.open(one).entries[1]
    for name, member in entry.members.items():
        where, begin, size = f"{entry.shard}, sample {entry.key}, {name}: ", *places(member)
        for at in (0, size // 2, size - 1, size + -size % 512 - 1):
            flip(one / entry.shard, begin + at)
            (found,) = faults(one)
            assert found.startswith(where)
            assert ("differ from the index" if at < size else "are not zero") in found
            flip(one / entry.shard, begin + at)
    assert faults(one) == []


def places(member: dict[str, Any]) -> tuple[int, int]:
    return member["offset"], member["size"]


def test_every_fault_is_named_and_not_the_first_alone(one: Path) -> None:
    entries = ShardSet.open(one).entries
    harmed = [entries[0], entries[1], entries[-1]]
    for entry in harmed:
        flip(one / entry.shard, entry.members["latent.npy"]["offset"] + 200)
    flip(one / "README.md", 9)
    (one / "more.tar").write_bytes(b"")
    found = faults(one)
    assert len(found) == 5
    for entry in harmed:
        assert any(f"{entry.shard}, sample {entry.key}, latent.npy" in text for text in found)


@pytest.mark.parametrize("name", ["manifest.json", "samples.parquet"])
def test_damage_is_told_by_key_also_where_nothing_else_can_be_believed(
    one: Path, name: str
) -> None:
    entry = next(entry for entry in ShardSet.open(one).entries if entry.chunks == 4)
    (one / name).unlink()
    whole = faults(one)
    assert [text for text in whole if not text.startswith(name)] == []
    data = (one / entry.shard).read_bytes()
    info = entry.members["json"]
    at = data.index(b'"chunks":4', info["offset"]) + 9
    flip(one / entry.shard, at)
    more = set(faults(one)) - set(whole)
    assert any(text.startswith(f"{entry.shard}, sample {entry.key}") for text in more)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_told(one: Path, name: str) -> None:
    (one / name).unlink()
    assert any(text.startswith(f"{name}: is missing") for text in faults(one))


@pytest.mark.parametrize("cut", [1, 512, 10240, 15000])
def test_a_shard_that_was_cut_off_is_told(one: Path, cut: int) -> None:
    path = one / "shard-000000.tar"
    path.write_bytes(path.read_bytes()[:-cut])
    assert faults(one) and all(text.startswith(path.name) for text in faults(one))


def test_bytes_behind_the_end_are_told(one: Path) -> None:
    path = one / "shard-000000.tar"
    path.write_bytes(path.read_bytes() + bytes(10240))
    assert any("something is missing or extra" in text for text in faults(one))


def test_a_sample_that_is_there_twice_is_told_without_an_index(one: Path) -> None:
    path = one / "shard-000000.tar"
    data = path.read_bytes()
    entries = [e for e in ShardSet.open(one).entries if e.shard == path.name]
    stop = entries[1].members["captions.json"]["offset"] - 512
    used = len(data.rstrip(b"\0"))
    used += -used % 512
    twice = data[:used] + data[:stop]
    path.write_bytes(twice + bytes(end(len(twice))))
    for name in ("manifest.json", "samples.parquet"):
        (one / name).unlink()
    assert f"{path.name}, sample {entries[0].key}: is there twice" in faults(one)


def test_a_member_that_is_there_twice_is_told(tmp_path: Path) -> None:
    members = GOOD.members()
    with (tmp_path / "shard-000000.tar").open("wb") as file:
        tar = TarWriter(file)
        for name in ("captions.json", "json", "json", "latent.npy"):
            tar.add(f"{GOOD.key}.{name}", members[name])
        tar.close()
    assert any("are not each once, by name" in text for text in faults(tmp_path))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"size": 10**15}, "latent.npy: the tar ends before it does"),
        ({"size": -512}, "is not whole"),
        ({"offset": 10**15}, "latent.npy: begins at byte"),
        ({"sha256": None}, "is not whole"),
    ],
    ids=str,
)
def test_an_index_that_lies_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], word: str
) -> None:
    """It has the digest of which the manifest tells, so it is believed, but not trusted."""
    real = writing._add

    def add(tar: TarWriter, key: str, name: str, data: bytes) -> dict[str, Any]:
        told = real(tar, key, name, data)
        return {**told, **change} if name == "latent.npy" else told

    monkeypatch.setattr(writing, "_add", add)
    good_set(tmp_path / "main", 2)
    assert any(word in text for text in faults(tmp_path / "main"))


def rewritten(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a manifest and seal it again, as somebody would who means it."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(spelled(sealed(manifest)))


def test_a_video_in_both_splits_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = writing.split_videos
    monkeypatch.setattr(
        writing, "split_videos", lambda videos, plan: set(videos) - real(videos, plan)
    )
    good_set(tmp_path / "main")
    monkeypatch.undo()
    found = faults(tmp_path / "main")
    assert sum("by its hash it is not" in text for text in found) == 4 == len(found)
    tables = writing.pq.ParquetWriter

    class Leaking(tables):  # type: ignore[misc, valid-type]
        def write_table(self, table: Any, **how: Any) -> None:
            videos = writing.pa.array(["one"] * len(table))
            place = table.schema.get_field_index("video_id")
            super().write_table(
                table.set_column(place, writing.SAMPLES.field("video_id"), videos), **how
            )

    monkeypatch.setattr(writing.pq, "ParquetWriter", Leaking)
    good_set(tmp_path / "leak", 9)
    assert "samples.parquet: video one has clips in both splits" in faults(tmp_path / "leak")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda one: one["plan"].update(seed=7), "not where its key's hash places it"),
        (lambda one: one["plan"].update(validation=0.0), "by its hash it is not"),
        (lambda one: one["totals"].update(chunks=1), "totals.chunks"),
        (lambda one: one["contents"]["splits"]["train"].update(samples=1), "contents.splits"),
        (lambda one: one["shards"].reverse(), "samples"),
        (lambda one: one["clock"].update(fps=8), "clock is not that of the manifest"),
        (lambda one: one["codec"].update(revision="0"), "codec is not that of the manifest"),
        (lambda one: one.pop("totals"), "'totals' is a required property"),
        (lambda one: one["files"].append({**one["files"][0], "name": "x"}), "x: is missing"),
    ],
)
def test_a_manifest_that_says_something_else_is_told(
    one: Path, change: Callable[[dict[str, Any]], None], word: str
) -> None:
    rewritten(one, change)
    assert any(word in text for text in faults(one))


def npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


class Payload:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


ABSURD = npy(np.zeros((1, 1, 1, 1), np.float16)).replace(
    b"(1, 1, 1, 1)", b"(9999999999,)".ljust(12)
)
HOSTILE: dict[str, tuple[dict[str, bytes], str]] = {
    "absurd shape": ({"latent.npy": ABSURD.ljust(1568, b"\0")}, "latent.npy: "),
    "no header": ({"latent.npy": b"\x93NUMPY" + b"\xff" * 1600}, "latent.npy: "),
    "python": ({"latent.npy": b"\x93NUMPY\x01\x00\x76\x00" + b"(" * 1600}, "latent.npy: "),
    "deep json": ({"json": b'{"a":' + b"[" * 200000}, "json: cannot be read"),
    "nan": ({"json": b'{"a":NaN}'}, "json: cannot be read"),
    "no object": ({"captions.json": b"[]"}, "captions.json: cannot be read"),
    "key twice": ({"captions.json": b'{"a":1,"a":2}'}, "captions.json: is not spelled"),
    "up": ({"../../up": b"x"}, "no names of a sample and a member"),
    "code": ({"pkl": b"x"}, "no names of a sample and a member"),
    "stray stream": ({"motion.npy": npy(np.zeros(3))}, "motion.npy: is not described"),
    "film": ({"mp4": b"no film at all"}, "mp4: is no mp4"),
    "control": ({"\x1b[2J": b"x"}, "no names"),
}


@pytest.mark.parametrize(("change", "word"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_members_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, bytes], word: str
) -> None:
    """The set is consistent: index and manifest know these very bytes."""
    real = Sample.members
    monkeypatch.setattr(
        Sample, "members", lambda self: dict(sorted({**real(self), **change}.items()))
    )
    monkeypatch.setattr(writing.TarWriter, "add", any_name)
    good_set(tmp_path / "main", 2)
    found = faults(tmp_path / "main")
    assert any(word in text for text in found), found
    assert all(text.isprintable() and len(text) < 500 for text in found)


def any_name(self: TarWriter, name: str, data: bytes) -> int:
    real = TarWriter.__dict__["_write"]
    spelled_name = writing_header(name, len(data))
    real(self, spelled_name)
    begin = self.offset
    real(self, data + bytes(-len(data) % 512))
    return begin


def writing_header(name: str, size: int) -> bytes:
    from corpus.shards.tar import header

    return header(name.encode("ascii", "replace").decode(), size)


def test_a_pickle_in_an_npy_is_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    bad = npy(np.array([Payload(mark)], dtype=object))
    bad += b" " * max(0, 700 - len(bad))
    real = Sample.members
    monkeypatch.setattr(Sample, "members", lambda self: {**real(self), "latent.npy": bad})
    good_set(tmp_path / "main", 2)
    assert any("latent.npy: " in text for text in faults(tmp_path / "main"))
    assert not mark.exists()


def gap(captions: ClipCaptions) -> ClipCaptions:
    return replace(captions, segments=captions.segments[1:])


def other_ids(captions: ClipCaptions) -> ClipCaptions:
    spans = [replace(span, segment_id=segment_id("x", 0, 1)) for span in captions.segments]
    return replace(captions, segments=tuple(spans))


def unbound(captions: ClipCaptions) -> ClipCaptions:
    first = captions.segments[0]
    bare = SegmentCaption(
        first.a, first.b, replace(caption("said by nobody"), binding=""), first.segment_id
    )
    return replace(captions, segments=(bare, *captions.segments[1:]))


@pytest.mark.parametrize(
    ("change", "word"),
    [(gap, "are no partition of [0, 4)"), (other_ids, "its id is not that"), (unbound, "bound to")],
)
def test_captions_that_break_the_contract_are_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[ClipCaptions], ClipCaptions],
    word: str,
) -> None:
    monkeypatch.setattr(ClipCaptions, "check", lambda self, chunks: None)
    good_set(tmp_path / "main", 1, {0: {"captions": change(GOOD.captions)}})
    monkeypatch.undo()
    found = [text for text in faults(tmp_path / "main") if word in text]
    assert found and all(f"sample {key_of(0)}, captions.json" in text for text in found)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"chunks": 5}, "chunks is 5"),
        ({"clip_id": key_of(9)}, "clip_id is"),
        ({"video_id": "stranger"}, "video_id is 'stranger'"),
        ({"height": 17}, "the latent's shape is"),
        ({"fingerprints": {}}, "fingerprints is not that"),
        ({"source": {}}, "required property"),
        ({"codec": {**CODEC.info.to_json(), "mean": []}}, "one number per channel"),
    ],
)
def test_provenance_that_does_not_fit_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], word: str
) -> None:
    real = good_set.__globals__["write_shards"]

    def write(folder: Path, videos: dict[str, str], load: Any, header: Any, plan: Any) -> Any:
        def changed(key: str) -> Sample:
            one = load(key)
            return replace(one, info={**one.info, **change})

        return real(folder, videos, changed, HEADER, plan)

    monkeypatch.setitem(good_set.__globals__, "write_shards", write)
    good_set(tmp_path / "main", 1)
    assert any(word in text and key_of(0) in text for text in faults(tmp_path / "main"))


def test_nothing_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no shards"):
        verify(tmp_path / "none")


def test_an_empty_set_is_whole(tmp_path: Path) -> None:
    good_set(tmp_path / "main", 0)
    assert verify(tmp_path / "main").faults == ()
