"""Real films and real broken files (`public_videos`, `bad_videos`), through the front stages."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from films import clips, context, probe, read_video_of, shots, source

from benchmarks.shots import boundaries, score, truth
from corpus.video import read_video

LONG = 330  # pictures; longer films are cut into clips in the slow run only


def manifest(folder: Path) -> list[dict]:
    return json.loads((folder / "MANIFEST.json").read_text(encoding="utf-8"))["videos"]


@pytest.mark.parametrize(
    "name", ["odd_dimensions_161x121.webm", "hevc_mp4_named.avi", "huge_claimed_duration.mp4"]
)
def test_odd_but_whole_files_give_clips_when_asked(
    tmp_path: Path, bad_videos: Path, name: str
) -> None:
    row, records = probe(tmp_path, source(bad_videos / name))
    _, records = shots(tmp_path, records[0])
    rows, records = clips(tmp_path, records[0], min_seconds=0.75, buckets=((160, 120),))
    assert records, rows
    path = context(tmp_path).media.path(records[0]["clip"])
    assert read_video(path).shape == (1 + 4 * records[0]["chunks"], 120, 160, 3)
    assert row.columns["duration"] < 1.2


def cut_up(folder: Path, path: Path, expected: dict, make_clips: bool) -> tuple[list, int, int]:
    """(shots, pictures, clips) of a film that must be whole, compared with its manifest."""
    row, records = probe(folder, source(path))
    assert records, (path.name, row)
    facts = row.columns
    assert (facts["width"], facts["height"]) == (
        expected["display_width"],
        expected["display_height"],
    )
    assert facts["packets"] == expected["frames"] and facts["vfr"] == expected["vfr"]
    assert facts["fps"] == pytest.approx(expected["fps"], rel=1e-3)
    rows, records = shots(folder, records[0])
    assert records, (path.name, rows)
    found = records[0]["shots"]
    if not make_clips:
        return found, expected["frames"], 0
    rows, records = clips(folder, records[0], min_seconds=2.0, max_seconds=16.0, buckets=BUCKETS)
    assert {row.parent for row in rows} == {shot["shot_id"] for shot in found}
    assert {(row.outcome, row.reason) for row in rows} <= {("ok", None), ("filtered", "too_short")}
    for record in records:
        frames = read_video(context(folder).media.path(record["clip"]))
        assert frames.shape == (
            1 + 4 * record["chunks"], record["height"], record["width"], 3,
        )  # fmt: skip
        assert frames.std() > 5
    return found, expected["frames"], len(records)


BUCKETS = ((256, 144), (192, 192), (144, 256))


def run_all(folder: Path, public: Path, most_frames: float) -> None:
    known = truth(public)
    hits = misses = false = made = 0
    for expected in manifest(public):
        name = expected["file"]
        whole = expected["frames"] <= most_frames
        found, frames, count = cut_up(folder, public / name, expected, whole)
        result = score(boundaries(found, frames), *known[name])
        hits, misses = hits + len(result.found), misses + len(result.missed)
        false += len(result.false)
        made += count
        assert count or not whole, name
    assert hits + misses == 18
    assert hits >= 16 and hits / (hits + false) >= 0.8
    assert made >= (10 if most_frames == LONG else 36)


def test_public_films_are_cut_where_they_are_known_to_be(
    tmp_path: Path, public_videos: Path
) -> None:
    """Every film gives shots and clips, with one set of parameters: the recipe's defaults."""
    run_all(tmp_path, public_videos, LONG)


@pytest.mark.slow
def test_public_films_are_cut_where_they_are_known_to_be_all(
    tmp_path: Path, public_videos: Path
) -> None:
    run_all(tmp_path, public_videos, float("inf"))


def test_burned_in_frame_numbers_agree(tmp_path: Path, public_videos: Path) -> None:
    """Frame n of this film shows n: clip frame j of a clip from 1 s on is picture 30 + 30 j / 16.

    The digits are compared with the source's own pictures, of which no two neighbours are equal.
    """
    path = public_videos / "mediabunny_h265_framecounter.mp4"
    _, records = probe(tmp_path, source(path, [(1.0, 3.2)]))
    _, records = shots(tmp_path, records[0])
    _, (record,) = clips(tmp_path, records[0], min_seconds=2.0, buckets=((480, 270),))
    frames = read_video(context(tmp_path).media.path(record["clip"])).astype(int)
    pictures = read_video_of(path, (480, 270), range(28, 96)).astype(int)
    for j in range(0, 33, 4):
        errors = [abs(frames[j, :140, :240] - p[:140, :240]).mean() for p in pictures]
        assert 28 + errors.index(min(errors)) == 30 + 30 * j // 16
