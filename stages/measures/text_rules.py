"""What can be told of a caption from its words alone.

Every rule gives a number of which more is better, so that one kind of threshold (`at_least`) serves
them all, here and in a loader's policy. Two are two-sided: ``words`` and ``claims_per_second``.
Whether many clips have the same text is told by `stages.comparisons`, which sees them all.

The caption chain is conditioned only on texts that pass `acceptable`. Its limits are fixed and
belong to `VERSION`: thresholds of verdicts may move without asking a model anything again, and
rules may be added to the others (`SCORES_VERSION`) without touching a chain.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

VERSION = "2"
SCORES_VERSION = "2"
LEAST_VARIETY = 0.3
LEAST_SECONDS = 1.0  # over which claims are counted: one chunk may well have three actions
MOST_WORDS = 200

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_HEDGES = re.compile(
    r"\b(?:(?:appears?|seems?|looks) (?:to|like|as)|(?:seemingly|apparently|presumably|possibly|"
    r"perhaps|maybe|probably|likely)|(?:might|may|could) be|suggest(?:s|ing)|impl(?:ies|ying)|"
    r"as if|as though|it is (?:un)?clear|(?:not|un)certain|"
    r"(?:in|of|from) (?:this|the|these) (?:image|photo|frame|video|clip|segment)s?|"
    r"(?:the|this|these) (?:image|photo|frame|video|clip|segment)s? "
    r"(?:shows?|depicts?|captures?|features?|begins?|starts?|ends?)|"
    r"previous (?:caption|segment|frame|clip)s?|"
    r"(?:we|you) (?:can )?(?:now )?see|the viewers?|can be seen|"
    r"as an ai|i (?:can|can't|cannot|am|'m)|i'm sorry|unable to)\b",
    re.IGNORECASE,
)
_NO_CHANGE = re.compile(
    r"\b(?:no (?:\w+ )?(?:change|movement|motion|difference)s?|nothing (?:\w+ ){0,3}"
    r"(?:changes?|moves?|happens?)|(?:remains?|stays?) (?:\w+ )?(?:the same|unchanged)|"
    r"does not (?:change|move)|unchanged)\b",
    re.IGNORECASE,
)
_QUOTED = re.compile(
    r"[\"“„«][^\"“”„«»]*[\"”“»]|"
    r"\b(?:(?:captions?|subtitles?|text|title|sign|banner|screen)(?: on (?:the )?screen)? "
    r"(?:reads?|says?)|(?:read|say)ing)\b[^.;!?]*",
    re.IGNORECASE,
)
# Words that hardly any other language of the same writing has, and that few sentences go without.
_COMMON = {
    "en": "the and of with is are its his her their while from into over then that this",
    "de": "der die das und ist sind ein eine einen einem mit von zum zur auf nach während sich",
    "fr": "le les des et est sont une avec dans sur vers pendant puis qui du au aux il elle",
    "es": "el los las y es son una con por hacia mientras luego que del al su está",
    "it": "il gli della e è sono una con verso mentre poi che del nel suo sta",
    "pt": "o os as e é são uma com para enquanto depois que do da no na está",
    "nl": "het een en zijn met van naar terwijl dan op wordt aan hij zij door",
}
_LANGUAGES = {code: frozenset(words.split()) for code, words in _COMMON.items()}
Language = Literal["en", "de", "fr", "es", "it", "pt", "nl"]
_CLAUSE = re.compile(r"[.;:!?,]|\b(?:and|then|while|as|before|after|until)\b", re.IGNORECASE)


def words(text: str) -> list[str]:
    """Words in lower case, without punctuation."""
    return [word.casefold() for word in _WORD.findall(text)]


def plain(text: str) -> float:
    """1 without hedging or talk about the picture; less with every such phrase."""
    return 1 / (1 + len(_HEDGES.findall(text)))


def variety(text: str) -> float:
    """Share of distinct word triples, 0 to 1: near 0 for a loop, 1 for short texts."""
    found = words(text)
    triples = list(zip(found, found[1:], found[2:], strict=False))
    return len(set(triples)) / len(triples) if triples else 1.0


def once(text: str) -> float:
    """1 less the share of words in the longest phrase that is said twice running: 0 for a text
    that is said twice, short ones too, which `variety` cannot tell.

    Only the first `MOST_WORDS` are looked at: a text that is longer has other faults.
    """
    found = words(text)[:MOST_WORDS]
    for length in range(len(found) // 2, 0, -1):
        for start in range(len(found) - 2 * length + 1):
            if found[start : start + length] == found[start + length : start + 2 * length]:
                return 1 - 2 * length / len(found)
    return 1.0


def new(text: str, before: str | None) -> float:
    """0 where a text says word for word what the segment before says, else 1."""
    return float(before is None or words(text) != words(before))


def change(text: str) -> float:
    """0 where a text says that nothing changes, else 1."""
    return float(not _NO_CHANGE.search(text))


def claims(text: str) -> int:
    """Clauses with at least one word: a rough count of statements."""
    return sum(1 for clause in _CLAUSE.split(text) if words(clause))


def script(text: str, wanted: str) -> float:
    """Share of letters that belong to a script such as ``latin`` or ``cyrillic``, 0 to 1.

    1 for a text without letters.
    """
    letters = [char for char in text if char.isalpha()]
    ours = [char for char in letters if unicodedata.name(char, "").startswith(wanted.upper())]
    return len(ours) / len(letters) if letters else 1.0


def language(text: str, wanted: str) -> float:
    """Share that speaks for a `Language` among words that tell one, 0 to 1.

    A word that the wanted language has, too, speaks for it. 1 for a text without such words, like
    that of an action label.
    """
    found = words(text)
    ours = sum(word in _LANGUAGES[wanted] for word in found)
    known = sum(any(word in each for each in _LANGUAGES.values()) for word in found)
    return ours / known if known else 1.0


def voices(text: str, wanted: str) -> tuple[int, int]:
    """How many words speak for a `Language`, and how many for one other, the loudest."""
    found, ours = words(text), _LANGUAGES[wanted]
    others = (each - ours for each in _LANGUAGES.values())
    return sum(word in ours for word in found), max(
        sum(word in each for word in found) for each in others
    )


def own_words(text: str) -> float:
    """Share of words that are neither in quotes nor said to be read off the screen, 0 to 1."""
    total = len(words(text))
    return len(words(_QUOTED.sub(" ", text))) / total if total else 1.0


def uncopied(text: str, spoken: Sequence[str]) -> float:
    """Share of word triples that no subtitle of the same stretch has, 0 to 1.

    A text of one or two words counts as one turn of speech.
    """
    ours = _turns(words(text))
    theirs = set(_turns(words(" ".join(spoken)), min(3, len(words(text)) or 3)))
    return sum(turn not in theirs for turn in ours) / len(ours) if ours else 1.0


def _turns(found: Sequence[str], length: int = 3) -> list[tuple[str, ...]]:
    length = max(1, min(length, len(found)))
    return [tuple(found[i : i + length]) for i in range(len(found) - length + 1)] if found else []


def scores(
    text: str, before: str | None, seconds: float, wanted: str, tongue: str | None = None
) -> dict[str, float]:
    """All rules on one caption that need nothing but captions.

    Args:
        before: text of the segment before, None where there is none.
        seconds: length of the segment.
        wanted: script of the language it should be in.
        tongue: that language, a `Language`; None where it is another one.
    """
    told = {"language": language(text, tongue)} if tongue else {}
    return {
        "words": float(len(words(text))),
        "plain": plain(text),
        "variety": variety(text),
        "once": once(text),
        "new": new(text, before),
        "change": change(text),
        "script": script(text, wanted),
        **told,
        "own_words": own_words(text),
        "claims_per_second": claims(text) / max(seconds, LEAST_SECONDS),
    }


def acceptable(text: str) -> bool:
    """Whether the next segment's question may build on this text."""
    length = len(words(text))
    return 0 < length <= MOST_WORDS and plain(text) == 1 and variety(text) >= LEAST_VARIETY
