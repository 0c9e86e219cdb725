"""Motion captions are true: on scenes of known motion, and on films labelled by hand."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from labels import is_true, named, read_labels
from moving import COLOURS, WAYS, Scene

from stages.captioning import motion
from stages.captioning.backend import NOTHING, OK, CaptionRequest, Shown
from stages.captioning.claims import Claim, claims, clip_claims, look_claim
from stages.captioning.colours import NAMES, Look, name_pixels
from stages.captioning.measure import Camera, Change, Measurement, Motion, measure
from stages.captioning.motion import MotionBackend, MotionConfig
from stages.captioning.words import clip_text, segment_text

SIZES = ((64, 64), (64, 96), (120, 160), (256, 448), (448, 256))
TINY = (24, 24)
DIAGONAL = ("right+up", "left+down")


def said(scene: Scene) -> tuple[Claim, ...]:
    return claims(measure(scene.frames(), 2.0))


def scenes(kind: str, count: int, **choices: tuple[object, ...]) -> list[Scene]:
    """Scenes whose size, noise, compression and further fields are drawn by number."""
    made = []
    for number in range(count):
        rng = np.random.default_rng([number, *kind.encode()])
        sizes = (TINY, *SIZES) if kind in ("static", "mover") else SIZES
        height, width = sizes[rng.integers(len(sizes))]
        fields = {name: values[rng.integers(len(values))] for name, values in choices.items()}
        noise, crf = float(rng.choice([0, 2, 4, 8])), int(rng.choice([0, 18, 28]))
        made.append(
            Scene(number, kind, height=height, width=width, noise=noise, crf=crf, **fields)  # type: ignore[arg-type]
        )
    return made


def ways(found: tuple[Claim, ...], kind: str) -> list[set[str]]:
    return [set(claim.what.split("+")) for claim in found if claim.kind == kind]


def camera_right(scene: Scene, found: tuple[Claim, ...]) -> bool:
    return ways(found, "camera") == [set(scene.way.split("+"))] and not ways(found, "mover")


def mover_right(scene: Scene, found: tuple[Claim, ...]) -> bool:
    """Way and colour; where it is follows from the scene being centred."""
    (camera,), movers = ways(found, "camera"), [c for c in found if c.kind == "mover"]
    return camera == {"static"} and [set(m.what.split("+")) for m in movers] == [
        set(scene.way.split("+"))
    ]


FAMILIES: dict[str, tuple[list[Scene], Callable[[Scene, tuple[Claim, ...]], bool]]] = {
    "pan": (
        scenes("pan", 20, way=(*WAYS, *DIAGONAL), speed=(0.06, 0.15, 0.4, 1.0)),
        camera_right,
    ),
    "zoom": (scenes("zoom", 14, way=("in", "out"), speed=(0.05, 0.15, 0.4)), camera_right),
    "mover": (
        scenes(
            "mover",
            26,
            way=(*WAYS, *DIAGONAL),
            speed=(0.1, 0.2, 0.4),
            share=(0.15, 0.25, 0.4),
            colour=tuple(COLOURS),
        ),
        mover_right,
    ),
}


@pytest.fixture(scope="module")
def rates() -> dict[str, float]:
    """Share of right captions per family."""
    return {
        name: sum(right(scene, said(scene)) for scene in made) / len(made)
        for name, (made, right) in FAMILIES.items()
    }


def test_pans_zooms_and_movers_are_named_rightly(rates: dict[str, float]) -> None:
    total = sum(rates[name] * len(made) for name, (made, _) in FAMILIES.items())
    count = sum(len(made) for made, _ in FAMILIES.values())
    assert total / count >= 0.95, rates
    assert min(rates.values()) >= 0.9, rates


def test_nothing_is_named_when_nothing_moves() -> None:
    """Whatever the texture, noise and compression."""
    for scene in scenes("static", 20):
        found = said(scene)
        assert [claim.what for claim in found] in (["static", "nothing"], ["static", "little"]), (
            scene,
            found,
        )


def test_appearing_vanishing_and_light() -> None:
    made = scenes("appear", 10, way=("appears", "vanishes"), share=(0.25, 0.4), colour=("red",))
    right = [[claim.what for claim in said(s) if claim.kind == "change"] == [s.way] for s in made]
    assert sum(right) >= 8
    for scene in scenes("light", 6, way=("brighter", "darker"), speed=(0.6, 1.2)):
        found = said(scene)
        assert Claim("light", scene.way) in found
        assert ways(found, "camera") == [{"static"}] and not ways(found, "mover")


def test_mover_is_told_with_place_and_colour() -> None:
    scene = Scene(3, "mover", "right", 120, 160, speed=0.3, share=0.3, colour="yellow")
    (mover,) = (claim for claim in said(scene) if claim.kind == "mover")
    assert (mover.what, mover.where, mover.colour) == ("right", "centre", "yellow")


@pytest.fixture(scope="module")
def film_figures(public_videos: Path) -> dict[str, tuple[int, int, int, int, int, int]]:
    """Per part of the labels: claims right and made, labelled motions named and labelled, segments
    with nothing wrong and segments."""
    figures = {}
    for part in ("first", "held-out"):
        labels = [label for label in read_labels() if label.row["part"] == part]
        right = made = hit = wanted = whole = 0
        for label in labels:
            found = measure(label.frames(public_videos), label.end - label.start)
            told = (look_claim(found.first), *claims(found))
            true = [is_true(claim, label) for claim in told]
            here, there = named(label, told)
            right, made, whole = right + sum(true), made + len(true), whole + all(true)
            hit, wanted = hit + here, wanted + there
        figures[part] = (right, made, hit, wanted, whole, len(labels))
    return figures


def test_real_films_labelled_by_hand(
    film_figures: dict[str, tuple[int, int, int, int, int, int]],
) -> None:
    """At least 24 segments; what is said is true, and most of what moves is said."""
    assert sum(figures[-1] for figures in film_figures.values()) >= 24
    for part, (right, made, hit, wanted, whole, count) in film_figures.items():
        assert right / made >= 0.85, (part, right, made)
        assert hit / wanted >= 0.8, (part, hit, wanted)
        assert whole / count >= 0.8, (part, whole, count)


def test_measurement_is_the_same_on_any_number_of_threads() -> None:
    frames = Scene(5, "mover", "left", 120, 160, speed=0.3).frames()
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(4)
        several = measure(frames, 2.0)
        assert cv2.getNumThreads() == 4
        cv2.setNumThreads(1)
        assert measure(frames, 2.0) == several
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_shortest_stretches(count: int) -> None:
    frames = Scene(1, "static", height=24, width=24).frames()[:count]
    found = measure(frames, (count - 1) / 16)
    assert claims(found)[0] == Claim("camera", "static")
    assert clip_claims([found])[0] == Claim("camera", "static")


def test_fast_pan_past_flat_ground_is_not_called_still() -> None:
    """A picture without texture tells nothing; that is a still camera with nothing in it."""
    frames = np.full((17, 64, 64, 3), 90, np.uint8)
    assert [claim.what for claim in claims(measure(frames, 2.0))] == ["static", "nothing"]


# -- words -------------------------------------------------------------------------------------

GREY = Look(0.4, "grey", 0.9)


def found(**parts: object) -> Measurement:
    base = Measurement(2.0, Camera(), (), (), GREY, GREY, 0.0)
    return dataclasses.replace(base, **parts)  # type: ignore[arg-type]


def moves(dx: float, dy: float, **parts: object) -> Motion:
    base = Motion(0.5, 0.5, dx, dy, abs(dx), abs(dy), 0.05, 0.05, "red")
    return dataclasses.replace(base, **parts)  # type: ignore[arg-type]


def test_still_picture_in_words() -> None:
    text = segment_text(found(), found())
    assert "nothing" in text
    named_things = {*NAMES, "left", "right", "up", "down", "pans", "zooms"}
    assert not named_things & set(text.lower().replace(".", "").split())


@pytest.mark.parametrize(
    ("camera", "words"),
    [
        (Camera(right=0.3), ("right",)),
        (Camera(right=-0.3), ("left",)),
        (Camera(down=0.3), ("down",)),
        (Camera(right=0.3, down=-0.3), ("right", "tilts up")),
        (Camera(closer=0.2), ("in",)),
        (Camera(closer=-0.2), ("back",)),
        (Camera(shake=0.1), ("shakes", "trembles")),
    ],
)
def test_camera_in_words(camera: Camera, words: tuple[str, ...]) -> None:
    text = segment_text(found(camera=camera), found())
    assert any(word in text for word in words), text
    assert "still" not in text and "fixed" not in text


def test_unknown_camera_is_not_spoken_of() -> None:
    text = segment_text(found(camera=Camera(known=False)), None)
    assert "camera" not in text and "view" not in text


def test_what_went_on_before_is_told_apart_from_what_is_new() -> None:
    panning = found(camera=Camera(right=0.3))
    assert "still" not in segment_text(panning, found())
    assert "The camera still" in segment_text(panning, panning)
    assert "comes to rest" in segment_text(found(), panning)
    mover = found(motions=(moves(0.3, 0),))
    assert "still moves" in segment_text(mover, mover) or "still travels" in segment_text(
        mover, mover
    )


def test_first_segment_says_what_the_picture_is() -> None:
    assert segment_text(found(), None).startswith("A medium-bright picture, almost all grey.")
    assert not segment_text(found(), found()).startswith("A medium-bright")
    colourful = dataclasses.replace(GREY, share=0.2)
    assert "many colours" in segment_text(found(first=colourful), None)


def test_movers_to_and_fro_are_given_no_direction() -> None:
    (claim,) = (
        c for c in claims(found(motions=(moves(0.02, 0, path_x=0.4),))) if c.kind == "mover"
    )
    assert claim.what == "sideways"
    (claim,) = (
        c for c in claims(found(motions=(moves(0, 0.02, path_y=0.4),))) if c.kind == "mover"
    )
    assert claim.what == "upright"


def test_light_movers_are_not_named_while_the_camera_moves() -> None:
    slight = moves(0.3, 0, mass=0.004)
    assert any(c.kind == "mover" for c in claims(found(motions=(slight,))))
    moving = found(motions=(slight,), camera=Camera(down=0.4))
    assert not any(c.kind == "mover" for c in claims(moving))


def test_change_and_light_in_words() -> None:
    change = Change("appears", 0.9, 0.1, 0.05, "white")
    text = segment_text(found(changes=(change,), last=Look(0.6, "grey", 0.9)), found())
    assert "white" in text and "top right" in text and "brighter" in text


def test_wording_varies_with_content_and_with_nothing_else() -> None:
    films = [found(motions=(moves(0.3, 0, x=x, colour=c),)) for x in (0.1, 0.9) for c in COLOURS]
    texts = [segment_text(film, found()) for film in films]
    assert texts == [segment_text(film, found()) for film in films]
    assert len({text.split("at the")[0].split()[-1] for text in texts}) > 1


def test_whole_clip_in_words() -> None:
    text = clip_text([found(motions=(moves(0.3, 0),), stir=0.3), found(stir=0.2)])
    assert text.startswith("A medium-bright picture")
    assert "much of the picture" in text or "large parts" in text
    assert "nothing" in clip_text([found(), found()])
    wandering = clip_text([found(camera=Camera(right=0.3)), found(camera=Camera(right=-0.3))])
    assert "moves about" in wandering or "to and fro" in wandering


def test_a_clip_is_given_the_direction_that_prevails() -> None:
    left, right = (found(camera=Camera(right=r)) for r in (-0.05, 0.5))
    assert ways(clip_claims([left, right, right]), "camera") == [{"right"}]
    assert ways(clip_claims([left, right, left, found(camera=Camera(right=-0.6))]), "camera") == [
        {"about"}
    ]
    lost = found(camera=Camera(known=False))
    assert ways(clip_claims([right, right, lost]), "camera") == [{"right"}]
    for parts in ([right, lost], [found(), found(), lost]):
        assert not ways(clip_claims(parts), "camera")
        assert "Much of the picture changes." in clip_text(parts)


def test_a_clip_never_contradicts_its_segments() -> None:
    """No way that no segment names, no stillness that one denies, no light against theirs."""
    rng = np.random.default_rng(0)
    for _ in range(400):
        parts = [drawn(rng) for _ in range(rng.integers(1, 5))]
        told = [claims(part) for part in parts]
        every = {way for one in told for among in ways(one, "camera") for way in among}
        whole = clip_claims(parts)
        named_ways = {way for among in ways(whole, "camera") for way in among}
        assert named_ways <= every | {"about"}
        assert "static" not in named_ways or every == {"static"}
        if Claim("still", "nothing") in whole:
            assert all(Claim("still", "nothing") in one for one in told)
        lights = {claim for one in told for claim in one if claim.kind == "light"}
        assert not lights or {claim for claim in whole if claim.kind == "light"} <= lights
        if len(parts) == 1:
            assert named_ways - {"about"} == every - {"about"}


def drawn(rng: np.random.Generator) -> Measurement:
    """A stretch with this or that in it."""
    right, down, closer = rng.normal(0, 0.2, 3) * (rng.random(3) < 0.4)
    camera = Camera(bool(rng.random() < 0.9), right, down, closer, rng.choice([0.0, 0.06]), 0.4)
    return found(
        seconds=float(rng.uniform(1, 4)),
        camera=camera,
        motions=(moves(0.3, 0),) if rng.random() < 0.3 else (),
        stir=float(rng.choice([0.0, 0.1])),
        last=Look(float(rng.uniform(0.36, 0.44)), "grey", 0.9),
    )


def test_colour_names() -> None:
    for name, rgb in COLOURS.items():
        assert NAMES[int(name_pixels(np.array([rgb], np.uint8))[0])] == name
    more = {"grey": (120, 120, 125), "brown": (110, 70, 30), "pink": (250, 180, 190)}
    for name, rgb in more.items():
        assert NAMES[int(name_pixels(np.array([rgb], np.uint8))[0])] == name


# -- backend -----------------------------------------------------------------------------------


def request(scene: Scene, before: Shown = NOTHING, kind: str = "segment") -> CaptionRequest:
    frames = scene.frames()
    times = tuple(i / 16 for i in range(len(frames)))
    shown = Shown(frames, times)
    return CaptionRequest(
        kind,
        0.0,
        2.0,
        shown,
        before,
        None,
        (),
        "",
        {},
        MotionBackend.model,
        {},  # type: ignore[arg-type]
    )


def test_backend_answers_what_it_was_shown() -> None:
    backend = MotionBackend(MotionConfig())
    asked = [request(Scene(1, "pan", way)) for way in ("left", "right")]
    backend.submit(asked)
    answers = backend.collect()
    assert [answer.id for answer in answers] == [one.id for one in asked]
    assert all(answer.status == OK for answer in answers)
    assert "left" in answers[0].text and "right" in answers[1].text
    assert backend.collect() == []


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every measurement that the backend makes."""
    made: list[int] = []

    def counted(*given: object) -> Measurement:
        made.append(1)
        return measure(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(motion, "measure", counted)
    return made


def test_backend_measures_a_segment_once(calls: list[int]) -> None:
    backend = MotionBackend(MotionConfig())
    first = request(Scene(1, "pan", "left"))
    second = request(Scene(2, "static"), before=first.shown)
    backend.submit([first])
    backend.collect()
    backend.submit([second])
    (answer,) = backend.collect()
    assert "comes to rest" in answer.text
    assert len(calls) == 2


def test_backend_measures_a_clip_by_its_segments(calls: list[int]) -> None:
    """And does so once for both."""
    backend = MotionBackend(MotionConfig())
    parts = [request(Scene(1, "pan", way)) for way in ("left", "right")]
    whole = dataclasses.replace(
        request(Scene(2, "static"), kind="clip"), parts=tuple(part.shown for part in parts)
    )
    assert whole.id != dataclasses.replace(whole, parts=whole.parts[:1]).id
    backend.submit([whole, *parts])
    answer, *_ = backend.collect()
    assert "moves about" in answer.text or "to and fro" in answer.text
    assert len(calls) == 2


def test_backend_describes_whole_clips_without_regions() -> None:
    backend = MotionBackend(MotionConfig())
    backend.submit([request(Scene(4, "mover", "left", speed=0.4), kind="clip")])
    (answer,) = backend.collect()
    assert answer.status == OK and "shape" not in answer.text and "area" not in answer.text
