"""A model's files have names that stay the same."""

import os
from pathlib import Path

import pytest

from corpus.errors import UserError
from stages.captioning.weights import Weights

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    (made / "sub").mkdir(parents=True)
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(b"weights")
    (made / "sub" / "more.json").write_text("[]")
    return made


def test_a_folder_is_named_by_its_content_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    name = Weights.of(str(folder), None).name
    moved = tmp_path / "elsewhere" / "model"
    moved.parent.mkdir()
    folder.rename(moved)
    assert Weights.of(str(moved), None).name == name
    (moved / "README.md").write_text("a note")
    (moved / ".cache").mkdir()
    (moved / ".cache" / "lock").write_text("")
    assert Weights.of(str(moved), None).name == name


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "sub/more.json", "new.json"])
def test_any_other_byte_is_another_model(folder: Path, file: str) -> None:
    named = Weights.of(str(folder), None)
    (folder / file).write_bytes(b"WEIGHTS")
    os.utime(folder / file, ns=(0, 0))
    assert Weights.of(str(folder), None).name != named.name
    with pytest.raises(UserError, match="are not those"):
        named.folder()


def test_what_cannot_be_pinned_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for model, revision, said in (
        ("", None, "name a model"),
        ("org/name", None, "40 digits of a commit"),
        ("org/name", "main", "40 digits of a commit"),
        (str(tmp_path / "none"), None, "no folder"),
        (str(folder), COMMIT, "leave out revision"),
        (str(tmp_path / "empty"), None, "no config.json"),
    ):
        with pytest.raises(UserError, match=said):
            Weights.of(model, revision)


def test_a_commit_that_was_not_fetched_is_not_fetched_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    import huggingface_hub.constants as constants

    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    weights = Weights.of("org/name", COMMIT)
    assert weights.name == f"org/name@{COMMIT}"
    with pytest.raises(UserError, match=f"hf download org/name --revision {COMMIT}"):
        weights.folder()
