"""Stages share a process where they work one after the other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.crews import crews, need, needs
from pipeline.plan import Plan, make_plan
from pipeline.recipe import load_recipe
from stages.stage import Resources


def test_films_and_clips_have_a_pool_each(tmp_path: Path) -> None:
    stages = make_plan(load_recipe("real", []), tmp_path / "corpus").stages
    names = [" ".join(stages[at].name for at in crew) for crew in crews(stages)]
    assert names == [
        "probe shots clips",
        "quality filters segments captions scores verdicts latents",
    ]


@pytest.mark.parametrize("bound", [{"gpus": 1.0}, {"max_workers": 3}])
def test_what_needs_a_gpu_or_bounds_its_pool_is_alone(
    make_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch, bound: dict[str, Any]
) -> None:
    stages, wanted = make_plan().stages, Resources(cpus=3.0, batch=8, **bound)
    monkeypatch.setattr(type(stages[4]), "resources", wanted)
    assert crews(stages) == [range(0, 3), range(3, 4), range(4, 5), range(5, 6)]
    assert [one.cpus for one in needs(stages)] == [1, 1, 3, 1]
    assert needs(stages)[2] == wanted


def test_a_crew_needs_the_most_that_one_needs_and_the_memory_of_all(
    make_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = make_plan().stages[:2]
    monkeypatch.setattr(type(stages[0]), "resources", Resources(cpus=0.25, memory=3, batch=4))
    monkeypatch.setattr(type(stages[1]), "resources", Resources(cpus=2.0, memory=5, batch=1))
    assert need(stages) == Resources(cpus=2.0, memory=8, batch=4)
