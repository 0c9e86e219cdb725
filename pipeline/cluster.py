"""The Ray that a run works on: a local one of its own, or one that is there.

A local Ray starts whole or not at all, ends with the run, and leaves nothing behind.
"""

import fcntl
import logging
import math
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import ray

from pipeline.plan import Cluster
from stages.stage import Stage

OBJECT_STORE_BYTES = 512 * 2**20  # records only; a local run needs no more
OWN_FOLDER = "tv2tv-run-"
KEEP = "RAY_TMPDIR"  # Ray's own variable for where it keeps its logs and sockets
MOST_TEMPORARY = 38  # bytes: Ray adds up to 68 for its sockets, and Linux takes 107
CLEAR_SECONDS = 5.0  # in which processes that leave may still write into their folder


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


@contextmanager
def connected(stages: Sequence[Stage], log: Path, *, verbose: bool) -> Iterator[Cluster]:
    """A running Ray: the one this process has, or else a local one that ends with the block.

    What a local Ray says on stderr goes to the file ``log``, or to the screen when ``verbose``.
    The logs of its processes go when it ends, unless `KEEP` names a folder for them.

    A local Ray gets logical CPUs for the sum of all stages' minima and the cores on top: with
    fewer, pools that wait for each other never move a row, and print nothing.
    """
    if ray.is_initialized():
        found = ray.cluster_resources()
        cpus = found.get("CPU", 0.0)
        yield Cluster(cpus, found.get("GPU", 0.0), max(1, int(cpus)))
        return
    cores = usable_cores()
    minima = sum(stage.resources.cpus for stage in stages)
    cpus = math.ceil(minima) + cores - 1
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with nullcontext() if verbose else _stderr_to(log), _temporary() as temporary:
        try:
            with interrupts_later():
                ray.init(
                    num_cpus=cpus,
                    include_dashboard=False,
                    log_to_driver=verbose,
                    logging_level=logging.INFO if verbose else logging.ERROR,
                    object_store_memory=OBJECT_STORE_BYTES,
                    _temp_dir=temporary,
                )
            yield Cluster(cpus, ray.cluster_resources().get("GPU", 0.0), cores)
        finally:
            with interrupts_later():
                ray.shutdown()


@contextmanager
def interrupts_later() -> Iterator[None]:
    """Hold Ctrl-C back until the end of the block.

    Ray's native part that is interrupted while it is built stays behind half built: no shutdown
    finds it, and the process ends in a segmentation fault.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def _temporary() -> Iterator[str | None]:
    """A folder for Ray's session that goes with it; None where the user has named one to keep."""
    if os.environ.get(KEEP):
        yield None
        return
    usual = tempfile.gettempdir()
    short = len(os.fsencode(f"{usual}/{OWN_FOLDER}12345678")) <= MOST_TEMPORARY
    parent = Path(usual if short else "/tmp")  # noqa: S108
    _clear_dead(parent)
    folder = tempfile.mkdtemp(prefix=OWN_FOLDER, dir=parent)
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)  # until this process ends, however it does
    try:
        yield folder
    finally:
        end = time.monotonic() + CLEAR_SECONDS
        while Path(folder).exists() and time.monotonic() < end:
            shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _clear_dead(parent: Path) -> None:
    """Remove what drivers left that were killed: folders that no process holds."""
    for folder in parent.glob(f"{OWN_FOLDER}*"):
        try:
            if time.time() - folder.stat().st_mtime < CLEAR_SECONDS:
                continue  # its maker may be about to hold it
            handle = os.open(folder, os.O_RDONLY)
        except OSError:
            continue  # it is another user's, or went meanwhile
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # its owner lives
        finally:
            os.close(handle)


@contextmanager
def _stderr_to(log: Path) -> Iterator[None]:
    """Native code writes to file descriptor 2 whatever Python's loggers are told."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with log.open("ab") as file:
            os.dup2(file.fileno(), 2)
            yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)
