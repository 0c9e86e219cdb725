from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from corpus.captions import Caption, ClipCaptions, SegmentCaption
from corpus.clock import Clock
from corpus.corruption import OPERATORS, swap_verbs
from corpus.errors import UserError
from corpus.policy import Policy
from corpus.views import TextSpan, bind

CLOCK = Clock()


def clip(*texts: str, width: int = 8, verdicts: tuple[str, ...] = ()) -> ClipCaptions:
    segments = [
        SegmentCaption(
            i * width,
            (i + 1) * width,
            Caption(text, {"grounding": i / 10}, verdicts[i] if verdicts else "keep"),
        )
        for i, text in enumerate(texts)
    ]
    return ClipCaptions((Caption("a meta caption"),), tuple(segments))


def span_clip(*spans: tuple[int, int]) -> ClipCaptions:
    return ClipCaptions((), tuple(SegmentCaption(a, b, Caption(f"{a}")) for a, b in spans))


def texts(policy: Policy, captions: ClipCaptions) -> list[str]:
    return [span.text for span in bind(policy, CLOCK, [("clip", captions)]).spans("clip")]


def test_stored_density_is_the_default() -> None:
    captions = clip("a", "b", "c")
    spans = bind(Policy(), CLOCK, [("clip", captions)]).spans("clip")
    assert spans == (TextSpan(0, 8, "a"), TextSpan(8, 16, "b"), TextSpan(16, 24, "c"))


def test_coarser_density_merges_and_says_equal_neighbours_once() -> None:
    captions = clip("go left", "go left", "stop", "jump", "jump")
    assert texts(Policy(every="4s"), captions) == ["go left", "stop jump", "jump"]
    assert texts(Policy(every=16, coarser="first"), captions) == ["go left", "stop", "jump"]
    assert texts(Policy(every="clip"), captions) == ["go left stop jump"]


