"""Recipes: one YAML file says everything that decides a corpus.

::

    name: real
    seed: 0
    clock: {fps: 16, frames_per_chunk: 4}
    source: {...}
    probe: {...}      # and so on: every stage has its own section, all of them optional

Any value can be set from the command line: ``--set clips.min_seconds=2``.
"""

import copy
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, create_model

from corpus.clock import Clock
from corpus.errors import UserError
from corpus.rows import COMMON
from corpus.settings import check, override, read_settings
from pipeline.inputs.sources import Source, SourceConfig
from stages.stage import Context, CorpusStage, Stage

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
ROW_STAGES = {
    "probe": "stages.probe:ProbeStage",
    "shots": "stages.shots:ShotsStage",
    "clips": "stages.clips:ClipsStage",
    "quality": "stages.quality:QualityStage",
    "filters": "stages.filters:FiltersStage",
    "near_duplicates": "stages.near_duplicates:NearDuplicatesStage",
    "segments": "stages.segments:SegmentsStage",
    "captions": "stages.captions:CaptionsStage",
    "scores": "stages.scores:ScoresStage",
    "comparisons": "stages.comparisons:ComparisonsStage",
    "verdicts": "stages.verdicts:VerdictsStage",
    "latents": "stages.latents:LatentsStage",
}
CORPUS_STAGES = {"shards": "stages.shards:ShardsStage"}
Kind = Literal["recipe", "training config"]
COMMANDS: dict[Kind, str] = {"recipe": "tv2tv run", "training config": "tv2tv train"}
# Sections that only one of the two kinds has; `captions` is in both.
ONLY_IN: dict[Kind, set[str]] = {
    "recipe": {"clock", "source", *ROW_STAGES, *CORPUS_STAGES} - {"captions"},
    "training config": {
        *("steps", "model", "tokenizer", "sequence", "rows", "loss", "optimizer"),
        *("sampling", "runtime"),
    },
}


class ClockConfig(BaseModel):
    """See `corpus.clock`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    fps: int = 16
    frames_per_chunk: int = 4

    def clock(self) -> Clock:
        return Clock(self.fps, self.frames_per_chunk)


class Recipe(BaseModel):
    """What every recipe has; `recipe_model` adds one section per stage."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    seed: int = 0
    clock: ClockConfig = ClockConfig()
    source: SourceConfig = SourceConfig()

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load_class(name: str) -> Any:
    """``module:Class`` to the class."""
    module, attribute = name.split(":")
    return getattr(importlib.import_module(module), attribute)


def recipe_model() -> type[Recipe]:
    """The recipe with the sections of all stages."""
    sections: dict[str, Any] = {}
    for name, where in {**ROW_STAGES, **CORPUS_STAGES}.items():
        config = load_class(where).Config
        sections[name] = (config, Field(default_factory=config))
    return create_model("FullRecipe", __base__=Recipe, **sections)


def load_recipe(given: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by path, or by bare name from ``configs/``.

    Args:
        overrides: ``a.b=value``, where value is YAML.

    Raises:
        UserError: not found, no YAML, unknown keys (with the likely right one), bad values.
    """
    path = find_config(given, "recipe")
    return parse_recipe(read_settings(path), overrides, str(path), path.stem)


def parse_recipe(
    data: dict[str, Any], overrides: Sequence[str], where: str, name: str = "recipe"
) -> Recipe:
    """Check recipe data; errors call it ``where``, and ``name`` is its name by default."""
    data = {"name": name, **copy.deepcopy(data)}
    for text in overrides:
        override(data, text)
    return check(recipe_model(), data, f"recipe {where}")


def find_config(given: str, wanted: Kind) -> Path:
    """Path of a recipe or training config that was named by path, or by its name in configs/.

    Raises:
        UserError: not found, or clearly of the other kind.
    """
    path, shipped = Path(given), CONFIGS / f"{given.removesuffix('.yaml')}.yaml"
    if not path.is_file():
        if path.name != given or not shipped.is_file():
            known = sorted(one.stem for one in CONFIGS.glob("*.yaml") if kind_of(one) == wanted)
            raise UserError(
                f"{given} is not a file, and no {wanted} that comes along: {', '.join(known)}"
            )
        path = shipped
    found = kind_of(path)
    if found is not None and found != wanted:
        raise UserError(f"{given} is a {found}, which is for `{COMMANDS[found]} {given}`")
    return path


def kind_of(path: Path) -> Kind | None:
    """What kind of config a file is by its sections; None if they do not tell."""
    sections = set(read_settings(path))
    kinds = [kind for kind, only in ONLY_IN.items() if sections & only]
    return kinds[0] if len(kinds) == 1 else None


def make_stages(recipe: Recipe, context: Context) -> list[Stage]:
    """The row stages of a recipe in order, checked to fit each other.

    Raises:
        UserError: settings that cannot work, alone or together.
    """
    built = [
        load_class(where)(getattr(recipe, name), context) for name, where in ROW_STAGES.items()
    ]
    stages = [stage for stage in built if stage.wanted]
    for position, stage in enumerate(stages):
        stage.agree({earlier.name: earlier for earlier in stages[:position]})
    check_plan(stages)
    return stages


def make_corpus_stages(recipe: Recipe, context: Context) -> list[CorpusStage]:
    return [
        load_class(where)(getattr(recipe, name), context) for name, where in CORPUS_STAGES.items()
    ]


def check_plan(stages: Sequence[Stage]) -> None:
    """Raise ValueError unless every stage finds what it reads: a fault of the plan, not of a user.

    A key without the unit's id would make two units with equal content share rows that name only
    one of them.
    """
    known = set(Source("", "").record())
    previous: Stage | None = None
    for stage in stages:
        missing = set(stage.reads) - known
        if missing:
            raise ValueError(f"stage {stage.name} reads {sorted(missing)}, which nothing writes")
        if f"{stage.unit}_id" not in stage.reads:
            raise ValueError(f"stage {stage.name} must read {stage.unit}_id")
        clash = set(stage.writes.names) & set(COMMON.names)
        if clash:
            raise ValueError(f"stage {stage.name} writes {sorted(clash)}, which every row has")
        if previous is not None and (previous.unit, stage.unit) == ("clip", "video"):
            raise ValueError(f"stage {stage.name} works on videos, after {previous.name} on clips")
        known |= {*stage.writes.names, f"{stage.level}s", f"{stage.level}_id"}
        previous = stage
