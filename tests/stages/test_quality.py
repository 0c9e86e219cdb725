"""Stage quality: what a clip on disk gets, by which settings; text area; image-text models."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import open_clip
import pytest
import torch
from pydantic import ValidationError
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file

from corpus.clock import Clock
from corpus.errors import UserError
from corpus.ids import canonical_json
from corpus.layout import Media
from corpus.video import write_video
from stages.measures import pixels as quality_pixels
from stages.measures import signature as near_signature
from stages.measures.openclip import ImageTextModel
from stages.quality import ImagesConfig, Prompts, QualityConfig, QualityStage
from stages.stage import Context, Record

CLIP = "c" * 32


def place(folder: Path) -> Media:
    """Media of a corpus in a folder."""
    return Media(folder)


def stage(media: Media, **config: Any) -> QualityStage:
    made = QualityStage(QualityConfig(**config), Context(media, Clock()))
    made.open()
    return made


def clip(media: Media, frames: np.ndarray) -> Record:
    """A clip of the corpus whose frames are at the clock."""
    write_video(media.path(media.clip(CLIP)), iter(frames), 16)
    return {
        **{"clip_id": CLIP, "clip_sha256": "0" * 64, "clip": media.clip(CLIP)},
        "chunks": (len(frames) - 1) // 4,
    }


def frozen_half(chunks: int = 16) -> np.ndarray:
    rng = np.random.default_rng(0)
    big = cv2.resize(rng.integers(0, 256, (30, 60, 3), dtype=np.uint8), (600, 300))
    half = 2 * chunks
    right = [min(i, half) for i in range(1 + 4 * chunks)]
    return np.stack([big[20:148, 3 * i : 3 * i + 192] for i in right])


def test_a_clip_gets_all_pixel_scores_and_a_signature(tmp_path: Path) -> None:
    media = place(tmp_path)
    record = clip(media, frozen_half())
    made = stage(media)
    ((row,),) = made.process([record])
    assert row.outcome == "ok" and row.id == CLIP and row.parent is None
    assert set(row.columns["quality"]) == set(quality_pixels.NAMES) == set(made.config.names)
    assert row.columns["quality"]["frozen"] == pytest.approx(0.5, abs=0.05)
    assert len(near_signature.read([row.columns["signature"]])) == 1
    assert made.process([record]) == [[row]], "the same again"
    (onward,) = made.advance(record, [row])
    assert onward["quality"] == row.columns["quality"]
    canonical_json(onward)


def test_a_plan_has_no_such_stage_where_no_score_is_asked_for(tmp_path: Path) -> None:
    media = place(tmp_path)
    assert stage(media).wanted and not stage(media, use=()).wanted


def test_only_what_changes_a_score_changes_the_fingerprint(tmp_path: Path, weights: Path) -> None:
    media = place(tmp_path)
    images = {"weights": str(weights), "prompts": SPORT}
    names = {
        stage(media, **config).fingerprint
        for config in (
            {},
            {"use": ("images",), "images": images},
            {"use": ("pixels", "images"), "images": images},
            {"use": ("pixels", "images"), "images": {**images, "frames": 2}},
        )
    }
    assert len(names) == 4
    same = {
        stage(media, use=("images",), images={**images, "batch": batch}).fingerprint
        for batch in (1, 8)
    }
    assert len(same) == 1


# -- text -----------------------------------------------------------------------------------------

needs_ocr = pytest.mark.skipif(
    importlib.util.find_spec("rapidocr") is None, reason="the extra ocr is not installed"
)


def written(lines: int) -> tuple[np.ndarray, float]:
    """A frame with lines of text, and the share of it that they cover."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (256, 448, 3), dtype=np.uint8)
    frame = cv2.GaussianBlur(noise, (0, 0), 6)
    text, font, size = "Hello reading world", cv2.FONT_HERSHEY_SIMPLEX, 0.8
    (width, height), below = cv2.getTextSize(text, font, size, 2)
    for line in range(lines):
        cv2.putText(frame, text, (40, 50 + 50 * line), font, size, (255, 255, 255), 2)
    return frame, lines * width * (height + below) / (256 * 448)


@needs_ocr
def test_text_is_the_share_of_the_picture_that_text_covers(tmp_path: Path) -> None:
    media = place(tmp_path)
    made = stage(media, use=("text",))
    for lines in (0, 1, 4):
        frame, share = written(lines)
        record = clip(media, np.repeat(frame[None], 17, axis=0))
        ((row,),) = made.process([record])
        found = row.columns["quality"]["text"]
        assert share / 1.4 <= found <= 1.4 * share
        assert made.process([record]) == [[row]], "the same again"


