from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import PLAIN, SHAPE, SPECIALS, budget, sample, small_model
from torch import Tensor

from corpus.errors import UserError
from training.attention import attend, bias
from training.losses import losses
from training.model import TV2TV, Prediction, parameter_groups
from training.presets import PRESETS, model_config
from training.rows import Batch, TokenMeta, pack
from training.sequence import NO_TARGET, Document, Draws, Sample, SequenceConfig, build
from training.towers import rotate, rotation
from training.weights import load_model, save_model

FLIPS = SequenceConfig(flip=0.5, drop_text=0.3, drop_span=0.3)
CLOSE = {"atol": 2e-5, "rtol": 1e-4}


def document(of: Sample, config: SequenceConfig = PLAIN) -> Document:
    return build(of, Draws(0, of.key, 0), config, SPECIALS)


def batch_of(rows: list[list[Document]], spare: int = 0) -> Batch:
    return pack(rows, budget(rows, spare), SHAPE, 2, SPECIALS)


def spoken(batch: Batch) -> Batch:
    """The same batch with a target everywhere, so that every logit shows."""
    return replace(batch, target=torch.full_like(batch.target, 5))


@torch.no_grad()
def outputs(model: TV2TV, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits of every text slot (B, T, vocab) and flow of every noisy block."""
    prediction = model(spoken(batch))
    return prediction.logits.unflatten(0, batch.text.shape), prediction.flow


@pytest.fixture(scope="module")
def model() -> TV2TV:
    return small_model()


@pytest.fixture(scope="module")
def batch() -> Batch:
    """One row of two documents, some padding."""
    first, second = sample("first"), sample("second", words=(2, 1), complete=False)
    return batch_of([[document(first), document(second)]], spare=1)


def orders(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """(document, order) of the text slots, the clean blocks and the noisy blocks of row 0."""
    text, clean = batch.text.shape[1], batch.shown.shape[1]
    both = torch.stack([batch.meta.document[0], batch.meta.order[0]], -1)
    tokens = (SHAPE[1] // 2) * (SHAPE[2] // 2)
    blocks = both[text:].view(-1, tokens, 2)[:, 0]
    return both[:text], blocks[:clean], blocks[clean:]


def test_a_noisy_copy_is_seen_by_itself_only(model: TV2TV, batch: Batch) -> None:
    logits, flow = outputs(model, batch)
    for block in batch.learn[0].nonzero()[:, 0].tolist():
        noise = batch.noise.clone()
        noise[0, block] += 1
        new_logits, new_flow = outputs(model, replace(batch, noise=noise))
        assert torch.equal(new_logits, logits)
        changed = (new_flow != flow).flatten(2).any(2)[0]
        assert changed.tolist() == [i == block for i in range(len(changed))]


def test_the_future_never_reaches_the_past(model: TV2TV, batch: Batch) -> None:
    """Nor another document; and what comes later does feel it."""
    logits, flow = outputs(model, batch)
    text, clean, noisy = orders(batch)

    def check(changed: Batch, document: int, order: int, own: bool) -> None:
        new_logits, new_flow = outputs(model, changed)
        for places, old, new in ((text, logits, new_logits), (noisy, flow, new_flow)):
            later = (places[:, 0] == document) & (places[:, 1] > order - own)
            difference = (new - old).abs().flatten(2).amax(2)[0]
            assert (difference[~later] == 0).all()
            assert (difference[later] > 0).all()

    for slot, (number, order) in enumerate(text.tolist()):
        if number >= 0:
            ids = batch.text.clone()
            ids[0, slot] = (ids[0, slot] + 1) % 20
            check(replace(batch, text=ids), number, order, own=True)
    for slot, (number, order) in enumerate(clean.tolist()):
        if number >= 0:
            shown = batch.shown.clone()
            shown[0, slot] += 1
            # The block's own noisy copy shares its order and must not change.
            check(replace(batch, shown=shown), number, order, own=False)


def test_packed_equals_one_by_one(model: TV2TV) -> None:
    given = [sample("a"), sample("bc", words=(0, 2)), sample("d", words=()), sample("ee", meta=0)]
    documents = [document(each, FLIPS) for each in given]
    together = batch_of([documents[:3], documents[3:], []], spare=2)
    packed = losses(model(together), together, model.config)
    text, video = [], []
    for each in documents:
        alone = batch_of([[each]])
        single = losses(model(alone), alone, model.config)
        text.append(single.text)
        video.append(single.video)
        assert alone.text_count == len(single.text) and alone.video_count == len(single.video)
    torch.testing.assert_close(packed.text, torch.cat(text), **CLOSE)
    torch.testing.assert_close(packed.video, torch.cat(video), **CLOSE)
    assert together.text_count == len(packed.text) and together.video_count == len(packed.video)


@torch.no_grad()
def interleaved(model: TV2TV, batch: Batch) -> tuple[Tensor, Tensor]:
    """Row 0 in the order of time, both towers on every token and the right one picked."""
    row = torch.stack([batch.meta.document[0], batch.meta.order[0], batch.meta.copy[0]])
    order = torch.from_numpy(np.lexsort(row.flip(0).numpy()))
    frames = torch.cat([batch.shown, batch.noisy], 1)
    video, skips, time = model.look(frames, torch.cat([batch.shown_t, batch.t], 1))
    is_text = (torch.arange(row.shape[1]) < batch.text.shape[1])[order, None]
    x = torch.cat([model.embedding(batch.text), video], 1)[:, order]
    meta = TokenMeta(*(part[None, order] for part in row))
    turn = rotation(
        batch.position[:, order], model.config.width // model.config.heads, model.config.theta
    )
    for layer in model.layers:
        (text_qk, text_v), (video_qk, video_v) = layer.text.project(x), layer.video.project(x)
        qk = rotate(torch.where(is_text[..., None, None], text_qk, video_qk), *turn)
        v = torch.where(is_text[..., None], text_v, video_v).transpose(1, 2)
        q, k = (each.transpose(1, 2) for each in qk.unbind(2))
        seen = attend(q, k, v, bias(meta, meta, x.dtype)).transpose(1, 2).flatten(2)
        x = torch.where(is_text, layer.text.finish(x, seen), layer.video.finish(x, seen))
    x = x[:, order.argsort()]
    text, clean = batch.text.shape[1], batch.shown.shape[1]
    blocks = x[0, text:].unflatten(0, (frames.shape[1], -1))
    flow = model.upsampler(blocks[clean:], [skip[clean:] for skip in skips], time[clean:])
    return model.next_token(x[:, :text]), flow[None]


def test_sorted_equals_interleaved(model: TV2TV, batch: Batch) -> None:
    for ours, theirs in zip(outputs(model, batch), interleaved(model, batch), strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_every_parameter_learns(factor: int) -> None:
    model = small_model(factor=factor).train()
    rows = [[document(sample(shape=(SHAPE[0], 4, 8)))]]
    given = pack(rows, budget(rows), (SHAPE[0], 4, 8), factor, SPECIALS)
    losses(model(given), given, model.config).total().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_a_batch_without_loss_still_reaches_every_parameter() -> None:
    model = small_model().train()
    given = batch_of([[document(sample())]])
    given = replace(given, target=given.target.fill_(NO_TARGET), learn=given.learn & False)
    total = losses(model(given), given, model.config).total()
    total.backward()
    assert total == 0
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("predict", ["v", "x"])
def test_losses_are_means_over_their_own_modality(predict: str) -> None:
    config = small_model(predict=predict).config
    given = batch_of([[document(sample("a", words=(1, 2)))]])
    count = int(given.text_count)
    wanted = given.clean if predict == "x" else given.clean - given.noise
    prediction = Prediction(
        logits=torch.zeros(count, config.vocab),
        target=given.target[given.target != NO_TARGET],
        flow=wanted + 2,
    )
    found = losses(prediction, given, config)
    log = float(np.log(config.vocab))
    torch.testing.assert_close(found.total(), torch.tensor(log + 4.0))
    torch.testing.assert_close(found.total(0.5, 0.25), torch.tensor(log / 2 + 1.0))
    halved = found.total(text_count=torch.tensor(2 * count), video_count=torch.tensor(4))
    torch.testing.assert_close(halved, torch.tensor(log / 2 + 2.0))
    parts = {name: total / n for name, (total, n) in found.parts().items() if n}
    assert parts["text"] == pytest.approx(log) and parts["video"] == pytest.approx(4)
    counts = {name: n for name, (_, n) in found.parts().items()}
    assert [counts[f"text/{kind}"] for kind in ("word", "bof", "eos", "after_eof")] == [3, 2, 1, 3]
    assert sum(counts[f"video/t{i}"] for i in range(5)) == counts["video"] == 2


def test_text_positions_are_ordinary_rope() -> None:
    """The same ids on all axes leave a language model's angles as they were."""
    length, head, theta = 7, 16, 500.0
    x = torch.randn(1, length, 2, 3, head)
    ids = torch.arange(length)
    ours = rotate(x, *rotation(ids[None, :, None].expand(1, -1, 3), head, theta))
    angle = ids[:, None] * theta ** (-torch.arange(0, head, 2) / head)
    cos, sin = (torch.cat([f(angle)] * 2, -1)[None, :, None, None] for f in (torch.cos, torch.sin))
    half = torch.cat([-x[..., head // 2 :], x[..., : head // 2]], -1)
    torch.testing.assert_close(ours, x * cos + half * sin)


def test_presets_build_and_tiny_is_tiny() -> None:
    for name in PRESETS:
        with torch.device("meta"):
            model = TV2TV(model_config(name, vocab=300, channels=96, specials=SPECIALS))
        groups = parameter_groups(model)
        ours = [id(p) for group in groups.values() for p in group]
        assert sorted(ours) == sorted(id(p) for p in model.parameters())
        if name == "tiny":
            assert 1.5e6 < sum(p.numel() for p in model.parameters()) < 2.1e6
    with pytest.raises(UserError, match="huge"):
        model_config("huge", vocab=300, channels=96, specials=SPECIALS)


def test_a_saved_model_is_the_same_model(model: TV2TV, batch: Batch, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert again.config == model.config
    assert torch.equal(outputs(again, batch)[0], outputs(model, batch)[0])
    save_model(model, tmp_path, {n: v + 1 for n, v in model.state_dict().items()})
    assert torch.equal(load_model(tmp_path).embedding.weight, model.embedding.weight + 1)


def test_a_broken_model_is_named(model: TV2TV, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no model"):
        load_model(tmp_path)
    save_model(model, tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:100])
    with pytest.raises(UserError, match="holds no model"):
        load_model(tmp_path)
    save_model(small_model(width=64), tmp_path / "other")
    (tmp_path / "model.safetensors").write_bytes(
        (tmp_path / "other" / "model.safetensors").read_bytes()
    )
    with pytest.raises(UserError, match="holds no model"):
        load_model(tmp_path)
