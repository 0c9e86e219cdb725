"""The whole way on a few seconds of video that the test itself makes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from corpus.ids import sha256_file
from corpus.shards import ShardSet
from corpus.store import local_root
from corpus.timeline import Span, Timeline, write_timeline
from corpus.video import write_video
from pipeline.cli import app
from pipeline.pages.report import write_report
from pipeline.plan import make_plan as plan_of
from pipeline.recipe import load_recipe
from pipeline.runner import Result, run
from pipeline.telemetry.progress import PlainView

FPS = 16
SHOT = 49  # frames: 3 s and a start frame
GIVEN = ["captions.backend=given", "captions.given.allow_empty=true"]


def shot(seed: int, direction: int) -> np.ndarray[Any, Any]:
    """A bright square that crosses a noisy room of its own colour."""
    generator = np.random.default_rng(seed)
    room = generator.integers(0, 60, (96, 128, 3)) + generator.integers(0, 120, 3)
    frames = np.repeat(room[None].astype(np.uint8), SHOT, axis=0)
    for number, frame in enumerate(frames):
        left = 52 + direction * (number - SHOT // 2)
        frame[40:60, left : left + 20] = (250, 240, 30)
    return frames


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two films of two shots and of one, with timelines; and files that are none."""
    folder = tmp_path_factory.mktemp("footage")
    two = np.concatenate([shot(1, 2), shot(2, -2)])
    write_video(folder / "two.mp4", two, FPS)
    write_video(folder / "one.mp4", shot(3, 1), FPS)
    (folder / "again.mp4").write_bytes((folder / "two.mp4").read_bytes())
    (folder / "broken.mp4").write_bytes((folder / "two.mp4").read_bytes()[:700])
    (folder / "empty.mp4").touch()
    (folder / "notes.txt").write_text("no film")
    for name, seconds in (("again", 6.125), ("one", 3.0625)):
        spans = (Span(0.0, seconds, "a yellow square crosses a room"),)
        write_timeline(folder / f"{name}.timeline.jsonl", Timeline(metas=spans, captions=spans))
    return folder


@pytest.fixture(scope="module")
def corpus(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus made by the command line, with a Ray of its own."""
    corpus = tmp_path_factory.mktemp("corpora") / "corpus"
    command = ["run", "films", "--input", str(footage), "--corpus", str(corpus)]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *command], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "shards:" in done.stdout
    return corpus


def bytes_of(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(folder.iterdir())}


def again(footage: Path, corpus: Path, *overrides: str) -> Result:
    from rich.console import Console

    plan = plan_of(load_recipe("films", overrides), corpus)
    return run(plan, footage, PlainView(Console()))


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def forbid() -> None:
        import pipeline.cluster.connect

        def refuse(*args: object, **named: object) -> None:
            raise AssertionError("Ray was started")

        monkeypatch.setattr(pipeline.cluster.connect, "connected", refuse)

    return forbid


def test_every_file_is_accounted_for_and_shards_hold_the_clips(corpus: Path) -> None:
    levels = json.loads(CliRunner().invoke(app, ["status", str(corpus), "--json"]).output)["levels"]
    videos = levels["videos"]
    assert (videos["inputs"], videos["ok"], videos["pending"]) == (5, 2, 0)
    assert videos["filtered"] == {"duplicate": 1}
    assert videos["failed"]["empty"] == 1
    assert sum(videos["failed"].values()) == 2
    assert levels["clips"]["ok"] == 3
    for level in levels.values():
        ended = sum(sum(level[name].values()) for name in ("filtered", "failed", "quarantined"))
        assert level["inputs"] == level["ok"] + ended + level["pending"]
    shards = ShardSet.open(corpus / "shards" / "main")
    assert len(shards.entries) == 3
    assert all(entry.latent_shape == (96, 13, 12, 16) for entry in shards.entries)
    kept = [s for e in shards.entries for s in e.captions.segments if s.caption.verdict == "keep"]
    assert len(kept) == levels["segments"]["ok"]


def test_the_same_again_computes_nothing_and_leaves_the_same_bytes(
    footage: Path, corpus: Path, no_ray: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    before = bytes_of(corpus / "shards" / "main")
    no_ray()
    same = again(footage, corpus)
    assert same.computed == {}
    assert "replaces" not in capsys.readouterr().out
    assert not same.rewritten
    for path in (corpus / "shards" / "main").iterdir():
        path.unlink()
    made_anew = again(footage, corpus)
    assert made_anew.computed == {}
    assert made_anew.rewritten
    assert bytes_of(corpus / "shards" / "main") == before


@pytest.mark.usefixtures("local_ray")
def test_another_caption_backend_remakes_captions_and_what_depends_on_them(
    footage: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    media = {path: path.stat().st_mtime_ns for path in (corpus / "media").rglob("*.*")}
    changed = again(footage, corpus, *GIVEN)
    told = "shards/main was made with other settings of captions: this run replaces it"
    assert told in capsys.readouterr().out
    assert {name for name, n in changed.computed.items() if n} == {
        *("captions", "scores", "verdicts")
    }
    assert changed.computed["captions"] == 3
    assert changed.rewritten
    shards = ShardSet.open(corpus / "shards" / "main")
    metas = {entry.captions.meta[0].text for entry in shards.entries}
    assert metas == {"a yellow square crosses a room"}
    assert {path: path.stat().st_mtime_ns for path in (corpus / "media").rglob("*.*")} == media


@pytest.mark.usefixtures("local_ray")
def test_lost_media_come_back_with_the_same_bytes(footage: Path, corpus: Path) -> None:
    again(footage, corpus)
    before = {path: sha256_file(path) for path in (corpus / "media").rglob("*.*")}
    lost = [
        min(path for path in before if path.suffix == suffix)
        for suffix in (".npy", ".mp4", ".safetensors")
    ]
    for path in lost:
        path.unlink()
    mended = again(footage, corpus)
    assert {name for name, n in mended.computed.items() if n} == {"shots", "clips", "latents"}
    assert {path: sha256_file(path) for path in (corpus / "media").rglob("*.*")} == before
    assert not mended.rewritten


@pytest.mark.usefixtures("local_ray")
def test_another_corpus_of_the_same_footage_has_the_same_bytes(
    footage: Path, corpus: Path, tmp_path: Path
) -> None:
    here = again(footage, corpus)
    moved = tmp_path / "moved"
    footage_copy = moved / "in"
    footage_copy.mkdir(parents=True)
    for path in footage.iterdir():
        (footage_copy / path.name).write_bytes(path.read_bytes())
    there = again(footage_copy, moved / "corpus")
    assert here.shards is not None and there.shards is not None
    assert bytes_of(local_root(there.shards)) == bytes_of(local_root(here.shards))


def test_the_report_shows_the_clips(corpus: Path) -> None:
    page = Path(write_report(corpus)).read_text()
    assert page.count('<article class="card">') == 3
    assert "one.mp4" in page and "broken.mp4" in page
    assert "cannot be read" not in page
