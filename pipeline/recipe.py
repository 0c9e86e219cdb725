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
import difflib
import importlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from corpus.clock import Clock
from corpus.errors import UserError
from corpus.rows import COMMON
from pipeline.sources import Source, SourceConfig
from stages.stage import Context, CorpusStage, Stage

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
ROW_STAGES = {
    "probe": "stages.probe:ProbeStage",
    "shots": "stages.shots:ShotsStage",
    "clips": "stages.clips:ClipsStage",
    "segments": "stages.segments:SegmentsStage",
    "captions": "stages.captions:CaptionsStage",
    "scores": "stages.scores:ScoresStage",
    "verdicts": "stages.verdicts:VerdictsStage",
    "latents": "stages.latents:LatentsStage",
}
CORPUS_STAGES = {"shards": "stages.shards:ShardsStage"}


class ClockConfig(BaseModel):
    """See `corpus.clock`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    fps: int = 16
    frames_per_chunk: int = 4

    def clock(self) -> Clock:
        return Clock(self.fps, self.frames_per_chunk)


class Recipe(BaseModel):
    """What every recipe has; `recipe_model` adds one section per stage."""

    model_config = ConfigDict(extra="forbid", frozen=True)
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
    path = find_config(given)
    return parse_recipe(_read_yaml(path), overrides, str(path), path.stem)


def parse_recipe(
    data: dict[str, Any], overrides: Sequence[str], where: str, name: str = "recipe"
) -> Recipe:
    """Check recipe data; errors call it ``where``, and ``name`` is its name by default."""
    data = {"name": name, **copy.deepcopy(data)}
    for text in overrides:
        override(data, text)
    model = recipe_model()
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UserError(f"recipe {where}:\n{explain(error, model)}") from error


def find_config(given: str) -> Path:
    """Path of a recipe or training config that was named by path, or by its name in configs/."""
    path = Path(given)
    if path.is_file():
        return path
    shipped = CONFIGS / f"{given.removesuffix('.yaml')}.yaml"
    if path.name == given and shipped.is_file():
        return shipped
    names = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
    raise UserError(f"{given} is not a file, and none of those that come along: {names}")


def override(data: dict[str, Any], text: str) -> None:
    """Apply one ``a.b=value`` to nested dicts, in place."""
    dotted, equals, value = text.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise UserError(f"--set {text!r}: write section.key=value, as in clips.min_seconds=2")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"--set {text!r}: the value is no YAML: {error}") from error
    for key in keys[:-1]:
        if data.get(key) is None:
            data[key] = {}
        data = data[key]
        if not isinstance(data, dict):
            raise UserError(f"--set {text!r}: {key} is a value, it has no keys below it")
    data[keys[-1]] = parsed


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One line per mistake, with the key that was probably meant."""
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"  {where} is no key{_did_you_mean(item['loc'], model)}")
        else:
            lines.append(f"  {where or 'recipe'}: {item['msg']}")
    return "\n".join(lines)


def make_stages(recipe: Recipe, context: Context) -> list[Stage]:
    """The row stages of a recipe in order, checked to fit each other."""
    stages = [
        load_class(where)(getattr(recipe, name), context) for name, where in ROW_STAGES.items()
    ]
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


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"recipe {path} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"recipe {path} is no mapping of sections")
    return data


def _did_you_mean(location: Sequence[Any], model: type[BaseModel]) -> str:
    names = _keys_at(location[:-1], model)
    close = difflib.get_close_matches(str(location[-1]), names, n=1)
    if close:
        return f": did you mean {close[0]}?"
    return f": there are {', '.join(names)}" if names else ""


def _keys_at(location: Iterable[Any], model: type[BaseModel]) -> list[str]:
    """Names of the fields of the model that stands at ``location``."""
    candidates: list[type[BaseModel]] = [model]
    for part in location:
        nested = [m for one in candidates if part in one.model_fields for m in _models(one, part)]
        candidates = nested or [m for m in candidates if m.__name__ == part] or candidates
    return sorted({name for one in candidates for name in one.model_fields})


def _models(model: type[BaseModel], name: str) -> list[type[BaseModel]]:
    """Models that a field may hold: its annotation, or the members of its union."""
    annotation = model.model_fields[name].annotation
    kinds = [annotation, *get_args(annotation)]
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
