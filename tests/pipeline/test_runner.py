"""The runner on a real local Ray, with stages small enough to count."""

import errno
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from corpus.errors import UserError
from corpus.files import write_text
from corpus.store import LocalStore
from pipeline.faults import RunError
from pipeline.inputs.listing import list_sources
from pipeline.inputs.naming import identify
from pipeline.inputs.sources import SourceConfig
from pipeline.ledger import conservation
from pipeline.ledger.endings import lines
from pipeline.ledger.lock import Lock
from pipeline.ledger.walk import Tally, slices
from pipeline.plan import Cluster, Plan, phases
from pipeline.runner import Result, _run_name, run
from pipeline.telemetry.events import Event, EventLog, read_events
from pipeline.telemetry.progress import PlainView

MakePlan = Callable[..., Plan]
Films = Callable[..., Path]
Calls = Callable[[], dict[str, int]]
WORDS = 4  # position of the stage that stands for captions
TWO = {"shots": [[["x", "y"], ["z"]]]}  # one shot with two clips, of two words and of one


def levels(result: Result) -> dict[str, Any]:
    return {name: level.to_json() for name, level in result.counts.items()}


def records(result: Result) -> list[dict[str, Any]]:
    assert result.shards is not None
    return json.loads(result.shards.read_text("records.json"))[1]


def counts(plan: Plan, folder: Path) -> conservation.Counts:
    """What the tables say now."""
    config, cache = SourceConfig(), plan.layout.root / "cache"
    listing = identify(list_sources(folder, config), config, cache, rehash=True)
    sums = Tally(plan)
    for part in slices(plan, listing):
        sums.add(part)
    return sums.counts


