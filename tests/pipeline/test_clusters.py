"""Runs on clusters that are there: two nodes, a submitted job, a head that dies."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ray_head import Running, head, machines

from corpus.ids import sha256_file
from corpus.video import write_video

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
RUN = [sys.executable, "-m", "pipeline.cli", "run", "films"]

# Every node has a disk of its own under the same name, as where a mount was forgotten.
BLIND = """
import os, sys, time
from pathlib import Path
from types import SimpleNamespace
import ray
from corpus.store import LocalStore
from pipeline.cluster.nodes import check_nodes

class Deadly(LocalStore):
    def has(self, name):
        if os.environ.get("TV2TV_TEST_NODE") == "1":
            os.kill(os.getppid(), 9)  # its raylet
            time.sleep(40)  # until that is known
        return super().has(name)

class Mounted(LocalStore):
    def at_node(self):
        return LocalStore(self.root.with_name("disk" + os.environ.get("TV2TV_TEST_NODE", "0")))
    def has(self, name):
        return self.at_node().has(name)
    def read_text(self, name):
        return self.at_node().read_text(name)
    def write_text(self, name, text):
        self.at_node().write_text(name, text)

import pipeline.cluster.nodes
pipeline.cluster.nodes.PATIENCE_SECONDS = 1.0
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
store = {"shared": LocalStore, "apart": Mounted, "deadly": Deadly}[sys.argv[3]]
records = [{"path": path, "size": int(size)} for path, size in zip(sys.argv[4::2], sys.argv[5::2])]
lost = check_nodes(SimpleNamespace(stages=[]), store(Path(sys.argv[2]) / "disk0"), records)
print("lost", len(lost), "left", len([node for node in ray.nodes() if node["Alive"]]))
"""


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("footage")
    for number in range(4):
        room = np.random.default_rng(number).integers(0, 90, (96, 128, 3), dtype=np.uint8)
        frames = np.repeat(room[None], 49, axis=0)
        for at, frame in enumerate(frames):
            frame[40:60, 2 * at : 2 * at + 20] = (250, 240, 30)
        write_video(folder / f"{number}.mp4", frames, 16)
    return folder


@pytest.fixture(scope="module")
def shards(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a Ray of our own makes of the footage."""
    corpus = tmp_path_factory.mktemp("local") / "corpus"
    command = [*RUN, "--input", str(footage), "--corpus", str(corpus), "--address", "local"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return bytes_of(corpus)


def bytes_of(corpus: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted((corpus / "shards/main").iterdir())}


def called(command: list[str], ray: Running, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**ray.environment, **more}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=400, cwd=ROOT
    )


@pytest.fixture(scope="module")
def two() -> Iterator[Running]:
    with machines(5, 6) as ray:
        yield ray


@pytest.fixture(scope="module")
def one() -> Iterator[Running]:
    with head(11) as ray:
        yield ray


def test_two_nodes_make_the_same_shards(
    two: Running, footage: Path, shards: dict[str, str], tmp_path: Path
) -> None:
    command = [*RUN, "--input", str(footage), "--corpus", str(tmp_path / "c")]
    done = called([*command, "--address", two.address], two)
    assert done.returncode == 0, done.stderr
    assert "a cluster of 11 CPUs and 0 GPUs" in done.stdout
    assert bytes_of(tmp_path / "c") == shards
    nodes = sorted((tmp_path / "c/runs").glob("*/nodes/*"))
    assert len(nodes) == 3, "the driver's file, and one of each node"
    events = next((tmp_path / "c/runs").glob("*/events.jsonl")).read_text().splitlines()
    assert any(json.loads(line)["event"] == "batch" for line in events)


def test_a_node_that_does_not_see_the_corpus_or_an_input_is_named(
    two: Running, footage: Path, tmp_path: Path
) -> None:
    film = footage / "0.mp4"
    known = [str(film), str(film.stat().st_size)]
    ask = [sys.executable, "-c", BLIND, two.address, str(tmp_path)]
    done = called([*ask, "shared", *known], two)
    assert done.returncode == 0, done.stderr
    done = called([*ask, "apart", *known], two)
    assert done.returncode != 0
    assert "1 of 2 nodes cannot take part" in done.stderr
    assert "does not see the corpus at" in done.stderr
    done = called([*ask, "shared", *known, str(tmp_path / "nowhere.mp4"), "5"], two)
    assert "2 of 2 nodes cannot take part" in done.stderr
    assert "1 of 2 inputs that it was asked for, such as" in done.stderr


