"""Who holds a corpus: what its lock file says, and whether that process still lives."""

import json
import os
import socket
import uuid
from pathlib import Path
from typing import Any

from corpus.errors import UserError
from corpus.store import Store

NAME = "lock.json"
FIELDS = ("token", "host", "pid", "started", "heartbeat")
Owner = dict[str, Any]


def this_process() -> Owner:
    """An owner that is this process; ``space`` tells containers apart that share a host's name."""
    return {
        "token": uuid.uuid4().hex,
        "host": socket.gethostname(),
        "space": _space(),
        "pid": os.getpid(),
        "started": started(os.getpid()),
    }


def read_owner(store: Store) -> tuple[Owner | None, str | None]:
    """The owner as the lock names it, and its version; nothing without a lock.

    Raises:
        UserError: it is no lock. Locks are written atomically, so it was not written by us.
    """
    found = store.read_versioned(NAME)
    if found is None:
        return None, None
    data, version = found
    try:
        held = json.loads(data)
        return {name: held[name] for name in FIELDS} | {"space": held.get("space")}, version
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{store.place(NAME)} is no lock of ours ({error!r}): delete it if no run is going on"
        ) from error


def here(owner: Owner) -> bool:
    """Whether its process would be one of those that we can see."""
    return owner["host"] == socket.gethostname() and owner["space"] in (None, _space())


def gone(owner: Owner) -> bool:
    """Whether it was a process that we could see, and is no more."""
    return here(owner) and started(owner["pid"]) != owner["started"]


def started(pid: int) -> str | None:
    """When a process started, in ticks since boot; "" where /proc is missing; None if it is gone
    (a zombie is: it was killed and only its parent has not noticed)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (FileNotFoundError, ProcessLookupError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return ""
    return "" if not Path("/proc/self/stat").exists() else None


def _space() -> str:
    """The space of process numbers that we live in; "" where /proc is missing."""
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - it names nothing that exists
    except OSError:
        return ""
