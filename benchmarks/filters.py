"""What clip scores cost beside decoding the clip, and how well copies are told from other clips.

    python -m benchmarks filters               films in $TV2TV_TEST_VIDEOS/public
    python -m benchmarks.filters FOLDER [N]    another folder; N clips at most

Without the variable it is ../shared/videos, beside the repository. Films are cut into clips with
the settings of configs/real.yaml; then every part of the stage quality is timed by itself on frames
that are decoded once, in one process on one thread.

Copies of each clip are made as uploads make them, and compared with it (`least` and `median`
likeness of a copy); other clips are compared with each other (`most alike`). Clips that stand still
are left out of the second: slides of one template look alike, whatever is written on them.
"""

import importlib.util
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from corpus.clock import Clock
from corpus.ids import video_id
from corpus.layout import Media
from corpus.video import Frames, read_video
from pipeline.recipe import load_recipe
from stages.clips import ClipsStage
from stages.measures import pixels as quality_pixels
from stages.measures import signature as near_signature
from stages.measures.overlay import Text
from stages.near_duplicates import NearDuplicatesConfig, pairs
from stages.probe import ProbeStage
from stages.reading import pictures
from stages.shots import ShotsStage
from stages.stage import Context, Record

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "videos"
PUBLIC = Path(os.environ.get("TV2TV_TEST_VIDEOS") or _BESIDE) / "public"
SUFFIXES = {".mp4", ".webm", ".avi", ".mov", ".mkv"}
FROZEN = 0.98
MANY = 20_000


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


def main(arguments: Sequence[str]) -> None:
    folder = Path(arguments[0]) if arguments else PUBLIC
    most = int(arguments[1]) if len(arguments) > 1 else 1_000
    with tempfile.TemporaryDirectory() as corpus:
        media = Media(Path(corpus))
        clips = [one for film in sorted(folder.iterdir()) for one in cut(film, media)][:most]
        say(f"{len(clips)} clips of {folder}")
        with pictures.one_thread():
            films = timed(clips, media)
            copies(films)
    search()


def cut(film: Path, media: Media) -> Iterator[Record]:
    """Clips of one film, as configs/real.yaml makes them."""
    if film.suffix not in SUFFIXES:
        return
    recipe = load_recipe("real")
    context = Context(media, Clock())
    source = {"uri": film.name, "path": str(film), "meta": {}, "timeline": None}
    records: list[Record] = [
        {**source, "video_id": video_id(film), "timeline_sha256": None, "sha256": None}
    ]
    for kind in (ProbeStage, ShotsStage, ClipsStage):
        stage: Any = kind(getattr(recipe, kind.name), context)
        stage.open()
        answers = zip(records, stage.process(records), strict=True)
        records = [item for record, rows in answers for item in stage.advance(record, rows)]
    yield from records


def timed(clips: Sequence[Record], media: Media) -> dict[str, Frames]:
    """Print milliseconds a clip of every part; gives the small pictures by clip."""
    spent: dict[str, float] = defaultdict(float)
    small: dict[str, Frames] = {}
    ocr = importlib.util.find_spec("rapidocr") is not None
    reader = Text(2) if ocr else None
    if reader:
        reader.open()

    def clock(name: str, work: Callable[[], Any]) -> Any:
        begun = time.process_time()
        found = work()
        spent[name] += time.process_time() - begun
        return found

    for one in clips:
        path = media.path(one["clip"])
        frames = clock(
            "decode", lambda p=path, c=one: read_video(p, range(0, 1 + 4 * c["chunks"], 2))
        )
        luma, tiny = clock("shrink", lambda f=frames: quality_pixels.shrink(f))
        found = clock(
            "pixels", lambda a=luma, b=tiny: quality_pixels.scores(a, b, quality_pixels.RATE)
        )
        clock("signature", lambda b=tiny: near_signature.signature(b))
        if reader:
            clock("text (2 frames)", lambda f=frames: reader.score(f))
        if found["frozen"] <= FROZEN:
            small[one["clip_id"]] = tiny
    seconds = sum(one["chunks"] for one in clips) * Clock().chunk_seconds
    say(f"CPU ms per clip of {seconds / len(clips):.1f} s on average, and share of decoding it:")
    for name, total in spent.items():
        each = 1000 * total / len(clips)
        say(f"  {name:16} {each:8.1f} {total / spent['decode']:8.2f}")
    return small


COPIES: dict[str, Callable[[Frames], Frames]] = {
    "jpeg quality 15": lambda film: np.stack([_jpeg(frame) for frame in film]),
    "cropped by 5 %": lambda film: _cropped(film, 0.05),
    "cropped by 10 %": lambda film: _cropped(film, 0.10),
    "brighter": lambda film: (film * 1.15 + 20.0).clip(0, 255).astype(np.uint8),
    "gamma 0.7": lambda film: (255 * (film / 255.0) ** 0.7).astype(np.uint8),
    "0.25 s late": lambda film: film[2:],
    "logo of 2 %": lambda film: _logo(film),
}


def copies(films: dict[str, Frames]) -> None:
    """Print how like copies and strangers are."""
    signed = {name: near_signature.signature(film) for name, film in films.items()}
    shown = [name for name in films if signed[name]]
    least = NearDuplicatesConfig().likeness
    say(f"likeness of copies of {len(shown)} clips; from {least:g} on they count as one:")
    say(f"  {'copy':16} {'least':>6} {'median':>6} {'found':>6}")
    for name, change in COPIES.items():
        values = [like(signed[one], near_signature.signature(change(films[one]))) for one in shown]
        share = np.mean([value >= least for value in values])
        say(f"  {name:16} {min(values):6.2f} {np.median(values):6.2f} {100 * share:5.0f}%")
    others = sorted((like(signed[a], signed[b]) for a, b in combinations(shown, 2)), reverse=True)
    top = ", ".join(f"{value:.2f}" for value in others[:5])
    say(f"  most alike of {len(others)} pairs of other clips: {top}")


def like(one: str, other: str) -> float:
    if not (one and other):
        return 0.0
    both = near_signature.read([one, other])
    pictures = near_signature.picture_part(both)
    picture = near_signature.picture_likeness(pictures[:1], pictures[1:])
    return min(float(picture[0]), float(near_signature.change_likeness(both[:1], both[1:])[0]))


def search() -> None:
    """Print what finding near-duplicates among many clips takes."""
    rng = np.random.default_rng(0)
    many = rng.integers(-200, 200, (MANY, near_signature.LENGTH + 1), dtype=np.int16)
    begun = time.perf_counter()
    found = len(pairs(many, NearDuplicatesConfig().likeness))
    spent = time.perf_counter() - begun
    say(f"{MANY} clips against each other: {spent:.1f} s, {found} pairs")


def _jpeg(frame: Frames) -> Frames:
    _, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 15])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def _cropped(film: Frames, share: float) -> Frames:
    _, height, width = film.shape
    down, right = int(height * share / 2), int(width * share / 2)
    inner = film[:, down : height - down, right : width - right]
    return np.stack([cv2.resize(frame, (width, height)) for frame in inner])


def _logo(film: Frames) -> Frames:
    film = film.copy()
    _, height, width = film.shape
    film[:, height // 20 : height // 20 + height // 8, width // 20 : width // 20 + width // 6] = 250
    return film


if __name__ == "__main__":
    main(sys.argv[1:])
