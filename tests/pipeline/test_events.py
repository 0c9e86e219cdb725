"""The log of a run: documented fields, whole lines, and reading what a killed writer left."""

import json
from pathlib import Path
from typing import Any

import pytest

from corpus.errors import UserError
from pipeline.runner import run
from pipeline.telemetry.events import KINDS, LONGEST, SCHEMA, EventLog, event, read_events

FILMS: dict[str, Any] = {
    "a": {"shots": [[["x", "y"]], [["raise"]]]},
    "b": {"shots": [], "probe": "raise"},
    "c": "no film",
    "d": {"shots": [], "probe": "filter"},
}


def fits(one: dict[str, Any]) -> bool:
    """Whether an event has just the fields that its class documents, of their types."""
    kinds = {"str": str, "float": (int, float), "int": int, "bool": bool}
    fields = KINDS[one["event"]].__annotations__
    if one.keys() != fields.keys():
        return False
    names = {
        name: getattr(kind, "__name__", str(kind)).split("[")[0] for name, kind in fields.items()
    }
    return all(isinstance(one[n], kinds.get(kind, dict)) for n, kind in names.items())


@pytest.mark.usefixtures("local_ray")
def test_a_run_tells_everything_in_the_documented_form(
    make_plan: Any, films: Any, view: Any
) -> None:
    result = run(make_plan(), str(films(**FILMS)), view)
    events = list(read_events(result.folder.local("events.jsonl")))
    assert [one for one in events if not fits(one)] == []
    kinds = [one["event"] for one in events]
    assert (kinds[0], kinds[1], kinds[-1]) == ("begin", "cluster", "end")
    assert events[0]["schema"] == SCHEMA
    failed = {(e["stage"], e["item"], e["outcome"], e["reason"]) for e in events if "item" in e}
    (clip,) = {item for stage, item, _, _ in failed if stage == "words"}
    assert failed == {
        ("probe", "b.mp4", "quarantined", "exception"),
        ("probe", "c.mp4", "failed", "no_film"),
        ("words", clip, "quarantined", "exception"),
    }, "and the filtered film is only counted"
    batches = [one for one in events if one["event"] == "batch"]
    reasons = [one["reasons"] for one in batches if one["stage"] == "probe"]
    assert sum(one.get("filtered:too_short", 0) for one in reasons) == 1
    assert sum(one["bytes"] for one in batches if one["stage"] == "clips") == 2 * len("a clip")
    assert all(one["cpu"] >= 0 and one["seconds"] > 0 for one in batches)


def test_what_ends_a_run_early_is_its_last_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with pytest.raises(ValueError, match="xx"), EventLog(path) as log:
        log.write([event("begin", schema=SCHEMA)])
        raise ValueError("x" * 2 * LONGEST)
    begin, stopped = read_events(path)
    assert stopped["event"] == "stopped" and fits(stopped)
    assert stopped["error"].startswith("ValueError: xx") and len(stopped["error"]) == LONGEST
    assert begin["event"] == "begin"


@pytest.mark.parametrize("cut", range(1, 30, 7))
def test_of_a_torn_last_line_nothing_is_read(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.write([event("begin", schema=SCHEMA), event("end")])
    path.write_bytes(path.read_bytes()[:-cut])
    assert [one["event"] for one in read_events(path)] == ["begin"]


def test_no_log_is_an_empty_one(tmp_path: Path) -> None:
    assert list(read_events(tmp_path / "events.jsonl")) == []


def test_logs_of_later_schemas_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps(event("begin", schema=SCHEMA + 1)) + "\n")
    with pytest.raises(UserError, match="reads"):
        list(read_events(path))
    path.write_text("[1]\n")
    with pytest.raises(UserError, match="cannot be read"):
        list(read_events(path))
