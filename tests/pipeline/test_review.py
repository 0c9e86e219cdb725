"""Labels in the corpus, which clips are drawn, and how far reviewers agree."""

import csv
import io
import random
from pathlib import Path
from typing import Any

import pytest
from reviewing import HOSTILE, clips, corpus, record, review_of, said

from corpus.clock import Clock
from corpus.files import sweep
from corpus.layout import Media
from pipeline.ledger.lock import Lock
from pipeline.ledger.replay import Replay
from pipeline.ledger.walk import Slice
from pipeline.review import labels as labels_module
from pipeline.review.agreement import agreement, alpha, kappa, lines
from pipeline.review.current import CSV_COLUMNS, Judged, current, to_csv
from pipeline.review.desk import Desk
from pipeline.review.labels import Label, Labels
from pipeline.review.sample import draw

# -- labels ---------------------------------------------------------------------------------------


def label(reviewer: str, segment: str, what: Any, at: float, *kinds: str) -> Label:
    return Label(reviewer, "v", "c", segment, f"b-{segment}", what, kinds, at)


def test_the_last_word_of_each_reviewer_counts(tmp_path: Path) -> None:
    layout = corpus(tmp_path / "corpus")
    labels = Labels(layout)
    assert labels.read() == labels.standing() == []
    labels.write([label("ada", "s", "accept", 1.0), label("ada", "t", "accept", 1.0)])
    labels.write([label("bob", "s", "reject", 0.5, "language", "missing")])
    labels.write([label("ada", "s", "reject", 2.0)])
    labels.write([label("ada", "t", "none", 3.0)])
    again = Labels(layout)
    assert [(one.reviewer, one.segment_id, one.label) for one in again.standing()] == [
        ("ada", "s", "reject"),
        ("bob", "s", "reject"),
    ]
    assert again.standing()[1] == label("bob", "s", "reject", 0.5, "language", "missing")
    assert len(again.read()) == 5


def test_a_label_is_a_row_of_its_own_part_and_twice_the_same_is_once(tmp_path: Path) -> None:
    layout = corpus(tmp_path / "corpus")
    for _ in range(2):
        Labels(layout).write([label("ada", "s", "accept", 1.0)])
    (part,) = (layout.root / "tables" / "labels" / "1").iterdir()
    assert part.name.startswith("part-") and len(Labels(layout).read()) == 1


def test_another_binding_is_another_caption(tmp_path: Path) -> None:
    labels = Labels(corpus(tmp_path / "corpus"))
    old = label("ada", "s", "accept", 1.0)
    labels.write([old, Label("ada", "v", "c", "s", "b-new", "reject", (), 2.0)])
    assert [one.binding for one in labels.standing()] == ["b-new", "b-s"]


def test_a_run_that_sweeps_takes_no_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run clears away unfinished files as it begins, and one of them may be a label's."""
    layout = corpus(tmp_path / "corpus")
    labels = Labels(layout)
    real, swept = labels._table.save, []

    def save(part: str, rows: Any) -> None:
        if swept:
            return real(part, rows)
        with labels._table.store.writing(part) as temporary:
            temporary.write_bytes(b"half")
            sweep(layout.root / "tables")
            swept.append(part)

    monkeypatch.setattr(type(labels._table), "save", lambda self, part, rows: save(part, rows))
    labels.write([label("ada", "s", "accept", 1.0)])
    assert swept and len(Labels(layout).read()) == 1


def test_many_parts_become_few_and_say_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = corpus(tmp_path / "corpus")
    labels = Labels(layout)
    for number in range(labels_module.MANY):
        labels.write([label("ada", f"s{number}", "accept", float(number))])
    before = labels.read()
    with Lock(layout.store):
        with monkeypatch.context() as patch:  # the lock of another host is watched for a minute
            patch.setattr(
                labels_module, "Lock", lambda store: pytest.fail("the lock was asked for")
            )
            labels.tidy()
        assert len(labels._table.parts()) == labels_module.MANY, "not while a run holds the corpus"
    labels.tidy()
    assert len(labels._table.parts()) == 1 and labels.read() == before


def test_the_csv_is_what_a_classifier_reads() -> None:
    some = [
        Judged(label("bob, jr", "t", "reject", 2.0, "wrong_time", "language"), 'a "b"\rc', "keep"),
        Judged(label("ada", "s", "accept", 1.0), "c", "keep"),
    ]
    rows = list(csv.DictReader(io.StringIO(to_csv(some), newline="")))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [(r["segment_id"], r["accepted"], r["kinds"], r["reviewer"]) for r in rows] == [
        ("s", "1", "", "ada"),
        ("t", "0", "wrong_time;language", "bob, jr"),
    ]
    assert [(r["label"], r["text"]) for r in rows] == [("accept", "c"), ("reject", 'a "b"\rc')]
    assert rows[0]["binding"] == "b-s"
    assert to_csv(some[::-1]) == to_csv(some)


def test_labels_of_captions_that_were_made_anew_are_none() -> None:
    def of(binding: str) -> Label:
        return Label("ada", "v0", f"{0:032x}", "s0-1", binding, "accept", (), 1.0)

    parts = slices_of(range(2), 2)
    (found,) = current([of("b0-1"), of("b-old")], parts)
    assert (found.label.binding, found.text, found.verdict) == ("b0-1", HOSTILE, "keep")
    assert current([], parts) == []


# -- the desk -------------------------------------------------------------------------------------


