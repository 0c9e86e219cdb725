from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from layouts import PLAIN, SHAPE, SPECIALS, VOCAB, budget, sample, small_model
from torch import Tensor

from training.attention import bias
from training.flow import CLEAN_TIME, to_velocity
from training.generate import Prompt, Session, Sessions, Settings
from training.generate import decoder as decoding
from training.generate.decoder import Decoder
from training.generate.events import Begun, Chunk, Cut, Ended, Event, Reseeded, Said, Token
from training.generate.sampling import draw
from training.generate.writer import Writer
from training.mask import allowed
from training.model import TV2TV
from training.rows import PADDING, TokenMeta, pack
from training.sequence import BUILDERS, Block, Document, Draws, Sample, TextRun, build

CLOSE = {"atol": 2e-5, "rtol": 1e-4}
SETTINGS = Settings(guidance=2.0, steps=2, max_words=3, min_chunks=100, seed=5)
Words = tuple[int, ...]


@pytest.fixture(scope="module")
def model() -> TV2TV:
    return small_model()


def history(of: Sample, chunks: int) -> tuple[tuple[Words, np.ndarray], ...]:
    """The first chunks of a sample with their words."""
    words = {span.a: span.tokens for span in of.spans}
    return tuple((words.get(i, ()), of.latent[:, 1 + i]) for i in range(chunks))


def prompt(key: str = "p", chunks: int = 0) -> Prompt:
    of = sample(key, words=(1, 0, 2, 1))
    return Prompt(of.meta, of.latent[:, 0], history(of, chunks), key)


def full(model: TV2TV, document: Document) -> tuple[Tensor, Tensor]:
    """Uncached: logits after the last text token, and the flow of the noisy blocks."""
    batch = pack([[document]], budget([[document]]), SHAPE, model.config.factor, SPECIALS)
    batch = replace(batch, target=torch.full_like(batch.target, 5))
    with torch.no_grad():
        prediction = model(batch)
    return prediction.logits[-1], prediction.flow[0]


def with_noisy(document: Document, x: np.ndarray, t: float, place: int) -> Document:
    """The document with a noisy block at its end that shows x at level t."""
    block = Block("noisy", 99, 1, x, x, t, True, place, place)
    return replace(document, elements=(*document.elements, block))


def dropped(document: Document) -> Document:
    """Its interleaved text as training drops it."""
    return replace(
        document,
        elements=tuple(
            replace(each, tokens=tuple(SPECIALS.drop for _ in each.tokens))
            if isinstance(each, TextRun) and each.kind == "words"
            else each
            for each in document.elements
        ),
    )


@pytest.mark.parametrize("formulation", BUILDERS)
def test_writing_gives_the_training_document_without_its_noisy_copies(formulation: str) -> None:
    of = sample("w", words=(1, 0, 2), complete=False)
    config = PLAIN.model_copy(update={"formulation": formulation})
    trained = build(of, Draws(0, "w", 0), config, SPECIALS)
    lasting = [e for e in trained.elements if not (isinstance(e, Block) and e.copy)]
    written = Writer(Prompt(of.meta, of.latent[:, 0], history(of, 3), "w"), 0, SPECIALS).take()
    assert written is not None
    for ours, theirs in zip(written.elements, lasting, strict=True):
        if isinstance(theirs, TextRun):
            assert ours == replace(theirs, targets=ours.targets)
        else:
            assert isinstance(ours, Block)
            assert (ours.kind, ours.latent, ours.order) == (
                theirs.kind,
                theirs.latent,
                theirs.order,
            )
            np.testing.assert_array_equal(ours.shown, theirs.shown)


