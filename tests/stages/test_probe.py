"""The probe tells what is in a file, and believes no name and no header."""

import io
import json
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from films import context, counter, counter_film, probe, shots, source

from stages.probe import ProbeConfig, ProbeStage

BASE = Fraction(1, 90000)
STEADY = [n * 3000 for n in range(60)]


def sound(path: Path, seconds: float = 1.0, **kwargs: str) -> Path:
    with av.open(str(path), "w", **kwargs) as container:
        stream = container.add_stream("aac", rate=48000)
        for start in range(0, int(48000 * seconds), 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 48000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def verdict(folder: Path, path: Path, **config: float) -> tuple[str, str | None]:
    row, records = probe(folder, source(path), **config)
    assert bool(records) == (row.outcome == "ok")
    return row.outcome, row.reason


def test_facts_come_from_the_packets(tmp_path: Path) -> None:
    path = counter_film(tmp_path / "a.mp4", [n * 3000 + 45000 for n in range(60)], BASE)
    row, (record,) = probe(tmp_path, source(path))
    assert row.columns == {
        "stream": 0,
        "container": "mov,mp4,m4a,3gp,3g2,mj2",
        "codec": "h264",
        "width": 96,
        "height": 96,
        "rotation": 0,
        "fps": pytest.approx(30.0),
        "vfr": False,
        "duration": pytest.approx(2.0),
        "packets": 60,
        "time_base": [1, 90000],
        "end_pts": 45000 + 60 * 3000,
        "transfer": "sdr",
        "matrix": "bt601",
        "claimed_duration": pytest.approx(2.0, abs=0.6),
        "claimed_frames": 60,
    }
    assert record.items() >= row.columns.items()
    assert set(row.columns) == set(ProbeStage.writes.names)


def test_uneven_timing_is_noticed(tmp_path: Path) -> None:
    ticks = np.cumsum([0, *[3000, 1500, 9000] * 10]).tolist()
    row, _ = probe(tmp_path, source(counter_film(tmp_path / "a.mp4", ticks, BASE)))
    assert row.columns["vfr"] and row.columns["fps"] == pytest.approx(30 / (ticks[-1] / 90000))


@pytest.mark.parametrize(
    "name",
    [
        "-y.mp4",
        "with space.mp4",
        "two\nlines.mp4",
        "concat:a.mp4|b.mp4",
        "http:example.mp4",
        "file:x.mp4",
        "a%03d.mp4",
        "quote'\"$(x);.mp4",
        "no_suffix",
        "wrong.png",
        "wrong.m3u8",
    ],
)
def test_names_are_names(tmp_path: Path, name: str) -> None:
    """Any name is a plain file to the probe and to the decoder; its suffix decides nothing."""
    path = counter_film(tmp_path / "film", STEADY, BASE, muxer="mp4").rename(tmp_path / name)
    row, (record,) = probe(tmp_path, source(path))
    assert row.outcome == "ok"
    rows, records = shots(tmp_path, {**record, "timeline": None})
    assert records, rows
    assert records[0]["shots"][-1]["end_frame"] == 60


def test_scripts_that_open_other_files_are_no_media(tmp_path: Path) -> None:
    """A playlist or a concat script named .mp4 would read files of the machine; text is no film."""
    secret = counter_film(tmp_path / "secret.mp4", STEADY, BASE)
    scripts = {
        "playlist.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2,\n{secret}\n#EXT-X-ENDLIST\n",
        "script.mp4": f"ffconcat version 1.0\nfile {secret.name}\n",
        "letters.mp4": "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "letters.txt": "Art of text, " * 2000,
        "empty.mp4": "",
    }
    for name, text in scripts.items():
        (tmp_path / name).write_text(text)
        assert verdict(tmp_path, tmp_path / name) == ("failed", "not_media"), name


def test_a_codec_that_nobody_knows_is_named_and_no_crash(tmp_path: Path) -> None:
    """Found by fuzzing: libav opens the file and has no decoder for its film."""
    path = counter_film(tmp_path / "a.mp4", STEADY, BASE)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    row, _ = probe(tmp_path, source(path))
    assert (row.outcome, row.reason) == ("failed", "no_decoder")
    assert "codec" in str(row.message)


def test_a_stream_may_begin_midway(tmp_path: Path) -> None:
    """Found by fuzzing: broadcasts do this, and PyAV ends in an IndexError - or not, by chance."""
    from stages.reading.probe_child import Film

    path = counter_film(tmp_path / "a.ts", STEADY, BASE, muxer="mpegts")

    class Stumbling:
        def __init__(self, container: av.container.InputContainer) -> None:
            self._container = container

        def demux(self) -> Iterator[av.Packet]:
            yield from self._container.demux()
            raise IndexError("list index out of range")

    with av.open(str(path)) as container:
        film = Film(container.streams.video[0])
        film.read(Stumbling(container))  # type: ignore[arg-type]
    assert len(film.times) == 60


def test_a_header_may_point_before_the_beginning_of_the_file(tmp_path: Path) -> None:
    """Found by fuzzing: libav follows it, and Python's files raise an OSError then."""
    from stages.reading.probe_child import Bytes

    path = tmp_path / "a"
    path.write_bytes(b"abc")
    with Bytes(io.FileIO(path)) as file:
        assert file.seek(-5) < 0 and file.seek(2) == 2 and file.read() == b"c"


def test_a_missing_file_says_nothing_about_its_bytes(tmp_path: Path) -> None:
    path = counter_film(tmp_path / "a.mp4", STEADY, BASE)
    record = source(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.mp4"):
        probe(tmp_path, record)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    assert verdict(tmp_path, sound(tmp_path / "a.mp4")) == ("failed", "no_video")


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 96, 96, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(counter(1), format="rgb24")))
        container.mux(cover.encode(None))
    assert verdict(tmp_path, path) == ("failed", "no_video")


