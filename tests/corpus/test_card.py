"""The dataset card: true, the same for the same set, and no place for anybody's markup."""

import fnmatch
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from shard_sets import HEADER, good_sample, good_set, key_of

from corpus.captions import Caption, ClipCaptions
from corpus.ids import sha256_file
from corpus.shards import Sample, read_manifest, refresh_card
from corpus.shards.card import card, code
from corpus.shards.census import Census, Columns
from corpus.shards.globs import globs
from corpus.store import LocalStore


def front(text: str) -> dict[str, Any]:
    head, _, _ = text.removeprefix("---\n").partition("\n---\n")
    found: dict[str, Any] = yaml.safe_load(head)
    return found


def with_meta(meta: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {
        number: {"info": {**good_sample(number).info, "meta": one}} for number, one in meta.items()
    }


def test_the_card_is_a_file_of_the_manifest_and_the_same_each_time(tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        manifest = good_set(tmp_path / name)
        path = tmp_path / name / "README.md"
        (told,) = manifest["files"]
        assert told["sha256"] == sha256_file(path) and told["bytes"] == path.stat().st_size
        texts.append(path.read_text())
    assert texts[0] == texts[1]
    assert str(tmp_path) not in texts[0]


def test_the_front_matter_says_what_the_hub_asks_for(tmp_path: Path) -> None:
    manifest = good_set(tmp_path / "main")
    found = front((tmp_path / "main" / "README.md").read_text())
    assert found["license"] == "cc0-1.0"
    assert found["size_categories"] == ["n<1K"]
    assert "text-to-video" in found["task_categories"] and "webdataset" in found["tags"]
    (config,) = found["configs"]
    for one in config["data_files"]:
        shards = [each["name"] for each in manifest["shards"] if each["split"] == one["split"]]
        hits = [
            each["name"]
            for each in manifest["shards"]
            for pattern in one["path"]
            if fnmatch.fnmatchcase(each["name"], pattern)
        ]
        assert hits == shards != []


def test_an_empty_set_has_a_card_without_data_files(tmp_path: Path) -> None:
    good_set(tmp_path / "main", 0)
    found = front((tmp_path / "main" / "README.md").read_text())
    assert "configs" not in found and found["license"] == "unknown"


def test_sources_and_licences_are_counted_and_what_is_missing_is_said(tmp_path: Path) -> None:
    meta: dict[int, dict[str, Any]] = {
        0: {"License": "CC-BY 4.0", "source": "archive", "author": "Ada"},
        1: {"licence": "cc_by_4.0", "source": "archive"},
        2: {"rights": "ask Bob", "license": ""},
        3: {"sport": "golf"},
    }
    manifest = good_set(tmp_path / "main", 4, with_meta(meta))
    text = (tmp_path / "main" / "README.md").read_text()
    contents = manifest["contents"]
    assert contents["licence"] == {"": 1, "CC-BY 4.0": 1, "ask Bob": 1, "cc_by_4.0": 1}
    assert contents["source"] == {"": 2, "archive": 2}
    for row in ("| `ask Bob` | 1 |", "| not stated | 1 |", "| `archive` | 2 |", "| `Ada` | 1 |"):
        assert row in text
    assert front(text)["license"] == "unknown", "one is not stated"


@pytest.mark.parametrize(
    ("licences", "told"),
    [
        (["CC0", "public domain"], "cc0-1.0"),
        (["CC BY-SA", "cc-by-sa-4.0"], "cc-by-sa-4.0"),
        (["CC BY-SA 3.0"], "cc-by-sa-3.0"),
        (["MIT", "Apache 2.0"], ["apache-2.0", "mit"]),
        (["my own"], "other"),
        (["MIT", ""], "unknown"),
    ],
)
def test_licences_are_told_as_the_hub_calls_them(
    tmp_path: Path, licences: list[str], told: Any
) -> None:
    meta = {number: {"license": name} for number, name in enumerate(licences)}
    good_set(tmp_path / "main", len(licences), with_meta(meta))
    assert front((tmp_path / "main" / "README.md").read_text())["license"] == told


NASTY = [
    "a`b`c | d | e\n| --- |",
    "<script>alert(1)</script>",
    "---\nlicense: mit\n---\n# Owned",
    "![x](http://evil/x.png) [y](javascript:alert(1))",
    "\u2028\u202e``` \x1b[2J \\` \\|",
    "x" * 5000,
]


@pytest.mark.parametrize("nasty", NASTY)
def test_foreign_text_is_neither_markup_nor_yaml(tmp_path: Path, nasty: str) -> None:
    sample = good_sample(1)
    captions = replace(
        sample.captions, meta=(Caption(nasty, model=nasty, prompt=nasty, binding="0" * 32),)
    )
    meta = {"license": nasty, "source": nasty, "author": [nasty]}
    change = {"captions": captions, "info": {**sample.info, "meta": meta}}
    good_set(tmp_path / "main", 2, {1: change})
    text = (tmp_path / "main" / "README.md").read_text()
    plain_set = tmp_path / "plain"
    good_set(plain_set, 2)
    assert front(text).keys() == front((plain_set / "README.md").read_text()).keys()
    assert front(text)["license"] == ["cc0-1.0", "other"]
    assert text.count("\n---\n") == 1 and "# Owned" not in text.splitlines()
    assert max(map(len, text.splitlines())) < 1000
    in_code = False
    for line in text.partition("\n---\n")[2].splitlines():
        in_code ^= line.startswith("```")
        if not in_code and not line.startswith("```"):
            assert line.count("`") % 2 == 0, line
            outside = "".join(line.split("`")[::2])
            assert not set(outside) & set("<>[]\x1b\u2028\u202e"), line


@given(st.text())
def test_code_is_one_span_in_one_cell(text: str) -> None:
    told = code(text)
    assert "\n" not in told and "|" not in told and told.isprintable()
    assert told == "not stated" or (told[0] == told[-1] == "`" and "`" not in told[1:-1])


def test_a_recipe_cannot_write_into_the_front_matter() -> None:
    name = "x\n---\nlicense: mit\n# `"
    census = Census(Columns(), {})
    census.add(good_sample(0), "train")
    manifest = {
        **HEADER,
        "recipe": {"name": name, "stages": {}},
        "shards": [],
        "totals": {"samples": 1, "chunks": 4},
        "contents": census.to_json(),
    }
    text = card(manifest)
    assert front(text)["license"] == "cc0-1.0" and text.count("\n---\n") == 1


COUNTS = {
    "clips": {
        **{"inputs": 14, "ok": 12, "filtered": {"black": 2}},
        **{"failed": {}, "quarantined": {}, "pending": 0},
    }
}


def test_thresholds_counts_models_and_codec_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = {
        "filters": {"at_least": {}, "at_most": {"black": 0.9}},
        "verdicts": {
            "at_least": {"words": None},
            "at_most": {},
            "defaults": [{"words": 1.0, "plain": 1.0}, {"words": 120.0}],
        },
    }
    monkeypatch.setitem(HEADER, "recipe", {"name": "test", "seed": 0, "stages": stages})
    monkeypatch.setitem(HEADER, "counts", COUNTS)
    good_set(tmp_path / "main")
    text = (tmp_path / "main" / "README.md").read_text()
    for row in (
        "| filters | `black` |  | `0.9` |",
        "| verdicts | `plain` | `1` |  |",
        "| verdicts | `words` |  | `120` |",
        "| clips | filtered | `black` | 2 |",
        "| `m@1` | 12 |",
        "| `p/1` | 12 |",
        "| licence | `Apache-2.0` |",
    ):
        assert row in text, row


def test_the_card_is_the_same_from_a_manifest_that_was_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages: dict[str, Any] = {"probe": {}, "clips": {"b": 1, "a": 2}, "a_late_one": {}}
    recipe = {"name": "test", "seed": 0, "order": list(stages), "stages": stages}
    monkeypatch.setitem(HEADER, "recipe", recipe)
    counts = {"videos": COUNTS["clips"], **COUNTS}
    monkeypatch.setitem(HEADER, "counts", counts)
    good_set(tmp_path / "main")
    store = LocalStore(tmp_path / "main")
    assert not refresh_card(store, read_manifest(store), counts)
    text = store.read_text("README.md")
    assert text.index("| probe |") < text.index("| clips | not") < text.index("| a_late_one |")
    assert text.index("| videos | listed |") < text.index("| clips | found |")


def test_new_counts_change_the_card_and_no_shard(tmp_path: Path) -> None:
    folder = tmp_path / "main"
    good_set(folder)
    store = LocalStore(folder)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    asked: list[int] = []
    manifest = read_manifest(store)
    assert refresh_card(store, manifest, COUNTS, lambda: asked.append(1))
    assert "| clips | filtered | `black` | 2 |" in (folder / "README.md").read_text()
    changed = {
        path.name for path in folder.iterdir() if before[path.name] != path.stat().st_mtime_ns
    }
    assert changed == {"README.md", "manifest.json"} and asked == [1]
    assert not refresh_card(store, read_manifest(store), COUNTS)
    (folder / "README.md").write_text("half")
    assert refresh_card(store, read_manifest(store), COUNTS), "a writer was killed in between"
    assert not refresh_card(store, read_manifest(store), COUNTS)


def test_a_census_is_bounded() -> None:
    census = Census(Columns(), {})
    one = good_sample(0)
    for number in range(300):
        sample = Sample(one.key, one.latent, ClipCaptions((), ()), {"meta": {"source": number}})
        census.add(sample, "train")
    found = census.to_json()["source"]
    assert len(found) == 201 and found["others"] == 100 and found[""] == 1
    assert json.dumps(found) and key_of(0) == one.key


@given(st.integers(0, 3000), st.integers(0, 2500), st.sampled_from([1, 3, 6]))
def test_globs_hit_each_number_of_a_range_once_and_no_other(
    first: int, more: int, width: int
) -> None:
    patterns = globs(first, first + more, width)
    for number in {0, first - 1, first, first + more // 2, first + more, first + more + 1, 10**5}:
        if number >= 0:
            hits = sum(fnmatch.fnmatchcase(f"{number:0{width}d}", one) for one in patterns)
            assert hits == (first <= number <= first + more), (number, patterns)
    assert len(patterns) <= 20 * max(width, 4)
