"""Scores and verdicts: the rules, grounding by an image-text model on disk, thresholds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from corpus.clock import Clock
from corpus.errors import UserError
from corpus.ids import sha256_file
from corpus.layout import Media
from corpus.settings import read_settings
from corpus.timeline import Span, Timeline, write_timeline
from corpus.video import write_video
from pipeline.recipe import CONFIGS, load_recipe
from stages.captioning import words
from stages.captions import UNJUDGED
from stages.measures import text_rules
from stages.scores import ScoresConfig, ScoresStage
from stages.stage import Context, Record
from stages.verdicts import AT_LEAST, AT_MOST, VerdictsConfig, VerdictsStage, judge

GOOD = "A red car drives to the left and stops."


# -- rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "The man appears to be running.",
        "It seems like a dog jumps.",
        "In this image, a car turns.",
        "The video shows a car.",
        "We can now see a dog.",
        "A lake can be seen.",
        "He turns to the viewer.",
        "A person, possibly a child, waves.",
        "The car might be turning.",
        "As in the previous caption, the car turns.",
        "I'm sorry, I cannot see the frames.",
        "As an AI model, I describe cars.",
    ],
)
def test_hedges_and_talk_about_the_picture_are_not_plain(text: str) -> None:
    assert text_rules.plain(text) < 1
    assert not text_rules.acceptable(text)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "A cup appears at the left.",
        "The camera holds still and nothing in the picture moves.",
        "A blue shape looks different now.",
        "She frames the door, may flowers behind her.",
        "left",
    ],
)
def test_plain_texts_are_plain(text: str) -> None:
    assert text_rules.plain(text) == 1
    assert text_rules.acceptable(text)


def wordings(value: object) -> list[str]:
    """All strings in a table of wordings."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.values() for text in wordings(item)]
    return [text for item in value for text in wordings(item)] if isinstance(value, tuple) else []


def test_nothing_that_the_motion_backend_says_is_taken_for_a_hedge() -> None:
    tables = (words.TURNS, words.STATIC, words.ROAMS, words.CHANGED, words.STILLNESS)
    found = [text for table in tables for text in wordings(table)]
    assert len(found) > 20
    assert [text for text in found if text_rules.plain(f"The camera {text} now.") < 1] == []


def test_a_text_without_end_is_measured_all_the_same() -> None:
    """A server may send a megabyte; this ended after days."""
    assert text_rules.once(" ".join(f"word{i}" for i in range(100_000))) == 1


def test_loops_lose_variety() -> None:
    assert text_rules.variety("the ball and " * 20) < 0.1
    assert text_rules.variety(GOOD) == text_rules.variety("left") == 1
    assert not text_rules.acceptable("the ball and " * 20)
    assert not text_rules.acceptable(" ".join(f"word{i}" for i in range(201)))
    assert not text_rules.acceptable("...")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("left left", 0.0),
        ("The ball rolls left. The ball rolls left", 0.0),
        ("a very very big dog", 0.6),
        ("The ball rolls left and then the ball rolls right", 1.0),
        ("", 1.0),
    ],
)
def test_what_is_said_twice_running(text: str, value: float) -> None:
    assert text_rules.once(text) == pytest.approx(value)
    assert (judge(scored(text or "x"), VerdictsConfig())[0] == "low_once") == (value == 0)


def test_language_is_told_by_its_common_words() -> None:
    assert text_rules.language("The man is walking into the house.", "en") == 1
    assert text_rules.language("Der Mann geht in das Haus und die Tür ist zu.", "en") < 0.3
    assert text_rules.language("Der Mann geht in das Haus und die Tür ist zu.", "de") == 1
    assert text_rules.language("left, attack", "en") == 1, "labels have no language"
    told = text_rules.scores("Le chien est dans la rue", None, 2.0, "latin", "en")
    assert judge(told, VerdictsConfig())[0] == "low_language"
    assert "language" not in text_rules.scores("Le chien", None, 2.0, "latin")


def test_what_is_read_off_the_screen_is_not_ones_own_words() -> None:
    assert text_rules.own_words("A man waves.") == text_rules.own_words("") == 1
    assert text_rules.own_words('"We will be back soon" it is') == pytest.approx(2 / 7)
    assert text_rules.own_words("Subtitle reads we will never give up this fight") == 0
    assert text_rules.own_words("A man says goodbye and leaves.") == 1
    copied = 'A sign: "Sale of all the shoes that are left in the shop"'
    assert judge(scored(copied), VerdictsConfig())[0] == "low_own_words"


