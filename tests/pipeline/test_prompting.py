"""`tv2tv prompt`: the very questions of a run, their answers, and their frames."""

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_corpus import make_corpus, replayed
from typer.testing import CliRunner

from corpus.errors import UserError
from corpus.video import write_video
from pipeline.cli import app
from pipeline.prompting import trying
from pipeline.prompting.clip import of_corpus, of_film
from pipeline.prompting.sheets import write_sheets
from pipeline.prompting.trying import Trial, content, to_json, told, try_prompt
from stages.captioning.backend import CaptionAnswer, CaptionRequest, Detail, DirectBackend, View
from stages.captioning.settings import BACKENDS, CaptionsConfig
from stages.captions import CaptionsStage

SET = [
    *("clips.min_seconds=2", "clips.buckets=[[128, 96]]", "segments.mode=fixed"),
    *("segments.seconds=1", "probe.min_size=8"),
]


class Teller(DirectBackend):
    """Asked in words, and tells how bright the last frame is."""

    model, prompt, view = "teller/1", None, View(fps=4, before=True)

    def __init__(self) -> None:
        super().__init__()
        self.sampling: dict[str, Any] = {"temperature": 0}
        self.opened = 0

    def open(self) -> None:
        self.opened += 1

    def reply(self, request: CaptionRequest) -> CaptionAnswer:
        if request.start == 1.0:
            return request.answer("truncated", "grey and", "too long", Detail(9, 3, 0.5))
        text = f"grey {request.shown.frames[-1].mean():.0f}"
        return request.answer("ok", text, detail=Detail(9, 3, 0.5))


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Three seconds that grow brighter."""
    path = tmp_path / "film.mp4"
    frames = [np.full((96, 128, 3), 40 + 3 * i, np.uint8) for i in range(49)]
    write_video(path, frames, 16, "yuv420p")
    return path


@pytest.fixture
def teller(monkeypatch: pytest.MonkeyPatch) -> Teller:
    backend = Teller()
    monkeypatch.setitem(BACKENDS, "teller", lambda config: backend)
    return backend


def trial_of(film: Path, tmp_path: Path, *more: str, **settings: Any) -> Trial:
    chosen = of_film(str(film), tmp_path / "work", None, [*SET, *more])
    return try_prompt("generic", chosen, **settings)


def test_what_is_shown_is_what_a_run_asks(film: Path, tmp_path: Path, teller: Teller) -> None:
    chosen = of_film(str(film), tmp_path / "work", None, [*SET, "captions.backend=teller"])
    trial = try_prompt("sport", chosen)
    stage = CaptionsStage(
        CaptionsConfig(backend="teller", prompt="sport", canaries=0), chosen.context
    )
    (rows,) = stage.process([stage.seen(chosen.record)])
    assert {one.request.id for one in trial.asked} == {row.columns["binding"] for row in rows}
    assert [one.reason for one in trial.asked if one.request.start == 1.0] == ["truncated"]
    assert len(trial.asked) == len(rows) == 4 and teller.opened == 1
    lines = "\n".join(told(trial))
    for said in (
        "prompt sport/1",
        "before:   5 frames of 128x96 at 0 0.25 0.5 0.75 1 s",
        "rejected: truncated (too long); 9 tokens in, 3 out, 0.50 s",
        "| <video: 5 frames of 128x96 at 4 per second>",
        f"binding:  {trial.asked[0].request.id}",
        '| Up to 1 s this was said of a shot of sport: "grey',
    ):
        assert said in lines, said
    asked = to_json(trial)["questions"]
    assert asked[1]["answer"]["text"].startswith("grey") and asked[1]["shown"]["width"] == 128
    assert json.dumps(asked)


def test_dry_asks_nobody_and_needs_no_model(film: Path, tmp_path: Path, teller: Teller) -> None:
    trial = trial_of(film, tmp_path, "captions.backend=teller", dry=True)
    assert teller.opened == 0 and trial.dry
    questions = to_json(trial)["questions"]
    assert len(questions) == 4 and "answer" not in questions[0]
    assert questions[0]["model"] == "teller/1" and "(no model)" not in "".join(told(trial))
    assert any("(the caption of 0 s to 1 s)" in "".join(one["content"]) for one in questions)
    motion = trial_of(film, tmp_path, dry=True)  # a recipe whose backend takes no words
    assert motion.asked[0].request.model == "(no model)"
    with pytest.raises(UserError, match="not asked in words: choose one with --set"):
        trial_of(film, tmp_path)


def test_a_server_that_is_away_is_not_waited_for_as_a_run_would(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trying, "PATIENCE", 0.0)
    with socket.socket() as held:  # nobody listens there
        held.bind(("127.0.0.1", 0))
        address = f"captions.server.address=http://127.0.0.1:{held.getsockname()[1]}/v1"
        more = ("captions.backend=server", "captions.server.model=m", address)
        with pytest.raises(UserError, match=r"does not answer: .*: start it, or name another one"):
            trial_of(film, tmp_path, *more)


def test_frames_are_written_as_they_were_sent(film: Path, tmp_path: Path, teller: Teller) -> None:
    trial = trial_of(film, tmp_path, "captions.backend=teller")
    sheets = write_sheets(trial, tmp_path / "frames")
    assert [path.name for path in sheets] == [
        *("01-clip-0s.png", "02-segment-0s.png", "03-segment-1s.png", "04-segment-2s.png")
    ]
    third = next(one for one in trial.asked if one.request.start == 2.0)
    name = next(path for path in sheets if path.stem.endswith("segment-2s")).with_suffix("")
    files = sorted(path.name for path in name.iterdir())
    assert files[0] == "before-001.000s.png" and files[-1] == "shown-003.000s.png"
    last = np.asarray(Image.open(name / files[-1]))
    assert (last == third.request.shown.frames[-1]).all()
    assert all(Image.open(path).width > 1000 for path in sheets)


def test_single_pictures_where_the_model_takes_no_videos(
    film: Path, tmp_path: Path, teller: Teller
) -> None:
    request = trial_of(film, tmp_path, dry=True).asked[1].request
    told = content(request, "images")
    assert told.count("<picture of 128x96>") == len(request.shown.times) == 3
    assert told[-1] == request.prompt


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["clips.min_seconds=9"], "gives no clip: clips says too_short.*--corpus CORPUS --clip ID"),
        (["probe.min_size=500"], "gives no clip: probe says too_small"),
    ],
)
def test_a_film_that_gives_no_clip_says_why_and_what_helps(
    film: Path, tmp_path: Path, more: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        trial_of(film, tmp_path, *more, dry=True)


def test_of_a_film_any_clip_can_be_chosen(film: Path, tmp_path: Path) -> None:
    more = [*SET, "clips.max_seconds=2", "clips.min_seconds=1"]
    second = of_film(str(film), tmp_path / "work", None, more, number=2)
    assert second.record["start"] > 1 and "clip 2 of the 2" in second.notes[0]
    with pytest.raises(UserError, match="gives 2 clips with this recipe"):
        of_film(str(film), tmp_path / "work", None, more, number=3)
    (tmp_path / "films").mkdir()
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(film, tmp_path / "films" / name)
    shutil.copy(film, tmp_path / "films" / "b.mp4")
    with (tmp_path / "films" / "b.mp4").open("ab") as file:
        file.write(b"0")
    with pytest.raises(UserError, match="one film is needed, this is 2"):
        of_film(str(tmp_path / "films"), tmp_path / "x", None, [])


def test_a_clip_of_a_corpus_is_asked_about_as_its_run_did(
    film: Path, tmp_path: Path, teller: Teller
) -> None:
    corpus = tmp_path / "corpus"
    settings = [*SET, "captions.backend=teller", "captions.canaries=0"]
    plan = make_corpus(corpus, film, "real", settings)
    stored = [
        row.columns["binding"]
        for one in replayed(corpus).answered
        if plan.stages[one.stage].name == "captions"
        for row in one.rows
    ]
    clip = replayed(corpus).finished[0]["clip_id"]
    chosen = of_corpus(str(corpus), clip[:8], None, [])
    asked = [one.request.id for one in try_prompt("generic", chosen).asked]
    assert sorted(asked) == sorted(stored) and len(asked) == 4
    other = of_corpus(str(corpus), clip[:8], "films", ["captions.backend=teller"])
    assert try_prompt("generic", other).asked[0].request.id in stored
    with pytest.raises(UserError, match=f"no clip 'zz' among those that get captions.*{clip[:12]}"):
        of_corpus(str(corpus), "zz", None, [])


def test_the_command_lists_shows_and_refuses(film: Path, tmp_path: Path) -> None:
    run = CliRunner()
    listed = run.invoke(app, ["prompt", "list"])
    assert "driving/1" in listed.stdout and listed.exit_code == 0
    golden = Path(__file__).parents[1] / "vlm_prompts" / "golden" / "driving.txt"
    assert run.invoke(app, ["prompt", "show", "driving"]).stdout == golden.read_text()
    missing = run.invoke(app, ["prompt", "try", "drving", "--clip", str(film)])
    assert isinstance(missing.exception, UserError) and "not found" in str(missing.exception)
    settings = [part for text in SET for part in ("--set", text)]
    command = ["prompt", "try", "generic", "--clip", str(film), "--dry", "--json", *settings]
    found = json.loads(run.invoke(app, command).stdout)
    assert found["dry"] and len(found["questions"]) == 4
