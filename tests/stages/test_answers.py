"""What answers in words come to."""

import json
from typing import Any

import pytest
from test_worded import SCHEMA, question

from stages.captioning.answers import understand
from stages.captioning.worded import WordedConfig

FULL = " ".join(f"A ball of kind {chr(97 + i)} rolls away." for i in range(26))


def sort(raw: str, end: str = "stop", **changes: Any) -> tuple[str, str]:
    found = understand(question(**changes), raw, end, WordedConfig())
    return found.status, found.text


def say(text: str) -> str:
    return json.dumps({"caption": text})


def test_a_good_answer_is_one_line() -> None:
    assert sort(say(" A ball\nrolls  left. ")) == ("ok", "A ball rolls left.")
    assert sort('{"caption": "A ball\nrolls left."}') == ("ok", "A ball rolls left.")


def test_a_caption_may_be_as_long_as_its_schema_allows_if_its_sentence_ends() -> None:
    whole = FULL[:199].rstrip() + "."
    most = {**SCHEMA["properties"]["caption"], "maxLength": len(whole)}  # type: ignore[index]
    schema = {**SCHEMA, "properties": {"caption": most}}
    assert sort(say(whole), schema=schema) == ("ok", whole)
    assert sort(say(whole[:-1] + ","), schema=schema)[0] == "truncated"


@pytest.mark.parametrize(
    ("raw", "end", "status"),
    [
        ("", "stop", "degenerate"),
        (say("   "), "stop", "degenerate"),
        (say("A ball rolls"), "length", "truncated"),
        ('{"caption": "A ba', "length", "truncated"),
        (say("rolls and " * 15), "stop", "degenerate"),
        ('{"caption": "' + "rolls and " * 15, "length", "degenerate"),
        (say("球在滚动"), "stop", "degenerate"),
        (say("Un perro corre hacia la puerta y luego está con una pelota"), "stop", "degenerate"),
        (say("a\x00b"), "stop", "degenerate"),
        (say("A \u202ellab\u202c rolls left."), "stop", "degenerate"),
        (say("A b\ufffdll rolls left."), "stop", "degenerate"),
        ('{"caption": "a \\ud800 b"}', "stop", "degenerate"),
        (say("I'm sorry, I can't help."), "stop", "blocked"),
        ("I'm sorry, I can't help.", "stop", "blocked"),
        (say("A ball"), "content_filter", "blocked"),
        (say("A ball"), "timeout", "timeout"),
        (say("A ball"), "tool_calls", "error"),
        ("A ball rolls.", "stop", "schema"),
        ("Sure! " + say("A ball rolls."), "stop", "schema"),
        (say("A ball rolls.") + " Hope this helps", "stop", "schema"),
        ("```json\n" + say("A ball rolls.") + "\n```", "stop", "schema"),
        ('{"caption": "a", "caption": "b"}', "stop", "schema"),
        ('{"caption": "a", "mood": "b"}', "stop", "schema"),
        ('{"caption": 3}', "stop", "schema"),
        ('{"caption": NaN}', "stop", "schema"),
        ('["a"]', "stop", "schema"),
        ("[" * 100_000, "stop", "degenerate"),
        (say("w" * 201), "stop", "schema"),
        (say(FULL[:200]), "stop", "truncated"),
        ('{"caption": "a \x01 b"}', "stop", "degenerate"),
    ],
)
def test_what_is_no_caption_has_a_status(raw: str, end: str, status: str) -> None:
    found = understand(question(), raw, end, WordedConfig())
    assert found.status == status
    assert found.message and len(found.message) <= 200
    found.text.encode()  # can be stored


def test_a_rejected_answer_keeps_its_text_for_people() -> None:
    assert sort("A ball rolls.") == ("schema", "A ball rolls.")
    assert sort('{"caption": "A ba', "length")[1] == '{"caption": "A ba'


def test_deep_nests_are_no_json() -> None:
    nest = "".join("[{'" + chr(97 + i % 26) + str(i * i) for i in range(5000))
    assert sort(nest)[0] == "schema"


def test_without_a_schema_the_answer_is_the_caption() -> None:
    assert sort("A ball rolls.", schema={}) == ("ok", "A ball rolls.")


def test_letters_that_join_are_text() -> None:
    for text in ("Ein Mädchen lächelt über 🏄🏽‍♀️ und winkt.", "A café, 5 °C: “¡hola!”"):
        assert sort(say(text))[0] == "ok"


def test_a_schema_cannot_fetch_anything() -> None:
    """A reference to elsewhere is refused, not followed."""
    with pytest.raises(Exception, match=r"(?i)unresolvable|unretrievable"):
        sort(say("a"), schema={"$ref": "http://127.0.0.1:9/schema"})
