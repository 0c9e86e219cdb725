"""The demo's page on films and numbers that the test makes up."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from corpus.video import write_video
from pipeline.pages.demo_page import Film, Leg, running_mean, write_page
from pipeline.pages.html import SECURITY

HOSTILE = "<script>alert(1)</script>"
LEVEL = {
    "inputs": 3, "ok": 1, "filtered": {"too_short": 1}, "failed": {"empty": 1},
    "quarantined": {}, "pending": 0,
}  # fmt: skip
OBEDIENCE = {
    "rate": 0.75, "n": 96, "low": 0.65, "high": 0.83, "chance": 0.198, "ceiling": 1.0,
    "valid": {"rate": 0.61}, "strict": {"rate": 0.52}, "vanished": {"rate": 0.07},
    "own": {"obeyed": {"rate": 0.44, "n": 48}, "says_does": {"rate": 0.58}},
}  # fmt: skip


@pytest.fixture
def leg(tmp_path: Path) -> Leg:
    folder = tmp_path / "demo" / "arena"
    write_video(folder / "film.mp4", np.zeros((3, 32, 32, 3), np.uint8), 16)
    Image.new("RGB", (8, 8)).save(folder / "film.png")
    (folder / "report.html").write_text("report")
    rows = [{"step": i, "loss": {"text": 2.0 / i, "video": 1.0 / i}} for i in range(1, 6)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    film = Film(HOSTILE, f"tv2tv generate {HOSTILE}", folder / "film.mp4", folder / "film.png")
    return Leg(
        title="A leg",
        text="words",
        levels={"videos": LEVEL},
        report=folder / "report.html",
        run=folder,
        shards={"samples": 5, "chunks": 80, "bytes": 1234567},
        films=(film,),
        obedience=OBEDIENCE,
        next=("tv2tv status somewhere",),
    )


def test_the_page_holds_everything_and_escapes_it(
    leg: Leg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a relative page beside absolute reports, as `--out demo` gives
    page = write_page(Path("demo/index.html"), [leg], {"all of it": 61.0}).read_text()
    assert "75 %" in page and "of 96 instructions" in page and "chance 0.20" in page
    assert "52 % flawlessly as ordered" in page and "in 7 % the sprite vanished" in page
    assert "has not shown" not in page
    assert "44 % of 48 films" in " ".join(page.split())
    assert 'href="arena/report.html"' in page
    assert "data:video/mp4;base64," in page and page.count("data:image/png;base64,") == 2
    assert "<td>videos</td><td>3</td><td>1</td>" in page
    assert HOSTILE not in page and "&lt;script&gt;" in page
    assert SECURITY in page.partition("<title>")[0]
    assert "http://" not in page and "https://" not in page


def test_without_an_oracle_no_rate_is_claimed(leg: Leg, tmp_path: Path) -> None:
    page = write_page(tmp_path / "demo" / "i.html", [replace(leg, obedience=None)], {}).read_text()
    assert "were carried out" not in page


def test_a_rate_that_may_be_chance_is_called_so(leg: Leg, tmp_path: Path) -> None:
    low = replace(leg, obedience=OBEDIENCE | {"low": 0.15})
    page = write_page(tmp_path / "demo" / "i.html", [low], {}).read_text()
    assert "has not shown that words are" in page


def test_running_mean_looks_back_only() -> None:
    assert running_mean((1.0, 3.0, 5.0)) == [1.0, 2.0, 3.0]
