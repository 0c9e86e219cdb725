"""The report's part on what people said."""

from pathlib import Path

import pytest
from worded_corpus import footage, make_corpus

from pipeline.ledger.status import read_status
from pipeline.pages.labels import labels_part, wilson
from pipeline.pages.report import write_report
from pipeline.review.command import prepare
from pipeline.review.labels import Label, Labels

WORDS = {"one": ("goes left", "goes up", "appears to rest", "rests"), "two": ("a", "b", "c", "d")}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    make_corpus(folder / "corpus", footage(folder / "films", WORDS))
    return folder / "corpus"


def judge(corpus: Path, reviewer: str, bad: tuple[str, ...]) -> None:
    desk = prepare(str(corpus), 9, 0, reviewer, corpus).desk
    shown = [one for clip in desk.clips.values() for one in clip.segments]
    said = [
        {
            "segment": one["id"],
            "binding": one["binding"],
            "label": "reject" if one["text"] in bad else "accept",
            "kinds": ["wrong_direction"] if one["text"] in bad else [],
        }
        for one in shown
    ]
    desk.put({"labels": said})


def test_labels_stand_beside_verdicts(corpus: Path) -> None:
    status = read_status(corpus)
    assert labels_part(status.plan, status.listing) is None
    assert "What people say" not in Path(write_report(corpus, clips=0)).read_text()
    judge(corpus, "ada", ("goes left", "a"))
    judge(corpus, "bob", ("goes left",))
    Labels(status.plan.layout).write([Label("cy", "v", "c", "s", "old", "accept", (), 1.0)])
    part = labels_part(status.plan, status.listing)
    assert part is not None
    told = {one.name: (one.judged, one.accepted) for one in part.verdicts}
    assert told == {"kept by the verdicts": (14, 11), "rejected by them": (2, 2)}
    assert (part.gone, part.kinds) == (1, (("wrong direction", 3),))
    assert [one.name for one in part.agreement.reviewers] == ["ada", "bob"]
    page = Path(write_report(corpus, clips=0)).read_text()
    section = page.partition("What people say")[2].partition("</div>")[0]
    assert "8 captions were judged by two or more: 87.5 % of" in section
    assert "Cohen&#39;s kappa 0.6" in section or "Cohen's kappa 0.6" in section
    assert "1 more are of captions that were made anew" in section


def test_the_interval_is_wilsons() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(10, 10)[1] == pytest.approx(1.0)
