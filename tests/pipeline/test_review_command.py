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
from corpus.store import store_at
from pipeline.calibration.classifier import read_labels
from pipeline.cli import app
from pipeline.review.command import prepare, take_sheet
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


def test_a_sheet_is_filled_and_taken(tmp_path: Path) -> None:
    films = footage(tmp_path / "films", {"one": ("goes left", "=goes up", "rests")})
    corpus, sheet = str(make_corpus(tmp_path / "corpus", films).layout.root), tmp_path / "s.csv"

    def told(*asked: str) -> str:
        answer = CliRunner().invoke(app, ["review", corpus, *asked])
        assert answer.exit_code == 0, answer.output
        return answer.output

    assert told("--sheet", str(sheet)).startswith("3 captions of 1 clips, to be labelled")
    with sheet.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == ["goes left", "'=goes up", "rests"], "no formula"
    assert [(row["from"], row["to"]) for row in rows] == [
        ("0.0", "1.0"),
        ("1.0", "2.0"),
        ("2.0", "3.0"),
    ]
    assert Path(rows[0]["clip"]).is_file() and not rows[0]["label"]
    assert not {"verdict", "scores"} & set(rows[0]), "nobody is told the answer"

    def fill(*labels: tuple[str, str]) -> None:
        with sheet.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            for row, (label, kinds) in zip(rows, labels, strict=True):
                writer.writerow({**row, "label": label, "kinds": kinds})

    fill(("Accept", ""), ("reject", "wrong_time; language"), ("", "later"))
    assert told("--labels", str(sheet), "--reviewer", "ada") == "2 labels stored\n"
    labels = Labels(Layout(store_at(corpus)))
    assert {one.segment_id: (one.reviewer, one.label, one.kinds) for one in labels.standing()} == {
        rows[0]["segment_id"]: ("ada", "accept", ()),
        rows[1]["segment_id"]: ("ada", "reject", ("wrong_time", "language")),
    }
    for bad, why in (
        ([("perhaps", ""), ("accept", ""), ("", "")], "row 2: 'perhaps' is no label"),
        ([("accept", ""), ("reject", "odd"), ("", "")], "row 3: 'odd' is no kind of error"),
        ([("accept", "language"), ("", ""), ("", "")], "row 2: kinds are of rejected captions"),
        ([("", ""), ("", ""), ("", "")], "no row has a label"),
    ):
        fill(*bad)
        with pytest.raises(UserError, match=why):
            take_sheet(corpus, sheet, "ada")
    rows[2]["binding"] = "older"
    fill(("accept", ""), ("accept", ""), ("reject", ""))
    with pytest.raises(UserError, match="has no caption with binding older here"):
        take_sheet(corpus, sheet, "ada")
    assert len(labels.read()) == 2, "all or none"
    sheet.write_text("segment_id,label\na,accept\n")
    with pytest.raises(UserError, match="has no column binding"):
        take_sheet(corpus, sheet, "ada")


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