def test_a_node_that_dies_while_it_is_asked_is_left_out(footage: Path, tmp_path: Path) -> None:
    film = footage / "0.mp4"
    with machines(5, 6) as ray:
        ask = [sys.executable, "-c", BLIND, ray.address, str(tmp_path), "deadly"]
        done = called([*ask, str(film), str(film.stat().st_size)], ray)
    assert done.returncode == 0, done.stderr
    assert "lost 1 left 1" in done.stdout


def test_another_ray_or_no_token_is_refused_with_the_reason(
    two: Running, footage: Path, tmp_path: Path
) -> None:
    other = "import ray, sys; ray.__version__ = '2.1.0'; from pipeline.cli import main; main()"
    rest = ["run", "films", "--input", str(footage), "--corpus", str(tmp_path / "c")]
    rest += ["--address", two.address]
    done = called([sys.executable, "-c", other, *rest], two)
    assert done.returncode == 2, done.stderr
    assert "Version mismatch" in done.stderr
    assert "Ray: 2.1.0" in done.stderr
    assert "Traceback" not in done.stderr
    done = called([sys.executable, "-m", "pipeline.cli", *rest], two, RAY_AUTH_MODE="disabled")
    assert done.returncode == 2, done.stderr
    assert "set RAY_AUTH_MODE=token" in done.stderr.replace("Set", "set")


def submit(ray: Running, *entrypoint: str) -> subprocess.CompletedProcess[str]:
    """As docs/cluster.md says, with the code as working_dir."""
    command = [str(Path(sys.executable).with_name("ray")), "job", "submit", "--address", ray.jobs]
    command += ["--working-dir", str(ROOT), "--", *entrypoint]
    while "No available agent" in (done := called(command, ray)).stderr:
        time.sleep(1)  # the head has only just been started
    return done


def test_a_submitted_job_makes_the_same_shards_and_a_failed_one_fails(
    one: Running, footage: Path, shards: dict[str, str], tmp_path: Path
) -> None:
    rest = ["--input", str(footage), "--corpus", str(tmp_path / "c")]
    done = submit(one, *RUN, *rest)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    assert bytes_of(tmp_path / "c") == shards
    done = submit(one, *RUN[:-1], "no-such-recipe", *rest)
    assert done.returncode != 0
    assert "no-such-recipe" in done.stdout + done.stderr


def test_a_client_makes_the_same_shards(
    one: Running, footage: Path, shards: dict[str, str], tmp_path: Path
) -> None:
    command = [*RUN, "--input", str(footage), "--corpus", str(tmp_path / "c")]
    done = called([*command, "--address", one.client], one)
    assert done.returncode == 0, done.stderr
    assert bytes_of(tmp_path / "c") == shards


def test_a_head_that_dies_ends_the_run_with_a_word_and_the_next_goes_on(
    footage: Path, shards: dict[str, str], tmp_path: Path
) -> None:
    command = [*RUN, "--input", str(footage), "--corpus", str(tmp_path / "c")]
    parts = tmp_path / "c" / "tables" / "probe"
    with head(11) as ray:
        driver = subprocess.Popen(
            [*command, "--address", ray.address],
            env={**ray.environment, "RAY_gcs_rpc_server_reconnect_timeout_s": "25"},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        try:
            end = time.monotonic() + 120
            while not list(parts.glob("*/*.parquet")) and time.monotonic() < end:
                time.sleep(0.05)
            ray.kill("gcs_server")
            said = driver.communicate(timeout=120)[1]
        finally:
            driver.kill()
            driver.wait()
    assert driver.returncode == 1, said
    assert f"lost the connection to the Ray at {ray.address}" in said
    assert "run the same command again" in said
    done = subprocess.run([*command, "--address", "local"], capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert bytes_of(tmp_path / "c") == shards
