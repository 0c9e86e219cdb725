"""Whether all workers find room on the machines of a cluster, wherever the others are put."""

import math
from collections.abc import Sequence

from stages.stage import Resources

EPSILON = 1e-4  # Ray counts in ten-thousandths of a CPU


def all_fit(needs: Sequence[Resources], sizes: Sequence[tuple[float, float]]) -> bool:
    """Whether every need finds room, wherever the scheduler puts the others.

    A sum is not enough: of three needs of 2 CPUs only two fit on two machines of 3, and a pool
    whose first worker waits for ever stops all others, since they wait for it.
    """
    return all(
        _finds_room(need, [*needs[:i], *needs[i + 1 :]], sizes) for i, need in enumerate(needs)
    )


def _finds_room(
    need: Resources, others: Sequence[Resources], sizes: Sequence[tuple[float, float]]
) -> bool:
    """Whether the others cannot fill all machines on which there would be room.

    Ray keeps what needs no GPU off machines that have some while there is room elsewhere.
    """
    plain = sum(cpus for cpus, gpus in sizes if not gpus)
    spill = max(0.0, sum(one.cpus for one in others if not one.gpus) - plain)
    bound = sum(one.cpus for one in others if one.gpus)
    cpu_budget = bound + spill if need.gpus else sum(one.cpus for one in others)
    gpu_budget = sum(one.gpus for one in others) if need.gpus else 0.0
    able = [(cpus, gpus) for cpus, gpus in sizes if need.cpus <= cpus and need.gpus <= gpus]
    every = [need, *others]
    blocked = _filled(
        [cpus - need.cpus for cpus, _ in able], _unit([one.cpus for one in every]), cpu_budget
    ) + _filled(
        [gpus - need.gpus for _, gpus in able], _unit([one.gpus for one in every]), gpu_budget
    )
    return blocked < len(able)


def _filled(spare: Sequence[float], unit: float, budget: float) -> int:
    """How many machines can be brought below what is needed, at most, with so much to give away.

    Args:
        spare: what each machine has beyond the need.
        unit: what is given away comes in multiples of it.
    """
    count = 0
    for left in sorted(spare):
        budget -= (math.floor(left / unit + EPSILON) + 1) * unit if unit else math.inf
        if budget < -EPSILON:
            break
        count += 1
    return count


def _unit(needs: Sequence[float]) -> float:
    """The greatest common divisor, as finely as Ray counts."""
    return math.gcd(*(round(need / EPSILON) for need in needs)) * EPSILON