def test_copied_subtitles_are_told_by_the_subtitles() -> None:
    spoken = ("Where have you been?", "I was looking for you all day.")
    assert text_rules.uncopied("I was looking for you all day.", spoken) == 0
    assert text_rules.uncopied("A man runs into a room and shouts.", spoken) == 1
    assert text_rules.uncopied("you", spoken) == 0 and text_rules.uncopied("You", ()) == 1
    assert 0 < text_rules.uncopied("He says I was looking for him", spoken) < 1


def test_new_change_script_and_claims() -> None:
    assert text_rules.new("A car turns.", "a car turns") == 0
    assert text_rules.new("A car turns.", "a car stops") == text_rules.new("x", None) == 1
    for text in ("There is no visible change.", "Nothing moves.", "The scene remains the same."):
        assert text_rules.change(text) == 0
    assert text_rules.change(GOOD) == 1
    assert text_rules.script("Ein Auto fährt.", "latin") == 1
    assert text_rules.script("汽车 car", "latin") == pytest.approx(3 / 5)
    assert text_rules.script("42", "latin") == 1
    assert text_rules.claims("A car stops, and a man gets out; he waves.") == 3


@given(st.text(max_size=80), st.one_of(st.none(), st.text(max_size=20)), st.floats(0.25, 16))
def test_every_text_has_every_score_and_all_are_finite(
    text: str, before: str | None, seconds: float
) -> None:
    scores = text_rules.scores(text, before, seconds, "latin")
    names = {*("words", "plain", "variety", "new", "change"), "script", "own_words", "once"}
    names |= {"claims_per_second"}
    assert set(scores) == names
    assert all(np.isfinite(value) and value >= 0 for value in scores.values())


# -- verdicts -------------------------------------------------------------------------------------


def scored(text: str, before: str | None = None) -> dict[str, float]:
    return text_rules.scores(text, before, 2.0, "latin")


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (GOOD, "keep"),
        ("left", "keep"),
        ("A man appears to run.", "low_plain"),
        ("the ball and " * 20, "low_variety"),
        ("汽车停了", "low_script"),
        ("!", "low_words"),
        (" ".join(f"word{i}" for i in range(150)), "high_words"),
        (". ".join(f"man {i} walks" for i in range(30)), "high_claims_per_second"),
    ],
)
def test_default_thresholds(text: str, verdict: str) -> None:
    found, message, score = judge(scored(text), VerdictsConfig())
    assert found == verdict
    assert (message is None) == (score is None) == (verdict == "keep")


def test_thresholds_join_the_defaults_and_null_takes_one_away() -> None:
    config = VerdictsConfig(at_least={"new": 1, "plain": None})
    assert judge(scored("A man seems to run."), config)[0] == "keep"
    assert judge(scored("A car stops.", "A car stops."), config)[0] == "low_new"
    assert judge(scored("A car stops.", "A car stops."), VerdictsConfig())[0] == "keep"
    assert judge(scored("the ball and " * 20), config)[0] == "low_variety"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("side", ["at_least", "at_most"])
def test_what_is_no_number_is_not_kept(side: str, bad: float) -> None:
    """Every comparison with NaN is false: a threshold that asks what to reject would keep it."""
    asked = VerdictsConfig(**{side: {"own": 0.5}})  # type: ignore[arg-type]
    assert judge({**scored(GOOD), "own": bad}, asked)[0] == "no_score"
    assert judge({**scored(GOOD), "words": bad}, VerdictsConfig())[0] == "no_score"


def test_no_score_is_not_kept() -> None:
    config = VerdictsConfig(at_least={"contrast": 0.0})
    assert judge(scored(GOOD), config)[0] == "no_score"
    assert judge({**scored(GOOD), "contrast": 0.1}, config)[0] == "keep"
    assert judge({}, VerdictsConfig())[0] == "no_score"


