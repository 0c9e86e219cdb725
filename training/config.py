"""Everything that decides a training run, in one file that a person writes.

A config is YAML plus dotted overrides (``optimizer.lr=1e-3``); unknown keys are errors; the
resolved config is stored with the run. What lies under ``runtime`` and ``sampling`` may differ when
a run is resumed: it decides how the work is done and how films are drawn, not what is learned.
Everything else must be equal.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator

from corpus.policy import Policy
from corpus.settings import check, override, read_settings
from training.sequence import SequenceConfig

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
FROM_DATA = ("channels", "specials", "vocab")  # of the model


class Section(BaseModel):
    """Base of every part of the config: frozen; unknown keys and endless numbers are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelChoice(Section):
    """Which model.

    Attributes:
        preset: name in `training.presets`.
        change: fields of the preset's `ModelConfig` to set otherwise.
    """

    preset: str = "tiny"
    change: dict[str, Any] = Field(default_factory=dict)

    @field_validator("change")
    @classmethod
    def _leaves_the_data_alone(cls, change: dict[str, Any]) -> dict[str, Any]:
        fixed = [name for name in FROM_DATA if name in change]
        if fixed:
            raise ValueError(f"{', '.join(fixed)} cannot be set: it follows from the data")
        return change


class TokenizerConfig(Section):
    """The tokenizer that is trained from the captions.

    Attributes:
        size: most ids it may have; 261 is the least, for control tokens and bytes.
    """

    size: Positive = 512


class RowsConfig(Section):
    """Shape of a packed row and of a step.

    Attributes:
        text: text slots of a row, control tokens included.
        clean: blocks that later tokens see, start frames included.
        noisy: noisy blocks.
        per_step: rows of an optimizer step, whatever the number of ranks.
        per_pass: rows that go through the model at once.
        shuffle_shards: samples are shuffled within windows of this many shards.
    """

    text: Positive = 64
    clean: Positive = 17
    noisy: Positive = 16
    per_step: Positive = 8
    per_pass: Positive = 8
    shuffle_shards: Positive = 8

    @property
    def slots(self) -> dict[str, int]:
        """Capacity of a row, part by part."""
        return {"text": self.text, "clean": self.clean, "noisy": self.noisy}


class OptimizerConfig(Section):
    """The optimizer and its learning rate: linear warm-up, constant, linear decay.

    Attributes:
        kind: adamw, or muon for all matrices but embedding and heads, and adamw for the rest.
        lr: the peak.
        warmup: steps until the peak.
        decay: share of all steps over which the rate falls, at the end.
        floor: share of the peak that it never falls below.
        weight_decay: on matrices only.
        clip: largest gradient norm.
        ema: decay per step of the averaged weights, which are what `generate` uses.
    """

    kind: Literal["adamw", "muon"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 3e-3
    warmup: Count = 100
    decay: Share = 0.35
    floor: Share = 0.0
    betas: tuple[Decay, Decay] = (0.9, 0.95)
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    clip: Annotated[float, Field(gt=0)] = 1.0
    ema: Decay = 0.99


class LossConfig(Section):
    """Weights of the two losses (the paper's L = w_text CE + w_video flow MSE)."""

    text: Annotated[float, Field(ge=0)] = 1.0
    video: Annotated[float, Field(ge=0)] = 1.0


class SamplingConfig(Section):
    """How `generate` draws from this model unless told otherwise.

    Attributes:
        guidance: 1 = none.
        guided_until: level t up to which it acts (`training.generate.session.Settings`).
        steps: solver steps per chunk.
        start_frames: start frames that are stored with the run, held-out ones if there are any.
    """

    guidance: Annotated[float, Field(ge=0)] = 2.0
    guided_until: Share = 0.5
    steps: Positive = 6
    temperature: Annotated[float, Field(ge=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    start_frames: Count = 8


class RuntimeConfig(Section):
    """How the work is done.

    ``device`` and ``threads`` decide in which order sums are taken, and so their last digits: two
    runs are equal bit by bit only on the same kind of processor, with the same threads and torch.
    The rest changes nothing that is learned.

    Attributes:
        device: of training; auto = cuda where there is one. Films are made on the CPU.
        threads: of the CPU, for training and generation; None leaves it to torch. A small model
            gains nothing from more than two, and on a machine that is shared a barrier of many
            threads waits for the slowest.
        workers: processes that build rows; 0 builds them in the trainer's own.
        save_every: steps between checkpoints; the last step is always saved.
        keep: checkpoints kept.
        sample_every: steps between sample films in RUN/samples; 0 = none.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Positive | None = None
    workers: Count = 1
    save_every: Positive = 500
    keep: Positive = 2
    sample_every: Count = 0


class RunConfig(Section):
    """A training run.

    Attributes:
        steps: optimizer steps in all; the schedule ends there.
        seed: of weights, order and every draw.
    """

    steps: Positive = 1500
    seed: Count = 0
    model: ModelChoice = Field(default_factory=ModelChoice)
    tokenizer: TokenizerConfig = Field(default_factory=TokenizerConfig)
    captions: Policy = Field(default_factory=Policy)
    sequence: SequenceConfig = Field(default_factory=SequenceConfig)
    rows: RowsConfig = Field(default_factory=RowsConfig)
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    loss: LossConfig = Field(default_factory=LossConfig)
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    runtime: RuntimeConfig = Field(default_factory=RuntimeConfig)

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    def set_threads(self) -> None:
        """Give torch the threads that this run asks for."""
        if self.runtime.threads is not None:
            torch.set_num_threads(self.runtime.threads)

    def differences(self, other: "RunConfig") -> list[str]:
        """Dotted names outside ``runtime`` and ``sampling`` in which two configs differ."""
        mine, theirs = _flat(self.model_dump(mode="json")), _flat(other.model_dump(mode="json"))
        names = sorted(name for name in mine | theirs if mine.get(name) != theirs.get(name))
        return [name for name in names if name.split(".")[0] not in ("runtime", "sampling")]


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a config file and apply ``a.b=value`` overrides, in order (values are YAML).

    Raises:
        UserError: unreadable file, unknown key (with the nearest known one), or a bad value.
    """
    data = read_settings(path)
    for text in overrides:
        override(data, text)
    return parse_config(data, str(path))


def parse_config(data: dict[str, Any], source: str) -> RunConfig:
    """Check plain values; UserError lists everything that is wrong with them."""
    return check(RunConfig, data, f"config {source}")


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted names."""
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, child in value.items():
        flat |= _flat(child, f"{prefix}.{name}" if prefix else str(name))
    return flat
