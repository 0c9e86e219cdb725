"""Claims in plain sentences: they say what was measured and nothing else.

Wording varies from film to film but depends on the measurement alone.
"""

from collections.abc import Sequence

from corpus.ids import unit_hash
from stages.captioning.claims import Claim, claims, clip_claims, look_claim
from stages.captioning.colours import Look
from stages.captioning.measure import Measurement

ALMOST_ALL = 0.85  # share of a picture

TURNS = {
    "left": ("pans left", "turns left"),
    "right": ("pans right", "turns right"),
    "up": ("tilts up", "tilts upwards"),
    "down": ("tilts down", "tilts downwards"),
    "in": ("moves in", "closes in"),
    "out": ("moves back", "draws back"),
    "shake": ("shakes", "trembles"),
    "about": ("moves about", "moves to and fro"),
}
STATIC = ("The camera holds still", "The view stays fixed")
ROAMS = {
    "sideways": ("moves from side to side", "goes left and right"),
    "upright": ("moves up and down", "goes up and down"),
    "about": ("moves to and fro", "moves about"),
}
DIRECTIONS = {
    "left": ("to the left", "left"),
    "right": ("to the right", "right"),
    "up": ("up", "upwards"),
    "down": ("down", "downwards"),
}
VERBS = ("moves", "travels")
THINGS = ("area", "shape")
CHANGED = {
    "appears": ("appears", "comes into view"),
    "vanishes": ("disappears", "vanishes"),
}
STILLNESS = {
    "nothing": ("nothing moves", "nothing in the picture moves"),
    "little": ("hardly anything moves", "almost nothing moves"),
    "some": ("some of the picture moves", "parts of the picture move"),
    "much": ("much of the picture moves", "large parts of the picture move"),
}


class Voice:
    """Chooses wordings by a seed that comes from the content."""

    def __init__(self, *seed: object) -> None:
        self.seed = seed
        self.count = 0

    def choose(self, options: Sequence[str]) -> str:
        self.count += 1
        return options[int(unit_hash(*self.seed, self.count) * len(options))]


def segment_text(now: Measurement, before: Measurement | None) -> str:
    """What happens in a segment that was not so before.

    Args:
        before: the previous segment's measurement; None for a clip's first one, which is also
            described as a picture.
    """
    said = claims(now)
    voice = Voice([[c.kind, c.what, c.where, c.colour] for c in said], round(now.last.light, 2))
    earlier = claims(before) if before is not None else ()
    sentences = [] if before is not None else [_look(now.first)]
    sentences += _camera_sentences(said, earlier, voice)
    sentences += [_mover(claim, earlier, voice) for claim in said if claim.kind == "mover"]
    sentences += [_change(claim, voice) for claim in said if claim.kind == "change"]
    sentences += [_light(claim) for claim in said if claim.kind in ("light", "colour")]
    return " ".join(sentences)


def clip_text(parts: Sequence[Measurement]) -> str:
    """The character of a whole clip, from its segments: light, colour, camera, how much moves."""
    said, first = clip_claims(parts), parts[0].first
    voice = Voice([[c.kind, c.what, c.where, c.colour] for c in said], round(first.light, 2))
    sentences = [_look(first), *_camera_sentences(said, (), voice)]
    sentences += [_light(claim) for claim in said if claim.kind in ("light", "colour")]
    return " ".join(sentences)


def _look(look: Look) -> str:
    claim = look_claim(look)
    if not claim.colour:
        return f"A {claim.what} picture of many colours."
    most = "almost all" if look.share > ALMOST_ALL else "mostly"
    return f"A {claim.what} picture, {most} {claim.colour}."


def _camera_sentences(said: Sequence[Claim], earlier: Sequence[Claim], voice: Voice) -> list[str]:
    ways = [claim.what for claim in said if claim.kind == "camera"]
    were = [claim.what for claim in earlier if claim.kind == "camera"]
    still = next((claim.what for claim in said if claim.kind == "still"), None)
    if ways == ["static"]:
        moved = bool(were) and were != ["static"]
        start = "The camera comes to rest" if moved else voice.choose(STATIC)
        return [f"{start} and {voice.choose(STILLNESS[still])}." if still else f"{start}."]
    if not ways:
        return ["Much of the picture changes."] if still else []
    parts = [part for way in ways for part in way.split("+")]
    now = _list([voice.choose(TURNS[part]) for part in parts])
    before = {part for way in were for part in way.split("+")}
    still_so = "still " if before and set(parts) <= before else ""
    return [f"The camera {still_so}{now}."]


def _mover(claim: Claim, earlier: Sequence[Claim], voice: Voice) -> str:
    same = any(
        (c.kind, c.what, c.where, c.colour) == ("mover", claim.what, claim.where, claim.colour)
        for c in earlier
    )
    thing = _thing(claim, voice)
    if claim.what in ROAMS:
        verb = voice.choose(ROAMS[claim.what])
    else:
        ways = [voice.choose(DIRECTIONS[way]) for way in claim.what.split("+")]
        verb = f"{voice.choose(VERBS)} {' and '.join(ways)}"
    return f"{thing} {_place(claim.where)} {'still ' if same else ''}{verb}."


def _change(claim: Claim, voice: Voice) -> str:
    return f"{_thing(claim, voice)} {voice.choose(CHANGED[claim.what])} {_place(claim.where)}."


def _light(claim: Claim) -> str:
    if claim.kind == "light":
        return f"The picture gets {claim.what}."
    old, new = claim.what.split(">")
    return f"The picture turns from {old} to {new}."


def _thing(claim: Claim, voice: Voice) -> str:
    words = " ".join(word for word in (claim.size, claim.colour, voice.choose(THINGS)) if word)
    return f"{'An' if words[0] in 'aeiou' else 'A'} {words}"


def _place(where: str) -> str:
    return "in the centre" if where == "centre" else f"at the {where}"


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
