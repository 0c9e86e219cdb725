"""Sets on an object store: uploads side by side, taken up after kill -9, never half a file."""

import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from killed_upload import LARGE, write

from corpus import cache
from corpus.ids import sha256_bytes
from corpus.remote import RemoteStore, filesystem
from corpus.shards.verifying import verify
from corpus.store import LocalStore, Store, store_at
from corpus.uploading import NOTES, UPLOADS, Uploads


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.CACHE, str(tmp_path / "cache"))


@pytest.fixture
def uri(s3: str) -> str:
    return f"{s3}/{uuid.uuid4().hex}/shards/main"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of files of sets, not of notes, as they are uploaded."""
    names: list[str] = []
    real = RemoteStore.put

    def put(self: RemoteStore, name: str, path: Path) -> Any:
        if not self.uri.endswith(NOTES):
            names.append(name)
        return real(self, name, path)

    monkeypatch.setattr(RemoteStore, "put", put)
    yield names


def digests(store: Store) -> dict[str, str]:
    return {name: sha256_bytes(store.read(name)) for name in store.names()}


def local(folder: Path, **more: Any) -> dict[str, str]:
    write(str(folder), **more)
    return digests(LocalStore(folder))


def killed(uri: str, moment: str, number: int) -> None:
    driver = Path(__file__).with_name("killed_upload.py")
    done = subprocess.run([sys.executable, driver, uri, moment, str(number)], capture_output=True)
    assert done.returncode == -9, done.stderr.decode()


MOMENTS = [("before", 1), ("after", 3), ("noted", 4), ("manifest", 0)]


@pytest.mark.parametrize(("moment", "number"), MOMENTS)
def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_bytes(
    uri: str, tmp_path: Path, sent: list[str], moment: str, number: int
) -> None:
    wanted, store = local(tmp_path / "local"), store_at(uri)
    killed(uri, moment, number)
    found, whole = digests(store), moment == "manifest"
    assert found.items() <= wanted.items(), "what is visible is whole"
    assert ("manifest.json" in found) == whole
    noted = set(store_at(f"{uri}{NOTES}").names())
    assert noted <= set(found) and (noted or moment in ("before",))
    write(uri)
    assert digests(store) == wanted
    assert not noted & set(sent), "what was sent before is not sent again"
    assert set(sent) == set(wanted) - noted
    assert store_at(f"{uri}{NOTES}").names() == []
    assert verify(uri, workers=1).faults == ()


def test_a_large_file_that_was_cut_off_is_no_file_and_leaves_nothing_to_pay(
    uri: str, tmp_path: Path
) -> None:
    def parts() -> list[str]:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        about = {"Bucket": bucket, "Prefix": key}
        found = filesystem(uri).call_s3("list_multipart_uploads", **about)
        return [one["Key"] for one in found.get("Uploads", ())]

    killed(uri, "part", 2)
    (begun,) = parts()
    assert begun.endswith(".tar")
    store = store_at(uri)
    assert Path(begun).name not in store.names() and not store.has("manifest.json")
    store_at(uri.rpartition("/")[0]).sweep()
    assert parts() == []
    write(uri, changes=LARGE)
    assert digests(store) == local(tmp_path / "local", changes=LARGE)


def test_an_object_that_changed_since_is_sent_again(uri: str, sent: list[str]) -> None:
    store = store_at(uri)
    write(uri)
    whole = digests(store)
    for name in whole:
        stat = store.stat(name)
        assert stat is not None
        note = {"sha256": whole[name], "bytes": stat.size, "version": stat.version}
        store_at(f"{uri}{NOTES}").write_text(name, json.dumps(note))
    shard, other = "shard-000000.tar", "shard-000001.tar"
    store.write(shard, store.read(shard)[:-1] + b"x")
    store_at(f"{uri}{NOTES}").write_text(other, "{")
    sent.clear()
    write(uri)
    assert sorted(sent) == ["manifest.json", shard, other]
    assert digests(store) == whole


def test_what_is_left_of_an_older_set_is_gone_before_the_new_one_is_one(uri: str) -> None:
    store = store_at(uri)
    store.write("shard-000099.tar", b"old")
    there: list[bool] = []
    real = RemoteStore.put

    def put(self: RemoteStore, name: str, path: Path) -> Any:
        if name == "manifest.json":
            there.append(store.has("shard-000099.tar"))
        return real(self, name, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RemoteStore, "put", put)
        write(uri)
    assert there == [False]


class Slow:
    """Stands in for `RemoteStore.put`, and tells how many were at work at once."""

    def __init__(self, seconds: float = 0.02) -> None:
        self.seconds, self.now, self.most, self.lock = seconds, 0, 0, threading.Lock()

    def put(self, name: str, path: Path) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.seconds)
        with self.lock:
            self.now -= 1


@pytest.fixture
def memory() -> RemoteStore:
    found = store_at(f"memory://{uuid.uuid4().hex}/main")
    assert isinstance(found, RemoteStore)
    return found


def test_uploads_go_side_by_side_and_no_more_than_a_few_files_wait(
    memory: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow()
    monkeypatch.setattr(RemoteStore, "put", lambda self, name, path: slow.put(name, path))
    uploads, waiting = Uploads(memory), []
    for number in range(12):
        with uploads.writing(f"{number}") as path:
            path.write_text("x")
            waiting.append(len(list((cache.cache_folder() / "unfinished").iterdir())))
    uploads.wait()
    uploads.close()
    assert 1 < slow.most <= UPLOADS
    assert max(waiting) <= UPLOADS + 1
    assert sorted(uploads.sent, key=int) == [str(number) for number in range(12)]
    assert list((cache.cache_folder() / "unfinished").iterdir()) == []


def test_an_upload_that_fails_is_told_and_the_set_is_none(
    memory: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RemoteStore.put

    def put(self: RemoteStore, name: str, path: Path) -> Any:
        if name == "shard-000001.tar":
            raise OSError("no more room")
        return real(self, name, path)

    monkeypatch.setattr(RemoteStore, "put", put)
    with pytest.raises(OSError, match="no more room"):
        write(memory.uri)
    assert not memory.has("manifest.json")
    assert list((cache.cache_folder() / "unfinished").iterdir()) == []
