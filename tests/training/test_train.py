"""The loop and the run folder: what is learned, told, and refused."""

import contextlib
import io
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from corpora import arena_shards, small_config

from corpus.errors import UserError
from corpus.shards import ShardSet
from training import api, checkpoint
from training.api import can_resume, generate, train
from training.metrics import MetricsLog, Progress, clock, read_lines
from training.optimise import learning_rate
from training.run_folder import load_run
from training.tokenizer import train_tokenizer
from training.train import Stop


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "main"
    return arena_shards(folder, 16, chunks=4, validation=0.2)


@contextlib.contextmanager
def stopped_after(step: int, number: signal.Signals = signal.SIGTERM) -> Iterator[None]:
    """A signal comes while this step is applied."""
    from training import train as loop

    done = loop.update

    def update(state: Any, *rest: Any) -> None:
        done(state, *rest)
        if state.step == step:
            os.kill(os.getpid(), number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "update", update)
        yield


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in read_lines(run / "metrics.jsonl")]


def test_both_losses_fall_and_every_step_is_told(shards: Path, tmp_path: Path) -> None:
    run = train(small_config(steps=60), shards, tmp_path / "run")
    told = rows(run)
    assert [row["step"] for row in told] == list(range(1, 61))
    for name in ("text", "video"):
        first, last = (sum(row["loss"][name] for row in part) / 6 for part in (told[:6], told[-6:]))
        assert last < 0.8 * first
    row = told[-1]
    assert {"text/word", "text/bof", "video/t0", "video/t4"} <= set(row["loss"])
    assert set(row["grad_norm"]) == {"text", "video", "samplers", "embeddings", "total"}
    assert all(value > 0 for value in row["grad_norm"].values())
    assert all(value > 0 for value in row["tokens_per_second"].values())
    assert 0 <= row["wait"] <= 1
    assert all(0 < share <= 1 for share in row["fill"].values())
    assert {"config.yaml", "run.json", "tokenizer.json", "start_frames", "checkpoints"} <= {
        path.name for path in run.iterdir()
    }


