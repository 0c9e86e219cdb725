"""Broken copies of films: each kind of damage is a function from bytes to bytes, drawn by seed.

The same films, count and seed give the same mutants, by name and by byte.
"""

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

Bytes = bytearray
SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mov", ".flv", ".wmv", ".mxf", ".ogv")
HEAD = 4096  # bytes at the beginning that are taken for the header
# Boxes of ISO/IEC 14496-12 that hold boxes; boxes that hold times; and boxes that hold the index.
_PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"udta", b"moof", b"traf")
_TIMES = (b"mvhd", b"tkhd", b"mdhd", b"elst", b"stts", b"ctts", b"tfdt", b"trun")
_INDEX = (b"stsd", b"stss", b"stsz", b"stsc", b"stco", b"co64", b"sdtp", b"avcC", b"hvcC", b"av1C")
# Matroska: Timestamp of a cluster, TimestampScale, DefaultDuration, SimpleBlock (size and time).
_EBML_TIMES = (b"\xe7", b"\x2a\xd7\xb1", b"\x23\xe3\x83", b"\xa3")
# AVI: the main header, the stream header and the index.
_RIFF = (b"avih", b"strh", b"strf", b"idx1")


@dataclass(frozen=True)
class Mutant:
    """A broken copy: of which film, how it was broken, under which suffix."""

    name: str
    parent: str
    kind: str
    data: bytes


Mutation = Callable[[random.Random, Bytes, bytes], Bytes]


def mutants(films: Sequence[Path], count: int, seed: int) -> list[Mutant]:
    """``count`` mutants: all kinds in turn, of all films in turn, no two with the same bytes."""
    chance = random.Random(seed)
    whole = [path.read_bytes() for path in films]
    kinds = list(KINDS.items())
    made: list[Mutant] = []
    seen = set(whole)
    while len(made) < count:
        number = len(made)
        kind, mutate = kinds[number % len(kinds)]
        at = chance.randrange(len(films))
        data = bytes(mutate(chance, Bytes(whole[at]), chance.choice(whole)))
        if data in seen:
            continue
        seen.add(data)
        suffix = films[at].suffix
        if kind == "wrong_suffix":
            suffix = chance.choice([other for other in SUFFIXES if other != suffix])
        name = f"{films[at].stem}-{number:04d}-{kind}{suffix}"
        made.append(Mutant(name, films[at].name, kind, data))
    return made


def _flip(chance: random.Random, data: Bytes, start: int, end: int) -> Bytes:
    """Some bits of ``data[start:end]``."""
    for _ in range(chance.choice([1, 1, 3, 10, 40])):
        data[chance.randrange(start, max(start + 1, end))] ^= 1 << chance.randrange(8)
    return data


def flip_header(chance: random.Random, data: Bytes, other: bytes) -> Bytes:
    return _flip(chance, data, 0, min(HEAD, len(data)))


def flip_index(chance: random.Random, data: Bytes, other: bytes) -> Bytes:
    """In the tables of mp4 and AVI; where there are none, in the end: indices lie there."""
    places = [box for box in _boxes(data) if box[0] in _INDEX]
    places += [(tag, at, at + 256) for tag in _RIFF for at in _all(data, tag)]
    if not places:
        return _flip(chance, data, max(0, len(data) - HEAD), len(data))
    _, start, end = chance.choice(places)
    return _flip(chance, data, start, min(end, len(data)))


