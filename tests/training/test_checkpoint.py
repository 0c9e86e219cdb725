"""Checkpoints: exact, whole or absent, and never a pickle."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from corpora import arena_shards, small_config
from safetensors.torch import load_file

from corpus.errors import UserError
from corpus.files import sweep, writing, writing_folder
from training import api, checkpoint
from training.api import train
from training.metrics import read_lines
from training.run_folder import load_run

STEPS = 9


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "main"
    return arena_shards(folder, 14, chunks=4, validation=0.1)


@pytest.fixture(scope="module")
def straight(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped."""
    return train(config(), shards, tmp_path_factory.mktemp("straight") / "run")


def config(workers: int = 0, **runtime: Any) -> Any:
    return small_config(
        steps=STEPS,
        optimizer={"warmup": 2, "kind": "muon"},  # and AdamW for what is no tower's matrix
        runtime={"workers": workers, "device": "cpu", "threads": 1, "save_every": 4, "keep": 2}
        | runtime,
    )


def measured(run: Path) -> list[dict[str, Any]]:
    """What a run learned, step by step, without how long it took."""
    told = [json.loads(line) for line in read_lines(run / "metrics.jsonl")]
    return [
        {name: row[name] for name in ("step", "epoch", "loss", "lr", "grad_norm")} for row in told
    ]


def tensors(run: Path) -> dict[str, torch.Tensor]:
    place = checkpoint.latest(run / "checkpoints")
    assert place is not None
    return load_file(place / "training.safetensors") | load_file(place / "model.safetensors")


def same(one: Path, other: Path) -> None:
    """Two runs ended bit for bit the same, and so did all steps on the way."""
    assert measured(one) == measured(other)
    mine, theirs = tensors(one), tensors(other)
    assert mine.keys() == theirs.keys()
    for name in mine:
        assert torch.equal(mine[name], theirs[name]), name


# Train in a process of its own that kills itself, with no goodbye, before a step.
TRAIN_AND_DIE = """
import os, signal, sys
from pathlib import Path
from training import train as loop
from training.api import train
from training.config import load_config

config, shards, run, at = sys.argv[1:]
done = loop.update

def update(state, *rest):
    if state.step == int(at):
        os.kill(os.getpid(), signal.SIGKILL)
    done(state, *rest)

loop.update = update
train(load_config(Path(config)), Path(shards), Path(run))
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_kill_and_resume_is_the_straight_run(
    workers: int, shards: Path, straight: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(config().to_yaml())
    arguments = [tmp_path / "config.yaml", shards, tmp_path / "run", "6"]
    child = subprocess.run(
        [sys.executable, "-c", TRAIN_AND_DIE, *map(str, arguments)], timeout=300, check=False
    )
    assert child.returncode == -signal.SIGKILL
    assert [path.name for path in checkpoint.checkpoints(tmp_path / "run" / "checkpoints")] == [
        "step-00000004"
    ]
    assert len(measured(tmp_path / "run")) == 6
    same(train(config(workers), shards, tmp_path / "run", resume=True), straight)


def test_another_machine_is_told_of_on_resume(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sums differ in their last digits with the number of threads."""
    run = train(config(), shards, tmp_path / "run")
    place = checkpoint.latest(run / "checkpoints")
    assert place is not None
    assert checkpoint.read_state(place)["machine"]["threads"] == 1
    capsys.readouterr()
    train(config(workers=1), shards, run, resume=True)
    assert "resumed with" not in capsys.readouterr().err
    before = torch.get_num_threads()
    try:
        train(config(threads=2), shards, run, resume=True)
    finally:
        torch.set_num_threads(before)
    assert "resumed with threads 2 (before: 1): " in capsys.readouterr().err


def test_only_the_last_checkpoints_are_kept(straight: Path) -> None:
    kept = [path.name for path in checkpoint.checkpoints(straight / "checkpoints")]
    assert kept == ["step-00000008", "step-00000009"]


def test_no_file_is_a_pickle(straight: Path) -> None:
    suffixes = {path.suffix for path in straight.rglob("*") if path.is_file()}
    assert suffixes == {".json", ".jsonl", ".yaml", ".safetensors", ".png"}


