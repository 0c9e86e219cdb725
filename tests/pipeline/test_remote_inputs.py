"""Inputs from the web and from object stores: listed, fetched once, named by their bytes."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from web import Web, serving

from corpus import cache, remote
from corpus.cache import cache_folder
from corpus.errors import UserError
from corpus.ids import sha256_bytes
from corpus.store import store_at
from pipeline.faults import RunError, read_put_off
from pipeline.inputs import fetching
from pipeline.inputs.addresses import RemoteConfig
from pipeline.inputs.fetching import Fetcher
from pipeline.inputs.listing import list_sources
from pipeline.inputs.naming import identify
from pipeline.inputs.sources import (
    LISTING,
    Listing,
    Source,
    SourceConfig,
    read_listing,
    write_listing,
)
from pipeline.inputs.uris import split_glob, stored
from pipeline.ledger import conservation
from pipeline.ledger.replay import Replay
from pipeline.ledger.shelf import Shelf
from pipeline.plan import Plan
from pipeline.runner import run
from pipeline.streaming.flow import flow
from pipeline.streaming.worker import Job, Worker
from pipeline.telemetry.progress import PlainView

OPEN = RemoteConfig(private_addresses=True, timeout=5.0)


def config(**changes: object) -> SourceConfig:
    allowed = {"remote": OPEN.model_copy(update={"schemes": (*OPEN.schemes, "memory")}), **changes}
    return SourceConfig.model_validate(allowed)


@pytest.fixture(autouse=True)
def _quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.CACHE, str(tmp_path / "cache"))
    monkeypatch.setattr(fetching, "WAIT", 0.01)


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as found:
        yield found


@pytest.fixture
def bucket() -> str:
    """A folder on an object store with two films, a timeline and other files."""
    uri = f"memory://{uuid.uuid4().hex}/films"
    store = store_at(uri)
    store.write("a.mp4", b"film a")
    store.write("deep/b.MKV", b"film b")
    store.write("deep/b.timeline.jsonl", b"{}")
    store.write("deep/notes.txt", b"none")
    store.write(".hidden/c.mp4", b"film c")
    return uri


def named(given: str, folder: Path, settings: SourceConfig | None = None) -> Listing:
    settings = settings or config()
    return identify(list_sources(given, settings), settings, folder / "table", rehash=False)


def manifest(folder: Path, *rows: dict[str, object]) -> str:
    path = folder / "m.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def outcomes(listing: Listing) -> dict[str, tuple[str, str | None]]:
    return {source.uri: (source.outcome, source.reason) for source in listing.sources}


class TestListing:
    def test_a_remote_folder(self, bucket: str) -> None:
        found = list_sources(bucket + "/", config())
        assert [source.uri for source in found.sources] == ["a.mp4", "deep/b.MKV"]
        assert found.sources[1].path == f"{bucket}/deep/b.MKV"
        assert found.sources[1].timeline == f"{bucket}/deep/b.timeline.jsonl"
        assert found.ignored == 1, "the notes; a timeline belongs to its film"

    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("**/*.mp4", ["a.mp4"]),
            ("*/*", ["deep/b.MKV"]),
            ("deep/?.M*", ["b.MKV"]),
            ("[ab].mp4", ["a.mp4"]),
        ],
    )
    def test_a_glob_is_the_same_near_and_far(
        self, bucket: str, pattern: str, expected: list[str], tmp_path: Path
    ) -> None:
        store = store_at(bucket)
        for name in store.names():
            store_at(tmp_path / "in").write(name, store.read(name))
        for root in (bucket, str(tmp_path / "in")):
            found = list_sources(f"{root}/{pattern}", config())
            assert [source.uri for source in found.sources] == expected

    def test_a_file_whose_name_looks_like_a_glob_is_that_file(self, tmp_path: Path) -> None:
        (tmp_path / "a[1].mp4").write_bytes(b"x")
        (source,) = list_sources(tmp_path / "a[1].mp4", config()).sources
        assert source.uri == "a[1].mp4"

    def test_one_remote_film(self, bucket: str, web: Web) -> None:
        assert [s.uri for s in list_sources(f"{bucket}/a.mp4", config()).sources] == ["a.mp4"]
        url = web.file("/a.mp4", b"film")
        assert [s.path for s in list_sources(url, config()).sources] == [url]

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ("memory://nothing/there", "does not exist"),
            ("memory://nothing/**/*.mp4", "does not exist"),
            ("http://8.8.8.8/folder", "neither media .* nor a manifest"),
            ("ftp://host/a.mp4", "schemes"),
            ("s3://k:secret@bucket/a.mp4", "credentials"),
            ("missing/**/*.mp4", "there is no folder missing"),
        ],
    )
    def test_mistakes_are_named(self, given: str, message: str) -> None:
        with pytest.raises(UserError, match=message) as found:
            list_sources(given, config())
        assert "secret" not in str(found.value)

    def test_a_remote_manifest_names_files_beside_it(self, bucket: str, web: Web) -> None:
        rows = '{"uri": "a.mp4"}\n{"uri": "deep/b.MKV", "timeline": "deep/b.timeline.jsonl"}\n'
        store_at(bucket).write_text("m.jsonl", rows)
        found = list_sources(f"{bucket}/m.jsonl", config())
        assert [source.path for source in found.sources] == [
            f"{bucket}/a.mp4",
            f"{bucket}/deep/b.MKV",
        ]
        assert found.sources[1].timeline == f"{bucket}/deep/b.timeline.jsonl"
        url = web.file("/list/m.csv", b"uri,title\na.mp4,A\n/b.mp4,B\n")
        found = list_sources(url, config())
        assert [s.path for s in found.sources] == [web.url("/b.mp4"), web.url("/list/a.mp4")]
        assert [s.meta for s in found.sources] == [{"title": "B"}, {"title": "A"}]

    def test_a_remote_manifest_names_no_file_of_this_machine(self, bucket: str) -> None:
        rows = '{"uri": "file:///etc/hostname"}\n{"uri": "/etc/hostname"}\n'
        store_at(bucket).write_text("m.jsonl", rows)
        beside, refused = list_sources(f"{bucket}/m.jsonl", config()).sources
        assert (refused.outcome, refused.reason) == ("failed", "refused")
        assert beside.path.startswith("memory://")


class TestNaming:
    def test_a_film_has_its_name_wherever_it_lies(
        self, bucket: str, web: Web, tmp_path: Path
    ) -> None:
        (tmp_path / "a.mp4").write_bytes(b"film a")
        far = {"uri": f"{bucket}/a.mp4", "who": 1}
        web_row = {"uri": web.file("/x.mp4", b"film a"), "who": 2}
        found = named(manifest(tmp_path, {"uri": "a.mp4"}, far, web_row), tmp_path)
        assert {source.video_id for source in found.sources} == {sha256_bytes(b"film a")[:32]}
        assert sorted(source.outcome for source in found.sources) == ["filtered", "filtered", "ok"]

    def test_what_did_not_change_is_not_fetched_again(
        self, bucket: str, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fetched: list[str] = []
        real = remote.RemoteStore.save
        monkeypatch.setattr(
            remote.RemoteStore,
            "save",
            lambda self, name, place: (fetched.append(self.uri), real(self, name, place))[1],
        )
        bodies: list[int] = []
        url = web.file("/x.mp4", b"film x", etag='"1"')
        plain = web.replies["/x.mp4"]

        def watched(handler: BaseHTTPRequestHandler) -> None:
            bodies.append(handler.headers.get("If-None-Match") is None)
            plain(handler)

        web.replies["/x.mp4"] = watched
        given = manifest(tmp_path, {"uri": f"{bucket}/a.mp4"}, {"uri": url})
        first = named(given, tmp_path)
        again = named(given, tmp_path)
        assert again == first and len(fetched) == 1 and bodies == [True, False]
        store_at(bucket).write("a.mp4", b"another film")
        web.file("/x.mp4", b"film y", etag='"2"')
        changed = named(given, tmp_path)
        assert len(fetched) == 2
        assert not {s.video_id for s in changed.sources} & {s.video_id for s in first.sources}
        assert named(given, tmp_path) == changed
        assert len(pq.read_table(tmp_path / "table" / "sources.parquet")) == 2, "the last state"

    def test_of_an_unchanged_folder_only_a_listing_is_asked_for(
        self, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = store_at(f"{s3}/{uuid.uuid4().hex}")
        store.write("a.mp4", b"film a")
        store.write("deep/b.mp4", b"film b")
        first = named(store.place(), tmp_path)
        asked: list[str] = []
        real = fetching._from_store
        monkeypatch.setattr(
            fetching, "_from_store", lambda uri, *rest: (asked.append(uri), real(uri, *rest))[1]
        )
        assert outcomes(named(store.place(), tmp_path)) == outcomes(first)
        assert asked == []
        store.write("a.mp4", b"film c")
        changed = named(store.place(), tmp_path)
        assert asked == [store.place("a.mp4")]
        assert changed.sources[0].video_id == sha256_bytes(b"film c")[:32]

    def test_what_will_not_come_ends_with_its_reason(self, web: Web, tmp_path: Path) -> None:
        small = config(remote={**OPEN.model_dump(), "max_mb": 100 / 2**20})
        urls = {
            web.url("/none.mp4"): ("failed", "not_found"),
            web.file("/large.mp4", b"x" * 200): ("failed", "too_large"),
            web.file("/empty.mp4", b""): ("failed", "empty"),
            "ftp://host/a.mp4": ("failed", "refused"),
            web.file("/a.mp4", b"film"): ("ok", None),
        }
        given = manifest(tmp_path, *({"uri": url} for url in urls))
        assert outcomes(named(given, tmp_path, small)) == urls
        closed = named(given, tmp_path, SourceConfig())
        assert {reason for _, reason in outcomes(closed).values()} == {"refused"}
        assert "no public address" in str(closed.sources[-1].message)

    def test_what_breaks_is_tried_again_then_put_off_then_taken_up(
        self, web: Web, tmp_path: Path
    ) -> None:
        url = web.file("/a.mp4", b"half of it", said=1000)
        web.status("/b.mp4", 503)
        given = manifest(tmp_path, {"uri": url}, {"uri": web.url("/b.mp4")})
        found = named(given, tmp_path)
        assert set(outcomes(found).values()) == {("pending", None)}
        assert web.times("/a.mp4") == web.times("/b.mp4") == OPEN.tries
        assert [(one.stage, one.item) for one in found.put_off()] == [
            ("source", url),
            ("source", web.url("/b.mp4")),
        ]
        assert "10 bytes came of 1000" in found.put_off()[0].why
        assert list(found.records()) == []
        for name in ("/a.mp4", "/b.mp4"):
            web.file(name, name.encode())
        assert set(outcomes(named(given, tmp_path)).values()) == {("ok", None)}

    @pytest.mark.parametrize("length", [None, "1000000"])
    def test_who_took_all_the_time_is_not_asked_again(
        self, web: Web, tmp_path: Path, length: str | None
    ) -> None:
        def trickle(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            if length is not None:
                handler.send_header("Content-Length", length)
            handler.end_headers()
            while True:
                handler.wfile.write(b"x")
                time.sleep(0.05)

        web.replies["/a.mp4"] = trickle
        slow = config(remote={**OPEN.model_dump(), "max_seconds": 0.5})
        found = named(manifest(tmp_path, {"uri": web.url("/a.mp4")}), tmp_path, slow)
        assert set(outcomes(found).values()) == {("pending", None)}
        assert web.times("/a.mp4") == 1

    def test_a_timeline_comes_along(self, bucket: str, tmp_path: Path) -> None:
        found = named(bucket, tmp_path)
        film = found.sources[1]
        assert film.timeline_sha256 == sha256_bytes(b"{}")
        store_at(bucket).remove("deep/b.timeline.jsonl")
        given = manifest(tmp_path, {"uri": film.path, "timeline": film.timeline})
        (lost,) = named(given, tmp_path).sources
        assert (lost.outcome, lost.reason) == ("failed", "timeline")


class TestManifestsThatTellTheHash:
    def test_such_a_film_is_not_fetched_to_be_named(self, web: Web, tmp_path: Path) -> None:
        url = web.file("/a.mp4", b"film a")
        given = manifest(tmp_path, {"uri": url, "sha256": sha256_bytes(b"film a").upper(), "n": 1})
        (film,) = named(given, tmp_path).sources
        assert (film.outcome, film.video_id) == ("ok", sha256_bytes(b"film a")[:32])
        assert film.meta == {"n": 1} and web.asked == []

    def test_whose_bytes_were_read_stays_rather_than_who_says_to_have_them(
        self, web: Web, tmp_path: Path
    ) -> None:
        (tmp_path / "z.mp4").write_bytes(b"film a")
        row = {"uri": web.url("/none.mp4"), "sha256": sha256_bytes(b"film a")}
        found = named(manifest(tmp_path, row, {"uri": "z.mp4"}), tmp_path)
        assert outcomes(found) == {row["uri"]: ("filtered", "duplicate"), "z.mp4": ("ok", None)}

    def test_a_file_here_that_is_another_is_quarantined(self, tmp_path: Path) -> None:
        for name in ("a.mp4", "b.mp4"):
            (tmp_path / name).write_bytes(name.encode())
        rows = [{"uri": n, "sha256": sha256_bytes(b"a.mp4")} for n in ("a.mp4", "b.mp4")]
        found = named(manifest(tmp_path, *rows), tmp_path)
        assert outcomes(found) == {"a.mp4": ("ok", None), "b.mp4": ("quarantined", "sha256")}
        counts = conservation.count(found.sources, (), Replay())["videos"]
        assert counts.quarantined == {"sha256": 1}

    @pytest.mark.parametrize("given", ["abc", 5, "g" * 64, "0" * 63, ["0" * 64]])
    def test_what_is_no_hash_is_a_mistake(self, tmp_path: Path, given: object) -> None:
        path = manifest(tmp_path, {"uri": "a.mp4"}, {"uri": "b.mp4", "sha256": given})
        with pytest.raises(UserError, match=r"row 2: sha256 .* is not 64 hex digits"):
            list_sources(path, config())

    def test_the_worker_that_fetches_it_sees_whether_it_is_true(
        self, make_plan: Callable[..., Plan], web: Web, tmp_path: Path
    ) -> None:
        film = b'{"shots": []}'
        good, other = web.file("/good.mp4", film), web.file("/other.mp4", film + b" ")
        claims = {good: sha256_bytes(film), other: "1" * 64, web.url("/gone.mp4"): "2" * 64}
        claims[web.status("/later.mp4", 503)] = "3" * 64
        rows = [{"uri": uri, "sha256": sha256} for uri, sha256 in claims.items()]
        records = list(named(manifest(tmp_path, *rows), tmp_path).records())
        plan, notes = make_plan(), tmp_path / "notes"
        stage = plan.stages[0]
        stage.context = replace(stage.context, fetch=Fetcher(OPEN))
        worker = Worker(Job(stage, 0, plan.tables[0], notes, lambda event: None))
        onward = [row for part in worker(flow([(0, one) for one in records])) for row in part]
        assert onward
        stored = Shelf(plan.tables[0]).answers()
        found = {
            record["uri"]: [(row.outcome, row.reason) for row in stored.get(stage.key(record), ())]
            for record in records
        }
        assert found == {
            good: [("ok", None)],
            other: [("quarantined", "sha256")],
            web.url("/gone.mp4"): [("quarantined", "not_found")],
            web.url("/later.mp4"): [],
        }
        assert [one.item for one in read_put_off(tmp_path)] == [web.url("/later.mp4")]


def test_a_run_says_what_it_had_to_leave_and_counts_it(
    make_plan: Callable[..., Plan], web: Web, view: PlainView, tmp_path: Path
) -> None:
    web.status("/later.mp4", 503)
    given = manifest(tmp_path, {"uri": web.url("/later.mp4")}, {"uri": web.url("/none.mp4")})
    plan = make_plan()
    plan = replace(plan, recipe=plan.recipe.model_copy(update={"source": config()}))
    with pytest.raises(RunError, match=r"1 records are left(.|\n)*later\.mp4.*503"):
        run(plan, given, view)
    (listing,) = [name for name in plan.layout.runs.names() if name.endswith(LISTING)]
    found = read_listing(plan.layout.runs.at(listing.partition("/")[0]))
    videos = conservation.count(found.sources, plan.stages, Replay())["videos"].to_json()
    assert videos == {
        **{"inputs": 2, "ok": 0, "pending": 1, "failed": {"not_found": 1}},
        **{"filtered": {}, "quarantined": {}},
    }


class TestAtHand:
    def test_a_copy_is_fetched_where_it_is_missing(self, bucket: str, tmp_path: Path) -> None:
        (film, _) = named(bucket, tmp_path).sources
        fetch = Fetcher(config().remote)
        copy = Path(fetch(film.path, str(film.video_id)))
        assert copy.read_bytes() == b"film a" and copy.suffix == ".mp4"
        assert cache_folder() in copy.parents
        copy.unlink()
        assert Path(fetch(film.path, str(film.video_id))).read_bytes() == b"film a"

    def test_other_bytes_are_not_taken_for_it(self, bucket: str, tmp_path: Path) -> None:
        (film, _) = named(bucket, tmp_path).sources
        Path(Fetcher(config().remote)(film.path, str(film.video_id))).unlink()
        store_at(bucket).write("a.mp4", b"others")
        with pytest.raises(UserError, match="is not what was listed"):
            Fetcher(config().remote)(film.path, str(film.video_id))
        store_at(bucket).remove("a.mp4")
        with pytest.raises(UserError, match="cannot be fetched"):
            Fetcher(config().remote)(film.path, str(film.video_id))


def test_what_opens_doors_is_not_stored(tmp_path: Path) -> None:
    uri = "https://user:pw@host/a.mp4?id=7&X-Amz-Signature=secret&sig=secret&Expires=1"
    assert stored(uri) == "https://host/a.mp4?id=7"
    (source,) = list_sources(manifest(tmp_path, {"uri": uri}), config()).sources
    write_listing(tmp_path, Listing((source,)))
    text = str(pq.read_table(tmp_path / "inputs.parquet").to_pylist())
    assert "secret" not in text and "pw" not in text and "id=7" in text


def test_nor_is_it_told_when_something_goes_wrong(web: Web, tmp_path: Path) -> None:
    web.status("/b.mp4?sig=secret", 503)
    web.status("/c.mp4?sig=secret", 302, "/none?sig=secret")
    web.file("/a.mp4?sig=secret", b"half", said=1000)
    rows = [{"uri": web.url(f"/{name}.mp4?sig=secret")} for name in "abc"]
    found = named(manifest(tmp_path, *rows), tmp_path)
    assert [source.outcome for source in found.sources] == ["pending", "pending", "failed"]
    assert web.times("/none?sig=secret") == 1
    assert "secret" not in str([source.message for source in found.sources])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("videos/**/*.mp4", ("videos", "**/*.mp4")),
        ("*.mp4", (".", "*.mp4")),
        ("/*/a.mp4", ("/", "*/a.mp4")),
        ("/a/b?/c", ("/a", "b?/c")),
    ],
)
def test_where_a_glob_begins(text: str, expected: tuple[str, str]) -> None:
    assert split_glob(text) == expected


def test_a_local_source_is_named_as_before(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").write_bytes(b"x")
    (source,) = named(str(tmp_path / "in"), tmp_path).sources
    assert source == Source(
        "a.mp4",
        str(tmp_path / "in" / "a.mp4"),
        size=1,
        mtime_ns=source.mtime_ns,
        video_id=sha256_bytes(b"x")[:32],
    )