def test_defaults_judge_only_the_scores_that_are_in_use() -> None:
    """Grounding alone gives no rule scores; the rules' own thresholds must not reject for that."""
    seen = {"own": 0.3, "contrast": 0.1}
    assert judge(seen, VerdictsConfig())[0] == "keep"
    assert judge(seen, VerdictsConfig(at_least={"contrast": 0.2}))[0] == "low_contrast"
    assert judge(seen, VerdictsConfig(at_least={"words": 1}))[0] == "no_score"  # it was asked for
    asked_for = {"language", "uncopied"}  # by settings that say in which tongue, and of subtitles
    assert {*AT_LEAST, *AT_MOST} - asked_for <= scored(GOOD).keys()  # so none is ever left out


def test_weights_that_nothing_uses_are_refused() -> None:
    with pytest.raises(ValueError, match=r"use is \['rules'\]: set use to \[rules, grounding\]"):
        ScoresConfig(weights="some/folder")
    with pytest.raises(UserError, match=r"scores.*weights are given, but use is \['rules'\]"):
        load_recipe("real", ["scores.weights=some/folder"])


@pytest.mark.parametrize("name", ["real", "films", "arena"])
def test_shipped_recipes_say_which_scores_they_use(name: str) -> None:
    assert read_settings(CONFIGS / f"{name}.yaml")["scores"] == {"use": ["rules"]}


# -- the two stages -------------------------------------------------------------------------------


def captioned(*texts: str, told: str = UNJUDGED, clip: str = "") -> Record:
    """A clip record as the captions stage leaves it, with a segment of a second per text."""
    segments = [
        {
            **{"segment_id": f"s{i}", "a": 4 * i, "b": 4 * i + 4, "text": text, "scores": {}},
            **{"verdict": told if i == 1 else UNJUDGED, "binding": f"b{i}"},
        }
        for i, text in enumerate(texts)
    ]
    return {"clip_id": "c", "shot_id": "s", "clip_sha256": "0", "clip": clip, "segments": segments}


def stages(media: Media, **thresholds: Any) -> tuple[ScoresStage, VerdictsStage]:
    context = Context(media, Clock())
    return ScoresStage(ScoresConfig(), context), VerdictsStage(
        VerdictsConfig(**thresholds), context
    )


def test_scores_are_stored_for_all_and_verdicts_beside_them(tmp_path: Path) -> None:
    scores, verdicts = stages(Media(tmp_path))
    one = captioned(GOOD, "A man appears to run.", "A dog barks.")
    (rows,) = scores.process([one])
    assert {row.outcome for row in rows} == {"ok"}
    (judged,) = scores.advance(one, rows)
    (rows,) = verdicts.process([judged])
    assert [(row.outcome, row.reason, row.score) for row in rows] == [
        ("ok", None, None),
        ("filtered", "low_plain", 0.5),
        ("ok", None, None),
    ]
    (after,) = verdicts.advance(judged, rows)
    assert [s["verdict"] for s in after["segments"]] == ["keep", "low_plain", "keep"]
    assert all(s["scores"]["words"] > 0 and s["binding"] for s in after["segments"])
    assert [s["text"] for s in after["segments"]] == [s["text"] for s in one["segments"]]


def test_a_segment_without_caption_keeps_its_reason(tmp_path: Path) -> None:
    scores, verdicts = stages(Media(tmp_path))
    one = captioned(GOOD, "", "", told="truncated")
    (rows,) = scores.process([one])
    assert [bool(row.columns["scores"]) for row in rows] == [True, False, False]
    (judged,) = scores.advance(one, rows)
    (rows,) = verdicts.process([judged])
    (after,) = verdicts.advance(judged, rows)
    assert [s["verdict"] for s in after["segments"]] == ["keep", "truncated", "keep"]
    assert [row.reason for row in rows] == [None, "truncated", None]


def test_a_clip_goes_on_even_if_nothing_is_kept(tmp_path: Path) -> None:
    scores, verdicts = stages(Media(tmp_path))
    one = captioned("It seems to rain.")
    (judged,) = scores.advance(one, scores.process([one])[0])
    (rows,) = verdicts.process([judged])
    assert [row.outcome for row in rows] == ["filtered"]
    assert len(verdicts.advance(judged, rows)) == 1


