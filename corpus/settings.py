"""Settings that a person writes: a YAML file, ``a.b=value`` on top of it, and a model that checks.

Whatever is wrong is told at once, each mistake in a line with the key that was probably meant.
"""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from corpus.errors import UserError

Model = TypeVar("Model", bound=BaseModel)


def read_settings(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        UserError: unreadable, no YAML, or something else than a mapping.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path} is no mapping of names to values")
    return data


def override(data: dict[str, Any], text: str) -> None:
    """Apply one ``a.b=value``, where value is YAML, to nested mappings, in place.

    Raises:
        UserError: not of that form, or there is no section to set the key in.
    """
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


def check(model: type[Model], data: dict[str, Any], source: str) -> Model:
    """Settings as a model; ``source`` is what errors call them.

    Raises:
        UserError: unknown keys and bad values, a line each.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{source}:\n{explain(error, model)}") from error


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One line per mistake, with the key that was probably meant."""
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"  {where} is no key{_did_you_mean(item['loc'], model)}")
        else:
            lines.append(f"  {where or 'all'}: {item['msg']} (got {_short(item['input'])})")
    return "\n".join(lines)


def _short(value: Any, most: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= most else text[:most] + "..."


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