@given(st.integers(1, 60), st.lists(st.integers(1, 12), min_size=1, max_size=12))
def test_every_density_partitions_the_clip(width: int, lengths: list[int]) -> None:
    edges = [0]
    for length in lengths:
        edges.append(edges[-1] + length)
    segments = tuple(SegmentCaption(a, b, Caption(f"{a}")) for a, b in pairwise(edges))
    captions = ClipCaptions((), segments)
    captions.check(edges[-1])
    try:
        spans = bind(Policy(every=width), CLOCK, [("clip", captions)]).spans("clip")
    except UserError:
        witnesses = sorted(lengths[:-1] or lengths)
        assert width < witnesses[(len(witnesses) - 1) // 2]
        return
    assert [s.a for s in spans] == [0, *(s.b for s in spans[:-1])]
    assert spans[-1].b == edges[-1]
    assert " ".join(s.text for s in spans) == " ".join(str(a) for a in edges[:-1])


def test_finer_than_stored_is_refused_but_a_merged_remainder_is_no_reason() -> None:
    with pytest.raises(UserError, match="finer than the stored"):
        texts(Policy(every="1s"), clip("a", "b"))
    long_tail = ClipCaptions(
        (), (SegmentCaption(0, 8, Caption("a")), SegmentCaption(8, 19, Caption("b")))
    )
    assert texts(Policy(every="2s"), long_tail) == ["a", "b"]
    short_tails = [(f"{n}", span_clip((0, 16), (16, 24))) for n in range(3)]
    with pytest.raises(UserError, match="finer than the stored"):
        bind(Policy(every="2s"), CLOCK, short_tails)


@pytest.mark.parametrize("every", ["2", "fast", "-1s", 0, "s", True, 4.0])
def test_unreadable_density(every: object) -> None:
    with pytest.raises(ValidationError, match="every"):
        Policy(every=every)  # type: ignore[arg-type]


def test_density_must_be_whole_chunks() -> None:
    with pytest.raises(UserError, match="whole number of chunks"):
        texts(Policy(every="2.1s"), clip("a"))


def test_rejected_captions() -> None:
    captions = clip("a", "b", "c", verdicts=("keep", "hedging", "keep"))
    assert texts(Policy(), captions) == ["a", "", "c"]
    fallback = Policy.model_validate({"keep": {"rejected": "fallback"}})
    assert texts(fallback, captions) == ["a", "a meta caption", "c"]
    assert texts(Policy.model_validate({"keep": {"verdicts": False}}), captions) == ["a", "b", "c"]


def test_thresholds_fail_closed() -> None:
    captions = clip("a", "b", "c")
    by_score = Policy.model_validate({"keep": {"at_least": {"grounding": 0.1}}})
    assert texts(by_score, captions) == ["", "b", "c"]
    both = {"at_least": {"grounding": 0.1}, "at_most": {"grounding": 0.15}}
    assert texts(Policy.model_validate({"keep": both}), captions) == ["", "b", ""]
    silent = replace(captions.segments[1], caption=Caption("b"))
    partly = replace(captions, segments=(captions.segments[0], silent, captions.segments[2]))
    for keep in ({"at_least": {"grounding": -9.0}}, {"at_most": {"grounding": 9.0}}):
        assert texts(Policy.model_validate({"keep": keep}), partly) == ["a", "", "c"]


def test_a_score_that_nothing_has_is_an_error_and_not_a_silent_corpus() -> None:
    policy = Policy.model_validate({"keep": {"at_most": {"groundin": 0.0}}})
    with pytest.raises(
        UserError, match=r"no caption has a score groundin \(there are: grounding\)"
    ):
        texts(policy, clip("a", "b"))
    assert texts(policy, clip("", "")) == ["", ""]


def many(count: int = 40) -> list[tuple[str, ClipCaptions]]:
    verbs = ("moves left", "moves right", "jumps up", "appears", "rests")
    return [(f"c{i}", clip(*(f"{verbs[(i + j) % 5]} {i}" for j in range(5)))) for i in range(count)]


@pytest.mark.parametrize("kind", sorted(OPERATORS))
def test_corruption_is_exact_labelled_and_seeded(kind: str) -> None:
    index = many()
    plain = bind(Policy(), CLOCK, index)

    def damaged(seed: int, order: list[tuple[str, ClipCaptions]]) -> dict[tuple[str, int], str]:
        policy = Policy.model_validate({"corrupt": [{"kind": kind, "rate": 0.25}], "seed": seed})
        bound = bind(policy, CLOCK, order)
        found = {}
        for key, _ in index:
            for place, (span, true) in enumerate(
                zip(bound.spans(key), plain.spans(key), strict=True)
            ):
                assert (span.text != true.text) == (span.corruption is not None)
                if span.corruption:
                    assert span.corruption == kind
                    found[key, place] = span.text
        return found

    first = damaged(0, index)
    assert len(first) == 50  # a quarter of 200: every operator can change every text here
    assert first == damaged(0, index[::-1])
    assert set(first) != set(damaged(1, index))


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("It moves left.", "It moves right."),
        ("It turns left and moves right.", "It turns right and moves left."),
        ("A shape goes left and right.", None),  # right and left is as true
        ("It moves up or down.", None),  # and never "it rests up or down"
        ("Up it goes, in the park.", "Down it goes, in the park."),
        ("It goes in.", "It goes out."),
        ("It rests.", "It moves."),
        ("A car.", None),
    ],
)
def test_verbs_are_swapped_where_that_makes_a_text_false(text: str, swapped: str | None) -> None:
    assert swap_verbs(text) == swapped


def test_corruption_rates_grow_by_adding_not_by_redrawing() -> None:
    index = many()

    def places(rate: float) -> set[tuple[str, int]]:
        policy = Policy.model_validate({"corrupt": [{"kind": "drop", "rate": rate}]})
        bound = bind(policy, CLOCK, index)
        return {
            (key, place)
            for key, _ in index
            for place, span in enumerate(bound.spans(key))
            if span.corruption
        }

    assert places(0.1) < places(0.4)


def test_more_corruption_than_captions_is_refused() -> None:
    policy = Policy.model_validate(
        {"corrupt": [{"kind": "drop", "rate": 0.8}, {"kind": "negation", "rate": 0.8}]}
    )
    with pytest.raises(UserError, match="can be damaged"):
        bind(policy, CLOCK, many())
    only_one = [("c", clip("words without an opposite"))]
    with pytest.raises(UserError, match="verb_swap"):
        bind(
            Policy.model_validate({"corrupt": [{"kind": "verb_swap", "rate": 0.5}]}),
            CLOCK,
            only_one,
        )
