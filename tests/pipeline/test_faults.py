import errno
from pathlib import Path

import pytest

from corpus.errors import UserError
from pipeline.faults import (
    Faults,
    Marks,
    PutOff,
    RunError,
    blameless,
    fatal,
    passing,
    read_fatal,
    read_put_off,
    systemic,
    tidy,
)
from stages.captioning.backend import BindingError


def failing(message: str) -> ValueError:
    """An error that was raised at this very place, whatever it says."""
    try:
        raise ValueError(message)
    except ValueError as error:
        return error


class OutOfMemoryError(RuntimeError):
    """As torch names the one of a GPU."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "disk full"), "systemic"),
        (OSError(errno.EMFILE, "too many open files"), "systemic"),
        (BindingError("an answer to no question"), "systemic"),
        (ModuleNotFoundError("torch"), "systemic"),
        *((OSError(number, ""), "passing") for number in (errno.ENOENT, errno.EIO, errno.ESTALE)),
        *((OSError(number, ""), "passing") for number in (errno.ENOMEM, errno.EAGAIN)),
        (MemoryError(), "passing"),
        (OutOfMemoryError(), "passing"),
        (UserError("this clip cannot be read back"), "passing"),
        (ValueError("this record"), "its own"),
    ],
)
def test_whose_fault_it_is(error: Exception, expected: str) -> None:
    found = "systemic" if systemic(error) else "passing" if passing(error) else "its own"
    assert found == expected


class TestFaults:
    def raise_for(self, notes: Path, *names: str) -> None:
        for name in names:
            Faults(notes / "captions", "captions").raised(name, failing(f"bad {name}"))

    def test_the_third_of_its_kind_stops_the_run_and_none_is_blamed(self, tmp_path: Path) -> None:
        self.raise_for(tmp_path, "a", "b")
        assert blameless(tmp_path) == {}
        with pytest.raises(RunError, match="captions raised the same for each of its first 3"):
            self.raise_for(tmp_path, "c")
        assert blameless(tmp_path) == {"captions": {"a", "b", "c"}}

    def test_who_comes_late_is_not_blamed_either(self, tmp_path: Path) -> None:
        """A worker that noted its fault before the run was stopped, and quarantines after it."""
        with pytest.raises(RunError):
            self.raise_for(tmp_path, "a", "b", "c")
        (tmp_path / "captions" / "faults" / "late").write_bytes(
            (tmp_path / "captions" / "faults" / "a").read_bytes()
        )
        assert "late" in blameless(tmp_path)["captions"]

    def test_once_a_record_worked_no_exception_stops_the_run(self, tmp_path: Path) -> None:
        Faults(tmp_path / "captions", "captions").worked()
        self.raise_for(tmp_path, "a", "b", "c", "d")
        assert blameless(tmp_path) == {}

    def test_different_faults_are_told_apart(self, tmp_path: Path) -> None:
        self.raise_for(tmp_path, "a", "b")
        try:
            raise KeyError("elsewhere")
        except KeyError as error:
            Faults(tmp_path / "captions", "captions").raised("c", error)


def test_what_was_put_off_is_read_back_in_order(tmp_path: Path) -> None:
    found = [PutOff(stage, "k" + item, item, "away") for stage in "ab" for item in "xy"]
    for one in reversed(found):
        one.note(tmp_path / one.stage)
    assert read_put_off(tmp_path) == found


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
    Faults(tmp_path / "troubled" / "probe", "probe").raised("k", failing("x"))
    tidy(tmp_path / "clean")
    tidy(tmp_path / "troubled")
    assert not (tmp_path / "clean").exists()
    assert (tmp_path / "troubled" / "probe" / "faults" / "k").exists()
