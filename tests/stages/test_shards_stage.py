import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from corpus.cache import CACHE
from corpus.clock import Clock
from corpus.codecs import DctCodec
from corpus.errors import UserError
from corpus.files import write_bytes
from corpus.ids import segment_id, sha256_bytes
from corpus.layout import Media
from corpus.policy import Policy
from corpus.remote import RemoteStore
from corpus.shards import ShardSet, reading
from corpus.store import store_at
from stages.shards import ShardsConfig, ShardsStage
from stages.stage import Context, Record

HEADER = {
    "clock": Clock().to_json(),
    "codec": DctCodec(12).info.to_json(),
    "recipe": {"name": "test"},
    "fingerprints": {"latents": "f"},
}


def record(media: Media, number: int) -> dict[str, Any]:
    clip = f"{number:032x}"
    latent = np.random.default_rng(number).standard_normal((12, 5, 2, 2)).astype(np.float16)
    data = save({"latent": latent})
    name = media.latent("f", clip)
    write_bytes(media.path(name), data)
    said = {"scores": {"rules": 1.0}, "prompt": "p/1", "model": "m", "binding": "b"}
    return {
        "clip_id": clip,
        "video_id": f"v{number // 2}",
        "shot_id": "s",
        "clip_sha256": "sha",
        "chunks": 4,
        "width": 16,
        "height": 16,
        "start": 0.0,
        "end": 1.0625,
        "start_pts": 0,
        "end_pts": 17,
        "time_base": [1, 16],
        "uri": "/somewhere/film.mp4",
        "path": "/somewhere/film.mp4",
        "meta": {"licence": "CC0"},
        "quality": {"motion": 0.25},
        "meta_text": "a scene",
        "meta_prompt": "p/1",
        "meta_model": "m",
        "meta_binding": "b",
        "segments": [
            {"segment_id": f"{clip}-0", "a": 0, "b": 2, "text": "goes", "verdict": "keep", **said},
            {"segment_id": f"{clip}-1", "a": 2, "b": 4, "text": "", "verdict": "empty", **said},
        ],
        "latent": name,
        "latent_sha256": sha256_bytes(data),
    }


def by_id(*records: Record) -> dict[str, Record]:
    return {one["clip_id"]: one for one in records}


def stage(media: Media, **config: Any) -> ShardsStage:
    return ShardsStage(ShardsConfig(validation=0.5, **config), Context(media, Clock()))


def test_finished_clips_become_samples_without_paths(tmp_path: Path) -> None:
    media = Media(tmp_path / "media")
    records = [record(media, number) for number in range(6)]
    assert stage(media).run(by_id(*records), tmp_path / "main", HEADER)
    shards = ShardSet.open(tmp_path / "main")
    assert {entry.key for entry in shards.entries} == {r["clip_id"] for r in records}
    assert {entry.split for entry in shards.entries} == {"train", "validation"}
    for entry in shards.entries:
        first, second = shards.captions(entry).segments
        assert (first.caption.text, first.caption.verdict) == ("goes", "keep")
        assert (second.caption.text, second.caption.verdict) == ("", "empty")
        info = shards.info(entry)
        assert info["meta"] == {"licence": "CC0"} and info["quality"] == {"motion": 0.25}
        assert info["source"]["end_pts"] == 17
        assert "/somewhere" not in str(info)


def test_nothing_is_made_twice_and_everything_that_matters_is_noticed(tmp_path: Path) -> None:
    media = Media(tmp_path / "media")
    records = [record(media, number) for number in range(4)]
    folder = tmp_path / "main"
    assert stage(media).run(by_id(*records), folder, HEADER)
    assert not stage(media).run(by_id(*records), folder, HEADER)
    assert stage(media, target_mb=1).run(by_id(*records), folder, HEADER)
    assert stage(media, target_mb=1).run(by_id(*records[:3]), folder, HEADER)
    records[0]["segments"][0]["text"] = "comes"
    assert stage(media, target_mb=1).run(by_id(*records[:3]), folder, HEADER)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-512])


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        *(("shard-000000.tar", harm) for harm in (Path.unlink, flip, cut)),
        *(("samples.parquet", harm) for harm in (Path.unlink, flip, cut)),
        *(("manifest.json", harm) for harm in (Path.unlink, cut)),
    ],
)
def test_a_damaged_set_is_made_again(
    tmp_path: Path, name: str, harm: Callable[[Path], None]
) -> None:
    media, folder = Media(tmp_path / "media"), tmp_path / "main"
    records = [record(media, number) for number in range(4)]
    assert stage(media).run(by_id(*records), folder, HEADER)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    harm(folder / name)
    assert stage(media).run(by_id(*records), folder, HEADER)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not stage(media).run(by_id(*records), folder, HEADER)


