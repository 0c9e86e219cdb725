"""Tars with one spelling: the same members give the same bytes, whatever Python writes them.

Plain POSIX ustar: per member a header of one block, the bytes, zeros to a whole block; at the end
zeros to a whole record, at least two blocks. Everything in a header that could tell who wrote it,
and when, is zero. Python's `tarfile` does the same today, but promises nothing, and a checker
needs to know what a header has to be.
"""

import hashlib
from typing import BinaryIO

BLOCK, RECORD = 512, 10240
NAME_BYTES = 100
LARGEST = 8**11 - 1  # bytes of a member: eleven octal digits
_MODE, _NOBODY, _NO_TIME = b"0000644\0", b"0000000\0", b"00000000000\0"
_REST = b"0" + bytes(100) + b"ustar\x0000" + bytes(32 + 32 + 8 + 8 + 155 + 12)


def header(name: str, size: int) -> bytes:
    """The 512 bytes ahead of a member.

    Raises:
        ValueError: a name that is no ASCII, empty or over 100 bytes, or a size over 8 GiB.
    """
    spelled = name.encode("ascii", "replace")
    if not 0 < len(spelled) <= NAME_BYTES or not name.isascii() or not 0 <= size <= LARGEST:
        raise ValueError(f"{name!r} of {size} bytes cannot be a member of a plain tar")
    before = spelled.ljust(NAME_BYTES, b"\0") + _MODE + _NOBODY * 2 + b"%011o\0" % size + _NO_TIME
    checksum = sum(before) + sum(_REST) + 8 * ord(" ")
    return before + b"%06o\0 " % checksum + _REST


def padding(size: int) -> int:
    """Zeros behind a member of so many bytes."""
    return -size % BLOCK


def end(offset: int) -> int:
    """Zeros at the end of a tar whose members end at ``offset``."""
    return 2 * BLOCK + -(offset + 2 * BLOCK) % RECORD


class TarWriter:
    """Writes members into a file, one after the other; holds none of them.

    Attributes:
        offset: where the next header begins.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self.offset = 0

    def add(self, name: str, data: bytes) -> int:
        """Add a member; where its bytes begin."""
        self._write(header(name, len(data)))
        begin = self.offset
        self._write(data)
        self._write(bytes(padding(len(data))))
        return begin

    def close(self) -> tuple[int, str]:
        """Write the end; bytes and SHA-256 of the tar."""
        self._write(bytes(end(self.offset)))
        return self.offset, self._sha256.hexdigest()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._sha256.update(data)
        self.offset += len(data)
