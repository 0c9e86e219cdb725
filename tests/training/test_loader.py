"""Shards in, steps out: the same rows whoever builds them, and nothing foreign or damaged."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
from corpora import arena_shards, small_config
from torch import Tensor

from corpus.errors import UserError
from corpus.ids import sha256_file
from corpus.shards import ShardSet
from corpus.shards.manifest import sealed, spelled
from training.config import RunConfig
from training.loader import Loader, Position, Recipe, Step
from training.rows import Batch, Budget
from training.samples import Samples
from training.sequence import NO_TARGET
from training.tokenizer import train_tokenizer

CONFIG = small_config()
TOKENIZER = train_tokenizer(["left", "right", "up", "down"] * 3, 300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return arena_shards(tmp_path_factory.mktemp("corpus") / "main", 12, chunks=4, per_shard=5)


def loader(
    folder: Path, workers: int = 0, rank: int = 0, world: int = 1, config: RunConfig = CONFIG
) -> Loader:
    shards = ShardSet.open(folder)
    samples = Samples(shards, "train", config, TOKENIZER)
    recipe = Recipe(
        shards, config.sequence, TOKENIZER.specials, Budget(**config.rows.slots), factor=1, seed=3
    )
    return Loader(samples, recipe, config.rows, workers=workers, rank=rank, world=world)


def tensors(batch: Batch) -> Iterator[Tensor]:
    for part in (getattr(batch, field.name) for field in dataclasses.fields(batch)):
        if isinstance(part, Tensor):
            yield part
    yield from (batch.meta.document, batch.meta.order, batch.meta.copy)


def digest(step: Step) -> str:
    """Everything about a step but the time it took."""
    total = hashlib.sha256(repr((step.position, step.following, step.keys)).encode())
    for batch in step.batches:
        for part in tensors(batch):
            total.update(part.numpy().tobytes())
    return total.hexdigest()


def take(given: Loader, count: int, start: Position = Position()) -> list[Step]:  # noqa: B008
    return list(islice(given.steps(start), count))


def test_rows_are_the_same_for_any_number_of_workers(folder: Path) -> None:
    alone = [digest(step) for step in take(loader(folder), 5)]
    assert len(set(alone)) == 5
    for workers in (1, 2):
        assert [digest(step) for step in take(loader(folder, workers), 5)] == alone


def test_a_resumed_loader_goes_on_where_it_was(folder: Path) -> None:
    whole = take(loader(folder), 8)
    assert whole[-1].position.epoch > 0
    for done in (1, 4):
        again = take(loader(folder), 8 - done, whole[done - 1].following)
        assert [digest(step) for step in again] == [digest(step) for step in whole[done:]]


def test_an_epoch_holds_every_sample_once(folder: Path) -> None:
    keys = [key for step in take(loader(folder), 3) for key in step.keys]
    assert len(keys) == 12
    assert set(keys) == {entry.key for entry in ShardSet.open(folder).entries}


def test_a_clip_longer_than_a_row_is_shown_to_where_it_is_cut_and_not_ended(tmp_path: Path) -> None:
    """EOS belongs to the end of a clip: what follows a cut is not known and not learned."""
    special = TOKENIZER.specials
    rows = {"text": 80, "clean": 5, "noisy": 4, "per_step": 4, "per_pass": 4}
    for chunks, ends in ((4, True), (6, False)):
        folder = arena_shards(tmp_path / str(chunks), 2, chunks=chunks)
        shards = ShardSet.open(folder)
        latents = {entry.key: shards.latent(entry) for entry in shards.entries}
        (step,) = take(loader(folder, config=small_config(rows=rows)), 1)
        (batch,) = step.batches
        for row, (key,) in enumerate(batch.keys):
            text = batch.text[row]
            last = int((text == special.eof).nonzero()[-1])
            assert (special.eos in text) == ends
            assert batch.target[row, last] == (special.eos if ends else NO_TARGET)
            assert int((text == special.eof).sum()) == 1 + 4
            assert torch.equal(
                batch.clean[row], torch.from_numpy(latents[key][:, 1:5]).transpose(0, 1)
            )


def test_ranks_see_what_one_would(folder: Path) -> None:
    whole = take(loader(folder), 3)
    parts = [take(loader(folder, rank=rank, world=3), 3) for rank in range(3)]
    for step, shares in zip(whole, zip(*parts, strict=True), strict=True):
        assert sorted(key for share in shares for key in share.keys) == sorted(step.keys)
        assert len({share.batches[0].text.shape[0] for share in shares}) == 1


def test_damage_names_shard_and_sample(folder: Path, tmp_path: Path) -> None:
    broken = arena_shards(tmp_path / "main", 12, chunks=4, per_shard=5)
    entry = ShardSet.open(broken).entries[7]
    path, member = broken / entry.shard, entry.members["latent.npy"]
    data = bytearray(path.read_bytes())
    data[member["offset"] + member["size"] // 2] ^= 255
    path.write_bytes(data)
    for workers in (0, 1):
        with pytest.raises(UserError, match=f"{entry.shard}, sample {entry.key}"):
            take(loader(broken, workers), 3)


def rewrite(folder: Path, **changes: object) -> None:
    """Change the manifest of a set and keep its index valid."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text()) | changes
    manifest["index"]["sha256"] = sha256_file(folder / "samples.parquet")
    path.write_text(spelled(sealed(manifest)))


def test_latents_of_another_codec_or_clock_are_refused(tmp_path: Path) -> None:
    folder = arena_shards(tmp_path / "main", 2, chunks=4)
    codec = ShardSet.open(folder).codec
    rewrite(folder, codec=codec | {"revision": "older"})
    with pytest.raises(UserError, match="another revision"):
        loader(folder)
    rewrite(folder, codec=codec | {"id": "diffusers", "causal": False})
    with pytest.raises(UserError, match="not causal: frames of later chunks"):
        loader(folder)
    rewrite(folder, codec=codec, clock={"fps": 16, "frames_per_chunk": 8})
    with pytest.raises(UserError, match="the clock's chunk has 8"):
        loader(folder)
