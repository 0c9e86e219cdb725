"""Pictures against packets: what a decoder hid is counted and said."""

from collections.abc import Callable

from corpus.rows import Row
from pipeline.inputs.listing import Listing, Source
from pipeline.ledger.decoding import KEPT, Decoding
from pipeline.ledger.replay import Answered, Replay
from pipeline.ledger.status import Latest
from pipeline.pages.gathered import Gathered
from pipeline.pages.report import page
from pipeline.plan import Plan

PROBE, SHOTS = 0, 1


def films(**pictures: tuple[int, int, int]) -> tuple[tuple[Source, ...], Replay]:
    """Films by name: packets, pictures, and pictures cut away; two shots each."""
    sources = tuple(Source(f"{name}.mp4", "", video_id=name) for name in pictures)
    answered = []
    for name, (packets, decoded, damaged) in pictures.items():
        film = Row("video", None, name, columns={"packets": packets})
        counts = {"decoded": decoded, "damaged": damaged}
        shots = [Row("shot", name, f"{name}-{n}", columns=counts) for n in range(2)]
        answered.append(Answered(PROBE, name, name, (name,), [film], 1))
        answered.append(Answered(SHOTS, name, name, (name,), shots, 0))
    return sources, Replay(answered)


def test_what_is_missing_or_damaged_is_said_film_by_film() -> None:
    decoding = Decoding()
    decoding.add(*films(whole=(1200, 1200, 0), less=(100, 99, 0)))
    decoding.add(*films(worse=(100, 100, 25), more=(50, 51, 0)))
    assert decoding.to_json() == {
        "films": 4,
        "packets": 1450,
        "decoded": 1450,
        "missing": 1,
        "cut": 25,
        "damaged": 2,
    }
    assert decoding.lines() == [
        "decoded: 1,450 pictures of 1,450 packets in 4 films, "
        "2 damaged: 1 missing, 25 cut away as damaged",
        "  worse.mp4: of 100 pictures 0 missing, 25 cut away as damaged",
        "  less.mp4: of 100 pictures 1 missing, 0 cut away as damaged",
    ]


def test_of_no_film_nothing_is_said_and_of_sound_ones_that_they_are() -> None:
    decoding = Decoding()
    assert decoding.lines() == []
    decoding.add(*films(whole=(12, 12, 0)))
    assert decoding.lines() == ["decoded: 12 pictures of 12 packets in 1 film, none damaged"]


def test_of_many_damaged_films_the_worst_are_known_by_name() -> None:
    decoding = Decoding()
    for n in range(KEPT + 20):
        decoding.add(*films(**{f"f{n}": (1000, 1000, n + 1)}))
    assert decoding.damaged == KEPT + 20 and len(decoding.worst) == KEPT
    assert decoding.worst[0].file == f"f{KEPT + 19}.mp4"
    assert decoding.lines()[-1] == f"  and {KEPT + 17} more"


def test_the_report_shows_them(make_plan: Callable[..., Plan]) -> None:
    plan = make_plan()
    latest = Latest("run", plan, Listing((), 0))
    gathered = Gathered(plan, 0)
    status = latest.count(gathered.add)
    assert "Pictures against packets" not in page(status, gathered)
    status.sums.decoding.add(*films(**{"<b>": (100, 98, 7)}))
    text = page(status, gathered)
    assert "100 packets of 1 film gave 98 pictures" in text
    assert "In 1 of them 2 pictures are missing, and 7 were cut away" in text
    assert "&lt;b&gt;.mp4" in text and "<b>.mp4" not in text
