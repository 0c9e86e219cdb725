"""Writes a set to a URI and is killed on the way: ``python killed_upload.py URI MOMENT NUMBER``.

MOMENT is ``before`` or ``after`` the NUMBER-th file was sent, ``noted`` after that was noted,
``part`` when the NUMBER-th part of a large file is sent, or ``manifest`` when only the notes are
still there.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import s3fs
from shard_sets import good_set

from corpus.remote import RemoteStore
from corpus.store import store_at
from corpus.uploading import NOTES, Uploads

PART = 5 * 2**20
LARGE = {0: {"preview": b"\0\0\0\x18ftyp" + bytes(range(256)) * (11 * 2**12)}}


def write(uri: str, **more: Any) -> Any:
    return good_set(store_at(uri), 9, validation=0.2, **more)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(uri: str, moment: str, number: int) -> None:
    calls, put, note = [], RemoteStore.put, RemoteStore.write_text

    def counted(self: RemoteStore, name: str, path: Path) -> Any:
        if name == "manifest.json" or moment in ("part", "manifest"):
            return put(self, name, path)
        calls.append(name)
        mine = len(calls) == number
        if mine and moment == "before":
            die()
        found = put(self, name, path)
        if mine and moment == "after":
            die()
        return found

    def noted(self: RemoteStore, name: str, text: str) -> None:
        note(self, name, text)
        if moment == "noted" and self.uri.endswith(NOTES) and len(calls) >= number:
            die()

    RemoteStore.put, RemoteStore.write_text = counted, noted  # type: ignore[method-assign]
    if moment == "manifest":
        Uploads.forget = lambda self: die()  # type: ignore[method-assign]
    if moment == "part":
        s3fs.core.calculate_chunksize = lambda *_, **__: PART
        real = s3fs.S3FileSystem._call_s3

        async def call(self: Any, method: str, *given: Any, **named: Any) -> Any:
            if method == "upload_part" and named["PartNumber"] == number:
                die()
            return await real(self, method, *given, **named)

        s3fs.S3FileSystem._call_s3 = call
    write(uri, **({"changes": LARGE} if moment == "part" else {}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