def flip_payload(chance: random.Random, data: Bytes, other: bytes) -> Bytes:
    return _flip(chance, data, len(data) // 4, len(data) * 3 // 4)


def truncate(chance: random.Random, data: Bytes, other: bytes) -> Bytes:
    return data[: chance.randrange(1, len(data))]


def splice(chance: random.Random, data: Bytes, other: bytes) -> Bytes:
    """The beginning of one film and the end of another."""
    return data[: chance.randrange(len(data))] + other[chance.randrange(len(other)) :]


def zero(chance: random.Random, data: Bytes, other: bytes) -> Bytes:
    """A lost disk block or more."""
    start, length = chance.randrange(len(data)), chance.choice([16, 512, 4096, 65536])
    end = min(len(data), start + length)
    data[start:end] = bytes(end - start)
    return data


def overwrite(chance: random.Random, data: Bytes, other: bytes) -> Bytes:
    """Random bytes."""
    start, length = chance.randrange(len(data)), chance.choice([4, 64, 2048])
    end = min(len(data), start + length)
    data[start:end] = chance.randbytes(end - start)
    return data


def duplicate(chance: random.Random, data: Bytes, other: bytes) -> Bytes:
    start = chance.randrange(len(data))
    piece = data[start : start + chance.choice([1, 188, 4096, 100_000])]
    return data[:start] + piece + data[start:]


def remove(chance: random.Random, data: Bytes, other: bytes) -> Bytes:
    start = chance.randrange(len(data))
    return data[:start] + data[start + chance.choice([1, 188, 4096, 100_000]) :]


def swap(chance: random.Random, data: Bytes, other: bytes) -> Bytes:
    """Two ranges in each other's place."""
    length = chance.choice([188, 4096, 50_000])
    a, b = sorted(chance.randrange(len(data)) for _ in range(2))
    b = max(b, a + length)
    return data[:a] + data[b : b + length] + data[a + length : b] + data[a : a + length] + data[
        b + length :
    ]  # fmt: skip


def resize_box(chance: random.Random, data: Bytes, other: bytes) -> Bytes:
    """A box of an mp4 says another size; in other files a 32-bit number near the front changes."""
    boxes = [start for _, start, _ in _boxes(data)]
    at = (chance.choice(boxes) - 8) if boxes else chance.randrange(max(1, min(HEAD, len(data) - 4)))
    size = struct.unpack(">I", data[at : at + 4].ljust(4, b"\0"))[0]
    odd = [0, 1, 7, 8, size - 1, size + 1, size * 2, size // 2, 0x7FFFFFFF, 0xFFFFFFFF]
    data[at : at + 4] = struct.pack(">I", chance.choice(odd) & 0xFFFFFFFF)
    return data


def retime(chance: random.Random, data: Bytes, other: bytes) -> Bytes:
    """Numbers where the container keeps its times become others, wild or near."""
    places = [(start, end) for tag, start, end in _boxes(data) if tag in _TIMES]
    if not places:
        tags = _RIFF if data[:4] == b"RIFF" else _EBML_TIMES
        found = [at + len(tag) for tag in tags for at in _all(data, tag)]
        places = [(at, at + 64 if data[:4] == b"RIFF" else at + 6) for at in found]
    if data[:1] == b"G":  # packets of a transport stream: the times of a PES packet
        places = [(at + 8, at + 20) for at in _all(data, b"\0\0\1\xe0")]
    if not places:
        return _flip(chance, data, 0, len(data))
    for _ in range(chance.choice([1, 1, 4])):
        start, end = chance.choice(places)
        at = chance.randrange(start, max(start + 1, min(end, len(data)) - 3))
        value = struct.unpack(">I", data[at : at + 4].ljust(4, b"\0"))[0]
        wild = [0, 1, value + 1, value - 1, value * 2, value ^ 0x80000000, 0x7FFFFFFF, 0xFFFFFFFF]
        data[at : at + 4] = struct.pack(">I", chance.choice(wild) & 0xFFFFFFFF)
    return data


def wrong_suffix(chance: random.Random, data: Bytes, other: bytes) -> Bytes:
    """The name lies; the bytes differ in one only, so that no two files are the same."""
    return data + chance.randbytes(2)


def _boxes(data: Bytes) -> list[tuple[bytes, int, int]]:
    """(type, start, end) of the contents of all boxes of an mp4; [] for another file."""
    if data[4:8] not in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
        return []
    found: list[tuple[bytes, int, int]] = []
    todo = [(0, len(data))]
    while todo:
        at, end = todo.pop()
        while at + 8 <= end:
            size, tag = struct.unpack(">I4s", data[at : at + 8])
            if size < 8 or at + size > end:
                break
            found.append((tag, at + 8, at + size))
            if tag in _PARENTS:
                todo.append((at + 8, at + size))
            at += size
    return found


def _all(data: Bytes, tag: bytes) -> list[int]:
    """Where a tag stands, the first thousand times."""
    found: list[int] = []
    at = data.find(tag)
    while at >= 0 and len(found) < 1000:
        found.append(at)
        at = data.find(tag, at + 1)
    return found


KINDS: dict[str, Mutation] = {
    mutation.__name__: mutation
    for mutation in (
        *(flip_header, flip_index, flip_payload, truncate, splice, zero, overwrite),
        *(duplicate, remove, swap, resize_box, retime, wrong_suffix),
    )
}
