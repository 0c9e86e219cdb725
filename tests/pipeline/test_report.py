"""The page: complete, self-contained, and deaf to what its contents would like to do."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ledger_fakes import RUN, FakeLatest, latest_of
from PIL import Image

from corpus.errors import UserError
from corpus.rows import Row
from corpus.video import write_video
from pipeline.inputs.sources import Listing, Source
from pipeline.ledger import conservation
from pipeline.ledger.endings import Ending, Said, lines
from pipeline.ledger.replay import Answered, Replay
from pipeline.pages import clip_cards
from pipeline.pages.activity import BINS, draw, read_activity, verdict
from pipeline.pages.charts import Chart
from pipeline.pages.charts import draw as draw_chart
from pipeline.pages.first import First
from pipeline.pages.gathered import Gathered, turns
from pipeline.pages.html import SECURITY
from pipeline.pages.rejects import Group, Rejects
from pipeline.pages.report import page
from pipeline.pages.thumbnails import Thumbnails
from pipeline.plan import Plan
from pipeline.plan import make_plan as make_plan_of
from pipeline.recipe import load_recipe

HOSTILE = "<script>alert('x')</script><img src=http://example.org/x.png onerror=alert(1)> \"' & ‮"


def shown_page(latest: FakeLatest, clips: int) -> str:
    gathered = Gathered(latest.plan, clips)
    return page(latest.count(gathered.add), gathered)


def choose(records: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    first = First[dict[str, Any]](count)
    first.add(turns(records))
    return first.found


def rejects(latest: FakeLatest, thumbnails: Thumbnails) -> list[Group]:
    found = Rejects(latest.plan)
    latest.count(found.add)
    return found.groups(thumbnails)


class Outline(HTMLParser):
    """Tags, and attributes that could load or run something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.active: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        loads = ("src", "href", "srcset", "action", "data", "background", "poster")
        self.active += [(n, v) for n, v in attrs if n in loads or n.startswith("on")]


def segment(a: int, b: int, text: str, verdict: str = "keep") -> dict[str, Any]:
    scores = {"length": float(len(text))}
    return {
        "segment_id": f"s{a}",
        "a": a,
        "b": b,
        "text": text,
        "verdict": verdict,
        "scores": scores,
        **{"prompt": text, "model": text, "binding": text},
    }


def record(plan: Plan, number: int, text: str, size: tuple[int, int] = (96, 160)) -> dict[str, Any]:
    """A finished clip of 4 s with two segments, whose film shows a moving bar."""
    clip = f"c{number}"
    name = plan.layout.media.clip(clip)
    frames = np.zeros((65, *size, 3), np.uint8)
    for i, frame in enumerate(frames):
        frame[:, i % size[1]] = 255
    write_video(plan.layout.media.path(name), frames, 16)
    return {
        **{"video_id": "v", "clip_id": clip, "shot_id": "s", "uri": text, "clip": name},
        **{"chunks": 16, "width": size[1], "height": size[0], "start": 1.5 * number, "end": 5.5},
        **{"meta_text": text, "meta_prompt": text, "meta_model": text, "meta_binding": text},
        **{"ladders": [], "psnr": 31.25},
        "segments": [segment(0, 8, text), segment(8, 16, text, "hedging")],
    }


@pytest.fixture
def status(make_plan: Any) -> FakeLatest:
    plan = make_plan()
    sources = (
        Source("ok.mp4", "", video_id="v"),
        Source(HOSTILE, "", outcome="failed", reason="empty", message=HOSTILE),
    )
    replay = Replay(finished=[record(plan, n, HOSTILE) for n in range(3)])
    counts = conservation.count(sources, plan.stages, Replay())
    events = [
        {
            **{"event": "batch", "stage": "probe", "worker": "w:1", "begun": 10.0, "seconds": 2.0},
            **{"records": 4, "computed": 3, "onward": 2, "outcomes": {"ok": 4}},
        }
    ]
    folder = plan.layout.root / "runs" / RUN
    folder.mkdir(parents=True)
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return latest_of(plan, Listing(sources, ignored=2), replay, counts)