def test_micro_steps_add_up_to_the_step(shards: Path, tmp_path: Path) -> None:
    whole = train(small_config(steps=2), shards, tmp_path / "whole")
    parts = small_config(
        steps=2, rows={"text": 24, "clean": 5, "noisy": 4, "per_step": 4, "per_pass": 1}
    )
    for one, other in zip(rows(whole), rows(train(parts, shards, tmp_path / "parts")), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training import train as loop

    applied: list[int] = []
    done = loop.update

    def update(state: Any, *rest: Any) -> None:
        done(state, *rest)
        applied.append(state.step)

    monkeypatch.setattr(loop, "update", update)
    wild = {"lr": 1e30, "warmup": 0}
    with pytest.raises(UserError, match=r"step 2: .*not finite") as error:
        train(small_config(optimizer=wild), shards, tmp_path / "run")
    assert applied == [1]
    assert [row["step"] for row in rows(tmp_path / "run")] == [1]
    named = [f"episode-{i:06d}" in str(error.value) for i in range(16)]
    assert sum(named) == 4  # the four rows of the step


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_and_ends(number: signal.Signals, shards: Path, tmp_path: Path) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as end, stopped_after(3, number):
        train(small_config(steps=50), shards, tmp_path / "run")
    assert end.value.code == 128 + number
    assert signal.getsignal(number) == before
    place = checkpoint.latest(tmp_path / "run" / "checkpoints")
    assert place is not None and place.name == "step-00000003"


def test_a_signal_ends_a_wait_for_data() -> None:
    with Stop() as stop:
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        assert stop.wait_for(lambda: threading.Event().wait(20)) is None
        assert stop.signal == signal.SIGTERM


def test_after_a_signal_nothing_is_waited_for() -> None:
    """It may have come while a checkpoint or a film was written."""
    with Stop() as stop:
        assert stop.wait_for(lambda: 1) == 1
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop.wait_for(lambda: pytest.fail("waited")) is None
        assert stop.signal == signal.SIGUSR1


def test_a_second_signal_does_what_it_did_before() -> None:
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    try:
        with Stop() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert (stop.signal, told) == (signal.SIGTERM, [])
            os.kill(os.getpid(), signal.SIGTERM)
        assert told == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_during_a_film_ends_the_run_without_another_step(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def film(run: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(api, "_sample_film", film)
    runtime = {"workers": 0, "device": "cpu", "threads": 1, "sample_every": 2, "save_every": 2}
    with pytest.raises(SystemExit):
        train(small_config(steps=50, runtime=runtime), shards, tmp_path / "run")
    assert [row["step"] for row in rows(tmp_path / "run")] == [1, 2]
    place = checkpoint.latest(tmp_path / "run" / "checkpoints")
    assert place is not None and place.name == "step-00000002"


def test_the_learning_rate_warms_up_and_falls() -> None:
    schedule = {"lr": 0.01, "warmup": 10, "decay": 0.4, "floor": 0.1}
    config = small_config(steps=100, optimizer=schedule)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[:2] == pytest.approx([0.001, 0.002])
    assert rates[9:61] == pytest.approx([0.01] * 52)
    assert rates[80] == pytest.approx(0.005)
    assert rates[95:] == pytest.approx([0.00125, 0.001, 0.001, 0.001, 0.001])


def refused(action: Callable[[], object], match: str) -> None:
    with pytest.raises(UserError, match=match):
        action()


def test_what_would_mix_runs_is_refused(shards: Path, tmp_path: Path) -> None:
    config = small_config(steps=2)
    run = train(config, shards, tmp_path / "run")
    refused(lambda: train(config, shards, run), "holds a run already")
    refused(
        lambda: train(small_config(steps=3, seed=1), shards, run, resume=True),
        "begun with another seed, steps",
    )
    others = arena_shards(tmp_path / "others", 8, chunks=4)
    refused(lambda: train(config, others, run, resume=True), "other shards")
    assert can_resume(config, shards, run)
    assert not can_resume(config, others, run)
    assert not can_resume(small_config(steps=3), shards, run)
    assert not can_resume(config, shards, tmp_path / "nothing")
    (run / "tokenizer.json").rename(tmp_path / "mine.json")
    train_tokenizer(["left"], 300).save(run / "tokenizer.json")
    refused(lambda: train(config, shards, run, resume=True), "not the tokenizer that this run")
    (tmp_path / "mine.json").rename(run / "tokenizer.json")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    refused(lambda: train(config, shards, tmp_path / "full"), "holds notes.txt and no run")
    before = rows(run)
    assert train(config, shards, run, resume=True) == run
    assert rows(run) == before


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"model": {"change": {"factor": 2}}}, "does not divide latents of 3 x 3"),
        ({"model": {"change": {"wings": 2}}}, "wings is no key"),
        ({"model": {"change": {"width": 32, "heads": 3}}}, "heads=3"),
        ({"model": {"change": {"width": 30, "heads": 2}}}, "even width"),
        ({"model": {"change": {"width": 32, "heads": 64}}}, "heads=64"),
        ({"model": {"change": {"vocab": 9, "channels": 3}}}, "channels, vocab cannot be set"),
        ({"optimizer": {"betas": [0.9, 1.5]}}, "betas"),
        ({"optimizer": {"lr": float("inf")}}, "finite"),
        ({"rows": {"text": 3}}, "raise the row budgets"),
        ({"runtime": {"device": "cuda"}}, "torch sees no CUDA device"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(
    change: dict[str, Any],
    match: str,
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    refused(lambda: train(small_config(**change), shards, tmp_path / "run"), match)
    assert not (tmp_path / "run").exists()


def test_a_file_is_no_folder_for_a_run(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    for out in (tmp_path / "notes", tmp_path / "notes" / "run"):
        refused(lambda out=out: train(small_config(), shards, out), "notes is a file")


def test_sample_films_are_made_before_the_first_checkpoint(shards: Path, tmp_path: Path) -> None:
    """Of the model as it is, with the settings that this command was given."""
    begun = small_config(steps=3, sampling={"guidance": 2.0, "steps": 1, "start_frames": 1})
    with pytest.raises(SystemExit), stopped_after(1):
        train(begun, shards, tmp_path / "run")
    now = small_config(
        steps=3,
        sampling={"guidance": 5.0, "steps": 2, "start_frames": 2},
        runtime={"workers": 0, "device": "cpu", "threads": 1, "sample_every": 2},
    )
    run = train(now, shards, tmp_path / "run", resume=True)
    films = sorted((run / "samples").glob("*.json"))
    assert [path.name for path in films] == ["step-00000002.json", "step-00000003.json"]
    made = [json.loads(path.read_text())["made"] for path in films]
    assert [(each["step"], each["guidance"], each["steps"]) for each in made] == [
        (2, 5.0, 2),
        (3, 5.0, 2),
    ]
    last = generate(run, "", None, [], 4.0, tmp_path / "film.mp4")
    assert films[-1].read_bytes() == last["transcript"].read_bytes()
    assert films[-1].with_suffix(".mp4").read_bytes() == last["film"].read_bytes()


def test_a_resumed_run_keeps_the_settings_that_it_was_resumed_with(
    shards: Path, tmp_path: Path
) -> None:
    run = train(small_config(steps=1), shards, tmp_path / "run")
    sampling = {"guidance": 5.0, "steps": 3, "start_frames": 1}
    train(small_config(steps=1, sampling=sampling), shards, run, resume=True)
    loaded = load_run(run)
    assert (loaded.config.sampling.guidance, loaded.config.sampling.steps) == (5.0, 3)
    assert len(loaded.start_frames) == 1


def test_sample_films_need_a_start_frame(shards: Path, tmp_path: Path) -> None:
    runtime = {"workers": 0, "device": "cpu", "threads": 1, "sample_every": 2}
    refused(
        lambda: train(
            small_config(runtime=runtime, sampling={"start_frames": 0}), shards, tmp_path / "run"
        ),
        "sample_every=2, but there is no start frame",
    )
    assert not (tmp_path / "run").exists()


def test_start_frames_are_of_a_shape_that_was_trained_on(tmp_path: Path) -> None:
    def entries(folder: Path) -> list[str]:
        found = ShardSet.open(folder).entries
        return [entry.key for entry in found if entry.split == "validation"]

    odd, *others = entries(arena_shards(tmp_path / "all", 12, chunks=4, validation=0.3))
    shards = arena_shards(tmp_path / "shards", 12, chunks=4, validation=0.3, wide=[odd])
    assert odd in entries(shards)
    run = train(small_config(steps=1), shards, tmp_path / "run")
    frames = load_run(run).start_frames
    assert {frame.latent.shape for frame in frames} == {(96, 3, 3)}
    assert {frame.key for frame in frames} <= set(others)


def test_opening_a_run_changes_nothing_else(shards: Path, tmp_path: Path) -> None:
    runtime = {"workers": 0, "device": "cpu", "threads": 2}
    before = torch.get_num_threads()
    try:
        run = train(small_config(steps=1, runtime=runtime), shards, tmp_path / "run")
        torch.set_num_threads(1)
        load_run(run)
        assert torch.get_num_threads() == 1
        generate(run, "", None, [], 0.25, tmp_path / "film.mp4")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_metrics_of_steps_that_were_lost_are_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    log = MetricsLog(path, 2)
    log.write({"step": 3, "again": True})
    log.close()
    assert [json.loads(line) for line in read_lines(path)] == [
        {"step": 1},
        {"step": 2},
        {"step": 3, "again": True},
    ]


def test_progress_is_plain_lines_without_a_terminal() -> None:
    stream = io.StringIO()
    progress = Progress(2, 0, stream)
    row = {"loss": {"text": 1.5, "video": None}, "lr": 1e-3, "tokens_per_second": {"text": 9.0}}
    progress.show(row | {"step": 1})
    assert stream.getvalue() == ""
    progress.show(row | {"step": 2})
    assert stream.getvalue().startswith("step 2/2  text 1.500  video -  ")
    assert stream.getvalue().endswith("left 0:00\n")
    assert (clock(61.6), clock(7260)) == ("1:02", "2 h 01 min")
