import pytest
import torch
from hypothesis import given, settings
from layouts import PLAIN, SHAPE, SPECIALS, budget, sample, samples

from training.rows import GRID_STEP, PADDING, Budget, pack
from training.sequence import NO_TARGET, Document, Draws, Sample, SequenceConfig, build


def document(of: Sample, config: SequenceConfig = PLAIN) -> Document:
    return build(of, Draws(0, of.key, 0), config, SPECIALS)


@settings(deadline=None, max_examples=30)
@given(samples(), samples())
def test_nothing_is_lost_or_invented(first: Sample, second: Sample) -> None:
    config = SequenceConfig(flip=0.5, noisy_copies=2)
    rows = [[document(first, config), document(second, config)], []]
    batch = pack(rows, budget(rows, spare=2), SHAPE, 1, SPECIALS)
    used = batch.meta.document != PADDING
    runs = [run for each in rows[0] for run in each.runs]
    text = used[:, : batch.text.shape[1]]
    assert batch.text[text].tolist() == [id for run in runs for id in run.tokens]
    assert batch.target[text].tolist() == [id for run in runs for id in run.targets]
    assert (batch.text[~text] == SPECIALS.pad).all() and (batch.target[~text] == NO_TARGET).all()
    clean = [block for each in rows[0] for block in each.blocks(lasting=True)]
    noisy = [block for each in rows[0] for block in each.blocks(lasting=False)]
    for slot, block in enumerate(clean):
        assert torch.equal(batch.shown[0, slot], torch.from_numpy(block.shown))
        assert batch.shown_t[0, slot] == torch.tensor(block.t)
    for slot, block in enumerate(noisy):
        torch.testing.assert_close(batch.noisy[0, slot], torch.from_numpy(block.shown))
    assert batch.learn.sum() == batch.video_count == len(noisy)
    assert batch.text_count == sum(id != NO_TARGET for run in runs for id in run.targets)
    assert not used[1].any() and not batch.learn[1].any()
    assert batch.keys == ((first.key, second.key), ())


def test_positions_of_text_are_equal_on_all_axes_and_blocks_lie_on_their_grid() -> None:
    rows = [[document(sample(meta=1, words=(1,)))]]
    batch = pack(rows, budget(rows), SHAPE, 1, SPECIALS)
    text, _, width = batch.text.shape[1], *SHAPE[1:]
    position = batch.position[0]
    assert position[:text].tolist() == [[i, i, i] for i in (0, 1, 3, 4, 5, 7, 8)]
    start = position[text : text + SHAPE[1] * width]
    assert start.tolist() == [
        [2, GRID_STEP * row, GRID_STEP * column]
        for row in range(SHAPE[1])
        for column in range(width)
    ]
    assert position[text + 2 * SHAPE[1] * width :, 0].tolist() == [6] * SHAPE[1] * width


def test_a_row_that_is_too_small_is_refused() -> None:
    rows = [[document(sample(words=(1, 1)))]]
    for part in ("text", "clean", "noisy"):
        least = budget(rows)
        slots = {"text": least.text, "clean": least.clean, "noisy": least.noisy}
        pack(rows, Budget(**slots), SHAPE, 1, SPECIALS)
        with pytest.raises(ValueError, match=part):
            pack(rows, Budget(**slots | {part: slots[part] - 1}), SHAPE, 1, SPECIALS)


def test_latents_that_cannot_be_downsampled_are_refused() -> None:
    with pytest.raises(ValueError, match="downsampled by 4"):
        pack([[]], Budget(1, 1, 1), (3, 2, 4), 4, SPECIALS)
