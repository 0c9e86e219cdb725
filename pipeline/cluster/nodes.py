"""Before work is given to a cluster: does every machine see what this one sees?

The corpus has to lie on storage that all machines share, the inputs as well, and all of them need
the same tool. Where that is not so, a node would write its results where nobody looks for them.
"""

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from corpus.errors import UserError
from corpus.store import Store
from pipeline.faults import RunError
from pipeline.ledger.leash import Leash
from pipeline.plan import Plan
from pipeline.streaming.worker import Crew, Job
from stages.stage import Record

MOST_INPUTS = 16  # that every node looks for
LOOK_SECONDS = 120.0  # in which a node starts a worker, imports the stages and looks
PATIENCE_SECONDS = 15.0  # network file systems show new files late
MOST_NAMED = 5
SIGN = "here"


@dataclass(frozen=True)
class Look:
    """What a node is to look at.

    Attributes:
        place: the run's folder in the corpus.
        name, token: of a file there, and what it says.
        inputs: local paths of some inputs with their sizes.
        stages: with their fingerprints, which the node works out by itself.
    """

    place: Store
    name: str
    token: str
    inputs: tuple[tuple[str, int], ...]
    stages: tuple[tuple[Any, str], ...]


def check_nodes(plan: Plan, place: Store, records: Sequence[Record]) -> list[str]:
    """Have every node look at the corpus, the inputs and its own tools: also a head without CPUs,
    since tasks that need none may run there.

    Args:
        place: the run's folder in the corpus; a file per node is left in its ``nodes/``.
        records: of what waits.

    Returns:
        Names of nodes that died meanwhile: the others can do their work.

    Raises:
        UserError: a node does not see what this process sees; it names the node.
    """
    token = f"{socket.gethostname()} {place.place()}"
    place.write_text("nodes/driver", token)
    stages = tuple((stage, stage.fingerprint) for stage in plan.stages)
    look = Look(place, "nodes/driver", token, _some_inputs(records), stages)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    asked = [(node, _ask(node["NodeID"], look)) for node in nodes]
    troubles, lost = dict[str, str](), list[str]()
    for node, ref in asked:
        name, trouble = _name(node), _answer(ref)
        if not _lives(node["NodeID"]):  # whatever a worker said that outlived it
            lost.append(name)
        elif trouble:
            troubles[name] = trouble
        elif not _appears(place, f"nodes/{node['NodeID']}"):
            troubles[name] = f"what it writes into {place.place()} is not seen here"
    if troubles:
        raise UserError(_told(troubles, len(nodes)))
    return lost


def leave_sign(notes: Store) -> None:
    """A file by which a `SeeingCrew` knows the corpus."""
    notes.touch(SIGN)


class SeeingCrew(Crew):
    """A crew that first looks for the corpus: a machine may join after `check_nodes`, and would
    make a folder of that name on its own disk."""

    def __init__(self, jobs: Sequence[Job], leash: Leash, notes: Store) -> None:
        if not _appears(notes, SIGN):
            raise RunError(
                f"a worker on {socket.gethostname()} does not see the corpus: {notes.place(SIGN)} "
                "is missing there; give that machine the same storage, and run again"
            )
        super().__init__(jobs, leash)


def _ask(node: str, look: Look) -> Any:
    where = NodeAffinitySchedulingStrategy(node, soft=False)
    task: Any = ray.remote(_looked)
    return task.options(num_cpus=0, max_retries=3, scheduling_strategy=where).remote(look, node)


def _looked(look: Look, node: str) -> list[str]:
    """On a node: its troubles; it leaves a file when it has none."""
    troubles = []
    if not _appears(look.place, look.name) or look.place.read_text(look.name) != look.token:
        troubles.append(
            f"it does not see the corpus at {look.place.place()}: put the corpus on storage that "
            "all machines share under the same path, or on an object store (s3://...)"
        )
    unseen = [path for path, size in look.inputs if _size(path) != size]
    if unseen:
        troubles.append(
            f"it does not see {len(unseen)} of {len(look.inputs)} inputs that it was asked for, "
            f"such as {unseen[0]}: put the inputs on shared storage, too, or name them by URI"
        )
    other = [stage.name for stage, known in look.stages if stage.fingerprint != known]
    if other:
        troubles.append(
            f"it would compute {', '.join(other)} in another way than the driver: its tv2tv or "
            "ffmpeg is another; use one image or one environment for all"
        )
    if not troubles:
        look.place.write_text(f"nodes/{node}", "")
    return troubles


def _answer(ref: Any) -> str:
    """A node's troubles as one text; "" if it has none."""
    try:
        return "; ".join(ray.get(ref, timeout=LOOK_SECONDS))
    except ray.exceptions.GetTimeoutError:
        return f"it gave no answer in {LOOK_SECONDS:.0f} s: see `ray status`"
    except ray.exceptions.RayError as error:
        text = str(error)
        if "ModuleNotFoundError" in text or "ImportError" in text:
            missing = text[text.rindex("Error") :].splitlines()[0]
            return (
                f"it cannot load tv2tv ({missing}): install it there, use one image for all "
                "machines, or submit with a runtime_env (docs/cluster.md)"
            )
        return f"{type(error).__name__}: {text.strip().splitlines()[-1]}"


def _lives(node: str) -> bool:
    return any(one["NodeID"] == node and one["Alive"] for one in ray.nodes())


def _some_inputs(records: Sequence[Record]) -> tuple[tuple[str, int], ...]:
    """Paths and sizes of some, spread over all, for those who read them."""
    files = [(str(one["path"]), int(one["size"])) for one in records if _is_file(one)]
    step = max(1, len(files) // MOST_INPUTS)
    return tuple(files[::step][:MOST_INPUTS])


def _is_file(record: Record) -> bool:
    return "path" in record and "://" not in str(record["path"])


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return -1


def _appears(place: Store, name: str) -> bool:
    """Whether a file is there, or will be in a moment."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not place.has(name):
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def _name(node: dict[str, Any]) -> str:
    """A node for a person: its name and address, which differ on a cloud."""
    host, address = str(node["NodeManagerHostname"]), str(node["NodeManagerAddress"])
    return f"{host} ({address}, {node['NodeID'][:8]})"


def _told(troubles: dict[str, str], nodes: int) -> str:
    shown = [f"  node {name}: {text}" for name, text in sorted(troubles.items())[:MOST_NAMED]]
    if len(troubles) > MOST_NAMED:
        shown.append(f"  and {len(troubles) - MOST_NAMED} more")
    return "\n".join([f"{len(troubles)} of {nodes} nodes cannot take part:", *shown])
