"""A gate: a decision over all clips that have arrived, whatever the order in which they came."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pipeline_fakes import FakeConfig

from corpus.rows import Row
from pipeline.inputs.listing import list_sources
from pipeline.inputs.naming import identify
from pipeline.inputs.sources import Listing, SourceConfig
from pipeline.ledger import conservation, walk
from pipeline.ledger.endings import endings
from pipeline.ledger.replay import Replay, replay
from pipeline.plan import Cluster, Plan, phases
from pipeline.runner import run
from pipeline.telemetry.progress import PlainView
from stages.stage import GateStage, Record

MakePlan = Callable[..., Plan]
Films = Callable[..., Path]
AT = 3  # behind the clips


class Twins(GateStage[FakeConfig]):
    """Of clips with the same words, the one of the least id stays."""

    name = "twins"
    version = "1"
    level = "clip"
    reads = ("clip_id", "words")
    Config = FakeConfig
    writes = pa.schema([])

    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        first: dict[str, str] = {}
        for record in records:
            words = str(record["words"])
            first[words] = min(first.get(words, record["clip_id"]), record["clip_id"])
        return [[self._row(one, first[str(one["words"])])] for one in records]

    def _row(self, record: Record, stays: str) -> Row:
        name = record["clip_id"]
        if name == stays:
            return Row("clip", None, name)
        return Row("clip", None, name, "filtered", "twin", f"like {stays}", 1.0)


@pytest.fixture
def plan(make_plan: MakePlan) -> Plan:
    made = make_plan()
    gate = Twins(FakeConfig(), made.stages[0].context)
    return Plan(
        made.recipe, made.layout, [*made.stages[:AT], gate, *made.stages[AT:]], made.corpus_stages
    )


def listed(folder: Path, tmp_path: Path) -> Listing:
    config, cache = SourceConfig(), tmp_path / "cache.parquet"
    return identify(list_sources(folder, config), config, cache, rehash=True)


def answer(plan: Plan, start: Sequence[Record], count: int) -> list[dict[str, list[Row]]]:
    """Rows of the first ``count`` stages, as workers store them; a gate has none."""
    stored: list[dict[str, list[Row]]] = [{} for _ in plan.stages]
    for position, stage in enumerate(plan.stages[:count]):
        rows = [one for record in start for one in stage.process([record])]
        keys = [stage.key(record) for record in start]
        if position != AT:
            stored[position] = dict(zip(keys, rows, strict=True))
        pairs = zip(start, rows, strict=True)
        start = [item for record, said in pairs for item in stage.advance(record, said)]
    return stored


SAME = {"shots": [[["x", "y"], ["z"]]]}
OTHER = {"shots": [[["x", "y"]]]}


def test_phases_end_before_a_gate(plan: Plan) -> None:
    assert phases(plan.stages, Cluster(100, 0, 4)) == [range(0, 3), range(4, 7)]
    assert phases(plan.stages[: AT + 1], Cluster(100, 0, 4)) == [range(0, 3), range(4, 4)]


def test_a_gate_judges_what_has_arrived_in_any_order(
    plan: Plan, films: Films, tmp_path: Path
) -> None:
    found = listed(films(a=SAME, b=OTHER), tmp_path)
    records = list(found.records())
    stored = answer(plan, records, len(plan.stages))

    def told(start: Sequence[Record]) -> tuple[Replay, Any]:
        here = replay(plan.stages, start, stored)
        counts = conservation.count(found.sources, plan.stages, here)
        conservation.check(found.sources, counts, here)
        return here, {name: level.to_json() for name, level in counts.items()}

    here, counts = told(records)
    assert counts["clips"] == {
        **{"inputs": 3, "ok": 2, "filtered": {"twin": 1}, "failed": {}},
        **{"quarantined": {}, "pending": 0},
    }
    again, same = told(records[::-1])
    assert same == counts and again.finished == here.finished
    (gone,) = [one for one in endings(found.sources, plan.stages, here) if one.level == "clips"]
    assert gone.reason == "twin" and gone.said[0].message.startswith("like ")


def test_only_what_passed_waits_behind_a_gate(plan: Plan, films: Films, tmp_path: Path) -> None:
    found = listed(films(a=SAME, b=OTHER), tmp_path)
    records = list(found.records())
    here = replay(plan.stages, records, answer(plan, records, AT))
    assert [one.stage for one in here.waiting] == [AT + 1] * 2
    early = replay(plan.stages, records, answer(plan, records[:1], AT))
    assert {one.stage for one in early.waiting} == {0, AT + 1}, "the other film has not come yet"


@pytest.mark.usefixtures("local_ray")
def test_what_a_gate_holds_back_is_never_worked_on_and_comes_back_unharmed(
    plan: Plan,
    films: Films,
    view: PlainView,
    calls: Callable[[], dict[str, int]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    folder = films(a=OTHER, b=OTHER, c=OTHER)
    done = run(plan, folder, view)
    assert calls()["segments"] == 1
    assert done.counts["clips"].ok == 1 and done.counts["clips"].filtered["twin"] == 2
    assert done.shards is not None
    (kept,) = json.loads(done.shards.read_text("records.json"))[1]
    stays = next(path for path in folder.iterdir() if _is(path, kept["video_id"]))
    stays.unlink()
    again = run(plan, folder, view)
    assert calls() == {"segments": 1, "words": 1, "latents": 1}, "the next of them takes its place"
    assert again.counts["clips"].ok == 1
    monkeypatch.setattr(walk, "SLICE_ROWS", 1)
    parts = list(walk.slices(plan, listed(folder, tmp_path)))
    assert len(parts) > 1 and sum(len(part.found.finished) for part in parts) == 1
    plan = Plan(plan.recipe, plan.layout, [*plan.stages[:AT], *plan.stages[AT + 1 :]], [])
    assert phases(plan.stages, Cluster(100, 0, 4)) == [range(0, 6)]


def _is(path: Path, name: str) -> bool:
    from corpus.ids import video_id

    return video_id(path) == name
