"""The report's table of densities."""

from pathlib import Path

import pytest
from worded_corpus import footage, make_corpus

from corpus.captions import Caption, ClipCaptions, SegmentCaption
from corpus.clock import Clock
from corpus.policy import Policy
from corpus.views import bind
from pipeline.ledger.status import latest
from pipeline.pages.densities import Densities, Density
from pipeline.pages.report import write_report


def clip(*texts: str, rejected: tuple[int, ...] = (), width: int = 8) -> ClipCaptions:
    segments = tuple(
        SegmentCaption(
            i * width, (i + 1) * width, Caption(text, verdict="low" if i in rejected else "keep")
        )
        for i, text in enumerate(texts)
    )
    return ClipCaptions((Caption("all of it"),), segments)


def rows(*clips: ClipCaptions) -> dict[str, Density]:
    found = Densities(Clock())
    for one in clips:
        found.count(one)
    return {row.name: row for row in found.rows()}


def test_counts_are_those_of_the_policy() -> None:
    clips = [clip("a b", "c", "", "d"), clip("e", "", "f", "g g", rejected=(1, 2, 3))]
    found = rows(*clips)
    assert list(found) == ["stored", "4s", "8s", "clip"], "nothing finer than what is stored"
    stored = found["stored"]
    assert (stored.spans, stored.captions, stored.words, stored.seconds) == (7, 4, 5, 16.0)
    assert (stored.per_second, stored.words_per_second) == (4 / 16, 5 / 16)
    assert stored.accepted == 4 / 7, "silence is not a rejection"
    assert [found[name].captions for name in ("4s", "8s", "clip")] == [3, 2, 2]
    assert found["4s"].accepted == 3 / 4
    for every, row in found.items():
        bound = bind(Policy(every=every), Clock(), [(str(n), c) for n, c in enumerate(clips)])
        texts = [span.text for n in range(2) for span in bound.spans(str(n)) if span.text]
        assert (row.captions, row.words) == (len(texts), sum(len(t.split()) for t in texts))


def test_nothing_gives_no_table() -> None:
    assert rows() == {}


def test_ladders_come_last_from_fine_to_coarse() -> None:
    one = clip("a", "b", "c", "d")
    half = tuple(SegmentCaption(i, i + 16, Caption("x y")) for i in (0, 16))
    fine = tuple(SegmentCaption(i, i + 4, Caption("z")) for i in range(0, 32, 4))
    found = rows(ClipCaptions(one.meta, one.segments, {"4s": half, "1s": fine}))
    assert list(found)[-2:] == ["ladder 1s", "ladder 4s"]
    assert (found["ladder 1s"].per_second, found["ladder 4s"].words) == (1.0, 4)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    words = {"one": ("goes left", "goes left", "appears to rest", "rests")}
    make_corpus(tmp_path / "corpus", footage(tmp_path / "films", words))
    return tmp_path / "corpus"


def test_the_report_shows_them(corpus: Path) -> None:
    run = latest(corpus)
    summed = Densities(run.plan.recipe.clock.clock())
    run.count(summed.add)
    found = {one.name: one for one in summed.rows()}
    assert list(found) == ["stored", "2s", "4s", "8s", "clip", "ladder 2s"]
    assert (found["stored"].captions, found["stored"].spans) == (3, 4)
    assert (found["2s"].words, found["ladder 2s"].words) == (3, 6)
    page = Path(write_report(corpus, clips=0)).read_text()
    table = page.partition("Captions by density")[2].partition("</table>")[0]
    assert table.count("<tr>") == 1 + len(found)
    assert '<td>stored</td><td class="number">3</td><td class="number">0.750</td>' in table
