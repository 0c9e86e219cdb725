"""Texts that nobody meant."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.captioning.degenerate import looping, refusal, wrong_language, wrong_script

STORY = (
    "A man in a red coat walks left past a parked car. A dog runs after him, stops at the kerb and "
    "barks twice. The camera follows them slowly while two children wave from a window above."
)


@pytest.mark.parametrize(
    "text",
    [
        "The ball " + "rolls and " * 20,
        STORY + " The dog barks at the man and the man walks on." * 3,
        '{"caption": "' + "\n \t" * 40,
        "".join(f"frame {i}: the same. " for i in range(95, 104)),
        "!" * 60,
        "ha " * 30 + "h",
    ],
    ids=["words", "sentences", "white space", "counting", "one character", "cut within a turn"],
)
def test_a_loop_is_seen_at_the_end_of_a_growing_text(text: str) -> None:
    assert looping(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        STORY,
        "She steps left, right, left, right, left.",
        "He says no, no, no, no and leaves the room.",
        "The ball bounces once. The ball bounces twice. The ball comes to rest.",
        '{"caption": "' + STORY + '"}',
    ],
)
def test_a_text_that_says_something_is_no_loop_at_any_time(text: str) -> None:
    assert not any(looping(text[:end]) for end in range(len(text) + 1))


@given(st.text(alphabet="abcdefgh ", min_size=1, max_size=40), st.text(max_size=30))
def test_whatever_turns_often_enough_is_a_loop(turn: str, before: str) -> None:
    turns = max(4, -(-90 // len(turn)))
    found = looping(before + turn * turns)
    assert found is not None and len(found) <= len(turn)


def test_a_loop_long_past_is_not_looked_for() -> None:
    on = " ".join(f"{word} and so on," for word in STORY.split())
    assert looping("rolls and " * 20) is not None
    assert looping("rolls and " * 20 + on) is None


@pytest.mark.parametrize(
    "text",
    ["I'm sorry, but I can't help.", "I cannot describe people.", "As an AI, I", "Sorry, no."],
)
def test_refusals(text: str) -> None:
    assert refusal(text) and refusal(text.replace("'", "’")) and refusal(f"  {text}")


@pytest.mark.parametrize(
    "text",
    ["A man says: I cannot help you.", "As an airplane lands, dust rises.", "A sorry sight.", "I"],
)
def test_captions_that_only_look_like_refusals(text: str) -> None:
    assert not refusal(text)


def test_the_script_of_most_letters_counts() -> None:
    assert wrong_script("一个人在走路", "latin") and wrong_script("Мяч катится", "latin")
    assert not wrong_script("The sign says 出口 in red.", "latin")
    assert not wrong_script("Мяч катится", "cyrillic") and not wrong_script("12 : 30", "latin")


@pytest.mark.parametrize(
    ("text", "wanted", "wrong"),
    [
        ("Ein Mann geht mit dem Hund zur Tür und setzt sich auf die Bank.", "en", True),
        ("Ein Mann geht mit dem Hund zur Tür und setzt sich auf die Bank.", "de", False),
        (STORY, "de", True),
        (STORY, "en", False),
        ("Players of Real Madrid pass on, no goal; van der Berg kicks.", "en", False),
        ("turn left, attack", "en", False),
        ("Мяч катится", "en", False),
    ],
)
def test_the_language_of_most_telling_words_counts(text: str, wanted: Any, wrong: bool) -> None:
    assert wrong_language(text, wanted) == wrong
