"""The command `tv2tv review`: served, killed, agreed upon and exported."""

import csv
import http.client
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner
from worded_corpus import footage, make_corpus

from corpus.errors import UserError
from corpus.layout import Layout
from pipeline.calibration.classifier import read_labels
from pipeline.cli import app
from pipeline.review.command import prepare
from pipeline.review.labels import Labels

ABOUT = ("id", "binding")  # of a caption


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    folder = tmp_path_factory.mktemp("review")
    words = {"one": ("goes left", "goes up", "rests"), "two": ("a", "b", "c")}
    return make_corpus(folder / "corpus", footage(folder / "films", words)).layout


@contextmanager
def reviewing(corpus: Path, reviewer: str) -> Iterator[subprocess.Popen[str]]:
    """The command as a process of its own, gone when the block ends."""
    command = ["review", str(corpus), "--reviewer", reviewer, "--sample", "1"]
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "pipeline.cli", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def address(process: subprocess.Popen[str]) -> str:
    """Of the page, once it is served."""
    assert process.stdout is not None
    assert process.stdout.readline().startswith("1 clips with 3 captions, 0 judged")
    return process.stdout.readline().split()[-1]


def ask(url: str, path: str, said: Any = None) -> Any:
    """What the page would be told; None where nobody answers any more."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.netloc, timeout=30)
    try:
        if said is None:
            connection.request("GET", place.path + path)
        else:
            kind = {"Content-Type": "application/json"}
            connection.request("POST", place.path + path, json.dumps(said), kind)
        return json.load(connection.getresponse())
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def test_two_review_at_once_and_one_is_killed(tmp_path: Path) -> None:
    """What was answered with "saved" is there after kill -9, beside all that the other said."""
    words = {"one": ("goes left", "goes up", "rests")}
    built = make_corpus(tmp_path / "corpus", footage(tmp_path / "films", words)).layout
    saved: list[str] = []

    def go_on(url: str, name: str, most: int) -> None:
        for number in range(most):
            about = {"segment" if k == "id" else k: clip["segments"][number % 3][k] for k in ABOUT}
            label = ("accept", "reject")[number // 3 % 2]
            answer = ask(url, "labels", {"labels": [{**about, "label": label}]})
            if answer is None:
                return
            assert answer["saved"] == 1
            saved.append(name)

    with (
        reviewing(built.root, "ada") as ada,
        reviewing(built.root, "bob") as bob,
        ThreadPoolExecutor(4) as pool,
    ):
        her, his = address(ada), address(bob)
        (clip,) = ask(her, "session")["clips"]
        done = [pool.submit(go_on, her, "ada", 10_000) for _ in range(3)]
        done.append(pool.submit(go_on, his, "bob", 20))
        while saved.count("ada") < 20 and not all(one.done() for one in done):
            time.sleep(0.01)
        ada.kill()
        for one in done:
            one.result()
        bob.send_signal(2)
        out, err = bob.communicate(timeout=30)
    assert (bob.returncode, err) == (0, "") and "3 of 3 captions judged" in out
    found = Counter(one.reviewer for one in Labels(built).read())
    assert found["bob"] == saved.count("bob") == 20
    told = saved.count("ada")
    assert 20 <= told <= found["ada"] <= told + 3, "at most what was under way is more"
    assert prepare(str(built.root), 1, 0, "ada", tmp_path).desk.judged == 3, "it goes on"


def test_agreement_and_export(built: Layout, tmp_path: Path) -> None:
    for reviewer, last in (("ada", "reject"), ("bob", "accept")):
        desk = prepare(str(built.root), 9, 0, reviewer, tmp_path).desk
        about = [
            {k: s[k] for k in ("id", "binding")} for c in desk.clips.values() for s in c.segments
        ]
        given = [
            {"segment": a["id"], "binding": a["binding"], "label": "accept" if i else last}
            for i, a in enumerate(about)
        ]
        desk.put({"labels": given})
    told = CliRunner().invoke(app, ["review", str(built.root), "--agreement"])
    assert told.exit_code == 0 and "ada and bob: 6 captions both, 83.3% equal" in told.output
    found = CliRunner().invoke(app, ["review", str(built.root), "--agreement", "--json"])
    assert json.loads(found.output)["shared"] == 6
    path = tmp_path / "labels.csv"
    done = CliRunner().invoke(app, ["review", str(built.root), "--export", str(path)])
    assert done.exit_code == 0 and "12 labels" in done.output and "anew" not in done.output
    rows = list(csv.DictReader(path.open()))
    assert [row["accepted"] for row in rows].count("0") == 1
    assert {row["reviewer"] for row in rows} == {"ada", "bob"}
    judged = read_labels(path)  # what learns from it
    assert sorted(sum(good) for _, good in judged.values()) == [1, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("name", ["", "a" * 65, "x\ny", "<b>", "../x"])
def test_a_name_must_be_one(built: Layout, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="--reviewer"):
        prepare(str(built.root), 9, 0, name, tmp_path)


def test_a_corpus_without_captions_is_told(tmp_path: Path) -> None:
    plan = make_corpus(tmp_path / "corpus", footage(tmp_path / "films", {"one": ("a", "b")}))
    for part in (plan.layout.root / "tables" / "latents").rglob("*.parquet"):
        part.unlink()
    with pytest.raises(UserError, match="no finished clip with captions"):
        prepare(str(plan.layout.root), 9, 0, "ada", tmp_path)
