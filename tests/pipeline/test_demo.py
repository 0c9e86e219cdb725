"""The demo: both legs whole on tiny sizes, and (slow) the arena leg as it ships."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.demo import Sizes, Steps, _arena, closing_words, demo
from pipeline.telemetry.progress import PlainView
from training.run_folder import load_run

TINY = Sizes(episodes=12, footage=14.0, instructions=4, arena=("steps=3",), films=("steps=3",))


def quiet() -> PlainView:
    return PlainView(Console(quiet=True))


def test_both_legs_end_in_one_page_and_all_they_made_is_there(tmp_path: Path) -> None:
    out = tmp_path / "a demo"
    page = demo(out, None, TINY, quiet())
    assert page == out / "index.html"
    text = page.read_text()
    assert text.count("data:video/mp4;base64,") == 4
    assert "of 4 instructions" in text
    for place in ("arena/obedience.json", "arena/run", "films/run"):
        assert (out / place).exists(), place
    assert len(list(out.rglob("report.html"))) == 2
    assert sorted(path.suffix for path in (out / "films" / "films").iterdir()) == [
        ".json", ".mp4", ".png", ".vtt",
    ]  # fmt: skip
    assert str(page) in "\n".join(closing_words(out, page, None))
    assert [path.name for path in tmp_path.iterdir()] == ["a demo"]

    before = file_times(out)
    demo(out, None, replace(TINY, films=("steps=4",)), quiet())
    assert load_run(out / "films" / "run").step == 4
    assert load_run(out / "arena" / "run").step == 3
    assert before and file_times(out) == before


def file_times(folder: Path) -> dict[Path, int]:
    """When shards were written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("shards/main/*")}


@pytest.mark.slow
def test_the_arena_leg_learns_to_obey(tmp_path: Path) -> None:
    leg = _arena(tmp_path, Sizes(), Steps(quiet()))
    counted = leg.obedience
    assert counted is not None
    assert counted["n"] >= 48
    assert counted["chance"] >= 0.11
    assert counted["low"] > counted["chance"]