@pytest.mark.parametrize(("guidance", "text_on_grid"), [(1.0, True), (2.5, True), (2.5, False)])
def test_cached_equals_uncached_at_every_phase(guidance: float, text_on_grid: bool) -> None:
    """Word by word and chunk by chunk, in both branches, with solver calls in between."""
    model = small_model(text_on_grid=text_on_grid)
    of = sample("c", words=(2, 0, 1), complete=False)
    writer = Writer(Prompt(of.meta, of.latent[:, 0], (), "c"), 0, SPECIALS)
    decoder = Decoder(model, 1, SHAPE, guidance, 0.6)
    so_far = Document("c", ())

    def send() -> None:
        nonlocal so_far
        page = writer.take()
        assert page is not None
        so_far = replace(so_far, elements=so_far.elements + page.elements)
        scores = decoder.append([page])[0]
        torch.testing.assert_close(scores, full(model, so_far)[0], **CLOSE)

    send()
    for words, latent in history(of, 3):
        for word in words:
            writer.words((word,), "model")
            send()
        writer.begin_chunk("model")
        send()
        flow = decoder.flow([writer.place])
        for t in (0.0, 0.5, 0.7):  # the last one is beyond guidance
            x = np.random.default_rng(3).standard_normal(SHAPE, np.float32)
            found = flow(torch.from_numpy(x)[None], t)[0]
            branches = [
                to_velocity(full(model, with_noisy(each, x, t, writer.place))[1][0],
                            torch.from_numpy(x), t, "x")
                for each in (so_far, dropped(so_far))
            ]  # fmt: skip
            scale = guidance if t < 0.6 else 1
            wanted = branches[1] + scale * (branches[0] - branches[1])
            torch.testing.assert_close(found, wanted, **CLOSE)
        writer.end_chunk(latent)
        send()


def test_a_prompt_read_at_once_equals_one_read_in_parts(model: TV2TV) -> None:
    whole = Sessions(model, [prompt(chunks=3)], SETTINGS)
    parts = Sessions(model, [prompt()], SETTINGS)
    given = prompt(chunks=3).history
    for i, (words, latent) in enumerate(given):
        parts.say(0, i, words)
        writer = parts._films[0]
        while not writer.framing:
            parts.step(9)
        writer.end_chunk(latent)
        parts._write()
    torch.testing.assert_close(whole._films[0].scores, parts._films[0].scores, **CLOSE)


def test_a_cache_grows_when_it_must(model: TV2TV, monkeypatch: pytest.MonkeyPatch) -> None:
    roomy = run(model, 3)
    monkeypatch.setattr("training.generate.decoder.SPARE", 2)
    tight = run(model, 3)
    assert tight.log == roomy.log


def test_the_solver_leaves_no_trace(model: TV2TV) -> None:
    scores = []
    for solve in (False, True):
        writer = Writer(prompt(), 0, SPECIALS)
        decoder = Decoder(model, 1, SHAPE, 2.0, 1.0)
        decoder.append([writer.take()])
        writer.begin_chunk("model")
        decoder.append([writer.take()])
        if solve:
            flow = decoder.flow([writer.place])
            flow(torch.randn(1, *SHAPE), 0.1)
        writer.end_chunk(np.zeros(SHAPE, np.float32))
        scores.append(decoder.append([writer.take()]))
    assert torch.equal(*scores)


