"""Files and folders are old or new, wherever the writer is killed, and nothing of it stays."""

import os
from pathlib import Path

import pytest
from killing import killed_at

from corpus.clock import Clock
from corpus.files import standing, sweep, write_text, writing_folder
from corpus.layout import create, open_corpus


def put(folder: Path, text: str) -> None:
    with writing_folder(folder) as building:
        (building / "a").write_text(text)
        (building / "b").write_text(text)


def content(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted(standing(folder).iterdir())]


@pytest.mark.parametrize("swept", [True, False])
def test_a_folder_is_the_old_or_the_new_one_wherever_its_writer_is_killed(
    tmp_path: Path, swept: bool
) -> None:
    outcomes, call = [], 0
    while True:
        root = tmp_path / str(call)
        put(root / "main", "old")
        if not killed_at(call, lambda root=root: put(root / "main", "new")):  # type: ignore[misc]
            break
        assert content(root / "main") in (["old"] * 2, ["new"] * 2)
        outcomes.append((root / "main").exists())
        if swept:
            sweep(tmp_path)
        else:
            put(root / "main", "newer")
        assert (root / "main").is_dir()
        assert content(root / "main") in ([["old"] * 2, ["new"] * 2] if swept else [["newer"] * 2])
        if swept:
            assert [path.name for path in root.iterdir()] == ["main"]
        call += 1
    assert call >= 5 and False in outcomes  # one of the kills fell between the two renames


def test_a_file_is_the_old_or_the_new_one_wherever_its_writer_is_killed(tmp_path: Path) -> None:
    path, call = tmp_path / "deep" / "a.txt", 0
    write_text(path, "old")
    while killed_at(call, lambda: write_text(path, "new")):
        assert path.read_text() in ("old", "new")
        sweep(tmp_path)
        assert list(path.parent.iterdir()) == [path]
        call += 1
    assert call >= 3
    assert path.read_text() == "new"


def test_a_corpus_whose_making_was_killed_can_still_be_made(tmp_path: Path) -> None:
    call = 0
    while killed_at(call, lambda root=tmp_path / str(call): create(root, Clock())):  # type: ignore[misc]
        create(tmp_path / str(call), Clock())
        assert open_corpus(tmp_path / str(call))[0] == Clock()
        call += 1
    assert call >= 3


def test_an_error_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "main", "old")
    with pytest.raises(OSError, match="full"), writing_folder(tmp_path / "main") as building:
        (building / "a").write_text("new")
        raise OSError("the disk is full")
    real = os.rename

    def refuse(source: Path, target: Path) -> None:
        if Path(target).name == "main" and "unfinished" in Path(source).name:
            raise OSError("refused")
        real(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="refused"):
        put(tmp_path / "main", "new")
    assert content(tmp_path / "main") == ["old"] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["main"]


def test_only_what_is_ours_is_swept(tmp_path: Path) -> None:
    kept = [tmp_path / ".lock.json.guard", tmp_path / ".hidden" / "a", tmp_path / "a-unfinished-b"]
    for path in kept:
        write_text(path, "theirs")
    sweep(tmp_path)
    sweep(tmp_path / "missing")
    assert all(path.read_text() == "theirs" for path in kept)