def test_the_first_of_two_films_counts(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = []
        for side in (96, 192):
            stream = container.add_stream("libx264", rate=30)
            stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
            streams.append(stream)
        for number in range(30):
            for stream in streams:
                picture = np.kron(counter(number), np.ones((stream.width // 96,) * 2 + (1,)))
                frame = av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    row, _ = probe(tmp_path, source(path))
    assert (row.columns["stream"], row.columns["width"]) == (0, 96)


def test_short_and_small_films_keep_their_facts(tmp_path: Path) -> None:
    path = counter_film(tmp_path / "a.mp4", STEADY, BASE)
    row, records = probe(tmp_path, source(path), min_seconds=2.5)
    assert (row.outcome, row.reason, records) == ("filtered", "too_short", [])
    assert row.score == pytest.approx(2.0) and row.columns["codec"] == "h264"
    row, _ = probe(tmp_path, source(path), min_size=97)
    assert (row.outcome, row.reason, row.score) == ("filtered", "too_small", 96)


def test_a_cut_copy_is_truncated(tmp_path: Path) -> None:
    """The header is in front and whole; what it promises is not there."""
    options = {"movflags": "faststart"}
    whole = tmp_path / "whole.mp4"
    with av.open(str(whole), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width = stream.height = 96
        stream.pix_fmt = "yuv420p"
        for number in range(90):
            frame = av.VideoFrame.from_ndarray(counter(number), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = whole.read_bytes()
    (tmp_path / "half.mp4").write_bytes(data[: len(data) * 2 // 3])
    row, _ = probe(tmp_path, source(tmp_path / "half.mp4"))
    assert (row.outcome, row.reason) == ("failed", "truncated")
    assert "declares 90 frames" in str(row.message)
    film = counter_film(tmp_path / "whole.mkv", [n * 3000 for n in range(300)], BASE).read_bytes()
    (tmp_path / "half.mkv").write_bytes(film[: len(film) // 2])
    row, _ = probe(tmp_path, source(tmp_path / "half.mkv"))
    assert (row.outcome, row.reason) == ("failed", "truncated")


def test_a_picture_that_stays_for_hours_is_broken_timing(tmp_path: Path) -> None:
    ticks = [*range(0, 90000, 3000), 90000 * 7200]
    path = counter_film(tmp_path / "a.mp4", ticks, BASE)
    assert verdict(tmp_path, path) == ("failed", "timestamps")
    assert verdict(tmp_path, path, max_gap=8000.0) == ("ok", None)


def test_a_child_that_hangs_crashes_or_eats_is_put_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = counter_film(tmp_path / "a.mp4", STEADY, BASE)
    bodies = {
        "timeout": "import time; time.sleep(600)",
        "crash": "import os; os.abort()",
        "memory": "import time; time.sleep(0.1); x = bytearray(9 << 30)",
    }
    for reason, body in bodies.items():
        child = tmp_path / f"{reason}.py"
        log = tmp_path / f"{reason}.log"
        child.write_text(f"open({str(log)!r}, 'a').write('x')\n{body}\n")
        monkeypatch.setattr("stages.probe.CHILD", child)
        row, records = probe(tmp_path, source(path), timeout=0.5)
        assert (row.outcome, row.reason, records) == ("quarantined", reason, [])
        assert log.read_text() == "xx"


def test_limits_are_no_part_of_the_identity(tmp_path: Path) -> None:
    stages = [
        ProbeStage(ProbeConfig(timeout=t, min_seconds=s), context(tmp_path))
        for t, s in ((1.0, 1.0), (2.0, 1.0), (1.0, 2.0))
    ]
    prints = [stage.fingerprint for stage in stages]
    assert prints[0] == prints[1] != prints[2]


def test_reading_gives_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A large file on a slow disk is no hang; the empty lines do not hurt the answer."""
    from stages.reading import probe_child
    from stages.reading.foreign import DEMUXERS

    path = counter_film(tmp_path / "a.mp4", STEADY, BASE)
    monkeypatch.setattr(probe_child, "SIGN_OF_LIFE", -1.0)
    facts = probe_child.describe(str(path), DEMUXERS)
    said = capsys.readouterr().out
    assert len(said) >= facts["packets"] == 60 and not said.strip()
    assert json.loads(said + json.dumps(facts))["packets"] == 60
