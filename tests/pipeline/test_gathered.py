"""A report of slices says what one of the whole corpus says, and holds no more of a large one."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ledger_fakes import answer_all

from corpus.rows import Row
from pipeline.inputs.listing import SourceConfig, list_sources
from pipeline.inputs.naming import identify
from pipeline.ledger import walk
from pipeline.ledger.status import Latest
from pipeline.pages import gathered as module
from pipeline.pages.gathered import MOST_DISTINCT, Distinct, Gathered
from pipeline.pages.thumbnails import Thumbnails
from pipeline.plan import Plan

FILM: dict[str, Any] = {"shots": [[["x", "y"], ["bad", "z", "w"]], []]}
Corpus = Callable[[int], Latest]


@pytest.fixture
def corpus(make_plan: Callable[..., Plan], films: Callable[..., Path], tmp_path: Path) -> Corpus:
    """A corpus of so many films, all done: two clips each, and a shot that gave none."""

    def made(count: int) -> Latest:
        plan, config = make_plan(f"corpus-{count}"), SourceConfig()
        folder = films(**{f"f{n:03d}": {**FILM, "n": n} for n in range(count)}, empty="")
        listing = identify(list_sources(folder, config), config, tmp_path / "named", rehash=True)
        answer_all(plan, listing)
        return Latest("run", plan, listing)

    return made


def gathered(latest: Latest, watch: Callable[[], None] = lambda: None) -> Gathered:
    found = Gathered(latest.plan, 5)
    latest.count(found.add, lambda part: watch())
    return found


def test_slices_give_the_report_of_the_whole(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    latest = corpus(12)
    whole = gathered(latest)
    monkeypatch.setattr(walk, "SLICE_ROWS", 30)
    assert len(list(latest.slices())) > 3
    sliced = gathered(latest)
    assert sliced.shown == whole.shown and len(sliced.shown) == 5
    assert len({record["video_id"] for record in sliced.shown}) == 5, "of five films"
    assert sliced.files == whole.files and len(sliced.files) == 13
    assert sliced.clips.count == 24 and sliced.clips.mean == whole.clips.mean == 0.625
    groups = sliced.rejects.groups(Thumbnails())
    assert groups == whole.rejects.groups(Thumbnails())
    assert [(one.kind, one.reason, one.count, len(one.shown)) for one in groups] == [
        ("shot", "too_short", 12, 6)
    ]


def test_a_report_holds_no_more_of_a_large_corpus(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "SLICE_ROWS", 60)
    monkeypatch.setattr(module, "MAX_FILES", 10)

    def most(count: int) -> int:
        """Rows in memory, at the most."""
        seen = [0]

        def look() -> None:
            seen.append(sum(isinstance(one, Row) for one in gc.get_objects()))

        gathered(corpus(count), look)
        return max(seen)

    few = most(12)
    assert few < 200, "a slice, where 60 films have 780"
    assert most(60) <= 1.5 * few


def test_texts_are_counted_in_bounded_memory() -> None:
    some, many = Distinct(), Distinct()
    for n in range(3000):
        some.add(f"text {n % 1000}")
    for n in range(40_000):
        many.add(f"text {n % 20_000}")
    assert some.count == 1000
    assert many.count == pytest.approx(20_000, rel=0.05)
    assert len(many) <= MOST_DISTINCT