@pytest.mark.usefixtures("local_ray")
class TestRun:
    """Starting six pools takes seconds, so each run serves several claims."""

    def test_a_corpus_grows_and_nothing_is_done_twice(
        self, make_plan: MakePlan, films: Films, calls: Calls, view: PlainView
    ) -> None:
        folder = films(
            a=TWO,
            b={"shots": [[["x", "bad"]], []]},
            broken="no json",
            empty="",
            short={"probe": "filter"},
        )
        (folder / "copy.mp4").write_bytes((folder / "a.mp4").read_bytes())
        first = run(make_plan(), str(folder), view)
        self._every_input_is_counted(first)
        self._every_unit_is_in_the_log(first)
        assert calls() == {
            **{"probe": 4, "shots": 2, "clips": 2},
            **{"segments": 3, "words": 3, "latents": 3},
        }

        again = run(make_plan(), str(folder), view)
        assert calls() == {}
        assert again.computed == {}
        assert first.rewritten and not again.rewritten
        assert levels(first) == levels(again)

        films(c={"shots": [[["z"]]]})
        changed = run(make_plan(tags={"words": "!"}), str(folder), view)
        assert calls() == {
            **{"probe": 1, "shots": 1, "clips": 1},
            **{"segments": 1, "words": 4, "latents": 1},
        }, "the new film all the way, the others only where the setting changed"
        assert changed.rewritten
        texts = [s["text"] for record in records(changed) for s in record["segments"]]
        assert sorted(texts) == ["x!", "x!", "y!", "z!", "z!"]

        elsewhere = run(make_plan("other", tags={"words": "!"}, batch=1), str(folder), view)
        assert records(elsewhere) == records(changed), "batches and order of work leave no trace"

    def _every_unit_is_in_the_log(self, result: Result) -> None:
        lines = result.folder.read_text("events.jsonl").splitlines()
        logged: Counter[str] = Counter()
        for event in map(json.loads, lines):
            if event["event"] == "batch":
                logged[event["stage"]] += event["computed"]
        assert logged == result.computed
        assert result.computed == {
            **{"probe": 4, "shots": 2, "clips": 2},
            **{"segments": 3, "words": 3, "latents": 3},
        }

    def _every_input_is_counted(self, result: Result) -> None:
        found = levels(result)
        assert found["videos"] == {
            "inputs": 6,
            "ok": 2,
            "filtered": {"duplicate": 1, "too_short": 1},
            "failed": {"empty": 1, "no_film": 1},
            "quarantined": {},
            "pending": 0,
        }
        assert found["shots"]["filtered"] == {"too_short": 1}
        assert found["shots"]["ok"] == 2
        assert found["clips"]["ok"] == found["clips"]["inputs"] == 3
        assert found["segments"]["filtered"] == {"bad": 1}
        assert found["segments"]["ok"] == 4
        ids = [record["clip_id"] for record in records(result)]
        assert len(ids) == 3
        assert ids == sorted(ids)

    def test_a_bad_record_takes_no_other_with_it(
        self, make_plan: MakePlan, films: Films, view: PlainView
    ) -> None:
        folder = films(
            a={"shots": [[["x"], ["kill"], ["y"], ["raise"]]]},
            b={"probe": "raise", "shots": []},
            c={"shots": [[["x"]]]},
        )
        result = run(make_plan(), str(folder), view)
        found = levels(result)
        assert found["videos"]["quarantined"] == {"exception": 1}
        assert found["clips"]["quarantined"] == {"exception": 1, "killed_worker": 1}
        assert found["segments"]["quarantined"] == {"exception": 1, "killed_worker": 1}
        assert found["clips"]["ok"] == 3
        notes = [name for name in result.folder.names("notes/") if "/faults/" in name]
        assert len(notes) == 2
        assert "this film asked for it" in result.folder.read_text(notes[0])

    def test_a_broken_stage_stops_the_run_and_blames_no_record(
        self, make_plan: MakePlan, films: Films, view: PlainView
    ) -> None:
        folder = films(**{f"f{n}": {"probe": "raise", "shots": []} for n in range(4)})
        with pytest.raises(
            RunError, match=r"^stage probe raised.*: this film asked for it\nNo rec"
        ):
            run(make_plan(), str(folder), view)
        parts = list((folder.parent / "corpus" / "tables" / "probe").rglob("part-*"))
        assert parts == []

    def test_what_cannot_be_had_now_waits_and_is_never_blamed(
        self, make_plan: MakePlan, films: Films, view: PlainView, tmp_path: Path
    ) -> None:
        folder = films(a=TWO, b={"shots": [[["x"]]], "probe": "away"}, c={"shots": [[["away"]]]})
        with pytest.raises(RunError, match="2 records are left") as left:
            run(make_plan(), str(folder), view)
        assert "probe, b.mp4: OSError: [Errno 116] the mount is away" in str(left.value)
        assert "words, " in str(left.value)
        (log,) = (tmp_path / "corpus" / "runs").glob("*/events.jsonl")
        *_, end = events = list(read_events(log))
        assert (end["event"], end["put_off"]) == ("end", 2)
        put_off = [one["stage"] for one in events if one["event"] == "put_off"]
        assert put_off == ["probe", "words"]
        found = {name: level.to_json() for name, level in counts(make_plan(), folder).items()}
        assert (found["videos"]["inputs"], found["videos"]["pending"]) == (3, 1)
        assert (found["clips"]["ok"], found["clips"]["pending"]) == (2, 1)
        assert not any(level["failed"] or level["quarantined"] for level in found.values())

        (tmp_path / "calls" / "better").touch()
        again = run(make_plan(), str(folder), view)
        assert again.computed["probe"] == 1
        assert levels(again)["clips"]["ok"] == len(records(again)) == 4
        assert all(level["pending"] == 0 for level in levels(again).values())

    def test_lost_media_are_made_again_and_so_is_what_needs_them(
        self, make_plan: MakePlan, films: Films, calls: Calls, view: PlainView
    ) -> None:
        folder = films(a=TWO, b={"shots": [[["x"]]]})
        plan = make_plan()
        first = run(plan, str(folder), view)
        media = sorted(path for path in plan.layout.media.root.rglob("*") if path.is_file())
        assert len(media) == 2 * 3, "a clip and a latent each"
        calls()
        of_a, clip = records(first)[0]["video_id"], records(first)[0]
        plan.layout.media.path(clip["latent"]).unlink()
        assert counts(plan, folder)["clips"].pending == 1
        words = plan.tables[WORDS]
        name = words.parts()[0]
        part, lost = words.store.local(name), len(words.read_part(name))
        part.write_bytes(part.read_bytes()[:-9])
        with pytest.raises(UserError, match=f"{name} cannot be read .*: delete this file"):
            run(plan, str(folder), view)
        part.unlink()
        again = run(plan, str(folder), view)
        assert calls() == {"latents": 1, "words": lost}
        assert records(again) == records(first)

        shutil.rmtree(plan.layout.media.root)
        assert counts(plan, folder)["videos"].pending == 2
        again = run(make_plan(tags={"words": "!"}), str(folder), view)
        assert calls() == {"clips": 2, "words": 3, "latents": 3}
        assert sorted(path for path in media if path.is_file()) == media
        assert of_a in {record["video_id"] for record in records(again)}

    def test_what_was_quarantined_is_done_again_when_asked(
        self, make_plan: MakePlan, films: Films, calls: Calls, view: PlainView, tmp_path: Path
    ) -> None:
        folder = films(a={"shots": [[["x"], ["sick"], ["bad"]]]}, b={"shots": [], "probe": "sick"})
        result = run(make_plan(), str(folder), view)
        first = levels(result)
        assert first["videos"]["quarantined"] == {"exception": 1}
        assert lines(result.endings, "c")[:2] == [
            "1 video quarantined: exception (`tv2tv run --retry` does it again)",
            "  b.mp4: ValueError: it did not work here",
        ]
        assert first["clips"]["quarantined"] == {"exception": 1}
        calls()
        assert levels(run(make_plan(), str(folder), view)) == first
        assert calls() == {}, "not by itself"
        again = run(make_plan(), str(folder), view, retry=True)
        assert levels(again) == first, "as often as one likes"
        assert again.computed["probe"] == again.computed["words"] == 1
        calls()
        (tmp_path / "calls" / "better").touch()
        mended = run(make_plan(), str(folder), view, retry=True)
        assert levels(mended)["clips"]["ok"] == 2
        assert levels(mended)["videos"]["filtered"] == {"no_shots": 1}
        computed = {name: number for name, number in mended.computed.items() if number}
        assert computed == dict.fromkeys(["probe", "shots", "words", "latents"], 1)

    def test_a_log_that_cannot_be_written_ends_the_run(
        self,
        make_plan: MakePlan,
        films: Films,
        view: PlainView,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def refuse(log: EventLog, events: Iterable[Event]) -> None:
            if any(event["event"] == "batch" for event in events):
                raise OSError(errno.EIO, "the log cannot be written")

        monkeypatch.setattr(EventLog, "write", refuse)
        with pytest.raises(RunError, match="the log cannot be written"):
            run(make_plan(count=2), str(films(a=TWO)), view)

    def test_a_stage_that_cannot_open_says_why_and_no_more(
        self,
        make_plan: MakePlan,
        films: Films,
        view: PlainView,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        with pytest.raises(UserError, match=r"^the model is not there$"):
            run(make_plan(tags={"shots": "unfit"}, count=2), str(films(a=TWO)), view)
        assert "Traceback" not in "".join(capfd.readouterr())


def test_who_lost_the_corpus_replaces_no_shards(
    make_plan: MakePlan, films: Films, view: PlainView, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(lock: Lock) -> None:
        raise RunError("the lock was lost")

    monkeypatch.setattr(Lock, "check", lost)
    plan = make_plan()
    folder = plan.layout.shards("main")
    folder.write_text("old", "what stands there")
    with pytest.raises(RunError, match="was lost"):
        run(plan, str(films(empty="")), view)
    assert folder.names() == ["old"]


def test_nothing_to_do_starts_no_ray(
    make_plan: MakePlan, films: Films, view: PlainView, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pipeline.cluster.connect

    def refuse(*args: object, **named: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(pipeline.cluster.connect, "connected", refuse)
    result = run(make_plan(), str(films(empty="")), view)
    assert levels(result)["videos"]["failed"] == {"empty": 1}
    assert result.shards is None, "without any clip there is nothing to write"


def test_a_run_is_the_latest_although_the_clock_went_backwards(tmp_path: Path) -> None:
    runs = LocalStore(tmp_path)
    for name in ("20990101T000000.000000Z-17/recipe.yaml", "notes.txt"):
        runs.write_text(name, "")
    for _ in range(3):
        name = _run_name(runs)
        assert f"{name}/recipe.yaml" > max(runs.names("2"))
        runs.write_text(f"{name}/recipe.yaml", "")


def test_what_killed_runs_left_is_cleared_away(
    make_plan: MakePlan, films: Films, view: PlainView
) -> None:
    folder = films(empty="")
    corpus = folder.parent / "corpus"
    run(make_plan(), str(folder), view)
    left = [
        corpus / "shards" / ".unfinished-x-main" / "shard-000000.tar",
        corpus / "media" / "clips" / "aa" / ".unfinished-x-aa.mp4",
        corpus / "tables" / "probe" / "f" / ".unfinished-x-part-1.parquet",
    ]
    aside = corpus / "shards" / ".replaced-main" / "manifest.json"
    for path in (*left, aside):
        write_text(path, "left")
    run(make_plan(), str(folder), view)
    assert not any(path.exists() for path in left)
    assert not aside.exists()
    assert (corpus / "shards" / "main").exists()


def test_phases_split_where_the_cluster_is_too_small(make_plan: MakePlan) -> None:
    stages = make_plan().stages  # three of films and three of clips, a CPU each
    assert phases(stages, Cluster(2, 0, 4)) == [range(0, 6)]
    assert phases(stages, Cluster(1, 0, 1)) == [range(0, 3), range(3, 6)]


def test_a_stage_too_large_for_the_cluster_is_an_error_before_the_start(
    make_plan: MakePlan,
) -> None:
    with pytest.raises(UserError, match="stage probe needs 1 CPUs"):
        phases(make_plan().stages, Cluster(0.5, 0, 1))
