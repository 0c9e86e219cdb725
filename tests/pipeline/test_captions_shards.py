"""What captions took stays out of shards; ladders get into them."""

import json
import tarfile
from pathlib import Path

import pytest
from small_corpus import make_corpus, replayed
from test_captions_page import FakeModel, corpus_settings, films_of

from corpus.store import store_at
from pipeline.forecast.trial import walk
from pipeline.ledger.status import read_status
from stages.captioning.backend import CaptionAnswer, Detail
from stages.captioning.settings import BACKENDS


class Timed(FakeModel):
    """Takes another while each time."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def collect(self) -> list[CaptionAnswer]:
        spent = Detail(5, 5, self.seconds, self.seconds)
        return [
            CaptionAnswer(one.id, one.status, one.text, one.message, spent)
            for one in super().collect()
        ]


def shards_of(folder: Path, films: Path, monkeypatch: pytest.MonkeyPatch, seconds: float) -> Path:
    monkeypatch.setitem(BACKENDS, "fake", lambda config: Timed(seconds))
    plan = make_corpus(folder, films, "real", corpus_settings())
    finished = {one["clip_id"]: one for one in replayed(folder).finished}
    (shards,) = plan.corpus_stages
    shards.run(dict(sorted(finished.items())), store_at(folder / "shards" / "main"), plan.header())
    return folder / "shards" / "main"


def test_shards_are_the_same_however_long_answers_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = films_of(tmp_path)
    one, two = (
        shards_of(tmp_path / f"corpus-{seconds}", films, monkeypatch, seconds)
        for seconds in (0.5, 3.25)
    )
    names = sorted(path.name for path in one.iterdir())
    assert any(name.endswith(".tar") for name in names)
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_a_forecast_counts_the_tokens_that_the_backend_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKENDS, "fake", lambda config: Timed(1.0))
    plan = make_corpus(tmp_path / "first", films_of(tmp_path), "real", corpus_settings())
    records = read_status(tmp_path / "first").listing.records()
    trial = walk(list(zip(plan.stages, plan.tables, strict=True)), next(iter(records)), "v")
    rows = [
        row.columns
        for one in replayed(tmp_path / "first").answered
        if plan.stages[one.stage].name == "captions"
        for row in one.rows
    ]
    steps = [step for one in rows for step in one["ladders"] or ()]
    both = sum(one["tokens_out"] for one in (*rows, *steps))
    assert 0 < trial.made["tokens"] == both / 2  # of one of two films that are alike


def test_ladders_reach_the_captions_of_a_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = shards_of(tmp_path / "corpus", films_of(tmp_path), monkeypatch, 1.0)
    with tarfile.open(next(shards.glob("*.tar"))) as tar:
        name = next(one for one in tar.getnames() if one.endswith(".captions.json"))
        file = tar.extractfile(name)
        assert file is not None
        found = json.loads(file.read())
    (step,) = found["ladders"]["3s"]
    assert step["chunks"] == [0, 12] and step["text"].endswith("at 3")
    assert step["binding"] and step["model"] == "fake@1"
    assert not {"seconds", "tokens_out", "tries", "cost"} & set(json.dumps(found).split('"'))
