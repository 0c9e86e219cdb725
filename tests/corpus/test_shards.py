import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from killing import killed_at

from corpus.captions import Caption, ClipCaptions, SegmentCaption
from corpus.clock import Clock
from corpus.codecs import DctCodec
from corpus.errors import UserError
from corpus.ids import sha256_bytes
from corpus.shards import Sample, ShardPlan, ShardSet, write_shards
from corpus.shards.sample import parse_latent
from corpus.shards.writing import split_videos

CODEC = DctCodec(12)
HEADER = {
    "clock": Clock().to_json(),
    "codec": CODEC.info.to_json(),
    "recipe": {"name": "test"},
    "fingerprints": {"latents": "f"},
}


def sample(key: str, chunks: int = 4) -> Sample:
    generator = np.random.default_rng(int(sha256_bytes(key.encode())[:8], 16))
    latent = generator.standard_normal((12, 1 + chunks, 2, 3)).astype(np.float32)
    segments = tuple(
        SegmentCaption(a, a + 2, Caption(f"{key} does {a}", {"rules": 0.5}, "keep", "p", "m", "b"))
        for a in range(0, chunks, 2)
    )
    return Sample(key, latent, ClipCaptions((Caption(f"about {key}"),), segments), {"meta": {}})


def write(folder: Path, count: int = 12, **plan: float) -> dict[str, str]:
    videos = {f"clip{i:02d}": f"video{i // 3}" for i in range(count)}
    write_shards(folder, videos, sample, HEADER, ShardPlan(**{"target_bytes": 9000, **plan}))
    return videos


def digest(folder: Path) -> dict[str, str]:
    return {path.name: sha256_bytes(path.read_bytes()) for path in sorted(folder.iterdir())}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    videos = write(tmp_path / "main")
    shards = ShardSet.open(tmp_path / "main")
    assert {entry.key: entry.video_id for entry in shards.entries} == videos
    assert shards.clock == Clock()
    for entry in shards.entries:
        original = sample(entry.key)
        assert (shards.latent(entry) == original.latent.astype(np.float16)).all()
        assert shards.captions(entry) == original.captions
        assert entry.captions.segments[1].caption.text == f"{entry.key} does 2"
        assert entry.captions.segments[1].caption.scores == {"rules": 0.5}
        assert shards.info(entry)["latent"] == {"dtype": "float16", "shape": [12, 5, 2, 3]}


def test_equal_samples_make_equal_bytes_and_leave_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    write(tmp_path / "a", seed=1)
    assert digest(tmp_path / "a") != digest(tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_webdataset_reads_the_tars(tmp_path: Path) -> None:
    write(tmp_path / "main")
    urls = sorted(str(path) for path in (tmp_path / "main").glob("*.tar"))
    assert len(urls) > 1
    found = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    assert len(found) == 12
    for item in found:
        assert item["json"]["key"] == item["__key__"]
        assert item["captions.json"]["segments"][0]["chunks"] == [0, 2]
        assert item["latent.npy"].dtype == np.float16


def test_tar_members_carry_no_trace_of_when_or_who(tmp_path: Path) -> None:
    write(tmp_path / "main")
    for path in (tmp_path / "main").glob("*.tar"):
        with tarfile.open(path) as tar:
            assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in tar} == {(0, 0, 0, "", 0o644)}


def test_clips_of_one_video_stay_in_one_split(tmp_path: Path) -> None:
    write(tmp_path / "main", count=30, validation=0.3)
    shards = ShardSet.open(tmp_path / "main")
    by_split = {
        split: {e.video_id for e in shards.entries if e.split == split}
        for split in ("train", "validation")
    }
    assert by_split["validation"] == split_videos(
        by_split["train"] | by_split["validation"], ShardPlan(validation=0.3)
    )
    assert by_split["train"]
    assert not by_split["train"] & by_split["validation"]
    for shard in shards.manifest["shards"]:
        splits = {e.split for e in shards.entries if e.shard == shard["name"]}
        assert splits == {shard["split"]}


@pytest.mark.parametrize(
    ("videos", "share", "held_out"),
    [(0, 0.1, 0), (1, 0.9, 0), (2, 1e-9, 1), (3, 0.0, 0), (3, 1 - 1e-9, 2)],
)
def test_small_corpora_hold_out_a_video_if_they_can_and_train_on_one(
    videos: int, share: float, held_out: int
) -> None:
    assert len(split_videos(map(str, range(videos)), ShardPlan(validation=share))) == held_out


