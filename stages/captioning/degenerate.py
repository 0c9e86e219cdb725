"""Texts that nobody meant: loops, refusals, wrong languages. Pure functions of the text."""

import re

from stages.measures import text_rules

TAIL = 600  # characters looked at: the period of a loop is at most a third of it
SHORT = (4, 48)  # a loop has at least so many turns and characters ...
LONG = (3, 90)  # ... or these, where a turn is a whole sentence
LEAST_OURS = 0.5  # share of letters in the wanted script
LEAST_FOREIGN = 3  # words: one may be a name

_DIGITS = re.compile(r"\d+")
_REFUSAL = re.compile(
    r"^\W*(?:i(?:'m| am) (?:\w+ )?sorry\b|sorry,|as an ai\b|unfortunately, i\b|"
    r"i (?:can't|cannot|can not|won't|will not|am unable to|am not able to) "
    r"(?:help|assist|describe|provide|comply|fulfil|fulfill|view|see|process|analy[sz]e)\b)",
    re.IGNORECASE,
)


def looping(text: str) -> str | None:
    """The turn that the end of a text repeats, or None where it says something.

    A loop may count while it turns ("frame 7: the same. frame 8: the same."): all numbers are
    alike here. The last turn need not be whole, so a growing text can be looked at at any time.
    """
    tail = _DIGITS.sub("0", text[-TAIL:].casefold())[::-1]
    for period, more in enumerate(_agreements(tail)):
        turns = (period + more) / period if period else 0
        for least, characters in (SHORT, LONG):
            if turns >= least and period + more >= characters:
                return tail[:period][::-1]
    return None


def refusal(text: str) -> bool:
    """Whether a text begins as models do that will not answer."""
    return _REFUSAL.match(text.replace("’", "'")) is not None


def wrong_script(text: str, wanted: str) -> bool:
    """Whether most letters belong to another script than ``latin``, ``cyrillic`` or the like."""
    return text_rules.script(text, wanted) < LEAST_OURS


def wrong_language(text: str, wanted: text_rules.Language) -> bool:
    """Whether more words tell one other language than the wanted one."""
    ours, others = text_rules.voices(text, wanted)
    return others >= LEAST_FOREIGN and others > ours


def _agreements(text: str) -> list[int]:
    """For every shift how many characters the text and the shifted text have in common from their
    start on: the Z function, in linear time. Shift 0 counts none."""
    found = [0] * len(text)
    left = right = 0
    for shift in range(1, len(text)):
        same = min(right - shift, found[shift - left]) if shift < right else 0
        while shift + same < len(text) and text[same] == text[shift + same]:
            same += 1
        found[shift] = same
        if shift + same > right:
            left, right = shift, shift + same
    return found
