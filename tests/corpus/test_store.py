"""One contract, three stores: a folder, S3, and what else fsspec knows."""

import os
import pickle
import time
import uuid
from pathlib import Path

import pytest

from corpus import cache, layout, remote
from corpus.cache import cache_folder, trim_cache
from corpus.clock import Clock
from corpus.errors import UserError
from corpus.remote import RemoteStore
from corpus.store import LocalStore, Store, store_at


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.CACHE, str(tmp_path / "cache"))


@pytest.fixture
def far(s3: str) -> RemoteStore:
    found = store_at(f"{s3}/{uuid.uuid4().hex}")
    assert isinstance(found, RemoteStore)
    return found


@pytest.fixture(params=["folder", "s3", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return LocalStore(tmp_path / "corpus")
    if request.param == "s3":
        return request.getfixturevalue("far")
    return store_at(f"memory://{uuid.uuid4().hex}")


def test_what_is_written_is_found_and_read(store: Store) -> None:
    assert store.names() == []
    assert store.stat("a/b") is None and not store.has("a/b")
    store.write("a/b", b"12")
    store.write_text("a/c/d", "é")
    store.touch("top")
    assert store.names() == ["a/b", "a/c/d", "top"]
    assert store.names("a/") == ["a/b", "a/c/d"] and store.names("a/c") == ["a/c/d"]
    assert store.at("a").names() == ["b", "c/d"]
    assert store.size("a/b") == 2 and store.size("top") == 0
    assert store.stat("a") is None, "a folder is no file"
    assert store.read("a/b") == b"12" and store.read_text("a/c/d") == "é"
    assert [path.read_bytes() for path in store.locals(["a/c/d", "a/b"])] == ["é".encode(), b"12"]
    assert pickle.loads(pickle.dumps(store)) == store  # noqa: S301 - our own, as Ray does it
    store.remove("a/b")
    store.remove("a/b")
    assert store.names("a/") == ["a/c/d"]
    store.clear()
    assert store.names() == []
    with pytest.raises(FileNotFoundError):
        store.local("a/b").read_bytes()


def test_a_file_that_changed_is_not_taken_from_a_copy(store: Store) -> None:
    for text in ("first", "other", "longer"):
        store.write_text("a", text)
        assert store.local("a").read_text() == text
        assert store.read_text("a") == text


def test_an_exception_leaves_what_was_there(store: Store) -> None:
    store.write_text("a", "old")
    with pytest.raises(ValueError, match="x"), store.writing("a") as temporary:
        temporary.write_text("half")
        raise ValueError("x")
    assert store.read_text("a") == "old" and store.names() == ["a"]


def test_a_swap_is_one_step(store: Store) -> None:
    first = store.swap("lock", b"1", None)
    assert first is not None
    assert store.swap("lock", b"2", None) is None, "somebody has it"
    assert store.read_versioned("lock") == (b"1", first)
    second = store.swap("lock", b"2", first)
    assert second is not None and second != first
    assert store.swap("lock", b"3", first) is None, "it was another's meanwhile"
    assert store.read("lock") == b"2"


def test_s3_itself_refuses_who_looked_too_early(
    far: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs read the same state, and one writes first: only S3 can tell the other."""
    real = RemoteStore.read_versioned
    stale: list[tuple[bytes, str] | None] = []

    def late(store: RemoteStore, name: str) -> tuple[bytes, str] | None:
        return stale.pop() if stale else real(store, name)

    monkeypatch.setattr(RemoteStore, "read_versioned", late)
    first = far.swap("lock", b"1", None)
    stale.append(None)
    assert far.swap("lock", b"2", None) is None
    assert far.swap("lock", b"3", first) is not None
    stale.append((b"1", str(first)))
    assert far.swap("lock", b"4", first) is None
    assert far.read("lock") == b"3"


def test_a_set_is_replaced_as_a_whole(store: Store) -> None:
    checks: list[str] = []

    def write(text: str, *names: str) -> None:
        with store.at("main").replacing("list", lambda: checks.append(text)) as building:
            for name in names:
                building.write_text(name, text)
            building.write_text("list", text)

    write("old", "a", "b")
    write("new", "a", "c")
    assert store.at("main").names() == ["a", "c", "list"]
    assert {store.at("main").read_text(name) for name in ("a", "c", "list")} == {"new"}
    assert set(checks) == {"old", "new"}


def test_who_must_not_replace_a_set_touches_nothing(store: Store) -> None:
    store.write_text("main/list", "old")

    def refuse() -> None:
        raise ValueError("lost")

    with (
        pytest.raises(ValueError, match="lost"),
        store.at("main").replacing("list", refuse) as building,
    ):
        building.write_text("list", "new")
    assert store.read_text("main/list") == "old"


def test_a_remote_set_that_was_cut_off_is_none(far: RemoteStore) -> None:
    far.write_text("list", "old")
    with pytest.raises(KeyboardInterrupt), far.replacing("list", lambda: None) as building:
        building.write_text("a", "new")
        raise KeyboardInterrupt
    assert not far.has("list"), "who reads it must not find new files under the old list"


def test_growing_files_are_there_at_the_end_and_on_the_way(
    far: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "UPLOAD_SECONDS", 0.02)
    with pytest.raises(KeyboardInterrupt), far.at("runs/1").folder() as folder:
        (folder / "log").write_text("a line")
        for _ in range(500):
            if far.size("runs/1/log"):
                break
            time.sleep(0.01)
        assert far.read_text("runs/1/log") == "a line"
        (folder / "log").write_text("a line, and its end")
        raise KeyboardInterrupt
    assert far.read_text("runs/1/log") == "a line, and its end"
    assert not folder.exists()


def test_a_glance_is_one_listing(far: RemoteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    far.write_text("clips/aa/aa1.mp4", "x")
    far.touch("clips/ab/empty.mp4")
    there = far.glance()
    asked: list[str] = []
    real = RemoteStore.files
    monkeypatch.setattr(
        RemoteStore, "files", lambda self, name="": (asked.append(name), real(self, name))[1]
    )
    found = [there(f"clips/{name}.mp4") for name in ("aa/aa1", "ab/empty", "ac/missing")]
    assert found == [True, False, False] and asked == ["clips/"]


def test_copies_are_bounded_and_leftovers_of_the_dead_go(
    far: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.CACHE_GB, str(3000 / 2**30))
    for number in range(5):
        far.write("a", bytes([number]) * 1000)
        path = far.local("a")
        used = time.time() - 10_000 + number
        os.utime(path, (used, used))
    for name in ("999999999-x", "999999998-y/z"):
        store_at(cache_folder() / "unfinished").write(name, b"left")
    trim_cache()
    assert len(list(cache_folder().glob("copies/*/*/*"))) == 3
    assert path.exists(), "the latest"
    assert list((cache_folder() / "unfinished").iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://key:secret@bucket/c", "^bucket/c: credentials do not belong"),
        ("nonsense://bucket/c", "no file system"),
        ("ftp://host/c", "no object store"),
        ("s3://", "names no bucket"),
        ("file://elsewhere/c", "on the machine elsewhere"),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # fsspec's ftp
def test_what_cannot_be_a_store_is_a_mistake(uri: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        store_at(uri)


@pytest.mark.parametrize(
    ("uri", "how"),
    [
        ("s3://bucket/c", r"pip install 'tv2tv\[remote\]'"),
        ("gs://bucket/c", "pip install gcsfs"),
        ("abfs://box/c", "pip install adlfs"),
        ("abfss://box/c", "pip install adlfs"),
    ],
)
def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, uri: str, how: str) -> None:
    def missing(scheme: str, **_: object) -> None:
        kind = ValueError if scheme == "abfss" else ImportError  # adlfs brings the name along
        raise kind(f"no {scheme}")

    remote._filesystem.cache_clear()
    monkeypatch.setattr(remote.fsspec, "filesystem", missing)
    with pytest.raises(UserError, match=how):
        store_at(uri)
    remote._filesystem.cache_clear()


@pytest.mark.parametrize("uri", ["memory://name/c", "https://host/c"])
def test_a_corpus_lies_where_all_machines_see_it(uri: str) -> None:
    with pytest.raises(UserError, match="all workers must see it alike"):
        layout.create(uri, Clock())


def test_a_local_uri_is_a_folder(tmp_path: Path) -> None:
    assert store_at(f"file://{tmp_path}/a%20b") == LocalStore(tmp_path / "a b")
    assert store_at(f"FILE://localhost{tmp_path}/a") == LocalStore(tmp_path / "a")