def test_guidance_one_costs_one_branch(model: TV2TV, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    trunk = model.trunk

    def counted(text: Tensor, *rest: object) -> object:
        rows.append(text.shape[0])
        return trunk(text, *rest)

    monkeypatch.setattr(model, "trunk", counted)
    for guidance, until, wanted in ((1.0, 1.0, {1}), (2.0, 1.0, {2}), (2.0, 0.5, {1, 2})):
        rows.clear()
        settings = {"guidance": guidance, "guided_until": until}
        Sessions(model, [prompt()], SETTINGS.model_copy(update=settings)).advance(1)
        assert set(rows) == wanted
        if until == 0.5:  # of two solver steps the second is alone
            assert rows.count(1) == 1


def kinds(log: tuple[Event, ...]) -> str:
    """A log in letters: w and W for the model's and the user's words."""
    letters = {Begun: "b", Chunk: "C", Said: "s", Cut: "<", Ended: "$", Reseeded: "r"}
    return "".join(
        ("W" if each.by == "user" else "w") if isinstance(each, Token) else letters[type(each)]
        for each in log
    )


def run(model: TV2TV, chunks: int = 3, settings: Settings = SETTINGS) -> Session:
    session = Session(model, prompt(), settings)
    for _ in session.stream(chunks):
        pass
    return session


def test_a_stream_gives_every_event_as_it_comes(model: TV2TV) -> None:
    session = Session(model, prompt(), SETTINGS)
    events = tuple(session.stream(2)) + tuple(session.stream(4))
    assert events == session.log
    assert kinds(events).count("C") == len(session.film.slots) == 4
    assert session.film.latent.shape == (SHAPE[0], 5, *SHAPE[1:])
    for slot in session.film.slots:
        assert len(slot.words) <= 3 and slot.by == "model"
        assert not set(slot.words) & set(SPECIALS.model_dump().values())


def test_say_goes_back_to_the_chunk_boundary_and_forces_bof(model: TV2TV) -> None:
    session = run(model, 3)
    before = session.film
    length = len(session.log)
    session.say(1, (7, 8))
    for _ in session.stream(3):
        pass
    assert kinds(session.log)[length:].startswith("s<WWbC")
    after = session.film
    assert after.slots[0] == before.slots[0]
    assert (after.slots[1].words, after.slots[1].by) == ((7, 8), "user")
    assert len(after.slots) == 3 and after.slots[2].by == "model"
    assert not np.array_equal(after.slots[1].latent, before.slots[1].latent)


def test_a_film_that_went_back_equals_one_that_never_went_there(model: TV2TV) -> None:
    returned = run(model, 4)
    returned.say(1, (7,))
    straight = Session(model, prompt(), SETTINGS)
    straight.say(1, (7,))
    for session in (returned, straight):
        for _ in session.stream(3):
            pass
    for ours, theirs in zip(returned.film.slots, straight.film.slots, strict=True):
        assert (ours.words, ours.by) == (theirs.words, theirs.by)
        np.testing.assert_allclose(ours.latent, theirs.latent, atol=1e-4)


def test_words_for_later_wait_and_no_words_mean_silence(model: TV2TV) -> None:
    session = Session(model, prompt(), SETTINGS)
    session.say(2, (9,))
    session.say(1, ())
    for _ in session.stream(3):
        pass
    assert "<" not in kinds(session.log)
    assert [slot.by for slot in session.film.slots] == ["model", "user", "user"]
    assert [slot.words for slot in session.film.slots[1:]] == [(), (9,)]


def test_going_back_forgets_what_was_said_after_and_keeps_what_waits(model: TV2TV) -> None:
    session = Session(model, prompt(), SETTINGS)
    session.say(2, (9,))
    list(session.stream(3))
    session.say(4, (8,))
    session.say(1, (7,))
    list(session.stream(5))
    assert [slot.by for slot in session.film.slots] == ["model", "user", "model", "model", "user"]
    assert session.film.slots[4].words == (8,)
    assert session.replay().log == session.log


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (-1, (7,)),
        (0, (SPECIALS.bof, SPECIALS.eos)),
        (0, (7, SPECIALS.pad)),
        (0, (VOCAB,)),
        (0, (-1,)),
    ],
)
def test_nonsense_is_refused_before_it_is_logged(model: TV2TV, at: int, words: Words) -> None:
    session = Session(model, prompt(), SETTINGS)
    with pytest.raises(ValueError, match=f"chunk {at}"):
        session.say(at, words)
    assert not session.log
    assert len(list(session.stream(1))) == len(session.log)


def test_say_in_the_middle_of_the_models_words_replaces_them(model: TV2TV) -> None:
    session = Session(model, prompt(), SETTINGS.model_copy(update={"seed": 1}))
    stream = session.stream(2)
    while not isinstance(next(stream), Token):
        pass
    at = len(session.film.slots)
    session.say(at, (6,))
    for _ in stream:
        pass
    assert session.film.slots[at].words == (6,)


