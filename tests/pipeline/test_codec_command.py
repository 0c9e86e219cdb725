"""`tv2tv codec fit`, and the whole way with what it made: latents, shards, training, a film."""

import sys
from pathlib import Path

import pytest
from small_corpus import make_corpus, replayed
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "corpus"))
from vaes import saved

from corpus.clock import Clock
from corpus.codecs.weights import ENVIRONMENT
from corpus.errors import UserError
from corpus.layout import Media
from corpus.shards import ShardSet
from corpus.store import store_at
from corpus.video import read_video
from pipeline.cli import app
from pipeline.crews import crews
from pipeline.recipe import load_recipe, make_stages
from stages.stage import Context
from training.api import generate, train
from training.config import parse_config
from worlds.record import record_arena

TINY = {
    "steps": 2,
    "model": {"change": {"layers": 1, "width": 32, "heads": 2, "hidden": 48}},
    "tokenizer": {"size": 300},
    "rows": {"text": 56, "clean": 17, "noisy": 16, "per_step": 1, "per_pass": 1},
    "optimizer": {"warmup": 1},
    "sampling": {"steps": 1, "start_frames": 1},
    "runtime": {"workers": 0, "device": "cpu", "threads": 1},
}


def fit(corpus: Path, out: Path, *more: str) -> bytes:
    done = CliRunner().invoke(app, ["codec", "fit", str(corpus), "--out", str(out), *more])
    assert done.exit_code == 0, done.output
    assert f"latents.weights={out}" in done.output
    return (out / "basis.safetensors").read_bytes()


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_arena(tmp_path_factory.mktemp("arena") / "footage", episodes=4, per_film=2)


@pytest.fixture(scope="module")
def corpus(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("corpus")
    make_corpus(place, footage, "arena", ["latents.settings.channels=12"])
    return place


def test_equal_clips_and_seed_give_one_basis(corpus: Path, tmp_path: Path) -> None:
    one = fit(corpus, tmp_path / "a", "--channels", "12", "--clips", "2")
    assert one == fit(corpus, tmp_path / "b", "--channels", "12", "--clips", "2")
    assert one != fit(corpus, tmp_path / "c", "--channels", "12", "--clips", "2", "--seed", "5")


def test_from_clips_to_a_film_by_a_fitted_codec(
    corpus: Path, footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(corpus, tmp_path / "basis", "--channels", "24")
    fit(corpus, tmp_path / "other", "--channels", "24", "--clips", "1")
    monkeypatch.chdir(tmp_path)
    settings = ["latents.codec=pca", "latents.weights=basis", "latents.check=1"]
    plan = make_corpus(tmp_path / "corpus", footage, "arena", settings)
    finished = {one["clip_id"]: one for one in replayed(tmp_path / "corpus").finished}
    assert finished and all(one["psnr"] > 30 for one in finished.values())
    (shards,) = plan.corpus_stages
    place = tmp_path / "corpus" / "shards" / "main"
    shards.run(dict(sorted(finished.items())), store_at(place), plan.header())
    assert str(tmp_path) not in str(ShardSet.open(place).codec)

    config = parse_config(TINY, "test")
    with pytest.raises(UserError, match=rf"codec pca: where are its weights.*{ENVIRONMENT}"):
        train(config, place, tmp_path / "run")
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "other"))
    with pytest.raises(UserError, match=rf"another revision.*; name the weights.*{ENVIRONMENT}"):
        train(config, place, tmp_path / "run")
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "basis"))
    run = train(config, place, tmp_path / "run")
    made = generate(run, "red", None, [], 1.0, tmp_path / "film.mp4")
    assert read_video(made["film"]).shape[0] == 17


def test_the_recipe_for_wan_names_what_is_missing_and_works_with_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = Context(Media(tmp_path), Clock())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(UserError, match=r"hf download Wan-AI/Wan2.1-T2V-1.3B-Diffusers"):
        make_stages(load_recipe("wan"), context)
    weights = f"latents.weights={saved(tmp_path / 'vae', 'wan')}"
    stages = make_stages(load_recipe("wan", [weights]), context)
    assert (stages[-1].name, stages[-1].resources.gpus) == ("latents", 0.5)
    assert crews(stages)[-1] == range(len(stages) - 1, len(stages)), "a pool of its own"
    codec = stages[-1].identity()["codec"]
    assert codec["dtype"] == "bfloat16" and stages[-1].identity()["device"] == "cuda"
    cpu = make_stages(
        load_recipe("wan", [weights, "latents.gpus=0", "latents.settings={}"]), context
    )
    assert cpu[-1].identity()["codec"]["dtype"] == "float32"
    assert len(crews(cpu)[-1]) > 1, "no GPU waits for it: a process with the others"


@pytest.mark.slow
def test_workers_on_ray_make_the_latents_that_one_process_makes(
    footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights are named relative to where the command is typed; workers live elsewhere."""
    saved(tmp_path / "vae", "wan")
    monkeypatch.chdir(tmp_path)
    settings = ["latents.codec=wan", "latents.weights=vae", "latents.check=1"]
    options = [word for one in settings for word in ("--set", one)]
    command = ["run", "arena", "--input", str(footage), "--corpus", "ray", *options]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    make_corpus(tmp_path / "alone", footage, "arena", settings)
    ours = {one["clip_id"]: one for one in replayed(tmp_path / "alone").finished}
    theirs = {one["clip_id"]: one for one in replayed(tmp_path / "ray").finished}
    assert len(ours) == 4 and set(ours) == set(theirs)
    for name, one in ours.items():
        assert one["latent_sha256"] == theirs[name]["latent_sha256"]
        assert one["psnr"] == theirs[name]["psnr"] is not None
