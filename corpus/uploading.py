"""Uploads of a set that is written file by file: several at once, while the next file is made.

Whoever is killed leaves whole objects without the file that names them, and a note of each upload
that ended: its SHA-256, size and the version that the store gave it. The notes lie beside the set,
never in it. The next writer of the same set makes the files anew, which gives the same bytes, and
leaves in the store what is noted and still there in that version: no shard is sent twice, and none
is taken for granted of which the store tells another version.
"""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus.cache import unfinished
from corpus.ids import sha256_file

if TYPE_CHECKING:
    from corpus.remote import RemoteStore

UPLOADS = 4  # at once; as many files and one more lie in the cache of this machine
NOTES = ".uploading"  # behind the name of a set; no set is called so


class Uploads:
    """The uploads of one set.

    Attributes:
        sent: names of files that were uploaded.
        kept: names of those that were there already.
    """

    def __init__(self, store: "RemoteStore") -> None:
        self._store, self._notes = store, type(store)(f"{store.uri}{NOTES}")
        self._noted = set(self._notes.names())
        self._pool = ThreadPoolExecutor(UPLOADS, thread_name_prefix="upload")
        self._room = threading.Semaphore(UPLOADS)
        self._running: list[Future[None]] = []
        self.sent: list[str] = []
        self.kept: list[str] = []

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """As `Store.writing`, but the upload goes on when the block has ended; what it raised is
        raised by the next call, or by `wait`."""
        with ExitStack() as stack:
            temporary = stack.enter_context(unfinished(Path(name).name))
            yield temporary
            self._room.acquire()  # `_upload` gives it back
            try:
                self._look()
                mine = stack.pop_all()
                self._running.append(self._pool.submit(self._upload, name, temporary, mine))
            except BaseException:
                self._room.release()
                raise

    def wait(self) -> None:
        """Until all that was begun has ended; raises what went wrong."""
        while self._running:
            self._running.pop(0).result()

    def forget(self) -> None:
        """Take the notes away: the set is whole."""
        self._notes.clear()

    def close(self) -> None:
        """Let those that are under way end, begin no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _look(self) -> None:
        """Raise what an upload that has ended raised."""
        ended = [one for one in self._running if one.done()]
        self._running = [one for one in self._running if not one.done()]
        for one in ended:
            one.result()

    def _upload(self, name: str, path: Path, mine: ExitStack) -> None:
        try:
            with mine:  # the file is gone before there is room for another
                about = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
                if self._is_there(name, about):
                    self.kept.append(name)
                    return
                stat = self._store.put(name, path)
                self.sent.append(name)
                if stat is not None and stat.size == about["bytes"]:
                    note = {**about, "version": stat.version}
                    self._notes.write_text(name, json.dumps(note))
        finally:
            self._room.release()

    def _is_there(self, name: str, about: dict[str, Any]) -> bool:
        """Whether the store holds these very bytes, by what was noted when they were sent."""
        if name not in self._noted:
            return False
        with suppress(OSError, ValueError):  # a note that cannot be read is none
            noted, stat = json.loads(self._notes.read(name)), self._store.stat(name)
            return stat is not None and noted == {**about, "version": stat.version}
        return False