def test_replay_is_exact(model: TV2TV) -> None:
    session = run(model, 2)
    session.say(1, (7,))
    list(session.stream(3))
    branch = session.fork(seed=11)
    list(branch.stream(5))
    for each in (session, branch):
        again = each.replay()
        assert again.log == each.log
        assert again.film.latent.tobytes() == each.film.latent.tobytes()
    assert kinds(branch.log)[len(session.log)] == "r"


def test_replay_notices_another_model(model: TV2TV) -> None:
    session = run(model, 2)
    session._begin = (small_model(seed=1), *session._begin[1:])
    with pytest.raises(RuntimeError, match="replay parted"):
        session.replay()


def test_a_fork_goes_on_as_its_origin_would_and_touches_nothing_of_it(model: TV2TV) -> None:
    session = run(model, 2)
    same, other = session.fork(), session.fork(seed=77)
    for _ in other.stream(4):
        pass
    log = session.log
    for _ in same.stream(4):
        pass
    assert session.log == log
    for _ in session.stream(4):
        pass
    assert same.log == session.log
    assert other.film.slots[:2] == session.film.slots[:2]
    assert other.film.slots[2:] != session.film.slots[2:]


def test_batched_equals_single(model: TV2TV) -> None:
    """Films of different lengths, words and histories in lock step."""
    prompts = [prompt("p", 0), prompt("q", 2), prompt("rr", 1)]
    together = Sessions(model, prompts, SETTINGS)
    together.say(2, 1, (6, 7, 8))
    together.advance(4)
    together.say(0, 2, (9,))
    together.advance(5)
    for i, each in enumerate(prompts):
        alone = Session(model, each, SETTINGS)
        if i == 2:
            alone.say(1, (6, 7, 8))
        list(alone.stream(4))
        if i == 0:
            alone.say(2, (9,))
        list(alone.stream(5))
        assert kinds(alone.log) == kinds(together.log(i))
        for ours, theirs in zip(together.film(i).slots, alone.film.slots, strict=True):
            assert (ours.words, ours.by) == (theirs.words, theirs.by)
            np.testing.assert_allclose(ours.latent, theirs.latent, atol=1e-3)


