"""The whole way with films and corpus on S3, against the same on disk."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from corpus.cache import CACHE, cache_folder
from corpus.errors import UserError
from corpus.ids import sha256_bytes, sha256_file
from corpus.remote import RemoteStore
from corpus.shards import ShardSet
from corpus.store import Store, local_root, store_at
from corpus.video import write_video
from pipeline.calibration.calibrate import calibrate
from pipeline.cli import app
from pipeline.ledger.lock import Lock
from pipeline.plan import make_plan
from pipeline.recipe import load_recipe
from pipeline.review.command import agreed, prepare, take_sheet, write_sheet
from pipeline.runner import Result, run
from pipeline.telemetry.progress import PlainView
from pipeline.views.shard import shard

MANIFEST = """uri,sport,take,sha256
films/one.mp4,golf,1,{}
films/two.mp4,golf,2,
films/none.mp4,chess,3,
"""
WHERE = "source.where={sport: golf}"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE, str(tmp_path_factory.mktemp("cache")))
        yield cache_folder()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two films and a manifest of three."""
    folder = tmp_path_factory.mktemp("in")
    (folder / "films").mkdir()
    for number, name in enumerate(("one", "two")):
        generator = np.random.default_rng(number)
        room = generator.integers(0, 120, (96, 128, 3)).astype(np.uint8)
        frames = np.repeat(room[None], 49, axis=0)
        for at, frame in enumerate(frames):
            frame[40:60, 20 + at : 40 + at] = (250, 240, 30)
        write_video(folder / "films" / f"{name}.mp4", frames, 16)
    (folder / "m.csv").write_text(MANIFEST.format(sha256_file(folder / "films" / "one.mp4")))
    return folder


@pytest.fixture(scope="module")
def there(here: Path, s3: str, cache: Path) -> str:
    """The same on S3."""
    store = store_at(f"{s3}/in")
    for path in (path for path in here.rglob("*") if path.is_file()):
        store.write(path.relative_to(here).as_posix(), path.read_bytes())
    return store.place()


def command(inputs: str, corpus: str) -> list[str]:
    tool = [sys.executable, "-m", "pipeline.cli", "run", "films"]
    return [*tool, "--input", inputs, "--corpus", corpus, "--set", WHERE]


