"""Durable writes: a file is absent or whole, a folder the old one or the new one, also after
kill -9 or on a full disk.

Temporary names begin with a dot, so no reader takes them for results, and say whose they are, so
that `sweep` can clear away what killed runs left behind.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_UNFINISHED = ".unfinished-"
_REPLACED = ".replaced-"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on success fsync it and rename it into place.

    On any exception the temporary file goes and ``path`` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_UNFINISHED, suffix=f"-{path.name}")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        _fsync(temporary)
        temporary.replace(path)
        _fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``folder``; on success it takes that name.

    No rename replaces a folder that holds something, so an older ``folder`` is moved aside first
    and removed last. Whoever is killed between the two renames leaves it where `standing` finds it
    and the next writer, or `sweep`, puts it back. One process at a time may write a folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _recover(folder)
    temporary = Path(
        tempfile.mkdtemp(dir=folder.parent, prefix=_UNFINISHED, suffix=f"-{folder.name}")
    )
    try:
        yield temporary
        temporary.chmod(0o755)
        _fsync(temporary)
        if folder.exists():
            folder.rename(_aside(folder))
        temporary.rename(folder)
        _fsync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        _recover(folder)


def standing(folder: Path) -> Path:
    """Where the content of a folder lies that `writing_folder` writes: there, or moved aside."""
    return _aside(folder) if not folder.exists() and _aside(folder).exists() else folder


def sweep(root: Path) -> None:
    """Clear away what killed writers left anywhere under ``root``.

    Only for the process that holds the corpus: it would take the files of a writer at work.
    """
    for place, folders, files in os.walk(root):
        for name in files:
            if name.startswith(_UNFINISHED):
                Path(place, name).unlink(missing_ok=True)
        for name in [each for each in folders if is_temporary(each)]:
            folders.remove(name)
            if name.startswith(_UNFINISHED):
                shutil.rmtree(Path(place, name))
            else:
                _recover(Path(place, name.removeprefix(_REPLACED)))


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is one that `sweep` clears."""
    return name.startswith((_UNFINISHED, _REPLACED))


def remove_folder(folder: Path) -> None:
    """Take a folder away at once: a killed remover leaves no half of it under its name."""
    temporary = tempfile.mkdtemp(dir=folder.parent, prefix=_UNFINISHED, suffix=f"-{folder.name}")
    folder.replace(temporary)
    shutil.rmtree(temporary)


def write_text(path: Path, text: str) -> None:
    """Atomically write UTF-8 text."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes) -> None:
    """Atomically write bytes."""
    with writing(path) as temporary:
        temporary.write_bytes(data)


def _aside(folder: Path) -> Path:
    return folder.with_name(_REPLACED + folder.name)


def _recover(folder: Path) -> None:
    """Put a folder back that was moved aside for one that never came; else remove it."""
    aside = _aside(folder)
    if not aside.exists():
        return
    if folder.exists():
        shutil.rmtree(aside)
    else:
        aside.rename(folder)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