def test_moving_a_threshold_leaves_scores_alone(tmp_path: Path) -> None:
    scores, verdicts = stages(Media(tmp_path))
    same, other = stages(Media(tmp_path), at_least={"plain": 0.5})
    assert same.fingerprint == scores.fingerprint
    assert other.fingerprint != verdicts.fingerprint
    one, two = captioned("It seems to rain."), captioned("It seems to rain.")
    two["segments"][0] |= {"binding": "another"}
    assert scores.key(one) == scores.key(two)
    two["segments"][0] |= {"text": "It rains."}
    assert scores.key(one) != scores.key(two)


def test_ended_clips_do_not_advance(tmp_path: Path) -> None:
    for stage in stages(Media(tmp_path)):
        one = captioned(GOOD)
        assert stage.advance(one, stage.end(one, "quarantined", "exception", "boom")) == []


# -- grounding ------------------------------------------------------------------------------------

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with random weights, saved the way open_clip saves models."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    model = open_clip.CLIP(**TINY)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
    config = {"model_cfg": TINY, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]


def coloured(media: Media, *texts: str) -> Record:
    """A clip whose segments of a second are red, green and blue."""
    frames = [COLOURS[0]] + [COLOURS[i // 16] for i in range(16 * len(texts))]
    path = media.path(media.clip("c" * 32))
    blocks = [np.broadcast_to(np.uint8(colour), (32, 32, 3)) for colour in frames]
    write_video(path, blocks, 16, "rgb_lossless")
    return captioned(*texts, clip=media.clip("c" * 32))


def grounded(media: Media, weights: Path | str | None, **more: Any) -> ScoresStage:
    config = ScoresConfig(use=("rules", "grounding"), weights=weights and str(weights), **more)
    return ScoresStage(config, Context(media, Clock()))


def test_grounding_compares_a_caption_with_its_own_and_its_neighbours_frames(
    tmp_path: Path, weights: Path
) -> None:
    media = Media(tmp_path)
    texts = ["a red wall", "a green wall", ""]
    stage = grounded(media, weights)
    stage.open()
    (rows,) = stage.process([coloured(media, *texts)])
    found = [dict(row.columns["scores"]) for row in rows]

    name = f"local-dir:{weights}"
    model, prepare = open_clip.create_model_from_pretrained(name)
    with torch.inference_mode():
        walls = [Image.new("RGB", (32, 32), colour) for colour in COLOURS]
        images = model.encode_image(torch.stack([prepare(wall) for wall in walls]), normalize=True)
        words = model.encode_text(open_clip.get_tokenizer(name)(texts[:2]), normalize=True)
    likeness = (words @ images.T).numpy()
    assert found[0]["own"] == pytest.approx(likeness[0, 0], abs=1e-4)
    assert found[0]["contrast"] == pytest.approx(likeness[0, 0] - likeness[0, 1], abs=1e-4)
    beside = (likeness[1, 0] + likeness[1, 2]) / 2
    assert found[1]["contrast"] == pytest.approx(likeness[1, 1] - beside, abs=1e-4)
    assert abs(found[0]["contrast"]) > 1e-3  # the model does tell colours apart
    assert found[1]["plain"] == 1 and found[2] == {}


def test_a_clip_of_one_segment_has_no_contrast_and_fails_closed(
    tmp_path: Path, weights: Path
) -> None:
    media = Media(tmp_path)
    stage = grounded(media, weights)
    stage.open()
    one = coloured(media, "a red wall")
    (judged,) = stage.advance(one, stage.process([one])[0])
    assert "own" in judged["segments"][0]["scores"]
    verdicts = VerdictsStage(VerdictsConfig(at_least={"contrast": -2.0}), stage.context)
    assert verdicts.process([judged])[0][0].reason == "no_score"


def test_weights_count_by_content(tmp_path: Path, weights: Path) -> None:
    media = Media(tmp_path)
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in weights.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    assert grounded(media, moved).fingerprint == grounded(media, weights).fingerprint
    rules = ScoresStage(ScoresConfig(), Context(media, Clock()))
    assert grounded(media, moved).fingerprint != rules.fingerprint
    config = json.loads((moved / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["mean"] = [0.4] * 3
    (moved / "open_clip_config.json").write_text(json.dumps(config))
    assert grounded(media, moved).fingerprint != grounded(media, weights).fingerprint


def test_a_worker_asks_for_what_it_needs(tmp_path: Path, weights: Path) -> None:
    media = Media(tmp_path)
    assert stages(media)[0].resources.cpus < 1
    assert grounded(media, weights).resources.gpus == 0
    assert grounded(media, weights, grounding={"device": "cuda"}).resources.gpus == 1


def test_grounding_without_weights_is_refused_when_the_stage_is_built(
    tmp_path: Path, weights: Path
) -> None:
    media = Media(tmp_path)
    with pytest.raises(
        UserError, match=r"scores\.weights to a folder .* or scores\.use to \[rules\]"
    ):
        grounded(media, None)
    with pytest.raises(UserError, match=r"has no open_clip_config\.json"):
        grounded(media, tmp_path)
    (tmp_path / "open_clip_config.json").write_bytes(
        (weights / "open_clip_config.json").read_bytes()
    )
    with pytest.raises(UserError, match=r"has no open_clip_model\.safetensors"):
        grounded(media, tmp_path)


def test_files_that_are_no_model_are_refused_when_it_is_opened(
    tmp_path: Path, weights: Path
) -> None:
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        (tmp_path / name).write_bytes((weights / name).read_bytes())
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="is no open_clip model"):
        grounded(Media(tmp_path), tmp_path).open()


# -- what scores are made of ----------------------------------------------------------------------


def test_subtitles_are_read_only_where_they_are_asked_for(tmp_path: Path) -> None:
    sidecar = tmp_path / "film.timeline.jsonl"
    said = Span(10.0, 11.0, "I was looking for you all day")
    write_timeline(sidecar, Timeline((), (), (said,)))
    one = captioned("I was looking for you all day", "I was looking for you all day")
    one |= {"timeline": str(sidecar), "timeline_sha256": sha256_file(sidecar)}
    one |= {"start": 10.0, "chunks": 8}
    context = Context(Media(tmp_path), Clock())
    plain, asked = (ScoresStage(ScoresConfig(subtitles=on), context) for on in (False, True))
    assert "timeline_sha256" not in plain.content(one)
    assert asked.content(one)["timeline_sha256"] == one["timeline_sha256"]
    assert plain.fingerprint != asked.fingerprint
    (rows,) = asked.process([asked.seen(one)])
    found = [dict(row.columns["scores"]) for row in rows]
    assert [scores["uncopied"] for scores in found] == [0.0, 1.0], "it is said in the first second"
    (rows,) = plain.process([plain.seen(one)])
    assert all("uncopied" not in row.columns["scores"] for row in rows)


def test_a_montage_is_another_look_at_the_same_film(tmp_path: Path, weights: Path) -> None:
    media = Media(tmp_path)
    frames, changes = (
        grounded(media, weights, grounding={"input": given}) for given in ("frames", "montage")
    )
    assert frames.fingerprint != changes.fingerprint
    one = coloured(media, "a red wall", "a green wall")
    told = []
    for stage in (frames, changes):
        stage.open()
        (rows,) = stage.process([one])
        told.append([row.columns["scores"]["own"] for row in rows])
        assert all(row.columns["said"] and row.columns["seen"] for row in rows)
    assert told[0] != told[1]
    (scored_one,) = changes.advance(one, rows)
    verdicts = VerdictsStage(VerdictsConfig(), changes.context)
    (after,) = verdicts.advance(scored_one, verdicts.process([scored_one])[0])
    assert {"said", "seen"} <= set(scored_one["segments"][0])
    assert not {"said", "seen"} & set(after["segments"][0]), "vectors go no further"


def test_a_score_that_is_no_number_is_not_stored(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media = Media(tmp_path)
    stage = grounded(media, weights)
    stage.open()
    assert stage.grounding is not None
    real = stage.grounding.read
    monkeypatch.setattr(stage.grounding, "read", lambda texts: real(texts) * np.nan)
    one = coloured(media, "a red wall", "a green wall")
    (rows,) = stage.process([one])
    assert all(not {"own", "contrast"} & set(row.columns["scores"]) for row in rows)
    assert all(row.columns["said"] is row.columns["seen"] is None for row in rows)
    (judged,) = stage.advance(one, rows)
    verdicts = VerdictsStage(VerdictsConfig(at_least={"own": -1.0}), stage.context)
    (rows,) = verdicts.process([judged])
    assert {row.reason for row in rows} == {"no_score"}