def made(inputs: str, corpus: str) -> Store:
    done = subprocess.run(command(inputs, corpus), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    return store_at(corpus)


@pytest.fixture(scope="module")
def near(here: Path, tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Store:
    corpus = store_at(tmp_path_factory.mktemp("near") / "corpus")
    again(str(here / "m.csv"), corpus)
    return corpus


@pytest.fixture(scope="module")
def far(there: str, s3: str) -> Store:
    return made(f"{there}/m.csv", f"{s3}/corpora/first")


def again(inputs: str, corpus: Store) -> Result:
    from rich.console import Console

    plan = make_plan(load_recipe("films", [WHERE]), corpus.place())
    return run(plan, inputs, PlainView(Console(quiet=True)))


def bytes_of(corpus: Store) -> dict[str, str]:
    shards = corpus.at("shards/main")
    return {name: sha256_bytes(shards.read(name)) for name in shards.names()}


def test_it_is_the_same_corpus(near: Store, far: Store) -> None:
    assert isinstance(far, RemoteStore)
    assert bytes_of(far) == bytes_of(near)
    for part in ("media/", "tables/probe", "tables/clips", "tables/captions", "tables/latents"):
        assert far.names(part) == near.names(part) != []
    assert not far.has("lock.json")
    (run_folder,) = {name.split("/")[0] for name in far.at("runs").names()}
    kept = far.at(f"runs/{run_folder}").names()
    assert {"recipe.yaml", "inputs.parquet", "events.jsonl"} <= set(kept)
    assert not [name for name in kept if name.startswith("notes")]


def test_views_labels_and_calibration_are_the_same_from_afar(
    near: Store, far: Store, tmp_path: Path
) -> None:
    for corpus in (near, far):
        assert shard(corpus.place(), ["policy.every=clip"], "whole").captions > 0
        write_sheet(corpus.place(), tmp_path / "sheet.csv", 9, 0)
        rows = (tmp_path / "sheet.csv").read_text().splitlines()
        filled = [rows[0], rows[1].removesuffix(",,") + ",accept,"]
        (tmp_path / "sheet.csv").write_text("\n".join(filled))
        assert take_sheet(corpus.place(), tmp_path / "sheet.csv", "ada") == 1
        assert agreed(corpus.place()).reviewers[0].accepted == 1
        prepare(corpus.place(), 9, 0, "bob", tmp_path)
    shards = [corpus.at("shards/whole") for corpus in (near, far)]
    tars = [[one.read(name) for name in one.names() if name.endswith(".tar")] for one in shards]
    assert tars[0] == tars[1] != []
    found = [calibrate(corpus.place(), rate=1.0) for corpus in (near, far)]
    assert found[0].scores == found[1].scores and found[0].counts == found[1].counts


def test_the_users_columns_are_in_the_shards(near: Store) -> None:
    shards = ShardSet.open(local_root(near.at("shards/main")))
    found = {json.dumps(shards.info(entry)["meta"]) for entry in shards.entries}
    assert found == {'{"sport": "golf", "take": "1"}', '{"sport": "golf", "take": "2"}'}


def test_status_and_report_read_it(far: Store) -> None:
    shown = CliRunner().invoke(app, ["status", far.place(), "--json"])
    assert shown.exit_code == 0, shown.output
    levels = json.loads(shown.output)["levels"]
    assert (levels["videos"]["ok"], levels["videos"]["filtered"]) == (2, {"metadata": 1})
    told = CliRunner().invoke(app, ["report", far.place()])
    assert told.exit_code == 0, told.output
    page = far.read_text(told.output.strip().removeprefix(f"{far.place()}/"))
    assert page.count('<article class="card">') == levels["clips"]["ok"] >= 2
    assert "cannot be read" not in page


def test_sweep_and_plan_read_it(there: str, far: Store) -> None:
    shown = CliRunner().invoke(app, ["sweep", far.place(), "clips", "--json"])
    assert shown.exit_code == 0, shown.output
    black = next(one for one in json.loads(shown.output)["scores"] if one["score"] == "black")
    assert black["have"]["count"] == 2 and black["at_most"] == 0.9
    given = ["--input", f"{there}/m.csv", "--set", WHERE]
    told = CliRunner().invoke(app, ["plan", "films", *given, "--corpus", far.place()])
    assert told.exit_code == 0, told.output
    assert "2 of them done" in told.output


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_who_needs_a_folder_says_so(command: str, tmp_path: Path) -> None:
    where = ["--shards", "s3://bucket/corpus/shards/main"]
    run_folder = str(tmp_path / "run")
    given = ["train-tiny", "--out", run_folder] if command == "train" else [run_folder]
    told = CliRunner().invoke(app, [command, *given, *where])
    assert isinstance(told.exception, UserError)
    assert "copy" in str(told.exception) and "s3://bucket/corpus/shards" in str(told.exception)


def test_the_same_again_fetches_and_computes_nothing(
    there: str, far: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pipeline.cluster.connect

    def refuse(*args: object, **named: object) -> None:
        raise AssertionError("Ray was started")

    fetched: list[str] = []
    real = RemoteStore.save
    monkeypatch.setattr(pipeline.cluster.connect, "connected", refuse)
    monkeypatch.setattr(
        RemoteStore,
        "save",
        lambda self, name, place: (fetched.append(self.place(name)), real(self, name, place))[1],
    )
    before = bytes_of(far)
    same = again(f"{there}/m.csv", far)
    assert same.computed == {} and not same.rewritten
    assert not [uri for uri in fetched if uri.endswith(".mp4")]
    far.at("shards/main").clear()
    anew = again(f"{there}/m.csv", far)
    assert anew.computed == {} and anew.rewritten
    assert bytes_of(far) == before


class TestLock:
    def test_a_second_run_is_refused(self, there: str, far: Store) -> None:
        with Lock(far):
            with pytest.raises(UserError, match=rf"another run holds {far.place()}: process"):
                again(f"{there}/m.csv", far)
            assert far.has("lock.json")
        assert not far.has("lock.json")

    def test_of_two_who_see_a_dead_owner_one_gets_it(self, far: Store) -> None:
        dead = {"token": "t", "host": os.uname().nodename, "pid": 2**22 + 1, "started": "1"}
        far.write_text("lock.json", json.dumps({**dead, "heartbeat": 0.0}))
        with Lock(far), pytest.raises(UserError, match="another run holds"):
            Lock(far).__enter__()


def wait_for(there: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while not there():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["probe", "clips", "latents"])
def test_killed_in_the_middle_it_ends_with_the_same_bytes(
    there: str, near: Store, s3: str, stage: str
) -> None:
    corpus = store_at(f"{s3}/corpora/killed-{stage}")
    killed = subprocess.Popen(
        command(f"{there}/m.csv", corpus.place()),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for(lambda: corpus.names(f"tables/{stage}/") != [], killed)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert corpus.has("lock.json") and not corpus.has("shards/main/manifest.json")
    assert bytes_of(made(f"{there}/m.csv", corpus.place())) == bytes_of(near)
