"""Labelled damage to captions, at exact and seeded rates.

Each operator either returns another text or None where it cannot really change this one. Of the N
eligible captions the ``round(rate N)`` with the lowest hash of (seed, kind, place) are damaged:
always the same ones, on any worker, in any epoch. Kinds are planned in the order given and a
caption is damaged at most once.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from corpus.errors import UserError
from corpus.ids import unit_hash

Kind = Literal[
    "neighbour_swap",
    "far_swap",
    "verb_swap",
    "object_insertion",
    "negation",
    "time_shift",
    "drop",
    "repeat",
]
Place = tuple[str, int]
CorruptionPlan = Mapping[Place, tuple[str, str]]

# Words that tell which way, and the word that makes the sentence false.
WAYS = {
    "left": "right",
    "up": "down",
    "upward": "downward",
    "upwards": "downwards",
    "out": "in",
    "into": "out of",
    "forward": "back",
    "backward": "forward",
    "brighter": "darker",
}
# Words that tell what happens; swapped only where there is no way to swap: "moves left" becomes
# "moves right", never "rests right", which sounds wrong whatever the film shows.
ACTS = {
    "appears": "disappears",
    "brightens": "darkens",
    "opens": "closes",
    "starts": "stops",
    "enters": "leaves",
    "rises": "falls",
    "moves": "rests",
    "jump": "stay",
    "blink": "paint",
    "attack": "wait",
}
_SWAPS = [{**{b: a for a, b in words.items()}, **words} for words in (WAYS, ACTS)]
# "moves in" becomes "moves out", "in the centre" stays.
_VERBS = re.compile(
    r"(?!in\s+(?:the|an?|this|that|its|his|her|their|front)\b)\b[a-z]+", re.IGNORECASE
)
_EITHER = re.compile(r"\b([a-z]+) (and|or) ([a-z]+)\b", re.IGNORECASE)
OBJECTS = ("a red umbrella", "a small dog", "a bicycle", "a tall ladder", "a white boat")


class Corruption(BaseModel):
    """One kind of damage and the share of eligible captions that gets it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    kind: Kind
    rate: Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Scene:
    """What an operator may look at: the texts of a clip, one of them chosen, and a donor draw."""

    texts: tuple[str, ...]
    place: int
    seed: tuple[int, str, str, int]  # seed, kind, key, place
    donors: Sequence[str]  # distinct texts of the whole index, sorted

    @property
    def text(self) -> str:
        return self.texts[self.place]

    def pick(self, choices: Sequence[str]) -> str | None:
        """A seeded choice among texts that differ from this one."""
        others = [choice for choice in choices if choice and choice != self.text]
        return others[int(unit_hash("pick", *self.seed) * len(others))] if others else None


def _neighbour(scene: Scene) -> str | None:
    places = (scene.place - 1, scene.place + 1)
    return scene.pick([scene.texts[p] for p in places if 0 <= p < len(scene.texts)])


def _far(scene: Scene) -> str | None:
    """A caption from elsewhere in the index; a draw of its own text moves on to the next one."""
    count = len(scene.donors)
    start = int(unit_hash("far", *scene.seed) * count) if count else 0
    for step in range(min(count, 2)):
        donor = scene.donors[(start + step) % count]
        if donor != scene.text:
            return donor
    return None


def swap_verbs(text: str) -> str | None:
    """A text with every word of motion turned into its opposite; None where it has no such word,
    or where the result is as true: what goes left and right goes right and left."""
    for swaps in _SWAPS:

        def opposite(match: re.Match[str], swaps: dict[str, str] = swaps) -> str:
            word = match.group(0)
            other = swaps.get(word.lower(), word)
            return other.capitalize() if word[0].isupper() else other

        found = _VERBS.sub(opposite, text)
        if found != text:
            return None if _either_way(found) == _either_way(text) else found
    return None


def _either_way(text: str) -> str:
    """A text in which it does not matter whether "left and right" or "right and left" is said."""

    def ordered(match: re.Match[str]) -> str:
        one, joint, other = match.groups()
        return f" {joint} ".join(sorted([one.lower(), other.lower()]))

    return _EITHER.sub(ordered, text)


def _verb(scene: Scene) -> str | None:
    return swap_verbs(scene.text)


def _insert(scene: Scene) -> str | None:
    thing = scene.pick(OBJECTS)
    return f"{scene.text.rstrip('.')} and {thing} is there" if thing else None


def _negate(scene: Scene) -> str | None:
    return f"it is not the case that {scene.text[0].lower()}{scene.text[1:]}"


def _shift(scene: Scene) -> str | None:
    """The text of two spans later (or earlier at the end): right words, wrong time."""
    later, earlier = scene.place + 2, scene.place - 2
    place = later if later < len(scene.texts) else earlier
    return scene.texts[place] or None if 0 <= place < len(scene.texts) else None


def _drop(scene: Scene) -> str | None:
    return ""


def _repeat(scene: Scene) -> str | None:
    return f"{scene.text} {scene.text}"


OPERATORS: dict[Kind, Callable[[Scene], str | None]] = {
    "neighbour_swap": _neighbour,
    "far_swap": _far,
    "verb_swap": _verb,
    "object_insertion": _insert,
    "negation": _negate,
    "time_shift": _shift,
    "drop": _drop,
    "repeat": _repeat,
}


def plan_corruptions(
    corruptions: Sequence[Corruption], seed: int, clips: Mapping[str, tuple[str, ...]]
) -> CorruptionPlan:
    """Choose and damage.

    Args:
        clips: key to its texts in order; empty texts are never eligible.

    Returns:
        (key, place) to (damaged text, kind), for the damaged captions only.

    Raises:
        UserError: fewer captions are left to damage than a rate asks for.
    """
    plan: dict[Place, tuple[str, str]] = {}
    if not corruptions:
        return plan
    donors = sorted({text for texts in clips.values() for text in texts if text})
    for corruption in corruptions:
        eligible = _eligible(corruption.kind, seed, clips, donors)
        wanted = round(corruption.rate * len(eligible))
        free = [item for item in eligible if item[1] not in plan]
        if wanted > len(free) or (corruption.rate > 0 and not eligible):
            raise UserError(
                f"policy: {corruption.kind} at rate {corruption.rate} needs {wanted or 'some'} "
                f"captions, {len(free)} can be damaged that way: lower the rate or the other kinds"
            )
        for _, place, text in sorted(free)[:wanted]:
            plan[place] = (text, corruption.kind)
    return plan


def _eligible(
    kind: Kind, seed: int, clips: Mapping[str, tuple[str, ...]], donors: Sequence[str]
) -> list[tuple[float, Place, str]]:
    """(hash, place, damaged text) of every caption that the operator really changes."""
    found = []
    for key, texts in clips.items():
        for place, text in enumerate(texts):
            if not text:
                continue
            damaged = OPERATORS[kind](Scene(texts, place, (seed, kind, key, place), donors))
            if damaged is not None and damaged != text:
                found.append((unit_hash(seed, kind, key, place), (key, place), damaged))
    return found