def test_nothing_from_outside_becomes_markup(status: FakeLatest) -> None:
    text = shown_page(status, clips=2)
    outline = Outline(text)
    assert "script" not in outline.tags
    assert outline.tags.count("img") == 2 * clip_cards.STRIP, "only the strips' own pictures"
    assert outline.active
    assert all(name == "src" and str(value).startswith("data:") for name, value in outline.active)
    assert text.count("&lt;script&gt;") > 5, "it is shown as the text it is"
    assert "<script" not in text
    assert SECURITY in text.partition("<title>")[0]


def test_clips_whose_latents_lose_much_are_flagged_by_name_and_shown(tmp_path: Path) -> None:
    plan = make_plan_of(load_recipe("real", ["latents.floor=31.3"]), tmp_path)
    records = [record(plan, n, HOSTILE) for n in range(9)]
    for n, psnr in ((7, 29.5), (8, None)):
        records[n]["psnr"] = psnr
    counts = conservation.count((), plan.stages, Replay())
    (plan.layout.root / "runs" / RUN).mkdir(parents=True)
    latest = latest_of(plan, Listing((), ignored=0), Replay(finished=records), counts)
    text = shown_page(latest, clips=0)
    assert "8 of 8 clips that were decoded back are under 31.3 dB" in text
    assert (
        "codec dct; the worst 6 shown" in text and "clips with a latent PSNR under 31.3 dB" in text
    )
    assert text.index("29.5 dB, clip c7") < text.index("31.2 dB, clip c0")
    assert text.count('<div class="trio"><img src="data:') == 6
    assert "latents of dct: PSNR" in text and "flagged under 31.3" in text
    assert "<script" not in text
    fine = make_plan_of(load_recipe("real", ["latents.floor=20"]), tmp_path)
    latest = latest_of(fine, Listing((), ignored=0), Replay(finished=records), counts)
    assert "What the latents lose" not in shown_page(latest, clips=0)


def test_the_page_says_how_much_it_shows(status: FakeLatest) -> None:
    text = shown_page(status, clips=2)
    assert "2 of 3 finished clips are shown" in text
    assert "Ignored, because they are no media: 2 files" in text
    assert text.count('<article class="card">') == 2
    assert "31.2 dB" in text
    assert "0 of 3 finished clips are shown" in shown_page(status, clips=0)


def test_a_log_that_ends_in_the_middle_of_a_line_is_read_up_to_there(status: FakeLatest) -> None:
    events = status.plan.layout.root / "runs" / RUN / "events.jsonl"
    before = read_activity(events)
    with events.open("a") as file:
        file.write('{"event": "batch", "stage": "sho')  # killed, or still writing
    assert read_activity(events) == before
    assert shown_page(status, clips=0)
    with events.open("a") as file:
        file.write("\n")
    with pytest.raises(UserError, match=r"events\.jsonl cannot be read"):
        read_activity(events)


def test_the_same_corpus_gives_the_same_page(status: FakeLatest) -> None:
    assert shown_page(status, clips=2) == shown_page(status, clips=2)


def test_a_clip_whose_film_is_lost_says_so(status: FakeLatest) -> None:
    lost = status.plan.layout.media.path(status.found.finished[0]["clip"])
    lost.unlink()
    assert "cannot be read back" in shown_page(status, clips=3)


def test_rejected_captions_are_marked(status: FakeLatest) -> None:
    text = shown_page(status, clips=1)
    assert re.search(r'class="dropped" style="left: 50\.0000%; width: 50\.0000%"', text)
    assert '<b class="dropped">hedging</b>' in text