def test_without_the_extra_text_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"tv2tv\[ocr\]"):
        stage(place(tmp_path), use=("text",))


# -- images ---------------------------------------------------------------------------------------

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
SPORT = {
    "sport": {
        "like": ["a photo of a sport being played"],
        "unlike": ["a slide with text", "an empty room"],
    }
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with random weights, saved the way open_clip saves models."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    save_file(open_clip.CLIP(**TINY).state_dict(), folder / "open_clip_model.safetensors")
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
    config = {"model_cfg": TINY, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def test_prompts_share_out_the_likeness(tmp_path: Path, weights: Path) -> None:
    media = place(tmp_path)
    record = clip(media, frozen_half(4))
    prompts = {**SPORT, "rest": {"like": SPORT["sport"]["unlike"], "unlike": ["a photo of a dog"]}}
    prompts["other"] = {"like": SPORT["sport"]["unlike"], "unlike": SPORT["sport"]["like"]}
    images = {"weights": str(weights), "prompts": prompts}
    ((row,),) = stage(media, use=("images",), images=images).process([record])
    found = row.columns["quality"]
    assert set(found) == {"sport", "rest", "other"}
    assert all(0 < value < 1 for value in found.values())
    assert found["sport"] + found["other"] == pytest.approx(1)


def test_a_prompt_is_weighed_as_clip_weighs_it(tmp_path: Path, weights: Path) -> None:
    from corpus.video import read_video

    media = place(tmp_path)
    record = clip(media, frozen_half(4))
    images = {"weights": str(weights), "prompts": SPORT, "frames": 1}
    ((row,),) = stage(media, use=("images",), images=images).process([record])
    model = ImageTextModel(str(weights), 8, "cpu", "x", "y")
    model.open()
    (shown,) = model.pictures(read_video(media.path(record["clip"]), [8]))
    texts = model.texts([*SPORT["sport"]["like"], *SPORT["sport"]["unlike"]])
    logits = torch.tensor(texts @ shown) * model.scale
    assert row.columns["quality"]["sport"] == pytest.approx(float(logits.softmax(0)[0]), rel=1e-4)


@pytest.mark.parametrize("kind", ["json", "safetensors"])
def test_aesthetics_is_a_linear_layer_of_the_embedding(
    tmp_path: Path, weights: Path, kind: str
) -> None:
    media = place(tmp_path)
    record = clip(media, frozen_half(4))
    path = tmp_path / f"layer.{kind}"
    if kind == "json":
        path.write_text(json.dumps({"weight": [[0.0] * 16], "bias": [5.5]}))
    else:
        layer = {"weight": np.zeros((1, 16), np.float32), "bias": np.float32([5.5])}
        save_numpy(layer, path)
    images = {"weights": str(weights), "aesthetics": str(path)}
    ((row,),) = stage(media, use=("images",), images=images).process([record])
    assert row.columns["quality"] == {"aesthetics": 5.5}


def test_what_is_no_such_layer_is_refused(tmp_path: Path, weights: Path) -> None:
    path = tmp_path / "layer.json"
    images = {"weights": str(weights), "aesthetics": str(path)}
    for text in ("{}", "[1]", '{"weight": [1], "bias": [1, 2]}'):
        path.write_text(text)
        with pytest.raises(UserError, match="no linear layer"):
            stage(place(tmp_path), use=("images",), images=images)
    path.write_text('{"weight": [1, 2, 3], "bias": [1]}')
    with pytest.raises(UserError, match="takes 3 numbers, the model gives 16"):
        stage(place(tmp_path), use=("images",), images=images)
    with pytest.raises(UserError, match=r"set quality\.images\.weights"):
        stage(place(tmp_path), use=("images",), images={"prompts": SPORT})
    with pytest.raises(UserError, match=r"quality\.images: weights=.* has no open_clip_config"):
        stage(place(tmp_path), use=("images",), images={**images, "weights": str(tmp_path)})


def test_settings_that_do_not_go_together_are_refused() -> None:
    prompts = {"sport": Prompts(like=("a",), unlike=("b",))}
    with pytest.raises(ValidationError, match="add images to it"):
        QualityConfig(images=ImagesConfig(prompts=prompts))
    with pytest.raises(ValidationError, match=r"neither images\.prompts nor aesthetics"):
        QualityConfig(use=("images",))
    with pytest.raises(ValidationError, match="take another name"):
        ImagesConfig(prompts={"motion": prompts["sport"]})
