"""Which stages share a process.

Stages of one unit ask for a record one after the other. In one process a batch goes through all of
them; with a pool for each, every stage would start its own processes and every record would be sent
between them. A stage with a GPU has a pool of its own, since the GPU should not wait for others,
and so has one that waits for whole batches or bounds its pool.
"""

from collections.abc import Sequence

from stages.stage import Resources, Stage


def crews(stages: Sequence[Stage]) -> list[range]:
    """Positions of neighbours that share a process, in order."""
    found: list[range] = []
    for position, stage in enumerate(stages):
        if found and _share(stages[position - 1], stage):
            found[-1] = range(found[-1].start, position + 1)
        else:
            found.append(range(position, position + 1))
    return found


def needs(stages: Sequence[Stage]) -> list[Resources]:
    """What one process of every crew of these stages needs."""
    return [need([stages[at] for at in crew]) for crew in crews(stages)]


def need(crew: Sequence[Stage]) -> Resources:
    """What one process of a crew needs: one stage works at a time, and all are in memory."""
    each = [stage.resources for stage in crew]
    return Resources(
        cpus=max(one.cpus for one in each),
        gpus=max(one.gpus for one in each),
        memory=sum(one.memory for one in each),
        batch=each[0].batch,
        max_workers=each[0].max_workers,
        patient=each[0].patient,
    )


def _share(one: Stage, other: Stage) -> bool:
    return one.unit == other.unit and not _alone(one.resources) and not _alone(other.resources)


def _alone(need: Resources) -> bool:
    return bool(need.gpus) or need.patient or need.max_workers < Resources.max_workers
