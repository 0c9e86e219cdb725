"""Recorded footage is exactly what happened, on the clock, and the same each time."""

import json
from pathlib import Path
from typing import Any

import av
import pytest

from corpus.errors import UserError
from corpus.files import writing
from corpus.timeline import Timeline, read_timeline
from corpus.video import count_frames, read_video
from worlds import arena, doom
from worlds.record import plan_doom, read_scenes, record_arena, record_doom

CHUNK = 0.25


def rows_of(manifest: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in manifest.read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arena")
    record_arena(folder, episodes=7, seed=2, per_film=3)
    return folder


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("vizdoom", reason="ViZDoom is not installed: pip install 'tv2tv[doom]'")
    folder = tmp_path_factory.mktemp("doom")
    record_doom(folder, seconds=14, seed=1, per_film=30)
    return folder


def test_arena_films_hold_their_episodes_pixel_by_pixel(filmed: Path) -> None:
    rows = rows_of(filmed / "manifest.jsonl")
    assert [row["episodes"] for row in rows] == [3, 3, 1]
    for row in rows:
        frames = read_video(filmed / row["uri"])
        assert len(frames) == count_frames(filmed / row["uri"]) == 65 * row["episodes"]
        for i in range(row["episodes"]):
            truth = arena.episode(row["first_seed"] + i).frames
            assert (frames[65 * i : 65 * (i + 1)] == truth).all()


def test_arena_timelines_say_what_happened_when_it_did(filmed: Path) -> None:
    for row in rows_of(filmed / "manifest.jsonl"):
        timeline = read_timeline(filmed / row["timeline"])
        assert len(timeline.shots) == len(timeline.metas) == row["episodes"]
        for i, (shot, meta) in enumerate(zip(timeline.shots, timeline.metas, strict=True)):
            episode = arena.episode(row["first_seed"] + i)
            assert (
                (shot.start, shot.end) == (meta.start, meta.end) == (i * 65 / 16, (i + 1) * 65 / 16)
            )
            assert meta.text == episode.meta
            captions = timeline.captions[16 * i : 16 * (i + 1)]
            assert tuple(caption.text for caption in captions) == episode.actions
            for chunk, caption in enumerate(captions):
                assert caption.start == shot.start + chunk * CHUNK
                assert caption.end == shot.start + (chunk + 1) * CHUNK


def test_every_frame_lasts_a_sixteenth_of_a_second_the_last_one_too(filmed: Path) -> None:
    with av.open(str(filmed / "arena-00000.mp4")) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.pts is not None]
        assert stream.time_base is not None
        ends = [(packet.pts + (packet.duration or 0)) * stream.time_base for packet in packets]
    assert max(ends) == 3 * 65 / 16


def test_manifest_rows_are_complete(filmed: Path) -> None:
    assert rows_of(filmed / "manifest.jsonl")[1] == {
        "uri": "arena-00001.mp4",
        "timeline": "arena-00001.timeline.jsonl",
        "licence": "Apache-2.0",
        "title": "arena-00001",
        "language": "en",
        "world": "arena",
        "seconds": 3 * 65 / 16,
        "first_seed": 2_000_003,
        "episodes": 3,
    }


def test_the_same_arguments_give_the_same_bytes(filmed: Path, tmp_path: Path) -> None:
    record_arena(tmp_path, episodes=7, seed=2, per_film=3)
    assert contents(tmp_path) == contents(filmed)
    record_arena(tmp_path, episodes=7, seed=2, per_film=3)  # over itself
    assert contents(tmp_path) == contents(filmed)
    record_arena(tmp_path / "other", episodes=7, seed=3, per_film=3)
    assert contents(tmp_path / "other")["arena-00000.mp4"] != contents(filmed)["arena-00000.mp4"]


def test_a_recording_that_was_killed_goes_on(filmed: Path, tmp_path: Path) -> None:
    """Also where the kill came in the middle of a file."""
    (tmp_path / "arena-00000.mp4").write_bytes((filmed / "arena-00000.mp4").read_bytes())
    unfinished = writing(tmp_path / "arena-00001.mp4")
    unfinished.__enter__().write_bytes(b"half a film")
    record_arena(tmp_path, episodes=7, seed=2, per_film=3)
    assert contents(tmp_path) == contents(filmed)


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.mp4").write_bytes(b"")
    with pytest.raises(UserError, match=r"holiday\.mp4.*record into an empty folder"):
        record_arena(tmp_path, episodes=1)


