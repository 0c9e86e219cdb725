"""`tv2tv inspect` and `tv2tv verify` on a corpus made by the real stages."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from worded_corpus import footage, make_corpus

from corpus.errors import UserError
from corpus.shards import ShardSet
from corpus.store import local_root, store_at
from pipeline.cli import app
from pipeline.inputs.sources import read_listing
from pipeline.ledger.walk import Finished, slices
from pipeline.pages.sample import inspect, summary
from pipeline.views.shard import shard

WORDS = {
    "one": ("goes left", "<b>goes</b> on", "a door opens", "rests"),
    "two": ("goes up", "appears", "enters", "goes <script>alert(1)</script>"),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with its main shards."""
    folder = tmp_path_factory.mktemp("built")
    plan = make_corpus(folder / "corpus", footage(folder / "films", WORDS))
    finished = Finished()
    for part in slices(plan, read_listing(plan.layout.runs.at("20260101T000000Z-1"))):
        finished.add(part.found.finished)
    (stage,) = plan.corpus_stages
    assert stage.run(finished, plan.layout.shards("main"), plan.header())
    return local_root(plan.layout.store)


@pytest.fixture
def key(corpus: Path) -> str:
    """Of the clip of film two."""
    entries = ShardSet.open(corpus / "shards" / "main").entries
    return next(one.key for one in entries if one.captions.meta[0].text == "film two")


def run(*command: Any) -> Any:
    return CliRunner().invoke(app, [str(part) for part in command])


def test_what_the_pipeline_writes_is_whole(corpus: Path, tmp_path: Path) -> None:
    shards = corpus / "shards" / "main"
    told = run("verify", shards, "--workers", 1)
    assert told.exit_code == 0 and told.output.startswith("whole: 2 samples in 1 shards")
    broken = Path(shutil.copytree(shards, tmp_path / "main"))
    data = bytearray((broken / "shard-000000.tar").read_bytes())
    data[700] ^= 4
    (broken / "shard-000000.tar").write_bytes(data)
    (broken / "README.md").unlink()
    told = run("verify", broken, "--workers", 1)
    first = ShardSet.open(broken).entries[0].key
    assert told.exit_code == 1
    assert told.output.splitlines()[:-1] == [
        "README.md: is missing",
        f"shard-000000.tar, sample {first}, captions.json: the bytes differ from the index",
    ]
    found = json.loads(run("verify", broken, "--workers", 1, "--json").output)
    assert [one["file"] for one in found["faults"]] == ["README.md", "shard-000000.tar"]
    assert found["faults"][1]["key"] == first and found["samples"] == 2


@pytest.mark.parametrize(
    "settings", [("policy.every=2s",), ("policy.corrupt=[{kind: negation, rate: 0.5}]",)]
)
def test_views_are_whole_too(corpus: Path, settings: tuple[str, ...]) -> None:
    made = shard(str(corpus), settings, "view")
    assert run("verify", made.shards.place(), "--workers", 1).exit_code == 0
    assert "This is a view" in made.shards.read_text("README.md")


def test_a_set_on_an_object_store_is_checked_there(
    corpus: Path, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TV2TV_CACHE", str(tmp_path))
    far = store_at(f"{s3}/inspected/shards/main")
    for path in (corpus / "shards" / "main").iterdir():
        far.write(path.name, path.read_bytes())
    assert run("verify", far.place(), "--workers", 1).exit_code == 0
    far.write("shard-000000.tar", far.read("shard-000000.tar")[:-1] + b"x")
    told = run("verify", far.place(), "--workers", 1)
    assert told.exit_code == 1 and "the end of the tar is not all zeros" in told.output
    assert "2 samples of 2 videos" in run("inspect", far.place()).output


def test_a_sample_is_shown_beside_its_clip(corpus: Path, key: str, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    told = run("inspect", corpus / "shards" / "main", key[:8], "--out", out)
    assert told.exit_code == 0, told.output
    assert f"sample {key}" in told.output and "keep        goes up" in told.output
    found = re.search(r"PSNR ([0-9.]+) dB against the clip, at worst", told.output)
    assert found and 15 < float(found.group(1)) < 99
    text = out.read_text()
    assert text.count("<h4>clip</h4>") == text.count("<h4>decoded from latents</h4>") == 1
    assert text.count("data:image/") == 3 * 10
    for start, caption in enumerate(WORDS["two"][:3]):
        assert f"{start:.2f}–{start + 1:.2f}" in text and caption in text
    assert "Content-Security-Policy" in text
    assert "<script>" not in text and "&lt;script&gt;" in text
    assert not re.search(r"""(src|href)=["'](?!data:)""", text), "it loads nothing"


def test_without_the_corpus_only_the_latents_are_shown(
    corpus: Path, key: str, tmp_path: Path
) -> None:
    shards = Path(shutil.copytree(corpus / "shards" / "main", tmp_path / "alone"))
    told = inspect(str(shards), key, tmp_path / "p.html")
    assert "the clip is not shown: the set lies in no corpus" in told
    assert not any("PSNR" in line for line in told)
    text = (tmp_path / "p.html").read_text()
    assert text.count("data:image/") == 10 and "<h4>clip</h4>" not in text


def test_another_clip_of_that_name_is_not_shown(corpus: Path, key: str, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    clip = next((copy / "media").rglob(f"{key}.mp4"))
    clip.write_bytes(clip.read_bytes() + b"x")
    told = inspect(str(copy / "shards" / "main"), key, tmp_path / "p.html")
    assert any("is another than the latents are of" in line for line in told)
    clip.unlink()
    told = inspect(str(copy / "shards" / "main"), key, tmp_path / "p.html")
    assert "the clip is not shown: its corpus has it no more" in told


def test_without_a_key_some_are_listed(corpus: Path, key: str) -> None:
    told = summary(str(corpus / "shards" / "main"))
    assert told[0].startswith("2 samples of 2 videos in 1 shards")
    assert any(line.split() == [key, "train", "16", "chunks", "film", "two"] for line in told)
    assert run("inspect", corpus / "shards" / "main").output.startswith("2 samples")


@pytest.mark.parametrize(("wanted", "message"), [("zz", "has no sample 'zz'"), ("", "2 samples")])
def test_a_key_that_names_no_one_sample_is_a_mistake(
    corpus: Path, wanted: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        inspect(str(corpus / "shards" / "main"), wanted, None)


def test_a_damaged_sample_is_named(corpus: Path, key: str, tmp_path: Path) -> None:
    shards = Path(shutil.copytree(corpus / "shards" / "main", tmp_path / "main"))
    entry = next(one for one in ShardSet.open(shards).entries if one.key == key)
    path = shards / entry.shard
    data = bytearray(path.read_bytes())
    data[entry.members["latent.npy"]["offset"] + 99] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"sample {key}, latent.npy: the bytes differ"):
        inspect(str(shards), key, tmp_path / "p.html")
    assert not (tmp_path / "p.html").exists()
