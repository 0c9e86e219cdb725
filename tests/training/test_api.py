"""A trained run makes films of what it is asked for."""

import json
from pathlib import Path

import numpy as np
import pytest
from corpora import arena_shards, small_config
from PIL import EpsImagePlugin, Image

from corpus.errors import UserError
from corpus.video import read_video
from training.api import generate, train
from training.picture import PICTURES
from training.run_folder import load_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    shards = arena_shards(folder / "shards", 16, chunks=4, validation=0.3)
    config = small_config(steps=2, runtime={"workers": 0, "device": "cpu", "sample_every": 2})
    return train(config, shards, folder / "run")


def test_a_film_comes_with_its_words(run: Path, tmp_path: Path) -> None:
    say = [(0.5, "jump"), (0.25, "a word that the corpus never held: żółw")]
    files = generate(run, "red roaming", None, say, 1.0, tmp_path / "film.mp4", seed=4)
    assert {name: path.name for name, path in files.items()} == {
        "film": "film.mp4",
        "transcript": "film.json",
        "subtitles": "film.vtt",
        "strip": "film.png",
    }
    frames = read_video(files["film"])
    assert frames.shape == (17, 192, 192, 3)
    told = json.loads(files["transcript"].read_text())
    assert (told["prompt"], told["size"], told["seconds"]) == ("red roaming", [24, 24], 1.0)
    by_user = {each["chunk"]: each["text"] for each in told["words"] if each["by"] == "user"}
    assert by_user == {1: "a word that the corpus never held: żółw", 2: "jump"}
    assert told["made"]["seed"] == 4
    assert "jump" in files["subtitles"].read_text()
    assert (run / "samples" / "step-00000002.mp4").exists()


def test_the_same_request_makes_the_same_film(run: Path, tmp_path: Path) -> None:
    films = [
        generate(run, "", None, [(0.5, "jump")], 1.0, tmp_path / f"{name}.mp4", seed=seed)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    one, again, other = (read_video(each["film"]) for each in films)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert films[0]["transcript"].read_bytes() == films[1]["transcript"].read_bytes()


def test_the_nearest_start_frame_is_taken_with_its_caption(run: Path, tmp_path: Path) -> None:
    frames = load_run(run).start_frames
    assert len(frames) == 2
    for frame in frames:
        files = generate(run, frame.meta, None, [], 0.25, tmp_path / "film.mp4")
        made = json.loads(files["transcript"].read_text())["made"]
        assert next(f.meta for f in frames if f.name == made["start_frame"]) == frame.meta
        with Image.open(run / "start_frames" / f"{frame.name}.png") as picture:
            assert picture.size == (24, 24)
    files = generate(run, "", None, [], 0.25, tmp_path / "film.mp4")
    assert json.loads(files["transcript"].read_text())["prompt"] == frames[0].meta


def test_a_picture_of_any_size_is_a_start(run: Path, tmp_path: Path) -> None:
    Image.new("RGBA", (60, 30), (255, 0, 0, 255)).save(tmp_path / "red.png")
    files = generate(run, "", tmp_path / "red.png", [], 0.25, tmp_path / "film.mp4")
    first = read_video(files["film"])[0].astype(int)
    assert np.abs(first - [255, 0, 0]).max() < 30
    assert json.loads(files["transcript"].read_text())["made"]["start_frame"] == "red.png"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "EPS"])
def test_pictures_are_of_a_few_kinds(
    kind: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EPS is a program, which PIL has another program run."""
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("EPS was run"))
    path = tmp_path / "picture"
    Image.new("RGB", (24, 24), (0, 0, 255)).save(path, format=kind)
    if kind in PICTURES:
        generate(run, "", path, [], 0.25, tmp_path / "film.mp4")
    else:
        with pytest.raises(UserError, match=r"cannot.*PNG, JPEG, WEBP, BMP"):
            generate(run, "", path, [], 0.25, tmp_path / "film.mp4")


def test_users_mistakes_are_named(run: Path, tmp_path: Path) -> None:
    def refused(match: str, **changes: object) -> None:
        request: dict[str, object] = {
            "run": run,
            "prompt": "",
            "image": None,
            "say": [],
            "seconds": 1.0,
            "out": tmp_path / "film.mp4",
        }
        with pytest.raises(UserError, match=match):
            generate(**(request | changes))  # type: ignore[arg-type]

    (tmp_path / "text.png").write_text("no picture")
    refused("cannot be read as a picture", image=tmp_path / "text.png")
    refused("cannot be read as a picture", image=tmp_path / "missing.png")
    refused("lies outside", say=[(1.0, "jump")])
    refused("said in this chunk already", say=[(0.5, "jump"), (0.6, "left")])
    refused("not a whole number of chunks", seconds=0.9)
    refused("ends in .mp4", out=tmp_path / "film.avi")
    refused("steps=0", steps=0)
    refused("guidance=-1", guidance=-1.0)
    refused("holds no run", run=tmp_path)


def test_no_start_frame_is_an_error_that_says_so(tmp_path: Path) -> None:
    shards = arena_shards(tmp_path / "shards", 4, chunks=4)
    run = train(
        small_config(steps=1, sampling={"start_frames": 0, "steps": 1}), shards, tmp_path / "run"
    )
    with pytest.raises(UserError, match=r"start_frames=0.*--image"):
        generate(run, "", None, [], 1.0, tmp_path / "film.mp4")


def test_where_nothing_is_held_out_films_begin_as_a_trained_one_and_say_so(tmp_path: Path) -> None:
    shards = arena_shards(tmp_path / "shards", 4, chunks=4)
    run = train(small_config(steps=1), shards, tmp_path / "run")
    made = generate(run, "", None, [], 0.5, tmp_path / "film.mp4")
    assert json.loads(made["transcript"].read_text())["made"]["start_frame"] == "trained-00"
