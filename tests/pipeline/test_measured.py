"""What a cluster has, and what its autoscaler may make of it."""

from types import SimpleNamespace
from typing import Any

import pytest

from corpus.errors import UserError
from pipeline.cluster import connect as cluster
from pipeline.plan import Cluster, phases
from stages.stage import Resources

Nodes = list[dict[str, float]]


def measured(
    monkeypatch: pytest.MonkeyPatch, nodes: Nodes, groups: list[tuple[dict[str, int], int]]
) -> Cluster:
    there = [{"Alive": True, "Resources": one} for one in nodes]
    gone = {"Alive": False, "Resources": {"CPU": 99.0}}
    configs = [SimpleNamespace(resources=one, max_count=most) for one, most in groups]
    config = SimpleNamespace(node_group_configs=configs) if groups else None
    monkeypatch.setattr(cluster.ray, "nodes", lambda: [*there, gone])
    monkeypatch.setattr(cluster.state, "get_cluster_config", lambda: config)
    monkeypatch.setattr(cluster, "is_client", lambda: False)
    return cluster.measured(foreign=True)


def test_a_head_that_only_leads_is_no_place_to_work(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured(monkeypatch, [{}, {"CPU": 8.0, "GPU": 1.0}, {"CPU": 16.0}], [])
    assert found == Cluster(24.0, 1.0, 24, ((8.0, 1.0), (16.0, 0.0)))


def test_what_the_autoscaler_may_start_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [({"CPU": 0}, 1), ({"CPU": 16}, 3), ({"CPU": 8, "GPU": 1}, 2)]
    found = measured(monkeypatch, [{}], groups)
    assert (found.cpus, found.gpus, found.workers) == (64.0, 2.0, 64)
    assert found.sizes == ((16.0, 0.0),) * 3 + ((8.0, 1.0),) * 2
    boundless = measured(monkeypatch, [{}], [({"CPU": 4}, 2**31 - 1)])
    assert len(boundless.sizes) == cluster.MOST_OF_A_KIND
    larger = measured(monkeypatch, [{"CPU": 400.0}], groups)
    assert larger.cpus == 400.0, "machines that were added by hand"


def test_a_plan_is_split_where_machines_and_not_sums_are_short() -> None:
    need = Resources(cpus=2, gpus=0.1)  # so that each has a pool of its own
    stages: Any = [SimpleNamespace(name=name, unit="clip", resources=need) for name in "abc"]
    assert phases(stages, Cluster(6, 1, 6)) == [range(0, 3)]
    assert phases(stages, Cluster(6, 2, 6, ((3, 1), (3, 1)))) == [range(0, 2), range(2, 3)]
    with pytest.raises(UserError, match=r"on 3 machines .at most 1 and 1 on one"):
        phases(stages, Cluster(3, 3, 3, ((1, 1),) * 3))