def test_an_example_is_of_its_own_level(status: FakeLatest) -> None:
    """A film and a shot of another film end for the same reason, each with its own words."""
    short = ("filtered", "too_short")
    rows = [
        [Row("shot", "v", "s", columns={"number": 0})],
        [Row("clip", "s", None, *short, "the shot has 1 s")],
        [Row("video", "w", None, *short, "the film has 2 s")],
    ]
    units = [(1, "v", ("v",), 1), (2, "v", ("s",), 0), (0, "w", ("w",), 0)]
    answered = [
        Answered(stage, f"{stage}-{unit}", unit, subjects, said, advanced)
        for (stage, unit, subjects, advanced), said in zip(units, rows, strict=True)
    ]
    sources = (Source("v.mp4", "", video_id="v"), Source("w.mp4", "", video_id="w"))
    found = Replay(answered=answered)
    counts = conservation.count(sources, status.plan.stages, found)
    told = latest_of(status.plan, Listing(sources), found, counts).sums.endings
    assert [(one.level, one.count, str(one.said[0])) for one in told] == [
        ("videos", 2, "w.mp4: the film has 2 s"),
        ("shots", 1, "v.mp4: the shot has 1 s"),
    ]
    assert str(told[0].said[1]) == "v.mp4: the shot has 1 s", "for want of a word of its own"
    assert lines(told, "c")[:3] == [
        "2 videos filtered: too_short",
        "  w.mp4: the film has 2 s",
        "  v.mp4: the shot has 1 s",
    ]
    assert lines(told, "c")[3] == "1 shot filtered: too_short"


def test_a_few_files_are_named_and_no_terminal_is_told_what_to_do() -> None:
    said = tuple(Said(f"{n}\x1b[2J.mp4", "no\nfilm") for n in range(5))
    assert lines([Ending("videos", "quarantined", "timeout", 5, said)], "c/d") == [
        "5 videos quarantined: timeout (`tv2tv run --retry` does it again)",
        *(
            f"  {n}\N{REPLACEMENT CHARACTER}[2J.mp4: no\N{REPLACEMENT CHARACTER}film"
            for n in range(3)
        ),
        "  and 2 more: tv2tv report c/d",
    ]


def test_the_clips_shown_do_not_depend_on_their_order() -> None:
    records = [{"clip_id": f"c{n}", "video_id": "v", "uri": "u", "start": n} for n in range(20)]
    assert choose(records, 5) == choose(records[::-1], 5)
    assert len(choose(records, 5)) == 5


def batch(stage: str, worker: str, begun: float, seconds: float) -> dict[str, Any]:
    shown = {"event": "batch", "stage": stage, "worker": worker, "begun": begun}
    return {**shown, "seconds": seconds, "cpu": seconds, "records": 1, "computed": 1}