def test_a_desk_goes_on_where_it_was_left(tmp_path: Path) -> None:
    layout = corpus(tmp_path / "corpus")
    some = clips(layout)
    first = review_of(layout, some).desk
    assert first.captions == 6, "what has no text cannot be judged"
    assert first.put({"labels": [said(0, 0, "accept"), said(1, 1, "reject")]}) == {
        "saved": 2,
        "judged": 2,
    }
    later = review_of(layout, some).desk
    assert later.session()["labels"] == first.session()["labels"]
    assert review_of(layout, some, "bob").desk.judged == 0, "nobody sees what others said"
    assert review_of(layout, some[:1]).desk.judged == 1, "another sample, the same labels"


def test_a_clock_that_is_set_back_does_not_bring_back_what_was_said(tmp_path: Path) -> None:
    layout = corpus(tmp_path / "corpus")
    some, times = clips(layout, 1), iter([100.0, 50.0, 50.0, 10.0])
    labels = Labels(layout)
    desk = Desk("ada", some, labels, lambda: next(times))
    for what in ("accept", "reject", "none"):
        desk.put({"labels": [said(0, 0, what)]})
    assert labels.standing() == [] and [one.label for one in labels.read()][-1] == "none"
    Desk("ada", some, labels, lambda: next(times)).put({"labels": [said(0, 0, "accept")]})
    assert [one.label for one in labels.standing()] == ["accept"]


# -- the sample -----------------------------------------------------------------------------------


def slices_of(numbers: range, size: int) -> list[Slice]:
    """Clips of `record`, two per film, films together."""
    media = Media(Path("media"))
    found = [record(media, number) for number in numbers]
    groups = [found[at : at + size] for at in range(0, len(found), size)]
    return [Slice((), Replay(finished=group), ()) for group in groups]


def test_the_same_seed_draws_the_same_clips_whatever_the_slices_are() -> None:
    clock = Clock()
    drawn = [one.clip_id for one in draw(slices_of(range(40), 4), 12, 3, clock)]
    assert drawn == [one.clip_id for one in draw(slices_of(range(40), 40), 12, 3, clock)]
    backwards = slices_of(range(40), 2)[::-1]
    assert drawn == [one.clip_id for one in draw(backwards, 12, 3, clock)]
    assert drawn[:5] == [one.clip_id for one in draw(backwards, 5, 3, clock)]
    assert drawn != [one.clip_id for one in draw(backwards, 12, 4, clock)]


def test_every_film_is_drawn_once_before_any_twice() -> None:
    drawn = draw(slices_of(range(40), 8), 25, 0, Clock())
    films = [one.video_id for one in drawn]
    assert len(set(films[:20])) == 20 and len(drawn) == 25


def test_what_has_no_words_is_not_drawn() -> None:
    (part,) = slices_of(range(2), 2)
    for segment in part.found.finished[0]["segments"]:
        segment["text"] = ""
    assert [one.clip_id for one in draw([part], 9, 0, Clock())] == [f"{1:032x}"]


# -- agreement ------------------------------------------------------------------------------------


def test_kappa_is_cohens() -> None:
    """The worked example of the literature: 50 items, 35 equal, both say yes to 20."""
    table = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10
    assert kappa(table + [(False, False)] * 15) == pytest.approx(0.4)
    assert kappa([(True, True), (False, False)]) == 1.0
    assert kappa([(True, False), (False, True)]) == -1.0
    assert kappa([]) is None and kappa([(True, True)] * 9) is None


def test_alpha_is_krippendorffs() -> None:
    """His example of two observers, ten units and two values; alpha = .095."""
    one, other = "0100000010", "1110010000"
    units = [(a == "1", b == "1") for a, b in zip(one, other, strict=True)]
    assert alpha(units) == pytest.approx(0.0952, abs=1e-4)
    assert alpha([(True, True), (False, False, False)]) == 1.0
    assert alpha([(True, True)]) is None and alpha([]) is None


def test_chance_gives_nothing() -> None:
    draws = random.Random(0)
    units = [tuple(draws.random() < 0.8 for _ in range(3)) for _ in range(4000)]
    assert abs(alpha(units) or 1.0) < 0.03
    assert abs(kappa([unit[:2] for unit in units]) or 1.0) < 0.05


def test_agreement_is_over_what_several_judged() -> None:
    said_by = {"ada": "aarr", "bob": "aara", "cy": "r..."}
    some = [
        label(name, f"s{place}", "accept" if what == "a" else "reject", 1.0, *kinds)
        for name, all_ in said_by.items()
        for place, what in enumerate(all_)
        if what != "."
        for kinds in ([("language",)] if what == "r" else [()])
    ]
    found = agreement(some)
    assert [(one.name, one.judged, one.accepted) for one in found.reviewers] == [
        *(("ada", 4, 2), ("bob", 4, 3), ("cy", 1, 0))
    ]
    first = found.pairs[0]
    assert (first.first, first.second, first.both, first.share, first.kappa) == (
        *("ada", "bob", 4, 0.75),
        0.5,
    )
    assert [one.both for one in found.pairs] == [4, 1, 1]
    assert found.pairs[1].kappa is not None or found.pairs[1].share == 0.0
    assert (found.shared, found.share, found.kinds) == (4, 3 / 6, {"language": 4})
    text = "\n".join(lines(found))
    assert text.endswith("errors named: language 4")
    assert "ada and bob: 4 captions both, 75.0% equal, Cohen's kappa 0.500" in text
    assert "no caption is labelled" in lines(agreement([]))[0]
    alone = lines(agreement([label("ada", "s", "accept", 1.0)]))
    assert "no caption was judged by two" in alone[-1]


def test_other_bindings_are_other_captions() -> None:
    old = Label("bob", "v", "c", "s", "b-old", "reject", (), 1.0)
    assert agreement([label("ada", "s", "accept", 1.0), old]).shared == 0
