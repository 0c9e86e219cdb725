"""Naming by bytes: what is read again, and what is not."""

import errno
import os
from pathlib import Path

import pytest

from corpus.errors import UserError
from pipeline.inputs import naming
from pipeline.inputs.listing import list_sources
from pipeline.inputs.naming import check_unchanged, identify
from pipeline.inputs.sources import Listing, SourceConfig

CONFIG = SourceConfig()


def named(given: Path, *, rehash: bool = False) -> Listing:
    listing = list_sources(str(given), CONFIG)
    return identify(listing, CONFIG, given.parent / "cache", rehash=rehash)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "in"
    (root / "deep").mkdir(parents=True)
    (root / "b.mp4").write_bytes(b"b")
    (root / "deep" / "a.MKV").write_bytes(b"a")
    return root


class TestCache:
    @pytest.fixture
    def reads(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Names of the files that were hashed."""
        seen: list[str] = []
        real = naming.video_id

        def spy(path: Path) -> str:
            seen.append(path.name)
            return real(path)

        monkeypatch.setattr(naming, "video_id", spy)
        return seen

    def test_an_unchanged_file_is_not_read_again(self, folder: Path, reads: list[str]) -> None:
        first = named(folder)
        assert len(reads) == 2
        assert named(folder) == first
        assert len(reads) == 2

    def test_a_changed_file_is(self, folder: Path, reads: list[str]) -> None:
        named(folder)
        (folder / "b.mp4").write_bytes(b"c")
        os.utime(folder / "b.mp4", ns=(1, 1))
        assert named(folder).sources[0].video_id != named(folder).sources[1].video_id
        assert reads.count("b.mp4") == 2
        assert reads.count("a.MKV") == 1

    def test_rehash_believes_no_stamp(self, folder: Path, reads: list[str]) -> None:
        before = named(folder).sources[0]
        stamp = (folder / "b.mp4").stat()
        (folder / "b.mp4").write_bytes(b"c")
        os.utime(folder / "b.mp4", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        assert named(folder).sources[0].video_id == before.video_id, "the stamp says unchanged"
        fresh = named(folder, rehash=True).sources[0]
        assert fresh.video_id != before.video_id
        assert named(folder).sources[0].video_id == fresh.video_id, "and it is remembered"

    def test_a_damaged_cache_is_named(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "sources.parquet").write_bytes(b"nonsense")
        with pytest.raises(UserError, match=r"sources\.parquet cannot be read"):
            named(folder)


def test_a_mount_that_is_away_is_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(path: Path) -> str:
        if path.name == "b.mp4":
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return "0" * 32

    monkeypatch.setattr(naming, "video_id", away)
    found = named(folder)
    assert [source.outcome for source in found.sources] == ["pending", "ok"]
    assert [one.item for one in found.put_off()] == ["b.mp4"]


def test_a_file_that_grew_while_it_was_read_is_not_taken_for_what_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = naming.video_id

    def growing(path: Path) -> str:
        name = real(path)
        if path.name == "b.mp4" and path.stat().st_size < 2:
            with path.open("ab") as file:
                file.write(b"+")
        return name

    monkeypatch.setattr(naming, "video_id", growing)
    first = named(folder).sources[0]
    with pytest.raises(UserError, match="was replaced"):
        check_unchanged(first.record(), first.record(), reread=False)
    assert named(folder).sources[0].video_id == real(folder / "b.mp4") != first.video_id
