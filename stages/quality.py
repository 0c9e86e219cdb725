"""Stage quality: numbers about every clip, stored whatever they are.

Judging them is the next stage's (`stages.filters`), which costs nothing: thresholds can be moved as
often as one likes, and no score is computed again. A clip is decoded once for all of them.

* ``pixels`` - see `measures.pixels`, and the signature by which near-duplicates are found
  (`measures.signature`);
* ``text`` - how much of the picture is text, see `measures.overlay`; needs the extra ``ocr``;
* ``images`` - what an image-text model makes of it, see `measures.image_text`; needs weights.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import av
import cv2
import decord
import numpy as np
import pyarrow as pa
import scipy
from pydantic import BaseModel, ConfigDict, Field, model_validator

from corpus.errors import UserError
from corpus.rows import Row
from corpus.video import read_video
from stages.libraries import versions
from stages.measures import pixels as quality_pixels
from stages.measures import signature as near_signature
from stages.reading import pictures
from stages.stage import ClipStage, Context, Record, Resources, StageConfig, merged

if TYPE_CHECKING:
    from stages.measures.image_text import Images
    from stages.measures.overlay import Text

TEXT = "text"
AESTHETICS = "aesthetics"
DIGITS = 6  # more tell machines apart, not clips


class TextConfig(BaseModel):
    """
    Attributes:
        frames: of each clip that are searched for text, evenly spread.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    frames: int = Field(default=2, ge=1)


class Prompts(BaseModel):
    """What a clip should look like, and what it should not, in words.

    Attributes:
        like: such as "a photo of a sport being played".
        unlike: such as "a photo of an empty stadium", "a slide with text".
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    like: tuple[str, ...] = Field(min_length=1)
    unlike: tuple[str, ...] = Field(min_length=1)


class ImagesConfig(BaseModel):
    """How `measures.image_text.Images` looks at clips.

    Attributes:
        weights: folder of an open_clip model, see `measures.openclip`.
        prompts: a score of this name for each, 0 to 1: the share of likeness that ``like`` has.
        aesthetics: a linear layer over the model's image embeddings, .safetensors or .json with
            ``weight`` (1 x D) and ``bias`` (1); gives the score ``aesthetics``.
        frames: of each clip that are looked at, evenly spread.
        batch: frames or texts that go through the model at once.
        device: ``cpu``, or ``cuda`` for a GPU per worker.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    weights: str | None = None
    prompts: dict[str, Prompts] = Field(default_factory=dict)
    aesthetics: str | None = None
    frames: int = Field(default=4, ge=1)
    batch: int = Field(default=64, ge=1)
    device: str = "cpu"

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.prompts, *([AESTHETICS] if self.aesthetics is not None else []))

    @model_validator(mode="after")
    def _names_are_new(self) -> "ImagesConfig":
        taken = {*quality_pixels.NAMES, TEXT, AESTHETICS} & set(self.prompts)
        if taken:
            raise ValueError(f"prompts: {sorted(taken)} are other scores: take another name")
        return self


class QualityConfig(StageConfig):
    """Which scores are computed.

    Attributes:
        use: any of ``pixels``, ``text`` and ``images``; none for clips that are as they should be,
            such as a world's: the plan has no such stage then.
    """

    use: tuple[Literal["pixels", "text", "images"], ...] = ("pixels",)
    text: TextConfig = TextConfig()
    images: ImagesConfig = ImagesConfig()

    @model_validator(mode="after")
    def _images_are_used(self) -> "QualityConfig":
        asked = self.images.weights is not None or bool(self.images.names)
        if asked and "images" not in self.use:
            raise ValueError(f"images are set up, but use is {list(self.use)}: add images to it")
        if "images" in self.use and not self.images.names:
            raise ValueError("use has images, but there are neither images.prompts nor aesthetics")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Scores that every clip gets."""
        return (
            *(quality_pixels.NAMES if "pixels" in self.use else ()),
            *((TEXT,) if "text" in self.use else ()),
            *(self.images.names if "images" in self.use else ()),
        )


class QualityStage(ClipStage[QualityConfig]):
    """Scores and signature of one clip."""

    name = "quality"
    version = "1"
    level = "clip"
    reads = ("clip_id", "clip_sha256", "chunks")
    Config = QualityConfig
    writes: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("quality", pa.map_(pa.string(), pa.float64())),
            pa.field("signature", pa.string()),  # "" for none
        ]
    )

    def __init__(self, config: QualityConfig, context: Context) -> None:
        super().__init__(config, context)
        self._stride = max(1, round(context.clock.fps / quality_pixels.RATE))
        self._text: Text | None = None
        self._images: Images | None = None
        if "text" in config.use:
            self._text = _text(config.text)
        if "images" in config.use:
            self._images = _images(config.images)

    @property
    def wanted(self) -> bool:
        return bool(self.config.use)

    @property
    def resources(self) -> Resources:
        gpus = float(self._images is not None and self.config.images.device != "cpu")
        return Resources(cpus=1.0, gpus=gpus, batch=8)

    def identity(self) -> dict[str, Any]:
        found: dict[str, Any] = versions(av, decord, cv2)
        if "pixels" in self.config.use:
            found |= {"signature": near_signature.VERSION, **versions(scipy)}
        if self._text:
            found["text"] = self._text.identity()
        if self._images:
            found["images"] = self._images.identity()
        return found

    def open(self) -> None:
        for part in (self._text, self._images):
            if part:
                part.open()

    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        return [self._one(record) for record in records]

    def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
        return [{**one, "quality": dict(one["quality"])} for one in merged(record, rows)]

    def _one(self, record: Record) -> list[Row]:
        scores, signature = self._measured(record)
        odd = [name for name, value in scores.items() if not np.isfinite(value)]
        if odd:
            return self.end(record, "failed", "not_finite", f"{', '.join(odd)}: no finite number")
        rounded = {name: round(value, DIGITS) for name, value in scores.items()}
        columns = {"quality": rounded, "signature": signature}
        return [Row("clip", None, record["clip_id"], columns=columns)]

    def _measured(self, record: Record) -> tuple[dict[str, float], str]:
        clock = self.context.clock
        wanted = range(0, clock.frames(record["chunks"]), self._stride)
        frames = read_video(self.clip_path(record), wanted)
        scores: dict[str, float] = {}
        signature = ""
        with pictures.one_thread():
            if "pixels" in self.config.use:
                luma, small = quality_pixels.shrink(frames)
                scores |= quality_pixels.scores(luma, small, clock.fps / self._stride)
                signature = near_signature.signature(small)
            if self._text:
                scores[TEXT] = self._text.score(frames)
            if self._images:
                scores |= self._images.scores(frames)
        return scores, signature


def _text(config: TextConfig) -> "Text":
    from stages.measures.overlay import Text  # not everybody has what it needs

    return Text(config.frames)


def _images(config: ImagesConfig) -> "Images":
    if config.weights is None:
        raise UserError(
            "quality: images need the weights of an image-text model: set quality.images.weights "
            "to a folder of open_clip weights, or take images from quality.use"
        )
    from stages.measures.image_text import Images  # takes seconds, and pixels alone do not need it

    return Images(config, config.weights)
