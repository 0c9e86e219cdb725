import errno
import json
import os
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.errors import UserError
from pipeline.inputs.listing import list_sources
from pipeline.inputs.naming import identify
from pipeline.inputs.sources import Listing, SourceConfig, read_listing, write_listing

CONFIG = SourceConfig()


def listed(given: Path, cache: Path | None = None, *, rehash: bool = False) -> Listing:
    listing = list_sources(str(given), CONFIG)
    return identify(listing, CONFIG, cache or given.parent / "cache", rehash=rehash)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "in"
    (root / "deep").mkdir(parents=True)
    (root / "b.mp4").write_bytes(b"b")
    (root / "deep" / "a.MKV").write_bytes(b"a")
    (root / "notes.txt").write_text("no media")
    (root / ".hidden.mp4").write_bytes(b"h")
    return root


class TestFolder:
    def test_media_are_listed_in_order_and_others_counted(self, folder: Path) -> None:
        found = listed(folder)
        assert [source.uri for source in found.sources] == ["b.mp4", "deep/a.MKV"]
        assert found.ignored == 1

    def test_a_name_depends_on_bytes_alone(self, folder: Path, tmp_path: Path) -> None:
        other = tmp_path / "elsewhere"
        other.mkdir()
        (other / "z.mp4").write_bytes(b"b")
        assert listed(other).sources[0].video_id == listed(folder).sources[0].video_id

    def test_the_second_of_equal_files_is_a_duplicate(self, folder: Path) -> None:
        (folder / "a.mp4").write_bytes(b"b")
        first, second, _ = listed(folder).sources
        assert (first.uri, first.outcome) == ("a.mp4", "ok")
        assert (second.outcome, second.reason) == ("filtered", "duplicate")
        assert "a.mp4" in str(second.message)
        assert len(list(listed(folder).records())) == 2

    def test_empty_and_unreadable_files_end_here(self, folder: Path) -> None:
        (folder / "empty.mp4").touch()
        (folder / "gone.mp4").symlink_to(folder / "nowhere.mp4")
        reasons = {source.uri: source.reason for source in listed(folder).sources}
        assert reasons["empty.mp4"] == "empty"
        assert reasons["gone.mp4"] == "unreadable"

    def test_a_name_that_is_no_text_ends_alone(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "in" / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"c")
        (tmp_path / "in" / os.fsdecode(b"caf\xe9.timeline.jsonl")).write_text("{}\n")
        found = listed(folder)
        write_listing(tmp_path, found)
        assert read_listing(tmp_path) == found
        fates = {source.uri: (source.outcome, source.reason) for source in found.sources}
        assert fates == {
            "b.mp4": ("ok", None),
            "caf\\udce9.mp4": ("failed", "unreadable_name"),
            "deep/a.MKV": ("ok", None),
        }
        assert found.ignored == 1, "its sidecar is known for one"

    def test_links_are_followed_once(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "more").mkdir()
        (tmp_path / "more" / "c.mp4").write_bytes(b"c")
        (folder / "linked").symlink_to(tmp_path / "more")
        (folder / "deep" / "loop").symlink_to(folder)
        found = [source.uri for source in listed(folder).sources]
        assert found == ["b.mp4", "deep/a.MKV", "linked/c.mp4"]

    def test_odd_names_are_names(self, folder: Path, tmp_path: Path) -> None:
        """Of two spellings of é, and what shells, terminals, globs and URIs take for something."""
        names = {
            "e\u0301.mp4",
            "\u00e9.mp4",
            "-i.mp4",
            " .mp4",
            "a\nb.mp4",
            "*.mp4",
            "a?b#c%20.mp4",
        }
        names |= {"\x1b[31mred.mp4", "\u202egpj.mp4", "dir.mp4/in.mp4"}
        (folder / "dir.mp4").mkdir()
        for name in names:
            (folder / name).write_text(name)
        found = listed(folder)
        write_listing(tmp_path, found)
        assert read_listing(tmp_path) == found
        assert {s.uri for s in found.sources} == {*names, "b.mp4", "deep/a.MKV"}
        assert {s.outcome for s in found.sources} == {"ok"}

    def test_what_is_no_ordinary_file_is_not_read(self, folder: Path) -> None:
        os.mkfifo(folder / "fifo.mp4")
        (folder / "zero.mp4").symlink_to("/dev/zero")
        (folder / "round.mp4").symlink_to(folder / "round.mp4")
        reasons = {source.uri: source.reason for source in listed(folder).sources}
        assert {reasons[f"{name}.mp4"] for name in ("fifo", "zero", "round")} == {"unreadable"}

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
    def test_a_folder_that_cannot_be_listed_is_not_passed_over(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        real = os.scandir

        def scandir(place: str) -> Any:
            if str(place).endswith("/deep"):
                raise OSError(number, os.strerror(number), str(place))
            return real(place)

        monkeypatch.setattr(os, "scandir", scandir)
        if number == errno.EIO:
            with pytest.raises(OSError, match="Input/output"):
                listed(folder)
            return
        reasons = {source.uri: source.reason for source in listed(folder).sources}
        assert reasons == {"b.mp4": None, "deep/": "unreadable"}
        (only,) = list_sources(f"{folder}/*.mp4", CONFIG).sources
        assert only.uri == "b.mp4", "nobody asked for what lies deeper"

    def test_a_timeline_lies_beside_its_video(self, folder: Path) -> None:
        (folder / "b.timeline.jsonl").write_text("{}\n")
        found = listed(folder)
        assert str(found.sources[0].timeline).endswith("b.timeline.jsonl")
        assert found.sources[0].timeline_sha256 is not None
        assert found.ignored == 1, "a sidecar is no ignored file"

    def test_one_file(self, folder: Path) -> None:
        assert [source.uri for source in listed(folder / "b.mp4").sources] == ["b.mp4"]


class TestManifest:
    ROWS = (
        {"uri": "in/deep/a.MKV", "title": "A", "stars": 5},
        {"uri": "in/b.mp4", "timeline": "b.jsonl", "title": "B", "stars": None},
    )

    @pytest.fixture(params=["jsonl", "csv", "parquet"])
    def manifest(self, request: pytest.FixtureRequest, folder: Path) -> Path:
        path = folder.parent / f"manifest.{request.param}"
        (folder.parent / "b.jsonl").write_text("{}\n")
        rows = [{"timeline": None, **row} for row in self.ROWS]
        if request.param == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in self.ROWS))
        elif request.param == "csv":
            path.write_text("uri,timeline,title,stars\nin/deep/a.MKV,,A,5\nin/b.mp4,b.jsonl,B,\n")
        else:
            pq.write_table(pa.Table.from_pylist(rows), path)
        return path

    def test_user_columns_are_carried_along(self, manifest: Path) -> None:
        first, second = listed(manifest).sources
        assert (first.uri, second.uri) == ("in/b.mp4", "in/deep/a.MKV")
        assert str(first.timeline).endswith("b.jsonl")
        assert first.meta["title"] == "B"
        assert str(second.meta["stars"]) == "5"
        assert set(second.meta) == {"title", "stars"}
        assert first.outcome == second.outcome == "ok"

    def test_a_line_ends_at_a_line_feed_and_nowhere_else(self, folder: Path) -> None:
        path = folder / "m.jsonl"
        path.write_text('{"uri": "b.mp4", "title": "a\u2028b\x85c"}\r\n', encoding="utf-8")
        assert listed(path).sources[0].meta == {"title": "a\u2028b\x85c"}

    def test_a_listed_file_that_is_missing_ends_alone(self, folder: Path) -> None:
        path = folder / "m.jsonl"
        path.write_text('{"uri": "b.mp4"}\n{"uri": "missing.mp4"}\n')
        assert [source.reason for source in listed(path).sources] == [None, "unreadable"]

    @pytest.mark.parametrize(
        "row",
        [
            '{"uri": "half\\ud83d.mp4"}',
            '{"uri": "a\\u0000.mp4"}',
            '{"uri": "a", "timeline": "\\udce9"}',
        ],
    )
    def test_a_name_that_no_file_can_have_ends_alone(
        self, folder: Path, tmp_path: Path, row: str
    ) -> None:
        path = folder / "m.jsonl"
        path.write_text('{"uri": "b.mp4"}\n{"uri": "/"}\n' + row + "\n")
        found = listed(path)
        write_listing(tmp_path, found)
        reasons = sorted(str(source.reason) for source in found.sources)
        assert reasons == ["None", "unreadable", "unreadable_name"]

    def test_a_row_that_is_no_address_ends_alone(self, folder: Path) -> None:
        path = folder / "m.jsonl"
        rows = [
            "http://[::1/a.mp4",
            "file://elsewhere/a.mp4",
            "http://u:pw@[x/a.mp4?sig=1",
            "b.mp4",
        ]
        path.write_text("".join(json.dumps({"uri": uri}) + "\n" for uri in rows))
        found = {source.uri: source.reason for source in listed(path).sources}
        assert found == {
            "b.mp4": None,
            "file://elsewhere/a.mp4": "refused",
            "http://[::1/a.mp4": "refused",
            "http://[x/a.mp4": "refused",
        }

    @pytest.mark.parametrize("uri", ["file://{}/b%2emp4", "FILE://localhost{}/b.mp4"])
    def test_local_uris(self, folder: Path, uri: str) -> None:
        path = folder / "m.jsonl"
        path.write_text(json.dumps({"uri": uri.format(folder)}) + "\n")
        assert [source.outcome for source in listed(path).sources] == ["ok"]
        assert len(list_sources(f"file://{folder}", CONFIG).sources) == 2

    def test_a_missing_timeline_ends_its_video(self, folder: Path) -> None:
        path = folder / "m.jsonl"
        path.write_text('{"uri": "b.mp4", "timeline": "none.jsonl"}\n')
        assert [source.reason for source in listed(path).sources] == ["timeline"]

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("m.jsonl", "", "lists nothing"),
            ("m.jsonl", '{"path": "b.mp4"}\n', "no column 'uri'.*path"),
            ("m.jsonl", '{"uri": "b.mp4"}\n{"uri": "b.mp4"}\n', "row 2.*listed in row 1"),
            ("m.jsonl", '{"uri": "b.mp4"}\nnonsense\n', "line 2 is no JSON"),
            ("m.jsonl", '{"uri": "b.mp4", "x": NaN}\n', "line 1 is no JSON"),
            ("m.jsonl", '["b.mp4"]\n', "no JSON object"),
            ("m.jsonl", '{"uri": 4}\n', "row 1: no uri"),
            ("m.csv", "uri,title\nb.mp4\n", "line 2: expected the 2 columns"),
            ("m.csv", "uri,title\nb.mp4,x,y\n", "line 2: expected the 2 columns"),
            ("m.csv", "uri,x,x\nb.mp4,1,2\n", "line 1: 'x' stands there twice"),
            ("m.csv", 'uri,x\nb.mp4,1\nc.mp4,"2\n', "after line 2: unexpected end"),
            ("m.csv", "uri,x\nb.mp4,\udce9\n", "'utf-8' codec can't decode"),
            ("m.jsonl", '{"uri": "b.mp4", "uri": "c.mp4"}\n', "line 1.*'uri' stands there twice"),
            ("m.jsonl", '{"uri": "b.mp4", "x": 1e400}\n', "line 1.*1e400 is too large"),
            ("m.jsonl", '{"uri": "b.mp4"}\n{"uri": "caf\udce9.mp4"}\n', "line 2.*utf-8"),
            (
                "m.jsonl",
                '{"uri": "b.mp4", "x": ' + "[" * 900 + "]" * 900 + "}\n",
                "line 1.*more than 32 deep",
            ),
            ("m.parquet", "no parquet", "cannot be read"),
        ],
    )
    def test_mistakes_are_named(self, folder: Path, name: str, text: str, message: str) -> None:
        (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(UserError, match=message):
            listed(folder / name)

    def test_the_broken_line_of_many_is_named(self, folder: Path) -> None:
        lines = [json.dumps({"uri": f"{n}.mp4"}) for n in range(1000)]
        (folder / "m.jsonl").write_text("\n".join([*lines[:499], '{"uri": "x', *lines[500:]]))
        with pytest.raises(UserError, match="line 500 is no JSON"):
            listed(folder / "m.jsonl")

    def test_a_cell_may_be_long_and_hold_lines(self, folder: Path) -> None:
        text = "a line\n" * 50_000
        (folder / "m.csv").write_text(f'uri,said\nb.mp4,"{text}"\n"c\nd.mp4",\n')
        found = {source.uri: source.meta["said"] for source in listed(folder / "m.csv").sources}
        assert found == {"b.mp4": text, "c\nd.mp4": ""}

    def test_columns_of_any_type_become_json(self, folder: Path, tmp_path: Path) -> None:
        columns: dict[str, Any] = {
            "uri": pa.array([b"b.mp4"]).dictionary_encode(),
            "struct": [{"a": [1.5, float("nan")]}],
            "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
            "bytes": [b"caf\xe9"],
            "moment": [datetime(2020, 1, 2)],
            "sum": [Decimal("1.20")],
            "none": pa.nulls(1),
            "large": pa.array([2**64 - 1], pa.uint64()),
            # Names of ours mean nothing of ours.
            **{name: ["x"] for name in ("video_id", "path", "meta", "outcome", "clip_id", "size")},
        }
        pq.write_table(pa.table(columns), folder / "m.parquet")
        found = listed(folder / "m.parquet")
        write_listing(tmp_path, found)
        (film,) = read_listing(tmp_path).sources
        assert (film.uri, film.outcome) == ("b.mp4", "ok")
        ours = {name: film.meta.pop(name) for name in ("path", "meta", "outcome", "video_id")}
        assert set(ours.values()) == {"x"}
        assert film.meta == {
            **{"struct": {"a": [1.5, None]}, "map": [["k", 1]], "bytes": "caf\\xe9"},
            **{"moment": "2020-01-02 00:00:00", "sum": "1.20", "none": None, "large": 2**64 - 1},
            **{"clip_id": "x", "size": "x"},
        }

    def test_a_byte_order_mark_is_no_text(self, folder: Path) -> None:
        (folder / "m.jsonl").write_bytes(b'\xef\xbb\xbf{"uri": "b.mp4"}\n')
        assert listed(folder / "m.jsonl").sources[0].outcome == "ok"


class TestMissing:
    def test_no_such_input(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="does not exist"):
            list_sources(str(tmp_path / "none"), CONFIG)

    def test_no_media(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").touch()
        with pytest.raises(UserError, match=r"no media \(1 other files\)"):
            list_sources(str(tmp_path), CONFIG)

    def test_neither_media_nor_manifest(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").touch()
        with pytest.raises(UserError, match="neither media"):
            list_sources(str(tmp_path / "a.txt"), CONFIG)


def test_a_listing_is_stored_and_read_back(folder: Path, tmp_path: Path) -> None:
    meta: dict[str, Any] = {"stars": 5, "tags": ["x"]}
    (folder / "m.jsonl").write_text(json.dumps({"uri": "b.mp4", **meta}) + "\n")
    listing = listed(folder / "m.jsonl")
    write_listing(tmp_path, listing)
    assert read_listing(tmp_path) == listing
    assert listing.sources[0].meta == meta