def test_shards_are_not_read_again_just_to_say_that_they_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media, folder = Media(tmp_path / "media"), tmp_path / "main"
    assert stage(media).run(by_id(record(media, 0)), folder, HEADER)
    later = (folder / "shard-000000.tar").stat().st_mtime_ns + 10**9
    os.utime(folder / "manifest.json", ns=(later, later))
    read: list[str] = []
    real = reading.sha256_file
    monkeypatch.setattr(
        reading, "sha256_file", lambda path: (read.append(path.name), real(path))[1]
    )
    assert not stage(media).run(by_id(record(media, 0)), folder, HEADER)
    assert read == ["samples.parquet"]


def test_a_damaged_latent_is_named(tmp_path: Path) -> None:
    media = Media(tmp_path / "media")
    one = record(media, 0)
    path = media.path(one["latent"])
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="is not what the latents stage wrote"):
        stage(media).run(by_id(one), tmp_path / "main", HEADER)


def test_no_clips_make_an_empty_set(tmp_path: Path) -> None:
    media = Media(tmp_path / "media")
    folder = tmp_path / "main"
    assert stage(media).run(by_id(record(media, 0)), folder, HEADER)
    assert stage(media).run({}, folder, HEADER)
    assert ShardSet.open(folder).entries == ()


def counts(black: int) -> dict[str, Any]:
    none: dict[str, int] = {}
    clips = {"inputs": 4 + black, "ok": 4, "filtered": {"black": black}, "pending": 0}
    return {**HEADER, "counts": {"clips": {**clips, "failed": none, "quarantined": none}}}


def test_counts_alone_make_no_shard_anew_but_the_card(tmp_path: Path) -> None:
    media, folder = Media(tmp_path / "media"), tmp_path / "main"
    records = by_id(*(record(media, number) for number in range(4)))
    assert stage(media).run(records, folder, counts(1))
    before = {path.name: (path.read_bytes(), path.stat().st_ino) for path in folder.iterdir()}
    assert not stage(media).run(records, folder, counts(1))
    assert {path.name: path.stat().st_ino for path in folder.iterdir()} == {
        name: node for name, (_, node) in before.items()
    }
    asked: list[int] = []
    assert not stage(media).run(records, folder, counts(2), lambda: asked.append(1))
    assert "| clips | filtered | `black` | 2 |" in (folder / "README.md").read_text()
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name for name in after if after[name] != before[name][0]} == {
        "README.md",
        "manifest.json",
    }
    assert asked == [1], "whoever has lost the corpus changes nothing"
    assert stage(media).run(records, tmp_path / "anew", counts(2))
    assert {path.name: path.read_bytes() for path in (tmp_path / "anew").iterdir()} == after


def test_licences_come_from_the_columns_that_the_recipe_names(tmp_path: Path) -> None:
    media = Media(tmp_path / "media")
    one = by_id({**record(media, 0), "meta": {"terms": "CC0", "licence": "mine"}})
    for columns, told in (({}, "mine"), ({"licence": ["Terms"]}, "CC0")):
        stage(media, card=columns).run(one, tmp_path / "main", HEADER)
        assert ShardSet.open(tmp_path / "main").manifest["contents"]["licence"] == {told: 1}


def test_a_preview_is_the_clip_and_off_by_default(tmp_path: Path) -> None:
    media = Media(tmp_path / "media")
    film = b"\0\0\0\x18ftypisom and more"
    one = {**record(media, 0), "clip": "clips/00/a.mp4", "clip_sha256": sha256_bytes(film)}
    write_bytes(media.path(one["clip"]), film)
    for preview in (False, True):
        stage(media, preview=preview).run(by_id(one), tmp_path / "main", HEADER)
        shards = ShardSet.open(tmp_path / "main")
        (entry,) = shards.entries
        assert list(entry.members) == ["captions.json", "json", "latent.npy", "mp4"][: 3 + preview]
        member = entry.members.get("mp4", {"offset": 0, "size": 0})
        data = (tmp_path / "main" / entry.shard).read_bytes()[member["offset"] :][: member["size"]]
        assert data == (film if preview else b"")
    write_bytes(media.path(one["clip"]), film + b"!")
    with pytest.raises(UserError, match="is not what the clips stage wrote"):
        stage(media, preview=True).run(by_id(one), tmp_path / "other", HEADER)