def test_no_video_changes_sides_when_a_corpus_grows() -> None:
    plan = ShardPlan(validation=0.1)
    videos = [f"video{i}" for i in range(400)]
    whole = split_videos(videos, plan)
    assert 0.05 * len(videos) < len(whole) < 0.15 * len(videos)
    first = next(i for i, video in enumerate(videos) if video in whole)
    for count in range(first + 1, len(videos)):
        assert split_videos(videos[:count], plan) == whole & set(videos[:count])
    assert split_videos(videos, ShardPlan(validation=0.1, seed=1)) != whole


def test_a_failed_rewrite_leaves_the_old_set(tmp_path: Path) -> None:
    write(tmp_path / "main")
    before = digest(tmp_path / "main")

    def broken(key: str) -> Sample:
        if key == "clip05":
            raise OSError("no space left on device")
        return sample(key)

    with pytest.raises(OSError, match="no space"):
        write_shards(
            tmp_path / "main", {f"clip{i:02d}": "v" for i in range(9)}, broken, HEADER, ShardPlan()
        )
    assert digest(tmp_path / "main") == before
    assert [path.name for path in tmp_path.iterdir()] == ["main"]


def test_a_set_is_the_old_or_the_new_one_wherever_its_writer_is_killed(tmp_path: Path) -> None:
    write(tmp_path / "new", count=3, seed=1)
    new, folder = digest(tmp_path / "new"), tmp_path / "corpus" / "main"
    call, found = 0, []
    while True:
        write(folder, count=3)
        old = digest(folder)
        if not killed_at(call, lambda: write(folder, count=3, seed=1)):
            break
        shards = ShardSet.open(folder)
        assert all(shards.latent(entry).size for entry in shards.entries)
        found.append(digest(shards.folder))
        assert found[-1] in (old, new)
        call += 1
    assert old in found and new in found
    assert [path.name for path in folder.parent.iterdir() if path.name != "main"] == [
        path.name for path in folder.parent.glob(".unfinished-*")
    ]


def test_an_empty_set_is_a_set(tmp_path: Path) -> None:
    write(tmp_path / "main", count=0)
    assert ShardSet.open(tmp_path / "main").entries == ()


def test_any_flipped_byte_of_a_latent_is_found(tmp_path: Path) -> None:
    write(tmp_path / "main", count=3)
    shards = ShardSet.open(tmp_path / "main")
    entry = shards.entries[0]
    member = entry.members["latent.npy"]
    path = tmp_path / "main" / entry.shard
    data = bytearray(path.read_bytes())
    for at in (0, 64, member["size"] - 1):
        damaged = data.copy()
        damaged[member["offset"] + at] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=f"{entry.shard}, sample {entry.key}, latent.npy"):
            shards.latent(entry)


def test_a_changed_index_or_foreign_manifest_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "main"
    write(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "schema": 99}))
    with pytest.raises(UserError, match="schema"):
        ShardSet.open(folder)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    data = bytearray((folder / "samples.parquet").read_bytes())
    data[100] ^= 1
    (folder / "samples.parquet").write_bytes(data)
    with pytest.raises(UserError, match=r"samples\.parquet"):
        ShardSet.open(folder)
    with pytest.raises(UserError, match=r"manifest\.json"):
        ShardSet.open(tmp_path)


def npy(array: np.ndarray, **options: bool) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        npy(np.array([{"a": 1}], dtype=object), allow_pickle=True),
        npy(np.zeros((2, 2), np.float32)),
        npy(np.zeros((2, 3), np.float16)),
        npy(np.full((2, 2), np.nan, np.float16)),
        npy(np.zeros((2, 2), np.float16)) + b"x" * 4096,
        b"",
    ],
    ids=["pickle", "dtype", "shape", "nan", "bomb", "empty"],
)
def test_hostile_latents_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"float16|finite|bytes|allow_pickle=False"):
        parse_latent(data, (2, 2))


def test_a_sample_that_breaks_the_contract_is_not_written(tmp_path: Path) -> None:
    good = sample("clip")
    gap = ClipCaptions((), good.captions.segments[1:])
    with pytest.raises(ValueError, match="no partition"):
        Sample("clip", good.latent, gap, {}).members()
    with pytest.raises(ValueError, match="not finite"):
        Sample("clip", good.latent * np.inf, good.captions, {}).members()
    with pytest.raises(ValueError, match="must match"):
        Sample("../clip", good.latent, good.captions, {}).members()
