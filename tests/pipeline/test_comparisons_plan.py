"""The gate of comparisons in a whole plan: scores of all clips, judged, and counted."""

from pathlib import Path

from spoken_films import SETTINGS, film

from corpus import layout
from corpus.timeline import Span, Timeline, write_timeline
from corpus.video import write_video
from pipeline.inputs.listing import list_sources
from pipeline.inputs.naming import identify
from pipeline.inputs.sources import Listing
from pipeline.ledger.tables import Table
from pipeline.ledger.walk import Tally, slices
from pipeline.plan import Plan, make_plan
from pipeline.recipe import load_recipe
from stages.stage import Record

WORDS = {"a": ["it moves", "it rests"], "b": ["it moves", "it jumps"], "c": ["it moves"] * 2}


def finish(plan: Plan, listing: Listing) -> list[Record]:
    """Answer all records that wait until none does; the finished ones by id."""
    while waiting := [one for part in slices(plan, listing) for one in part.found.waiting]:
        for one in waiting:
            stage = plan.stages[one.stage]
            (rows,) = stage.process([stage.seen(one.record)])
            Table.of(plan.layout, stage).write([(one.key, one.record["video_id"], rows)])
    found = [one for part in slices(plan, listing) for one in part.found.finished]
    return sorted(found, key=lambda one: str(one["clip_id"]))


def test_verdicts_judge_what_all_clips_say(tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    for seed, (name, captions) in enumerate(WORDS.items()):
        write_video(films / f"{name}.mp4", film(seed, 2), 16)
        spans = tuple(Span(float(i), i + 1.0, text) for i, text in enumerate(captions))
        line = Timeline((Span(0.0, 2 + 1 / 16),), (), spans)
        write_timeline(films / f"{name}.timeline.jsonl", line)
    settings = [*SETTINGS, "comparisons.use=[rare]", "verdicts.at_least.rare=0.5"]
    plan = make_plan(load_recipe("arena", settings), tmp_path / "corpus")
    layout.create(plan.layout.store, plan.recipe.clock.clock())
    cache = plan.layout.table("sources", "1")
    listing = identify(
        list_sources(films, plan.recipe.source), plan.recipe.source, cache, rehash=False
    )
    finished = finish(plan, listing)
    told = {
        (segment["text"], segment["verdict"]): segment["scores"]["rare"]
        for record in finished
        for segment in record["segments"]
    }
    assert told == {
        ("it moves", "low_rare"): 1 / 3,
        ("it rests", "keep"): 1.0,
        ("it jumps", "keep"): 1.0,
    }
    assert all("words" in s["scores"] for record in finished for s in record["segments"])
    sums = Tally(plan)
    for part in slices(plan, listing):
        sums.add(part)
    assert sums.counts["segments"].ok == 2 and sums.counts["segments"].filtered["low_rare"] == 4
    assert sums.counts["clips"].ok == 3, "a clip goes on whatever its verdicts are"