def test_latents_of_a_remote_corpus_are_fetched_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    near, far = Media(tmp_path / "media"), Media(store_at(f"memory://{tmp_path.name}/media"))
    records = by_id(*(record(near, number) for number in range(30)))
    for one in records.values():
        far.store.write(one["latent"], near.path(one["latent"]).read_bytes())
    shutil.rmtree(tmp_path / "cache")
    real, lock, at_once = RemoteStore.save, threading.Lock(), [0, 0, 0]

    def save(self: RemoteStore, name: str, place: Path) -> None:
        with lock:
            at_once[0] += 1
            at_once[1] = max(at_once[:2])
            at_once[2] += 1
        time.sleep(0.005)
        real(self, name, place)
        with lock:
            at_once[0] -= 1

    monkeypatch.setattr(RemoteStore, "save", save)
    for media, name in ((near, "near"), (far, "far")):
        assert stage(media).run(records, tmp_path / name, HEADER)
    assert 1 < at_once[1] <= 16 and at_once[2] == 30, "each once, several at a time"
    found = [
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("near", "far")
    ]
    assert found[0] == found[1]


def with_ladders(one: dict[str, Any]) -> dict[str, Any]:
    said = {"prompt": "p/1", "model": "m", "binding": "l"}
    ladders = [
        {"every": "0.5s", "a": 2, "b": 4, "text": None, "status": None, **said},
        {"every": "clip", "a": 0, "b": 4, "text": "goes away", "status": "ok", **said},
        {"every": "0.5s", "a": 0, "b": 2, "text": "goes on", "status": "ok", **said},
    ]
    return {**one, "ladders": ladders}


def test_ladders_are_written_and_read_back(tmp_path: Path) -> None:
    media = Media(tmp_path / "media")
    stage(media).run(by_id(with_ladders(record(media, 0))), tmp_path / "main", HEADER)
    shards = ShardSet.open(tmp_path / "main")
    (entry,) = shards.entries
    full = shards.captions(entry)
    data = full.to_json()["ladders"]
    assert [span["chunks"] for span in data["0.5s"]] == [[0, 2], [2, 4]]
    assert data["clip"][0]["text"] == "goes away" and data["clip"][0]["binding"] == "l"
    assert data["0.5s"][1]["verdict"] == "no_caption"
    for captions in (full, entry.captions):
        told = {k: [s.caption.text for s in v] for k, v in captions.ladders.items()}
        assert told == {"0.5s": ["goes on", ""], "clip": ["goes away"]}


def test_a_view_says_so_and_leaves_the_stored_captions_alone(tmp_path: Path) -> None:
    media = Media(tmp_path / "media")
    records = by_id(*(with_ladders(record(media, number)) for number in range(3)))
    assert stage(media).run(records, tmp_path / "main", HEADER)
    policy = {"every": "clip", "coarser": "ladder"}
    view = stage(media, policy=policy)
    assert view.run(records, tmp_path / "view", HEADER)
    assert not view.run(records, tmp_path / "view", HEADER)
    assert stage(media, policy={"every": "clip"}).run(records, tmp_path / "view", HEADER)
    assert view.run(records, tmp_path / "view", HEADER)
    made, main = ShardSet.open(tmp_path / "view"), ShardSet.open(tmp_path / "main")
    whole = Policy.model_validate(policy)
    assert Policy.model_validate(made.policy) == whole and main.policy is None
    for entry in made.entries:
        assert made.info(entry)["policy"] == made.policy
        (segment,) = made.captions(entry).segments
        assert (segment.a, segment.b, segment.caption.text) == (0, 4, "goes away")
        assert segment.segment_id == segment_id(entry.key, 0, 4)
    assert "policy" not in main.info(main.entries[0])
    kept = {e.key: [s.caption.text for s in main.captions(e).segments] for e in main.entries}
    assert kept == {key: ["goes", ""] for key in records}
    latents = {e.key: main.latent(e) for e in main.entries}
    assert all(np.array_equal(made.latent(e), latents[e.key]) for e in made.entries)


def test_a_policy_that_cannot_be_met_leaves_the_older_view(tmp_path: Path) -> None:
    media, folder = Media(tmp_path / "media"), tmp_path / "view"
    records = by_id(record(media, 0))
    assert stage(media, policy={"every": "clip"}).run(records, folder, HEADER)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError, match="finer than the stored"):
        stage(media, policy={"every": 1}).run(records, folder, HEADER)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
