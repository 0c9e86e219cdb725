"""`tv2tv run` with what the command line cannot do: a second local node, stages that raise.

``python chaos_driver.py RECIPE --input FOLDER --corpus FOLDER [--second-node | --moody]``
"""

import argparse
import errno
import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from rich.console import Console

from corpus.rows import Row
from pipeline.plan import Plan, make_plan
from pipeline.recipe import load_recipe
from pipeline.runner import run
from pipeline.telemetry.progress import PlainView
from stages.stage import Record, Stage

CHANCE = 0.3  # that a call of a moody stage raises
HEAD, SECOND = {"num_cpus": 8}, {"num_cpus": 8}


def moody(stage: Stage) -> Stage:
    """The same stage, but now and then it raises."""

    class Moody(type(stage)):  # type: ignore[misc]
        def process(self, records: Sequence[Record]) -> list[list[Row]]:
            if random.random() < CHANCE:
                raise random.choice(
                    [ValueError("a mood"), OSError(errno.EIO, "a mood"), MemoryError("a mood")]
                )
            return list(super().process(records))

    stage.__class__ = Moody
    return stage


@contextmanager
def two_nodes() -> Iterator[None]:
    """A cluster of two local nodes; ``$TMPDIR/second-node`` : pid of its raylet."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=HEAD)
    second = cluster.add_node(**SECOND)
    note = Path(tempfile.gettempdir()) / "second-node"
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        raylet = second.all_processes["raylet"][0].process.pid
        note.write_text(str(raylet))
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()
        note.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe")
    parser.add_argument("--input", required=True)
    parser.add_argument("--corpus", required=True, type=Path)
    parser.add_argument("--second-node", action="store_true")
    parser.add_argument("--moody", action="store_true")
    given = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    plan = make_plan(load_recipe(given.recipe, ()), given.corpus)
    if given.moody:
        plan = Plan(plan.recipe, plan.layout, list(map(moody, plan.stages)), plan.corpus_stages)
    with two_nodes() if given.second_node else nullcontext():
        run(plan, given.input, PlainView(Console()))


if __name__ == "__main__":
    main()