def test_a_half_written_checkpoint_is_never_picked(
    shards: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise OSError("no space left on device")

    whole = checkpoint.write_text
    with monkeypatch.context() as patch:
        # The first checkpoint is whole, the second breaks right before its last file.
        written: list[Path] = []

        def once(path: Path, text: str) -> None:
            (whole if not written else broken)(path, text)
            written.append(path)

        patch.setattr(checkpoint, "write_text", once)
        with pytest.raises(OSError, match="no space"):
            train(config(), shards, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    assert [path.name for path in folder.iterdir()] == ["step-00000004"]
    latest = checkpoint.latest(folder)
    assert latest is not None and latest.name == "step-00000004"
    same(train(config(), shards, tmp_path / "run", resume=True), straight)


@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_named(name: str, shards: Path, tmp_path: Path) -> None:
    short = small_config(steps=2)
    run = train(short, shards, tmp_path / "run")
    place = checkpoint.latest(run / "checkpoints")
    assert place is not None
    data = bytearray((place / name).read_bytes())
    data[len(data) // 2] ^= 255
    (place / name).write_bytes(data)
    with pytest.raises(UserError, match="step-00000002"):
        train(short, shards, run, resume=True)


def test_the_folder_is_a_model_with_the_averaged_weights(straight: Path) -> None:
    run = load_run(straight)
    assert run.step == STEPS
    place = checkpoint.latest(straight / "checkpoints")
    assert place is not None
    average = load_file(place / "model.safetensors")
    stored = load_file(place / "training.safetensors")
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, average[name])
    assert any(not torch.equal(average[name], stored[f"weight/{name}"]) for name in average)


def killed(work: Callable[[], object], moments: int) -> bool:
    """Work in a fork that is killed after it touched so many names; False if it was done before."""
    child = os.fork()
    if child == 0:
        left = [moments]

        def watch(event: str, _: Any) -> None:
            if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        try:
            work()
        finally:
            os._exit(0 if sys.exception() is None else 1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def test_a_kill_at_any_moment_leaves_whole_checkpoints(straight: Path, tmp_path: Path) -> None:
    """Three steps are saved, one of them twice, and two kept."""
    state = api.fresh(load_run(straight).model, config().optimizer)
    ends: list[list[str]] = []
    done = False
    while not done:
        folder = tmp_path / str(len(ends))

        def work(folder: Path = folder) -> None:
            for step in (5, 6, 6, 7):
                state.step = step
                checkpoint.save(folder, state, "lengths", keep=2)

        done = not killed(work, moments=len(ends))
        found = checkpoint.checkpoints(folder)
        for place in found:
            checkpoint.read_state(place)
        sweep(folder)
        assert [path.name for path in sorted(folder.glob("*"))] == [path.name for path in found]
        ends.append([path.name[-1] for path in found])
    assert [each for i, each in enumerate(ends) if each not in ends[:i]] == [
        [],
        ["5"],
        ["5", "6"],
        ["5", "6", "7"],
        ["6", "7"],
    ]


def test_a_step_that_is_saved_is_not_saved_again(straight: Path, tmp_path: Path) -> None:
    state = api.fresh(load_run(straight).model, config().optimizer)
    state.step = 7
    place = checkpoint.save(tmp_path, state, "lengths", keep=2)
    before = (place / "state.json").stat().st_ino
    assert checkpoint.save(tmp_path, state, "lengths", keep=2) == place
    assert (place / "state.json").stat().st_ino == before


def test_what_a_kill_left_behind_is_cleared_away(shards: Path, tmp_path: Path) -> None:
    """A begun beginning, and a checkpoint of which only a part was written."""
    run = tmp_path / "run"
    unfinished = writing(run / "config.yaml")
    unfinished.__enter__().write_text("steps: ")
    train(small_config(steps=1), shards, run)
    part = writing_folder(run / "checkpoints" / "step-00000002")
    (part.__enter__() / "state.json").write_text("{")
    assert [path.name for path in checkpoint.checkpoints(run / "checkpoints")] == ["step-00000001"]
    train(small_config(steps=1), shards, run, resume=True)
    assert not [path for path in run.rglob("*") if path.name.startswith(".")]