def test_held_out_seeds_are_never_filmed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="what follows is held out"):
        record_arena(tmp_path, episodes=1, seed=1000)
    with pytest.raises(UserError, match="episodes=0"):
        record_arena(tmp_path, episodes=0)


def captions_within(timeline: Timeline, shot: int) -> int:
    span = timeline.shots[shot]
    return sum(span.start <= c.start and c.end <= span.end for c in timeline.captions)


def test_a_doom_film_is_scenes_with_hard_cuts_and_captions_on_their_chunks(played: Path) -> None:
    (row,) = rows_of(played / "manifest.jsonl")
    timeline = read_timeline(played / row["timeline"])
    frames = count_frames(played / row["uri"])
    assert frames == round(row["seconds"] * 16) and row["seconds"] >= 14
    assert len(timeline.shots) == len(row["places"].split()) >= 2
    assert timeline.shots[0].start == 0 and timeline.shots[-1].end == row["seconds"]
    for i, (shot, meta) in enumerate(zip(timeline.shots, timeline.metas, strict=True)):
        chunks, rest = divmod(round((shot.end - shot.start) * 16) - 1, 4)
        assert rest == 0 and 24 <= chunks <= 48
        assert captions_within(timeline, i) == chunks
        assert meta.text.startswith("a first-person shooter game in ")
        if i:
            assert shot.start == timeline.shots[i - 1].end


def test_a_recorded_doom_scene_replays_to_the_film(played: Path) -> None:
    (row,) = rows_of(played / "manifest.jsonl")
    shot = read_timeline(played / row["timeline"]).shots[1]
    first, end = round(shot.start * 16), round(shot.end * 16)
    filmed = read_video(played / row["uri"], range(first, end))
    truth = doom.replay(read_scenes(played / "doom-00000.scenes.jsonl")[1])
    assert truth.shape == filmed.shape
    error = ((truth.astype(float) - filmed.astype(float)) ** 2).mean((1, 2, 3))
    assert error.max() < 200  # near-lossless but for the colour of single pixels


def test_doom_footage_is_the_same_each_time(played: Path, tmp_path: Path) -> None:
    record_doom(tmp_path, seconds=14, seed=1, per_film=30)
    assert contents(tmp_path) == contents(played)


def test_the_doom_plan_shows_every_place_before_any_again() -> None:
    films = plan_doom(seconds=400, seed=0, per_film=60)
    takes = [take for film in films for take in film]
    places = [take.place.name for take in takes]
    assert len(set(places[:21])) == 21 and len(places) > 30
    seconds = [sum(doom.CLOCK.frames(take.chunks) / 16 for take in film) for film in films]
    assert sum(seconds) >= 400 and all(60 <= length < 73 for length in seconds[:-1])
    assert len({take.seed for take in takes}) == len(takes)
    assert plan_doom(400, 0, 60) == films != plan_doom(400, 1, 60)


def test_a_scene_that_ends_too_soon_is_shot_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("vizdoom", reason="ViZDoom is not installed: pip install 'tv2tv[doom]'")
    real, seeds = doom.film, []

    def unlucky(place: doom.Place, seed: int, chunks: int, *rest: Any) -> doom.Footage:
        seeds.append(seed)
        if len(seeds) == 1:
            raise doom.SceneOverError
        return real(place, seed, 5 if len(seeds) == 2 else chunks, *rest)

    monkeypatch.setattr(doom, "film", unlucky)
    record_doom(tmp_path, seconds=3, seed=1)
    (row,) = rows_of(tmp_path / "manifest.jsonl")
    assert seeds == [seeds[0], seeds[0] + 1, seeds[0] + 2] and row["seconds"] > 6

    def hopeless(*_: Any) -> doom.Footage:
        raise doom.SceneOverError

    monkeypatch.setattr(doom, "film", hopeless)
    with pytest.raises(UserError, match="choose another seed"):
        record_doom(tmp_path, seconds=3, seed=1)
