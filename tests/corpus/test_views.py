"""What a policy shows as a clip's captions: by ladders, by what was said of more, and of a view."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.captions import KEEP, Caption, ClipCaptions, SegmentCaption, Segments
from corpus.clock import Clock
from corpus.errors import UserError
from corpus.policy import Policy
from corpus.shards.index import captions_from_row, captions_to_row
from corpus.views import TextSpan, View, bind, ready

CLOCK = Clock()
WORDS = ("goes left", "goes up", "a door opens", "rests", "")


def spans(*captions: Caption, width: int = 8, last: int = 0) -> Segments:
    edges = [i * width for i in range(len(captions))] + [len(captions) * width + last]
    return tuple(
        SegmentCaption(a, b, c) for (a, b), c in zip(pairwise(edges), captions, strict=True)
    )


def rejected(text: str, why: str = "hedging") -> Caption:
    return Caption(text, {"grounding": 0.0}, why, binding="r")


GOOD = Caption("good", {"grounding": 0.5}, prompt="p/1", model="m", binding="g")
LADDERS = {
    "4s": spans(Caption("a and b"), rejected("c and d", "degenerate"), width=16),
    "clip": spans(Caption("all of it"), width=32),
}
CAPTIONS = ClipCaptions(
    (Caption("a scene"),), spans(GOOD, rejected("b"), rejected("c"), Caption("d")), LADDERS
)


def shown(captions: ClipCaptions, made_with: Policy | None = None, **policy: Any) -> list[str]:
    bound = bind(Policy.model_validate(policy), CLOCK, [("k", captions)], made_with)
    return [span.text for span in bound.spans("k")]


def test_a_ladder_gives_the_captions_made_for_that_density() -> None:
    for every in ("4s", 16, "4.0s"):
        assert shown(CAPTIONS, every=every, coarser="ladder") == ["a and b", ""]
    assert shown(CAPTIONS, every="clip", coarser="ladder") == ["all of it"]
    assert shown(CAPTIONS, every="stored", coarser="ladder") == ["good", "", "", "d"]
    kept = {"rejected": "keep"}
    assert shown(CAPTIONS, every="4s", coarser="ladder", keep=kept) == ["a and b", "c and d"]
    fallback = {"rejected": "fallback"}
    assert shown(CAPTIONS, every="4s", coarser="ladder", keep=fallback)[1] == "all of it"


def test_a_ladder_may_be_finer_than_what_is_stored() -> None:
    fine = spans(*(Caption(str(n)) for n in range(8)), width=4)
    captions = ClipCaptions((), CAPTIONS.segments, {"1s": fine})
    assert shown(captions, every="1s", coarser="ladder") == [str(n) for n in range(8)]
    with pytest.raises(UserError, match="finer than the stored"):
        shown(captions, every="1s")


def test_the_meta_caption_is_the_ladder_of_whole_clips() -> None:
    plain = ClipCaptions((Caption("a scene"), Caption("x")), CAPTIONS.segments)
    assert shown(plain, every="clip", coarser="ladder") == ["a scene"]
    beginning = plain.within(20)
    assert beginning.chunks == 16
    (span,) = bind(Policy(every="clip", coarser="ladder"), CLOCK, [("k", beginning)]).spans("k")
    assert (span.a, span.b) == (0, 32), "it tells of all, so it cannot stand for less"


def test_a_density_without_a_ladder_names_those_there_are() -> None:
    with pytest.raises(UserError, match=r"every=2s \(ladders: 4s, clip\)"):
        shown(CAPTIONS, every="2s", coarser="ladder")
    without = ClipCaptions(CAPTIONS.meta, CAPTIONS.segments)
    index = [("has", CAPTIONS), ("has none", without)]
    with pytest.raises(UserError, match=r"clip has none .* \(ladders: clip\)"):
        bind(Policy(every="4s", coarser="ladder"), CLOCK, index)


def test_what_is_rejected_falls_back_to_the_finest_good_caption_around_it() -> None:
    keep = {"rejected": "fallback"}
    assert shown(CAPTIONS, keep=keep) == ["good", "a and b", "all of it", "d"]
    metas = ClipCaptions(CAPTIONS.meta, CAPTIONS.segments)
    assert shown(metas, keep=keep) == ["good", "a scene", "a scene", "d"]
    assert shown(ClipCaptions((), CAPTIONS.segments), keep=keep) == ["good", "", "", "d"]
    assert shown(ClipCaptions((rejected("x"),), CAPTIONS.segments), keep=keep)[1] == ""
    # No stage scores what is said of a whole clip: thresholds ask only of what has scores.
    scored = {"rejected": "fallback", "at_least": {"grounding": 0.6}}
    assert shown(CAPTIONS, keep=scored) == ["a and b", "a and b", "all of it", "all of it"]


def written(captions: ClipCaptions, **policy: Any) -> ClipCaptions:
    """What a view writes into shards, read back."""
    made = ready(Policy.model_validate(policy), CLOCK, [("k", captions)]).captions("k", captions)
    made.check(captions.chunks)
    assert captions_from_row(_plain(captions_to_row(made))).segments[0].caption.text == (
        made.segments[0].caption.text
    )
    return ClipCaptions.from_json(json.loads(json.dumps(made.to_json())))


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(row))


def test_a_view_says_where_its_text_comes_from() -> None:
    one, two = written(CAPTIONS, every="4s").segments
    assert (one.caption, one.a, one.b) == (GOOD, 0, 16), "a single text keeps all that it has"
    assert two.caption.text == "d"
    whole = written(CAPTIONS, every="clip").segments[0].caption
    assert whole == Caption("good d"), "nobody scored this, and no answer is bound to it"
    same = ClipCaptions((), spans(GOOD, Caption("x", prompt="p/1", model="m", binding="h")))
    joined = written(same, every="clip").segments[0].caption
    assert (joined.prompt, joined.model, joined.binding) == ("p/1", "m", "")
    assert written(CAPTIONS).segments[1].caption.verdict == "hedging"
    assert written(CAPTIONS, keep={"rejected": "keep"}).segments[1].caption.verdict == KEEP
    low = written(CAPTIONS, keep={"at_least": {"grounding": 0.6}})
    assert [s.caption.verdict for s in low.segments] == [
        *("low_grounding", "hedging", "hedging", "no_score")
    ]
    assert low.ladders == {} and low.meta == (Caption("a scene"),)
    assert written(ClipCaptions((rejected("x"),), CAPTIONS.segments)).meta == ()


def test_names_follow_from_the_chunks() -> None:
    segments = tuple(SegmentCaption(s.a, s.b, s.caption, f"id{s.a}") for s in CAPTIONS.segments)
    named = ClipCaptions((), segments)
    assert [s.segment_id for s in written(named).segments] == ["id0", "id8", "id16", "id24"]
    coarse = [s.segment_id for s in written(named, every="4s").segments]
    assert len({*coarse}) == 2 and all(len(name) == 32 for name in coarse)


def test_damage_is_labelled_in_the_record_and_in_what_is_read_of_it() -> None:
    policy = {"corrupt": [{"kind": "negation", "rate": 1.0}]}
    made = written(CAPTIONS, **policy)
    damaged = made.segments[0].caption
    assert damaged.text == "it is not the case that good"
    assert (damaged.corruption, damaged.binding, damaged.scores) == ("negation", "", {})
    again = bind(Policy(), CLOCK, [("k", made)]).spans("k")
    assert again[0] == TextSpan(0, 8, damaged.text, "negation")
    assert again[1] == TextSpan(8, 16, "", None)
    whole = bind(Policy(every="clip"), CLOCK, [("k", made)]).spans("k")
    assert whole[0].corruption == "negation"
    with pytest.raises(UserError, match="were damaged already"):
        shown(made, Policy.model_validate(policy), **policy)


def test_a_view_has_no_finer_text_to_give() -> None:
    coarse, width = Policy(every="4s"), 16
    made = written(CAPTIONS, every="4s")
    assert shown(made, coarse) == shown(made, coarse, every="4s") == ["good", "d"]
    assert shown(made, coarse, every="clip") == ["good d"]
    whole = written(CAPTIONS, every="clip")
    assert shown(whole, Policy(every="clip"), every="clip") == ["good d"]
    # A view of clips of different lengths: the median of what is there says nothing of the rest.
    index = [
        ("k", whole),
        *((f"{n}", ClipCaptions((), spans(GOOD, width=width))) for n in range(3)),
    ]
    for every in ("4s", width, "1s"):
        with pytest.raises(UserError, match=r"finer than (these shards|the stored)"):
            bind(Policy(every=every), CLOCK, index, Policy(every="clip"))
    with pytest.raises(UserError, match="finer than these shards, a view with every=4s"):
        shown(made, coarse, every="2s")
    assert shown(made, coarse, every="clip", coarser="ladder") == ["a scene"]
    with pytest.raises(UserError, match="ladders: clip"):
        shown(made, coarse, every="4s", coarser="ladder")


# -- whatever the captions are ------------------------------------------------------------------

texts = st.sampled_from(WORDS)
scores = st.one_of(st.just({}), st.floats(0, 1).map(lambda x: {"grounding": x}))
caption = st.builds(Caption, texts, scores, st.sampled_from((KEEP, KEEP, "hedging")))


@st.composite
def clips(draw: st.DrawFn) -> ClipCaptions:
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=9))
    edges = [0]
    for length in lengths:
        edges.append(edges[-1] + length)
    segments = tuple(SegmentCaption(a, b, draw(caption)) for a, b in pairwise(edges))
    ladder = (SegmentCaption(0, edges[-1], draw(caption)),)
    return ClipCaptions((draw(caption),), segments, {"clip": ladder})


def _policies() -> st.SearchStrategy[Policy]:
    keep = st.fixed_dictionaries(
        {"rejected": st.sampled_from(("drop", "fallback", "keep")), "verdicts": st.booleans()},
        optional={
            "at_least": st.just({"grounding": 0.4}),
            "at_most": st.just({"grounding": 0.8}),
        },
    )
    made = st.fixed_dictionaries(
        {
            "every": st.one_of(st.sampled_from(("stored", "clip")), st.integers(1, 20)),
            "coarser": st.sampled_from(("merge", "first", "ladder")),
            "keep": keep,
        }
    )
    return made.map(Policy.model_validate)


def made(policy: Policy, index: Mapping[str, ClipCaptions]) -> View | None:
    try:
        return ready(policy, CLOCK, index.items())
    except UserError:
        return None


@given(_policies(), st.lists(clips(), min_size=1, max_size=4))
def test_a_view_is_a_partition_of_texts_that_are_there_and_reads_the_same_by_itself(
    policy: Policy, some: list[ClipCaptions]
) -> None:
    index = {f"k{n}": captions for n, captions in enumerate(some)}
    view = made(policy, index)
    if view is None:
        return
    backwards = made(policy, dict(reversed(index.items())))
    assert backwards is not None
    stored = bind(policy, CLOCK, index.items())
    views = {key: view.captions(key, captions) for key, captions in index.items()}
    read = bind(Policy(), CLOCK, views.items(), policy)
    for key, captions in index.items():
        views[key].check(captions.chunks)
        assert views[key] == backwards.captions(key, captions)
        assert read.spans(key) == stored.spans(key), "a view reads as the policy on what is stored"
        assert read.captions(key).meta == stored.captions(key).meta == views[key].meta
        around = [c for spans in captions.ladders.values() for c in spans]
        there = {s.caption.text for s in (*captions.segments, *around)}
        there |= {caption.text for caption in captions.meta}
        for span in stored.spans(key):
            assert _made_of(span.text, there), f"{span.text!r} is invented"


def _made_of(text: str, there: set[str]) -> bool:
    if text in there or not text:
        return True
    return any(
        text.startswith(f"{one} ") and _made_of(text[len(one) + 1 :], there) for one in there if one
    )


@given(_policies(), st.lists(clips(), min_size=1, max_size=4))
def test_rejected_text_is_dropped_and_what_is_good_is_all_there(
    policy: Policy, some: list[ClipCaptions]
) -> None:
    index = {f"k{n}": captions for n, captions in enumerate(some)}
    view = made(policy, index)
    if view is None or policy.by_ladder or policy.coarser == "first":
        return
    for key, captions in index.items():
        for span in view.captions(key, captions).segments:
            within = [s.caption for s in captions.segments if span.a <= s.a and s.b <= span.b]
            assert within
            good = [c.text for c in within if policy.keep.judge(c) == KEEP and c.text]
            if policy.keep.rejected == "drop":
                once = [t for i, t in enumerate(good) if i == 0 or t != good[i - 1]]
                assert span.caption.text == " ".join(once)
            assert all(text in span.caption.text for text in good)


SEEN = """
import sys
from corpus.captions import Caption, ClipCaptions, SegmentCaption
from corpus.clock import Clock
from corpus.policy import Policy
from corpus.views import bind

def clip(n):
    texts = [f"thing {n * 7 % 5} goes left", "a door opens", f"{n} rests"]
    return ClipCaptions((), tuple(SegmentCaption(8*i, 8*i+8, Caption(t, {"own": n / 9}))
                                  for i, t in enumerate(texts)))

keys = sorted(range(9), reverse="backwards" in sys.argv)
corrupt = [{"kind": k, "rate": 0.3} for k in ("far_swap", "verb_swap", "object_insertion")]
policy = Policy.model_validate({"keep": {"at_least": {"own": 0.2}, "at_most": {"own": 0.9}},
                                "corrupt": corrupt, "seed": 5})
bound = bind(policy, Clock(), ((str(n), clip(n)) for n in keys))
print([bound.spans(str(n)) for n in range(9)])
"""


def test_every_process_sees_the_same() -> None:
    """Whatever the order of its clips, and of its sets."""

    def told(seed: str, *order: str) -> str:
        command = [sys.executable, "-c", SEEN, *order]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run(
            command, capture_output=True, text=True, check=True, env=environment
        ).stdout

    first = told("1")
    assert first.count("corruption='verb_swap'") > 0 and "corruption='far_swap'" in first
    assert first == told("2", "backwards") == told("3")
