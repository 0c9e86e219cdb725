"""`tv2tv shard`: views of a corpus made by the real stages; nothing is decoded or encoded."""

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import decord
import pytest
from typer.testing import CliRunner
from worded_corpus import footage, make_corpus

from corpus.codecs import DctCodec
from corpus.errors import UserError
from corpus.ids import sha256_file
from corpus.policy import Policy
from corpus.shards import ShardSet
from corpus.store import local_root
from corpus.video import read_video
from pipeline.cli import app
from pipeline.inputs.sources import read_listing
from pipeline.ledger.lock import Lock
from pipeline.ledger.walk import Finished, slices
from pipeline.plan import Plan
from pipeline.views.shard import Made, shard
from stages.captions import CaptionsStage
from training.config import parse_config
from training.samples import Samples
from training.tokenizer import train_tokenizer

WORDS = {
    "one": ("goes left", "goes left", "a door opens", "rests"),
    "two": ("goes up", "appears to rest", "enters", "goes down"),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A corpus with its main shards."""
    folder = tmp_path_factory.mktemp("built")
    plan = make_corpus(folder / "corpus", footage(folder / "films", WORDS))
    finished = Finished()
    for part in slices(plan, read_listing(plan.layout.runs.at("20260101T000000Z-1"))):
        assert not part.found.waiting
        finished.add(part.found.finished)
    assert len(finished) == 2
    (stage,) = plan.corpus_stages
    assert stage.run(finished, plan.layout.shards("main"), plan.header())
    return plan


def view(plan: Plan, name: str, *settings: str) -> Made:
    return shard(str(plan.layout.root), settings, name)


def opened(made: Made) -> ShardSet:
    return ShardSet.open(local_root(made.shards))


def texts(shards: ShardSet) -> dict[str, list[str]]:
    """By the meta-caption."""
    return {
        entry.captions.meta[0].text: [s.caption.text for s in shards.captions(entry).segments]
        for entry in shards.entries
    }


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Counts whatever can decode a film, run a child, encode a latent, ask a model or start Ray."""
    found = Counter[str]()

    def count(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def counted(*args: Any, **named: Any) -> Any:
            found[name] += 1
            return real(*args, **named)

        monkeypatch.setattr(owner, name, counted)

    import ray

    watched: list[tuple[Any, str]] = [
        *((av, "open"), (decord, "VideoReader"), (cv2, "VideoCapture"), (subprocess, "Popen")),
        *((DctCodec, "encode"), (DctCodec, "decode"), (CaptionsStage, "process"), (ray, "init")),
    ]
    for owner, name in watched:
        count(owner, name)
    yield found


def test_a_view_is_made_of_stored_rows_and_nothing_is_decoded_or_encoded(
    built: Plan, calls: Counter[str]
) -> None:
    made = view(built, "coarse", "policy.every=2s")
    assert (made.samples, made.rewritten, made.waiting) == (2, True, 0)
    assert texts(opened(made)) == {
        "film one": ["goes left", "a door opens rests"],
        "film two": ["goes up", "enters goes down"],
    }
    assert not calls, f"{dict(calls)} in making a view"
    assert not view(built, "coarse", "policy.every=2s").rewritten
    ladder = view(built, "ladder", "policy.every=2s", "policy.coarser=ladder")
    assert texts(opened(ladder))["film two"] == ["goes up, appears to rest", "enters, goes down"]
    assert not calls

    main = ShardSet.open(local_root(built.layout.shards("main")))
    clip = next(built.layout.media.root.rglob("*.mp4"))
    read_video(clip, [0])
    DctCodec(12).decode(main.latent(main.entries[0]))
    assert calls["decode"] == calls["VideoReader"] == 1, "the counters count"


def test_the_main_set_and_the_tables_stay_as_they_are(built: Plan) -> None:
    root = built.layout.root

    def state() -> dict[str, str]:
        files = (p for part in ("tables", "media", "shards/main") for p in (root / part).rglob("*"))
        return {str(path): sha256_file(path) for path in sorted(files) if path.is_file()}

    before = state()
    view(built, "x", "policy.every=clip")
    assert state() == before
    assert texts(ShardSet.open(root / "shards" / "main"))["film two"][1] == "appears to rest"


def test_the_same_view_has_the_same_bytes(built: Plan) -> None:
    damage = "policy.corrupt=[{kind: negation, rate: 0.5}]"
    one, two = (view(built, name, damage, "policy.seed=3") for name in ("y1", "y2"))
    tars = [sha256_file(local_root(made.shards) / "shard-000000.tar") for made in (one, two)]
    assert tars[0] == tars[1]
    damaged = [s.caption for e in opened(one).entries for s in opened(one).captions(e).segments]
    assert [c.corruption for c in damaged].count("negation") == 4  # of 7 that have text
    assert all(c.corruption == "negation" for c in damaged if c.text.startswith("it is not"))


POLICIES: tuple[dict[str, Any], ...] = (
    {},
    {"every": "2s"},
    {"every": "2s", "coarser": "ladder", "keep": {"rejected": "keep"}},
    {"every": "clip", "coarser": "first"},
    {"keep": {"rejected": "fallback"}},
    {"keep": {"verdicts": False, "at_most": {"words": 2}}},
    {"every": "2s", "corrupt": [{"kind": "neighbour_swap", "rate": 0.5}], "seed": 1},
)


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_a_loader_sees_in_a_view_what_the_policy_shows_of_the_main_shards(
    built: Plan, policy: dict[str, Any]
) -> None:
    made = view(built, "same", f"policy={policy}")
    assert opened(made).policy == Policy.model_validate(policy).model_dump(mode="json")
    tokenizer = train_tokenizer([text for all_ in WORDS.values() for text in all_] * 3, 300)

    def read(folder: Path, captions: dict[str, Any]) -> dict[str, Any]:
        rows = {"text": 400, "clean": 20, "noisy": 20, "per_step": 2, "per_pass": 2}
        shards = ShardSet.open(folder)
        config = parse_config({"steps": 1, "rows": rows, "captions": captions}, "test")
        samples = Samples(shards, "train", config, tokenizer)
        latents = {entry.key: shards.latent(entry).tobytes() for entry in shards.entries}
        told = {e.key: t for e, t in zip(samples.entries, samples.texts, strict=True)}
        assert len(told) == 2
        return {key: (told[key], latents[key]) for key in told}

    main = local_root(built.layout.shards("main"))
    assert read(local_root(made.shards), {}) == read(main, policy)


def test_a_loader_cannot_have_finer_text_than_a_view_holds(built: Plan) -> None:
    made = opened(view(built, "whole", "policy.every=clip"))
    config = parse_config({"steps": 1, "captions": {"every": "1s"}}, "test")
    with pytest.raises(UserError, match="finer than these shards, a view with every=clip"):
        Samples(made, "train", config, train_tokenizer(["x"] * 9, 300))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("main", (), "holds the stored captions"),
        (None, (), "holds the stored captions"),
        ("v", ("latents.codec=pca",), "sections policy and shards"),
        ("v", ("policy.evry=2s",), "did you mean every"),
        ("v", ("policy.every=0.5s",), "finer than the stored"),
        ("v", ("policy.every=3s", "policy.coarser=ladder"), "ladders: 2s, clip"),
        ("v", ("policy.corrupt=[{kind: verb_swap, rate: 1}, {kind: drop, rate: 1}]",), "damaged"),
        ("../v", (), "shards.name"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told(
    built: Plan, name: str | None, settings: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        shard(str(built.layout.root), settings, name)
    assert not (built.layout.root / "shards" / "v").exists()


def test_stored_captions_of_another_recipe_are_not_replaced(built: Plan) -> None:
    folder = built.layout.root / "shards"
    (folder / "old").mkdir(exist_ok=True)
    for path in (folder / "main").iterdir():
        (folder / "old" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match="holds stored captions and is no view"):
        view(built, "old")


def test_a_run_that_holds_the_corpus_is_not_disturbed(built: Plan) -> None:
    with Lock(built.layout.store), pytest.raises(UserError, match="holds"):
        view(built, "z")


def test_what_waits_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_corpus(tmp_path / "corpus", footage(tmp_path / "films", WORDS))
    next(plan.layout.media.root.rglob("*.safetensors")).unlink()
    made = view(plan, "v", "policy.every=2s")
    assert (made.samples, made.waiting) == (1, 1)


def test_the_command(built: Plan) -> None:
    command = ["shard", str(built.layout.root), "--name", "cli", "--set", "policy.every=clip"]
    told = [CliRunner().invoke(app, command) for _ in range(2)]
    assert [one.exit_code for one in told] == [0, 0]
    assert (
        told[0].output.startswith("2 clips, 2 of 2 spans show text: ")
        and "(unchanged)" in told[1].output
    )
    assert len(opened_at(built, "cli").entries) == 2
    silent = view(built, "silent", "policy.keep.at_least.words=99")
    assert (silent.samples, silent.captions, silent.spans) == (2, 0, 8), "and that is told"


def opened_at(plan: Plan, name: str) -> ShardSet:
    return ShardSet.open(local_root(plan.layout.shards(name)))