def test_padding_sees_itself_only(model: TV2TV, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def watched(query: TokenMeta, key: TokenMeta, dtype: torch.dtype) -> Tensor:
        padding, table = query.document == PADDING, allowed(query, key)
        own = torch.eye(key.order.shape[1], dtype=torch.bool)[-query.order.shape[1] :]
        assert torch.equal(table[padding], own.expand_as(table)[padding])
        others = ~padding[:, :, None] & (key.document == PADDING)[:, None]
        assert not table[others].any()
        seen.append(int(padding.sum()))
        return bias(query, key, dtype)

    monkeypatch.setattr(decoding, "bias", watched)
    both = Sessions(model, [prompt("a"), prompt("b", chunks=2)], SETTINGS)
    both.say(0, 1, (7, 8, 9))
    both.advance(2)
    both.say(0, 0, ())
    both.advance(3)
    assert sum(count > 0 for count in seen) > 5


def test_films_draw_by_seed_and_key(model: TV2TV) -> None:
    twins = Sessions(model, [prompt(), prompt(), replace(prompt(), key="x")], SETTINGS)
    twins.advance(1)
    first, second, third = (twins.film(i).slots[0].latent for i in range(3))
    np.testing.assert_allclose(first, second, atol=1e-5)
    assert not np.allclose(first, third, atol=1e-2)


def likely(model: TV2TV, token: int) -> Callable[[Tensor], Tensor]:
    """A head that always prefers one token."""
    return lambda text: torch.nn.functional.one_hot(torch.full(text.shape[:-1], token), VOCAB) * 9.0


@pytest.mark.parametrize(
    ("token", "log"),
    [
        (SPECIALS.eos, "$"),
        (SPECIALS.bof, "bCbC"),
        (7, "wwwbCwwwbC"),
    ],
)
def test_only_legal_tokens_are_spoken(
    model: TV2TV, monkeypatch: pytest.MonkeyPatch, token: int, log: str
) -> None:
    """EOS ends the film; BOF follows the most words that a gap may have."""
    monkeypatch.setattr(model, "next_token", likely(model, token))
    greedy = SETTINGS.model_copy(update={"temperature": 0.0, "min_chunks": 0})
    session = run(model, 2, greedy)
    assert kinds(session.log) == log
    assert session.film.ended == (log == "$")


def test_eos_waits_for_the_least_number_of_chunks_and_a_user_may_go_on(
    model: TV2TV, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "next_token", likely(model, SPECIALS.eos))
    session = run(model, 5, SETTINGS.model_copy(update={"temperature": 0.0, "min_chunks": 2}))
    assert [len(session.film.slots), session.film.ended] == [2, True]
    session.say(2, (7,))
    assert not session.film.ended
    list(session.stream(3))
    assert session.film.slots[2].words == (7,)
    assert session.replay().log == session.log


@pytest.mark.parametrize("ended", [False, True])
def test_a_film_does_not_end_before_words_that_wait(
    model: TV2TV, monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    """Whether they are said before the model would say EOS, or after it did."""
    monkeypatch.setattr(model, "next_token", likely(model, SPECIALS.eos))
    settings = SETTINGS.model_copy(update={"temperature": 0.0, "min_chunks": 2})
    session = run(model, 5 if ended else 1, settings)
    assert session.film.ended == ended
    session.say(3, (7,))
    list(session.stream(9))
    assert (len(session.film.slots), session.film.slots[3].words) == (4, (7,))
    assert session.film.ended and session.replay().log == session.log


def test_what_may_follow_an_eof_and_what_a_word(
    model: TV2TV, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EOS only right after EOF: a plan for a chunk is not left hanging."""
    asked: list[set[int]] = []

    def scripted(scores: Tensor, legal: Tensor, *rest: float) -> int:
        asked.append(set(legal.nonzero().flatten().tolist()))
        return (7, SPECIALS.bof, SPECIALS.eos)[len(asked) - 1]

    monkeypatch.setattr("training.generate.session.draw", scripted)
    session = run(model, 9, SETTINGS.model_copy(update={"min_chunks": 0}))
    words = set(range(VOCAB)) - set(SPECIALS.model_dump().values())
    after_eof, after_word = words | {SPECIALS.bof, SPECIALS.eos}, words | {SPECIALS.bof}
    assert asked == [after_eof, after_word, after_eof]
    assert kinds(session.log) == "wbC$"


@pytest.mark.parametrize("token", [SPECIALS.eof, SPECIALS.drop, SPECIALS.pad])
def test_control_tokens_are_never_words(
    model: TV2TV, monkeypatch: pytest.MonkeyPatch, token: int
) -> None:
    monkeypatch.setattr(model, "next_token", likely(model, token))
    session = run(model, 2, SETTINGS.model_copy(update={"temperature": 0.0}))
    assert all(token not in slot.words for slot in session.film.slots)


def test_draw() -> None:
    scores, legal = torch.tensor([0.0, 2.0, 1.0, 5.0]), torch.tensor([True, True, True, False])
    assert draw(scores, legal, 0.0, 0.0, 1.0) == 1
    chances = torch.tensor([0.0, 2.0, 1.0]).softmax(0).numpy()
    drawn = [draw(scores, legal, (i + 0.5) / 1000, 1.0, 1.0) for i in range(1000)]
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 1000, chances, atol=2e-3)
    nucleus = {draw(scores, legal, (i + 0.5) / 100, 1.0, 0.7) for i in range(100)}
    assert nucleus == {1, 2}
    assert draw(scores, legal, 0.999, 1.0, 0.1) == 1
    cold = [draw(scores, legal, (i + 0.5) / 100, 0.1, 1.0) for i in range(100)]
    assert cold.count(1) >= 99


def test_a_film_needs_a_prompt(model: TV2TV) -> None:
    with pytest.raises(ValueError, match="no prompt"):
        Sessions(model, [], SETTINGS)
    assert CLEAN_TIME == 1.0
