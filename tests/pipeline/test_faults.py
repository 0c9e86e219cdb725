import errno
from pathlib import Path

import pytest

from corpus.errors import UserError
from pipeline.faults import Faults, Marks, RunError, fatal, read_fatal, systemic, tidy
from stages.captioning.backend import BindingError


def failing(message: str) -> ValueError:
    """An error that was raised at this very place, whatever it says."""
    try:
        raise ValueError(message)
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "disk full"), True),
        (OSError(errno.ENOENT, "no such file"), False),
        (BindingError("an answer to no question"), True),
        (ModuleNotFoundError("torch"), True),
        (MemoryError(), True),
        (ValueError("this record"), False),
        (UserError("this clip cannot be read back"), False),
    ],
)
def test_what_stops_a_run(error: Exception, expected: bool) -> None:
    assert systemic(error) == expected


class TestFaults:
    def raise_for(self, notes: Path, *names: str) -> list[Path]:
        parts = [notes / f"part-{name}" for name in names]
        for name, part in zip(names, parts, strict=True):
            part.touch()
            Faults(notes, "captions").raised(name, failing(f"bad {name}"), part)
        return parts

    def test_the_third_of_its_kind_stops_the_run_and_sets_all_free(self, tmp_path: Path) -> None:
        parts = self.raise_for(tmp_path, "a", "b")
        with pytest.raises(RunError, match="captions raised the same for each of its first 3"):
            self.raise_for(tmp_path, "c")
        assert not any(part.exists() for part in parts)

    def test_once_a_record_worked_none_stops_the_run(self, tmp_path: Path) -> None:
        Faults(tmp_path, "captions").worked()
        parts = self.raise_for(tmp_path, "a", "b", "c", "d")
        assert all(part.exists() for part in parts)

    def test_different_faults_are_told_apart(self, tmp_path: Path) -> None:
        self.raise_for(tmp_path, "a", "b")
        try:
            raise KeyError("elsewhere")
        except KeyError as error:
            Faults(tmp_path, "captions").raised("c", error, tmp_path / "part-c")


class TestMarks:
    def test_an_exception_is_no_death(self, tmp_path: Path) -> None:
        marks = Marks(tmp_path)
        with pytest.raises(ValueError, match="x"), marks.working(["k"]):
            assert marks.attempts("k") == 1
            raise ValueError("x")
        assert marks.attempts("k") == 0

    def test_attempts_of_workers_that_died_add_up(self, tmp_path: Path) -> None:
        died = [Marks(tmp_path).working(["k"])]
        died[0].__enter__()  # and no exit: so it looks when a process is killed
        again = Marks(tmp_path)
        assert again.attempts("k") == 1
        died.append(again.working(["k"]))
        died[1].__enter__()
        assert Marks(tmp_path).attempts("k") == Marks.ALLOWED
        again.forget("k")
        assert again.attempts("k") == 0


def test_a_fatal_error_is_noted_in_its_own_words(tmp_path: Path) -> None:
    assert read_fatal(tmp_path) is None
    (tmp_path / "captions").mkdir()
    with pytest.raises(UserError), fatal(tmp_path / "captions"):
        raise UserError("no weights")
    found = read_fatal(tmp_path)
    assert isinstance(found, UserError)
    assert str(found) == "no weights"


def test_notes_stay_where_records_were_quarantined(tmp_path: Path) -> None:
    for run in ("clean", "troubled"):
        Marks(tmp_path / run / "probe")
        Faults(tmp_path / run / "probe", "probe").worked()
    Faults(tmp_path / "troubled" / "probe", "probe").raised("k", failing("x"), tmp_path / "p")
    tidy(tmp_path / "clean")
    tidy(tmp_path / "troubled")
    assert not (tmp_path / "clean").exists()
    assert (tmp_path / "troubled" / "probe" / "faults" / "k").exists()