def log(path: Path, *events: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


def test_a_lane_is_as_dark_as_its_workers_were_busy(tmp_path: Path) -> None:
    work = [batch("probe", "a", 10.0, 2.0), batch("probe", "b", 10.0, 1.0)]
    found = read_activity(log(tmp_path / "log", *work, batch("shots", "a", 13.0, 1.0)))
    probe, shots = found.stages
    assert (found.total, found.at_once) == (4.0, 1.0)
    assert probe.columns[: BINS // 4] == pytest.approx([1.0] * (BINS // 4))
    assert probe.columns[BINS // 4 + 1 : BINS // 2] == pytest.approx([0.5] * (BINS // 4 - 1))
    assert sum(probe.columns[BINS // 2 + 1 :]) == 0
    assert (probe.busy, shots.busy) == (0.75, 1.0)
    assert draw(found).count('class="lane"') == 2


def test_what_bounded_a_run_is_told(tmp_path: Path) -> None:
    alone = [batch("captions", "a", 0.0, 100.0), batch("clips", "b", 0.0, 10.0)]
    assert "captions bound the run" in verdict(read_activity(log(tmp_path / "1", *alone)))
    shared = [batch("shots", "a", 0.0, 50.0), batch("clips", "a", 50.0, 50.0)]
    told = verdict(read_activity(log(tmp_path / "4", *shared, batch("latents", "b", 80.0, 20.0))))
    assert "shots, clips were busy 100%" in told, "stages of one worker count together"
    full = [{"event": "cluster", "workers": 2}, *alone, batch("clips", "b", 10.0, 80.0)]
    assert "bound by processors" in verdict(read_activity(log(tmp_path / "2", *full)))
    idle = [batch("clips", "a", 0.0, 1.0), batch("clips", "a", 90.0, 1.0)]
    assert "too little work" in verdict(read_activity(log(tmp_path / "3", *idle)))
    assert verdict(read_activity(tmp_path / "none")) == ""


def test_a_chart_shows_what_a_threshold_rejects() -> None:
    edges = (0.0, 1.0, 2.0, 2.5, 3.0)
    shown = draw_chart(Chart(HOSTILE, "", edges, (1, 0, 2, 4), at_least=2.5))
    assert shown.count('class="out"') == 3 and shown.count('class="in"') == 1
    assert shown.count("<line") == 1
    assert "<script" not in shown


def rejected(status: FakeLatest, film: Path) -> FakeLatest:
    """A clip of ours that a stage filtered, and a shot of a foreign film that gave none."""
    clip = record(status.plan, 7, "x")
    columns = {"clip": clip["clip"], "start": 1.0, "end": 5.0}
    rows = [
        [Row("video", None, "v", columns={"duration": 2.0, "stream": 0})],
        [Row("shot", "v", name, columns={"start": 0.0, "end": 1.0}) for name in ("s", "t")],
        [
            Row("clip", "s", "c7", columns=columns),
            Row("clip", "t", None, "filtered", "too_short", HOSTILE),
        ],
        [Row("clip", None, "c7", "filtered", "blur", score=0.125)],
    ]
    answered = [Answered(i, str(i), "v", ("v",), said, 1) for i, said in enumerate(rows)]
    sources = (Source("ok.mp4", str(film), video_id="v"),)
    found = Replay(answered=answered)
    return latest_of(status.plan, Listing(sources), found, {})


def test_rejects_are_shown_by_reason(status: FakeLatest, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    write_video(film, np.full((32, 64, 96, 3), 200, np.uint8), 16)
    blur, short = rejects(rejected(status, film), Thumbnails())
    assert (blur.kind, blur.reason, blur.count, blur.shown[0].note) == ("clip", "blur", 1, "0.125")
    assert (short.kind, short.reason, short.shown[0].note) == ("shot", "too_short", HOSTILE)
    assert [len(group.shown[0].pictures) for group in (blur, short)] == [3, 3]
    assert "0.00 s to 1.00 s" in short.shown[0].title


@pytest.mark.parametrize("content", [b"", b"<svg onload='x'>" * 100, None])
def test_what_gives_no_picture_is_shown_without(
    status: FakeLatest, tmp_path: Path, content: bytes | None
) -> None:
    film = tmp_path / "film.mp4"
    if content is not None:
        film.write_bytes(content)
    _, short = rejects(rejected(status, film), Thumbnails())
    assert short.shown[0].pictures == ()


def test_pictures_of_foreign_films_take_a_bounded_time(status: FakeLatest, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    write_video(film, np.zeros((8, 64, 96, 3), np.uint8), 16)
    _, short = rejects(rejected(status, film), Thumbnails(seconds=0.0))
    assert short.shown[0].pictures == ()


def test_every_file_is_shown_once_before_any_twice() -> None:
    many = [{"clip_id": f"a{n}", "video_id": "a", "uri": "a", "start": n} for n in range(30)]
    few = [{"clip_id": f"b{n}", "video_id": f"b{n}", "uri": f"b{n}", "start": 0} for n in range(4)]
    assert len({one["video_id"] for one in choose([*many, *few], 5)}) == 5
    assert len(choose([*many, *few], 8)) == 8


@pytest.mark.parametrize(("width", "kind"), [(24, "png"), (800, "jpeg")])
def test_tiny_frames_keep_their_pixels_and_large_ones_shrink(width: int, kind: str) -> None:
    shown = clip_cards.picture(np.zeros((12, width, 3), np.uint8))
    assert shown.uri.startswith(f"data:image/{kind};base64,")
    assert shown.pixels == (kind == "png")
    assert len(shown.uri) < 4000


@pytest.mark.browser
def test_a_browser_shows_it(status: FakeLatest, tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium on the PATH")
    (tmp_path / "page.html").write_text(shown_page(status, clips=2))
    shot = tmp_path / "shot.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,2400"]
    command = [browser, *flags, f"--screenshot={shot}", (tmp_path / "page.html").as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    colours = Image.open(shot).convert("RGB").getcolors(10_000_000)
    assert colours is not None
    assert len(colours) > 50, "pictures and bars, not a blank page"
