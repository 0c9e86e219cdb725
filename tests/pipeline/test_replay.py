"""What counts as done: rows whose media are there, and which nobody wants done again."""

from collections.abc import Callable
from pathlib import Path

import pytest

from corpus.rows import Row
from pipeline.inputs.listing import list_sources
from pipeline.inputs.naming import identify
from pipeline.inputs.sources import SourceConfig
from pipeline.ledger.replay import Replay, replay
from pipeline.plan import Plan
from stages.stage import Record

CLIPS, WORDS, LATENTS = 2, 4, 5  # positions in the fake plan


class Done:
    """A plan all of whose stages have answered, in memory."""

    def __init__(self, plan: Plan, start: list[Record]) -> None:
        self.plan, self.start = plan, start
        self.stored: list[dict[str, list[Row]]] = []
        for stage in plan.stages:
            rows = dict(
                zip(map(stage.key, start), stage.process(start) if start else [], strict=True)
            )
            self.stored.append(rows)
            start = [item for one in start for item in stage.advance(one, rows[stage.key(one)])]

    def replay(self, *, retry: bool = False) -> Replay:
        return replay(self.plan.stages, self.start, self.stored, retry=retry)

    def file(self, column: str) -> Path:
        """Of the first clip that finished."""
        return self.plan.layout.media.path(self.replay().finished[0][column])


@pytest.fixture
def done(make_plan: Callable[..., Plan], films: Callable[..., Path], tmp_path: Path) -> Done:
    folder = films(a={"shots": [[["x", "y"], ["z"]]]})
    config, cache = SourceConfig(), tmp_path / "cache.parquet"
    listing = identify(list_sources(folder, config), config, cache, rehash=True)
    return Done(make_plan(), list(listing.records()))


def waiting(found: Replay) -> list[int]:
    return [one.stage for one in found.waiting]


def test_what_is_there_counts(done: Done) -> None:
    found = done.replay()
    assert len(found.finished) == 2
    assert (found.waiting, found.stale) == ([], [])


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_lost_file_is_made_again_alone(done: Done, harm: Callable[[Path], None]) -> None:
    harm(done.file("latent"))
    found = done.replay()
    assert waiting(found) == [position for position, _ in found.stale] == [LATENTS]
    assert found.stale[0][1] == found.waiting[0].key
    assert len(found.finished) == 1


def test_what_is_lost_behind_lost_things_is_found_at_once(done: Done) -> None:
    """Else a stage in between would work on clips that are not there yet."""
    for column in ("latent", "clip"):
        done.file(column).unlink()
    found = done.replay()
    assert waiting(found) == [CLIPS]
    assert sorted(position for position, _ in found.stale) == [CLIPS, LATENTS]
    assert not found.finished
    assert {one.stage for one in found.answered} == {0, 1}, "what hangs below does not count"


def test_quarantine_stays_until_it_is_to_be_done_again(done: Done) -> None:
    key, rows = next(iter(done.stored[WORDS].items()))
    name = str(rows[0].parent)
    done.stored[WORDS][key] = [Row("segment", name, None, "quarantined", "memory")]
    assert (done.replay().waiting, done.replay().stale) == ([], [])
    found = done.replay(retry=True)
    assert found.stale == [(WORDS, key)]
    assert waiting(found) == [WORDS]
    done.stored[WORDS][key] = [Row("segment", name, None, "failed", "codec")]
    assert done.replay(retry=True).stale == [], "a verdict on its bytes is no quarantine"
