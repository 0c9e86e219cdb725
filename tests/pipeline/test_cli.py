"""The command line: what it says, and with which status it ends."""

import errno
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner

from corpus.errors import UserError
from pipeline import recipe
from pipeline.cli import app, main
from pipeline.commands import models
from pipeline.commands.models import parse_say
from pipeline.telemetry.progress import PlainView, Progress, line, table

COMMANDS = (
    *("plan", "run", "status", "report", "sweep", "shard", "verify", "inspect"),
    *("prompt", "review"),
    *("calibrate", "scorer", "classifier", "codec"),
    *("train", "generate", "evaluate", "demo"),
)


def ends(*arguments: str) -> int:
    """Exit status of the command line."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    code = ended.value.code
    return code if isinstance(code, int) else 0


def test_these_are_all_commands() -> None:
    assert sorted(COMMANDS) == sorted(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    assert f"tv2tv {command} " in shown.output


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['tv2tv', '--help']\n"
        "from pipeline.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'ray', 'cv2', 'av', 'decord') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_names_what_the_environment_can_set() -> None:
    assert "TV2TV_FFMPEG" in CliRunner().invoke(app, ["--help"]).output


def test_the_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output.startswith("tv2tv 0.")


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("run", "none", "--input", "x", "--corpus", "c"), "none is not a file"),
            (("run", "arena"), "--input"),
            (("status", "nowhere"), "nowhere is no corpus"),
            (("report", "nowhere"), "nowhere is no corpus"),
            (("generate", "run", "--seconds", "2", "--say", "jump"), "SECONDS:TEXT"),
            (("train", "none", "--shards", "s", "--out", "o"), "comes along: train-films, train-t"),
            (("run", "reel", "--input", "x", "--corpus", "c"), "along: arena, films, real, wan\n"),
            (("run", "train-tiny", "--input", "x", "--corpus", "c"), "`tv2tv train train-tiny`"),
            (("train", "real", "--shards", "s", "--out", "o"), "`tv2tv run real`"),
            (("nonsense",), "nonsense"),
        ],
    )
    def test_they_end_with_2_and_a_message(
        self, arguments: tuple[str, ...], message: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert ends(*arguments) == 2
        shown = capfd.readouterr().err
        assert message in shown
        assert "Traceback" not in shown

    def test_a_wrong_input_leaves_no_corpus_behind(self, tmp_path: Path) -> None:
        corpus = tmp_path / "corpus"
        assert ends("run", "real", "--input", str(tmp_path / "no"), "--corpus", str(corpus)) == 2
        assert not corpus.exists()

    @pytest.mark.parametrize(
        "setting", ["clips.max_seconds=.inf", "segments.max_seconds=.inf", "segments.seconds=.nan"]
    )
    def test_settings_beyond_all_bounds(
        self, setting: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        given = ("--input", str(tmp_path), "--corpus", str(tmp_path / "c"), "--set", setting)
        assert ends("run", "real", *given) == 2
        assert "Input should be a finite number" in capfd.readouterr().err

    def test_a_path_is_told_as_it_was_given_or_as_it_really_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        assert ends("status", "../nope") == 2
        assert capfd.readouterr().err.startswith(f"tv2tv: {tmp_path.resolve() / 'nope'} is no")

    @pytest.mark.parametrize("where", ["file", "file/corpus"])
    def test_a_corpus_that_cannot_be_there(
        self, where: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "film.mp4").touch()
        films, corpus = str(tmp_path / "film.mp4"), str(tmp_path / where)
        assert ends("run", "real", "--input", films, "--corpus", corpus) == 2
        assert len(capfd.readouterr().err.splitlines()) == 1

    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (PermissionError(errno.EACCES, "Permission denied", "/root/film.mp4"), 2),
            (OSError(errno.ENOSPC, "No space left on device", "/root/film.mp4"), 1),
            (FileNotFoundError("no path is to blame"), 1),
        ],
    )
    def test_paths_are_the_users_and_disks_are_not(
        self,
        error: OSError,
        status: int,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        def fail(text: str) -> None:
            raise error

        monkeypatch.setattr(models, "parse_say", fail)
        assert ends("generate", "run", "--seconds", "2", "--say", "x") == status
        shown = capfd.readouterr().err.splitlines()
        assert len(shown) == 1
        assert str(error.filename or error) in shown[0]

    def test_debug_shows_the_traceback(self) -> None:
        with pytest.raises(UserError):
            main(["status", "nowhere", "--debug"])

    def test_a_fault_of_ours_ends_with_1(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(models, "parse_say", lambda text: 1 / 0)
        assert ends("generate", "run", "--seconds", "2", "--say", "x") == 1
        assert "ZeroDivisionError" in capfd.readouterr().err

    def test_an_interrupt_says_how_to_go_on(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        def interrupt(text: str) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(models, "parse_say", interrupt)
        assert ends("generate", "run", "--seconds", "2", "--say", "x") == 130
        assert "call again to go on" in capfd.readouterr().err


def test_the_sections_that_tell_recipes_from_training_configs() -> None:
    from training.config import RunConfig

    training, recipes = set(RunConfig.model_fields), set(recipe.recipe_model().model_fields)
    assert recipe.ONLY_IN["training config"] == training - recipes - {"name"}
    assert recipe.ONLY_IN["recipe"] == recipes - training - {"name"}


class TestSay:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("1.5:jump", (1.5, "jump")),
            ('0:"turn left: now"', (0.0, "turn left: now")),
            ("2: 'it''s' ", (2.0, "it''s")),
        ],
    )
    def test_moment_and_words(self, text: str, expected: tuple[float, str]) -> None:
        assert parse_say(text) == expected

    @pytest.mark.parametrize("text", ["", "jump", "1.5", "1.5:", '1:""', "-1:x", "x:y", "nan:x"])
    def test_mistakes_name_the_format(self, text: str) -> None:
        with pytest.raises(UserError, match="SECONDS:TEXT"):
            parse_say(text)


def test_status_prints_the_fixed_shape(
    make_plan: Callable[..., Any],
    films: Callable[..., Path],
    view: PlainView,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from pipeline import runner
    from pipeline.ledger import status

    plan = make_plan()
    runner.run(plan, films(empty="", second=""), view)
    monkeypatch.setattr(recipe, "ROW_STAGES", {})
    monkeypatch.setattr(recipe, "CORPUS_STAGES", {})
    monkeypatch.setattr(status, "recipe_of", lambda folder: plan.recipe)
    monkeypatch.setattr(status, "make_plan", lambda recipe, corpus: plan)
    shown = CliRunner().invoke(app, ["status", str(tmp_path / "corpus"), "--json"])
    found = json.loads(shown.output)
    assert list(found["levels"]) == ["videos", "shots", "clips", "segments"]
    assert found["levels"]["videos"] == {
        **{"inputs": 2, "ok": 0, "filtered": {}, "failed": {"empty": 2}},
        **{"quarantined": {}, "pending": 0},
    }
    table = CliRunner().invoke(app, ["status", str(tmp_path / "corpus")]).output
    assert "2 videos failed: empty\n    empty.mp4: the file has no bytes\n" in table


def test_a_run_that_gives_nothing_says_so(
    make_plan: Callable[..., Any],
    films: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from pipeline import plan

    made = make_plan()
    monkeypatch.setattr(plan, "make_plan", lambda recipe, corpus: made)
    where = ["--input", str(films(empty="")), "--corpus", str(tmp_path / "corpus")]
    shown = CliRunner().invoke(app, ["run", "real", *where])
    assert shown.exit_code == 0
    assert shown.output.startswith("1 file listed")
    assert "  1 video failed: empty\n    empty.mp4: the file has no bytes\n" in shown.output
    assert shown.output.splitlines()[-2:] == [
        "no shard was written: no clip came through, for the reasons above",
        f"next: tv2tv status {tmp_path / 'corpus'}",
    ]


EVENT = {
    **{"event": "batch", "stage": "probe", "worker": "w", "begun": 0.0, "seconds": 2.0},
    **{"records": 4, "computed": 4, "onward": 2, "outcomes": {"ok": 2, "failed": 2}},
}


class TestProgress:
    def test_later_stages_expect_what_earlier_ones_pass_on(self) -> None:
        progress = Progress(["probe", "shots"], {"probe": 10})
        assert progress.expected() == [10, 10]
        progress.add(EVENT)
        assert progress.expected() == [10, 5]
        assert progress.stages[0].rate == 2.0
        assert progress.remaining(progress.stages[0], 10) == 3.0
        assert progress.remaining(progress.stages[1], 5) is None

    def test_one_line_names_what_did_not_go_well(self) -> None:
        progress = Progress(["probe", "shots"], {"probe": 4})
        progress.add(EVENT)
        assert line(progress) == "probe 4/4 (2 failed) | shots 0/2"

    def test_what_was_done_before_counts_as_done(self) -> None:
        outcomes = {"probe": Counter(ok=3, failed=1), "shots": Counter(ok=2)}
        before = {"probe": 4, "shots": 1}
        progress = Progress(["probe", "shots"], {"shots": 2}, before, outcomes)
        assert line(progress) == "probe 4/4 (1 failed) | shots 1/3"
        assert progress.expected() == [0, 2], "the rate is of this run"
        assert [*table(progress).columns[1].cells] == ["4", "1"]

    def test_a_log_gets_a_line_only_when_something_changed(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("pipeline.telemetry.progress.PLAIN_SECONDS", 0.0)
        view = PlainView(Console(width=80))
        progress = Progress(["probe"], {"probe": 4})
        view.begin(progress)
        view.update(progress)
        view.update(progress)
        progress.add(EVENT)
        view.update(progress)
        view.end(progress)
        assert capsys.readouterr().out.splitlines() == ["probe 0/4", "probe 4/4 (2 failed)"]


@pytest.mark.parametrize("asked", [None, 8])
def test_evaluate_says_what_it_found_and_gives_json_to_machines(
    monkeypatch: pytest.MonkeyPatch, asked: int | None
) -> None:
    import training.api

    class Found:
        def __init__(self, instructions: int) -> None:
            self.instructions = instructions

        def __str__(self) -> str:
            return f"obeyed {self.instructions}"

        def to_json(self) -> dict[str, int]:
            return {"n": self.instructions}

    monkeypatch.setattr(
        training.api, "evaluate", lambda *_, instructions, **__: Found(instructions)
    )
    line = ["evaluate", "run", "--shards", "shards"]
    line += [] if asked is None else ["--instructions", str(asked)]
    wanted = training.api.INSTRUCTIONS if asked is None else asked
    assert CliRunner().invoke(app, line).output == f"obeyed {wanted}\n"
    assert json.loads(CliRunner().invoke(app, [*line, "--json"]).output) == {"n": wanted}


def test_names_in_errors_command_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = json.dumps({"uri": "\x1b]0;title\x07\x1b[31m.mp4"})
    (tmp_path / "m.jsonl").write_text(f"{row}\n{row}\n")
    given = ["run", "films", "--input", str(tmp_path / "m.jsonl")]
    with pytest.raises(SystemExit):
        main([*given, "--corpus", str(tmp_path / "corpus")])
    told = capsys.readouterr().err
    assert "is listed in row 1 already" in told and "\x1b" not in told and "\x07" not in told
