"""`scorer fit`: a folder that loads like any other, the same bytes again, films held out."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from spoken_films import spoken_corpus
from typer.testing import CliRunner

from corpus.clock import Clock
from corpus.errors import UserError
from corpus.layout import Media
from pipeline.calibration.calibrate import calibrate
from pipeline.calibration.contrastive import FitConfig, Pairs, _loss, _Vocabulary, fit, model_config
from pipeline.calibration.gather import open_run, trained_on
from pipeline.calibration.scorer import fit_scorer
from pipeline.cli import app
from stages.measures.openclip import FILES, ImageTextModel
from stages.scores import ScoresConfig, ScoresStage
from stages.stage import Context

TINY = FitConfig(side=24, patch=12, width=32, layers=1, steps=3, batch=16)
WORDS = {
    f"film{n}": [("it moves left", "it moves right", f"it is {n}")[(n + i) % 3] for i in range(8)]
    for n in range(12)
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return spoken_corpus(tmp_path_factory.mktemp("scorer"), WORDS, ["shards.validation=0.2"])


def test_what_is_written_loads_and_is_the_same_again(corpus: Path, tmp_path: Path) -> None:
    one, two = (fit_scorer(corpus, tmp_path / name, config=TINY) for name in "ab")
    for name in FILES:
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes()
    other = fit_scorer(corpus, tmp_path / "c", config=TINY.model_copy(update={"seed": 1}))
    assert (other.folder / FILES[1]).read_bytes() != (one.folder / FILES[1]).read_bytes()
    config = ScoresConfig(
        use=("rules", "grounding"),
        weights=str(one.folder),
        grounding={"input": "montage"},  # type: ignore[arg-type]
    )
    media = open_run(corpus).plan.layout.media
    stage = ScoresStage(config, Context(media, Clock()))
    stage.open()
    record = open_run(corpus).accepted(1, 0)[0]
    (rows,) = stage.process([record])
    assert all({"own", "contrast"} <= set(row.columns["scores"]) for row in rows)
    assert ScoresStage(config, Context(Media(tmp_path), Clock())).fingerprint == stage.fingerprint
    frames = config.model_copy(update={"grounding": ScoresConfig().grounding})
    assert ScoresStage(frames, Context(media, Clock())).fingerprint != stage.fingerprint


def test_the_model_gets_what_it_was_trained_on(corpus: Path, tmp_path: Path) -> None:
    """Its transform leaves a montage of its own size as it is."""
    from pipeline.calibration.contrastive import prepared

    folder = fit_scorer(corpus, tmp_path / "s", config=TINY).folder
    model = ImageTextModel(str(folder), 4, "cpu", "scores", "")
    model.open()
    assert model.side == TINY.side
    picture = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    with torch.inference_mode():
        direct = model._model.encode_image(prepared(picture[None]), normalize=True).numpy()
    assert np.allclose(model.pictures([picture]), direct, atol=1e-5)


def test_films_are_held_out_and_calibration_uses_no_others(corpus: Path, tmp_path: Path) -> None:
    made = fit_scorer(corpus, tmp_path / "s", config=TINY)
    learned = trained_on(str(made.folder))
    films = {record["video_id"] for record in open_run(corpus).finished()}
    assert len(learned) + made.held_out == len(films) and made.held_out >= 1 and learned < films
    settings = ["scores.use=[rules, grounding]", f"scores.weights={made.folder}"]
    settings += ["scores.grounding.input=montage", "comparisons.use=[random]"]
    found = calibrate(corpus, overrides=settings, kinds=["verb_swap", "negation"], rate=1.0)
    assert found.videos == made.held_out and found.left_out == len(learned)
    assert {"own", "contrast", "random"} <= {one.score for one in found.scores}


def test_nothing_held_out_or_too_little_to_learn_from_is_refused(tmp_path: Path) -> None:
    few = {name: ["it moves left"] * 2 for name in ("a", "b")}
    corpus = spoken_corpus(tmp_path / "few", few, ["shards.validation=0.5"])
    with pytest.raises(UserError, match=r"has 2 accepted captions \(1 distinct\)"):
        fit_scorer(corpus, tmp_path / "s", config=TINY)
    none = spoken_corpus(tmp_path / "none", few, ["shards.validation=0"])
    with pytest.raises(UserError, match=r"nothing is held out \(shards.validation is 0\)"):
        fit_scorer(none, tmp_path / "s", config=TINY)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="no scorer of ours"):
        fit_scorer(corpus, tmp_path / "other", config=TINY)
    with pytest.raises(UserError, match="side=30 is no multiple of patch=12"):
        fit_scorer(corpus, tmp_path / "s", config=TINY.model_copy(update={"side": 30}))


def test_the_command(corpus: Path, tmp_path: Path) -> None:
    asked = ["scorer", "fit", str(corpus), "--out", str(tmp_path / "s"), "--set", "steps=2"]
    asked += ["--set", "side=24", "--set", "width=32", "--set", "layers=1"]
    answer = CliRunner().invoke(app, asked)
    assert answer.exit_code == 0, answer.output
    assert "videos are held out" in answer.output
    assert json.loads((tmp_path / "s" / "scorer.json").read_text())["fit"]["steps"] == 2
    wrong = CliRunner().invoke(app, [*asked, "--set", "stesp=3"])
    assert wrong.exit_code != 0


def pairs(count: int = 64) -> Pairs:
    """Pictures that are white on the side that their texts name."""
    rng = np.random.default_rng(0)
    left = rng.integers(0, 2, count).astype(bool)
    pictures = np.zeros((count, 24, 24, 3), np.uint8)
    pictures[left, :, :12], pictures[~left, :, 12:] = 255, 255
    texts = tuple("left" if one else "right" for one in left)
    swapped = tuple("right" if one else "left" for one in left)
    return Pairs(pictures, texts, swapped, np.arange(count) // 4)


def test_it_learns_what_tells_pictures_apart() -> None:
    config = TINY.model_copy(update={"steps": 60})
    told = pairs()
    said: list[str] = []
    built = model_config(config, told.texts)
    state = fit(told, built, config, said.append)
    assert len(said) == 10 and said[-1].startswith("step 60 of 60")
    import open_clip

    model = open_clip.CLIP(**built)
    model.load_state_dict(state)
    model.eval()
    from pipeline.calibration.contrastive import prepared

    with torch.inference_mode():
        pictures = model.encode_image(prepared(told.pictures), normalize=True)
        tokens = open_clip.get_tokenizer(
            "ViT-B-32", context_length=built["text_cfg"]["context_length"]
        )(["left", "right"])
        likeness = pictures @ model.encode_text(tokens, normalize=True).T
    right = [("left", "right")[n] for n in likeness.argmax(1)]
    assert np.mean([a == b for a, b in zip(right, told.texts, strict=True)]) > 0.95


def test_a_swapped_text_is_a_negative_only_where_it_is_true_elsewhere() -> None:
    blank = np.zeros((2, 24, 24, 3), np.uint8)
    never = Pairs(blank, ("it opens", "it falls"), ("it closes", "it rises"), np.arange(2))
    columns, _ = _Vocabulary(never, 16).columns(np.array([0]))
    assert len(columns) == 1
    somewhere = Pairs(blank, ("it opens", "it closes"), ("it closes", "it opens"), np.arange(2))
    columns, right = _Vocabulary(somewhere, 16).columns(np.array([0]))
    assert len(columns) == 2 and right.tolist() == [0]


def test_equal_texts_are_no_negatives_of_each_other() -> None:
    logits = torch.tensor([[9.0, -9.0], [9.0, -9.0], [-9.0, 9.0]])
    assert _loss(logits, torch.tensor([0, 0, 1])) < 0.4  # two pictures share one text: log 2 / 2
    assert _loss(logits, torch.tensor([1, 0, 1])) > 3
