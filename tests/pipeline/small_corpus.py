"""A corpus made by the real stages, one after the other in this process: a run without Ray."""

from collections.abc import Sequence
from pathlib import Path

from corpus import layout
from corpus.rows import Row
from pipeline.inputs.listing import list_sources
from pipeline.inputs.naming import identify
from pipeline.inputs.sources import write_listing
from pipeline.ledger.replay import Replay
from pipeline.ledger.status import latest
from pipeline.ledger.walk import slices
from pipeline.plan import Plan, make_plan
from pipeline.recipe import load_recipe
from pipeline.telemetry.events import SCHEMA, EventLog, Meter, event
from stages.stage import GateStage, Record, Stage

RUN = "20260101T000000.000000Z-1"


def make_corpus(folder: Path, inputs: Path, recipe: str, overrides: Sequence[str]) -> Plan:
    """Tables, clips, listing, recipe and event log of one run; no shards."""
    plan = make_plan(load_recipe(recipe, overrides), folder)
    layout.create(plan.layout.store, plan.recipe.clock.clock())
    source = plan.recipe.source
    listing = identify(
        list_sources(inputs, source), source, plan.layout.table("sources", "1"), rehash=False
    )
    place = plan.layout.runs.at(RUN)
    place.write_text("recipe.yaml", plan.recipe.to_yaml())
    write_listing(place, listing)
    with place.folder() as run, EventLog(run / "events.jsonl") as log:
        log.write([event("begin", schema=SCHEMA, tool="0", recipe="x", inputs=1)])
        records: list[Record] = list(listing.records())
        for stage, table in zip(plan.stages, plan.tables, strict=True):
            if isinstance(stage, GateStage) or not records:
                continue
            meter = Meter(stage)
            units = {stage.key(record): record for record in records}
            answers = _answers(stage, units)
            table.write([(key, units[key]["video_id"], rows) for key, rows in answers.items()])
            records = [
                item for key, one in units.items() for item in stage.advance(one, answers[key])
            ]
            log.write(meter.events(units, answers, records, set(units)))
    return plan


def replayed(corpus: Path) -> Replay:
    """What the tables of a corpus say of its latest run."""
    found = latest(corpus)
    (part,) = slices(found.plan, found.listing)
    return part.found


def _answers(stage: Stage, units: dict[str, Record]) -> dict[str, list[Row]]:
    stage.open()
    return dict(zip(units, stage.process([stage.seen(one) for one in units.values()]), strict=True))
