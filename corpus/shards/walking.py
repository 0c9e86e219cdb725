"""A tar block by block, held against what it has to be: every byte of it is looked at.

Where the index can be trusted it says which member comes next, so that damage is told by the sample
it is in and the walk goes on behind it. Where it cannot, the headers say it, and the first one that
cannot be read is the last.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from corpus.shards.sample import KEY, STREAM
from corpus.shards.tar import BLOCK, NAME_BYTES, end, header, padding

LARGEST = 1 << 30  # bytes of a member that are held at once
_PIECE = 1 << 20
_MEMBER = re.compile(
    rf"({KEY.pattern})\.(captions\.json|json|latent\.npy|mp4|{STREAM.pattern}\.npy)"
)
_FIELDS = {
    **{"name": 100, "mode": 8, "uid": 8, "gid": 8, "size": 12, "mtime": 12, "checksum": 8},
    **{"type": 1, "linkname": 100, "magic": 8, "uname": 32, "gname": 32},
    **{"devmajor": 8, "devminor": 8, "prefix": 155, "padding": 12},
}


@dataclass(frozen=True)
class Member:
    """One member as it was met.

    Attributes:
        data: None where it must not be looked at any further.
        faults: what is wrong with it as a member of a tar.
    """

    key: str
    name: str
    data: bytes | None
    faults: Sequence[str]


class Walk:
    """One reading of a tar from its beginning to its end.

    Attributes:
        faults: of the tar itself, when all members were given.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size, self._at = file, size, 0
        self._sha256 = hashlib.sha256()
        self.faults: list[str] = []

    def guided(
        self, rows: Iterator[dict[str, Any]]
    ) -> Iterator[tuple[dict[str, Any], list[Member]]]:
        """Members sample by sample, as the rows of the index announce them, with these."""
        for row in rows:
            found = []
            for told in row["members"]:
                if self._at + BLOCK + told["size"] > self._size:
                    self.faults.append(
                        f"sample {row['key']}, {told['name']}: the tar ends before it does"
                    )
                    self.skip()
                    return
                found.append(self._member(row["key"], told["name"], told["size"], told))
            yield row, found
        self._end()

    def alone(self) -> Iterator[list[Member]]:
        """Members sample by sample, by what the headers say."""
        found: list[Member] = []
        while self._at + BLOCK <= self._size:
            block = self._file.read(BLOCK)
            self._file.seek(self._at)
            if not any(block):
                break
            named = _MEMBER.fullmatch(_text(block[:NAME_BYTES]))
            size = _octal(block[124:136])
            if named is None or size is None or self._at + BLOCK + size > self._size:
                self.faults.append(
                    f"byte {self._at}: no header of a member that belongs here "
                    f"({_text(block[:NAME_BYTES])!r}); what follows cannot be told apart"
                )
                self.skip()
                break
            key, name = named.group(1), named.group(2)
            if found and found[0].key != key:
                yield found
                found = []
            found.append(self._member(key, name, size, None))
        if found:
            yield found
        if not self.faults:
            self._end()

    def sha256(self) -> str:
        """Of the whole tar, once all members were given."""
        return self._sha256.hexdigest()

    def _member(self, key: str, name: str, size: int, told: dict[str, Any] | None) -> Member:
        faults = []
        if told is not None and told["offset"] != self._at + BLOCK:
            faults.append(f"begins at byte {self._at + BLOCK}, the index says {told['offset']}")
        block = self._read(BLOCK)
        if not _MEMBER.fullmatch(f"{key}.{name}"):
            faults.append(f"{key!r} and {name!r} are no names of a sample and a member")
        elif block != (wanted := header(f"{key}.{name}", size)):
            faults.append(f"its tar header differs: {_difference(block, wanted)}")
        data, sha256 = self._bytes(size)
        if data is None:
            faults.append(f"{size} bytes are too many to be looked at")
        if told is not None and sha256 != told["sha256"]:
            faults.append("the bytes differ from the index")
            data = None
        if any(self._read(padding(size))):
            faults.append("the bytes behind it, up to the next block, are not zero")
        return Member(key, name, data, faults)

    def _bytes(self, size: int) -> tuple[bytes | None, str]:
        """A member's bytes, if they are not too many, and their SHA-256."""
        found, pieces, left = hashlib.sha256(), list[bytes](), size
        while left > 0:
            piece = self._read(min(left, _PIECE))
            if not piece:
                break
            found.update(piece)
            left -= len(piece)
            if size <= LARGEST:
                pieces.append(piece)
        return (b"".join(pieces) if size <= LARGEST else None), found.hexdigest()

    def _end(self) -> None:
        wanted, left = end(self._at), self._size - self._at
        if left != wanted:
            self.faults.append(
                f"{left} bytes follow the last member, {wanted} zeros have to: something is "
                "missing or extra"
            )
        if self.skip():
            self.faults.append("the end of the tar is not all zeros")

    def skip(self) -> bool:
        """Read all that is left; whether any of it is not zero."""
        found = False
        while piece := self._read(_PIECE):
            found = found or any(piece)
        return found

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._sha256.update(data)
        self._at += len(data)
        return data


def _difference(found: bytes, wanted: bytes) -> str:
    """The fields that differ."""
    parts, at = [], 0
    for name, length in _FIELDS.items():
        one, other = found[at : at + length], wanted[at : at + length]
        if one != other:
            parts.append(f"{name} is {_short(one)}, not {_short(other)}")
        at += length
    return "; ".join(parts)


def _short(field: bytes) -> str:
    """A field with its zeros counted."""
    text = re.sub(rb"\0{4,}", lambda found: b"<%d zeros>" % len(found.group()), field.rstrip(b"\0"))
    return repr(text.decode("latin-1"))


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode("latin-1")


def _octal(field: bytes) -> int | None:
    digits = field.rstrip(b"\0 ")
    return int(digits, 8) if re.fullmatch(rb"[0-7]{1,11}", digits) else None
