"""The Ray that a run works on: a local one of its own, or one that is there (`joining`).

A local Ray starts whole or not at all, ends with the run, and leaves nothing behind.
"""

import fcntl
import logging
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import ray
from ray._private.state import state

from pipeline.cluster.joining import LOCAL, find_address, is_client, joined
from pipeline.cluster.signals import interrupts_later
from pipeline.crews import needs
from pipeline.plan import Cluster
from stages.stage import Stage

OBJECT_STORE_BYTES = 512 * 2**20  # records only; a local run needs no more
MOST_OF_A_KIND = 1000  # machines; an autoscaler may know no bound
OWN_FOLDER = "tv2tv-run-"
KEEP = "RAY_TMPDIR"  # Ray's own variable for where it keeps its logs and sockets
MOST_TEMPORARY = 38  # bytes: Ray adds up to 68 for its sockets, and Linux takes 107
CLEAR_SECONDS = 5.0  # in which processes that leave may still write into their folder


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


@contextmanager
def connected(
    stages: Sequence[Stage], log: Path, *, verbose: bool, address: str | None = None
) -> Iterator[Cluster]:
    """A running Ray: the one this process has, the one at ``address`` or in ``RAY_ADDRESS``
    (`pipeline.cluster.joining.find_address`), or else a local one that ends with the block.

    What a local Ray says on stderr goes to the file ``log``, or to the screen when ``verbose``.
    The logs of its processes go when it ends, unless `KEEP` names a folder for them.

    A local Ray gets logical CPUs for the sum of all crews' minima and the cores on top: with
    fewer, pools that wait for each other never move a row, and print nothing.
    """
    if ray.is_initialized():
        yield measured(foreign=False)
        return
    if (place := find_address(address)) is not None:
        level = logging.INFO if verbose else logging.ERROR
        with (
            _screen() as screen,
            nullcontext() if verbose else _stderr_to(log),
            joined(place, screen, log_to_driver=verbose, logging_level=level),
        ):
            yield measured(foreign=True)
        return
    cores = usable_cores()
    minima = sum(need.cpus for need in needs(stages))
    cpus = math.ceil(minima) + cores - 1
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with nullcontext() if verbose else _stderr_to(log), _temporary() as temporary:
        try:
            with interrupts_later():
                ray.init(
                    address=LOCAL,  # whatever RAY_ADDRESS says
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


def measured(*, foreign: bool) -> Cluster:
    """What a running Ray has, or what its autoscaler may make of it, if that is more."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    sizes = [(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in nodes]
    later = [] if is_client() else _later()
    if sum(cpus for cpus, _ in later) > sum(cpus for cpus, _ in sizes):
        sizes = later
    sizes = [size for size in sizes if any(size)]
    cpus, gpus = (sum(size[i] for size in sizes) for i in range(2))
    several = foreign or len(sizes) > 1
    return Cluster(cpus, gpus, max(1, int(cpus)), tuple(sizes) if several else ())


def _later() -> list[tuple[float, float]]:
    """CPUs and GPUs of all machines that Ray's autoscaler says it may start; [] without one."""
    config = state.get_cluster_config()
    groups = config.node_group_configs if config is not None else ()
    return [
        (float(group.resources.get("CPU", 0)), float(group.resources.get("GPU", 0)))
        for group in groups
        for _ in range(min(max(0, group.max_count), MOST_OF_A_KIND))
    ]


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
def _screen() -> Iterator[int]:
    """A file descriptor of what is stderr now, whatever 2 is turned to meanwhile."""
    screen = os.dup(2)
    try:
        yield screen
    finally:
        os.close(screen)


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
