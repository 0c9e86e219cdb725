"""What is asked of nodes, without a cluster; with one: test_clusters.py."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from corpus.store import LocalStore
from pipeline.cluster import nodes
from pipeline.cluster.nodes import (
    MOST_INPUTS,
    Look,
    SeeingCrew,
    _looked,
    _some_inputs,
    leave_sign,
)
from pipeline.faults import RunError


class Fingerprint:
    name = "shots"
    fingerprint = "here"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "PATIENCE_SECONDS", 0.0)


def look(tmp_path: Path, **more: object) -> Look:
    store = LocalStore(tmp_path / "run")
    store.write_text("nodes/driver", "token")
    known = {"inputs": (), "stages": ((Fingerprint(), "here"),), **more}
    return Look(store, "nodes/driver", "token", **known)  # type: ignore[arg-type]


def test_a_node_that_sees_all_leaves_its_file(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"12345")
    asked = look(tmp_path, inputs=((str(film), 5),))
    assert _looked(asked, "n1") == []
    assert asked.place.has("nodes/n1")


def test_another_file_of_that_name_is_another_corpus(tmp_path: Path) -> None:
    asked = look(tmp_path)
    asked.place.write_text("nodes/driver", "of another cluster")
    (trouble,) = _looked(asked, "n1")
    assert "does not see the corpus" in trouble
    assert not asked.place.has("nodes/n1")


def test_another_tool_and_missing_inputs_are_told_together(tmp_path: Path) -> None:
    asked = look(tmp_path, inputs=(("/no/a.mp4", 5),), stages=((Fingerprint(), "there"),))
    inputs, tool = _looked(asked, "n1")
    assert "1 of 1 inputs" in inputs
    assert "/no/a.mp4" in inputs
    assert "compute shots in another way" in tool


def test_some_inputs_are_spread_over_all_and_remote_ones_left_to_the_stages() -> None:
    records = [{"path": f"/f/{i}", "size": i} for i in range(100)]
    some = _some_inputs([*records, {"path": "s3://b/k", "size": 1}, {"clip_id": "c"}])
    assert len(some) == MOST_INPUTS
    assert some[0] == ("/f/0", 0)
    assert int(some[-1][0][3:]) > 80
    assert _some_inputs([{"clip_id": "c"}]) == ()


def test_a_worker_that_comes_late_makes_no_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atexit.register", lambda function: None)
    tied: list[bool] = []
    leash: Any = SimpleNamespace(tie=lambda: tied.append(True))
    notes = LocalStore(tmp_path / "notes")
    with pytest.raises(RunError, match=r"does not see the corpus: .*here is missing"):
        SeeingCrew([], leash, notes)
    assert not notes.root.exists() and not tied
    leave_sign(notes)
    SeeingCrew([], leash, notes)
    assert tied == [True]
