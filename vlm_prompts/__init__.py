"""Caption prompts: text files with front matter, read, checked and rendered here.

A prompt is a Markdown file::

    ---
    id: generic
    version: "1"           # change it with every change of the text
    purpose: what it is for
    output: {...}          # JSON schema of the answer: a text, or an object with a text `caption`
    must_not: [...]        # what a caption must not do, for people and for verdicts
    ---
    # clip                 asks for the caption of a whole clip
    # first                for a clip's first segment
    # next                 for a later one, after an accepted caption
    # unchained            for a later one, after a rejected caption or where captions build on
                           nothing
    # look                 any other section is a piece: ``{look}`` in the four stands for it

Each section may use the placeholders that `PLACEHOLDERS` allows it; ``{{`` and ``}}`` are braces.
Advice that all prompts share lies in ``pieces/``: ``{style}`` and ``{answer}`` stand for it, unless
a file has pieces of these names itself. What pieces hold is put in when a prompt is read, so it is
part of what is asked, fingerprinted and shown like any other word of it.
"""

import json
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, SchemaError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable

from corpus.errors import UserError

FOLDER = Path(__file__).parent
PIECES = FOLDER / "pieces"
PLACEHOLDERS: Mapping[str, frozenset[str]] = {
    "clip": frozenset({"duration"}),
    "first": frozenset({"start", "end", "duration"}),
    "next": frozenset({"start", "end", "duration", "previous"}),
    "unchained": frozenset({"start", "end", "duration"}),
}
_SECTION = re.compile(r"^# +(\w+) *$", re.MULTILINE)
_PIECE = re.compile(r"(?<!\{)\{(\w+)\}(?!\})")


class _Front(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str = Field(pattern=r"^[a-z0-9_-]+$")
    version: str = Field(min_length=1)
    purpose: str = Field(min_length=1)
    output: dict[str, Any]
    must_not: tuple[str, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Prompt:
    """One prompt file.

    Attributes:
        id, version: name it wherever a caption is stored.
        purpose: what it is for.
        output: JSON schema of the answer.
        must_not: what captions must not do.
        sections: template per section name, pieces put in.
    """

    id: str
    version: str
    purpose: str
    output: dict[str, Any]
    must_not: tuple[str, ...]
    sections: Mapping[str, str]

    @property
    def name(self) -> str:
        """``id/version``."""
        return f"{self.id}/{self.version}"

    def render(self, section: str, **values: object) -> str:
        """Fill a section in. Values are only ever inserted: braces in them stay what they are.

        Raises:
            UserError: no such section, or a placeholder without a value.
        """
        if section not in self.sections:
            raise UserError(f"prompt {self.id}: no section {section!r}, only {_names(self)}")
        missing = _fields(self.sections[section]) - set(values)
        if missing:
            raise UserError(f"prompt {self.id}, section {section}: no value for {sorted(missing)}")
        return self.sections[section].format_map({k: _spoken(v) for k, v in values.items()})


def available() -> list[str]:
    """Names of the prompts that come with this package."""
    return sorted(path.stem for path in FOLDER.glob("*.md"))


def load(name: str) -> Prompt:
    """A prompt by name, or by the path of a .md file.

    Raises:
        UserError: not found, or malformed; says which file, where, and what is expected.
    """
    path = Path(name).expanduser() if name.endswith(".md") else FOLDER / f"{name}.md"
    if not path.is_file():
        raise UserError(
            f"prompt {name!r} not found: name one of {', '.join(available())}, or a .md file"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"prompt {path} cannot be read as UTF-8 text: {error}") from error
    return parse(text, str(path))


@cache
def parse(text: str, where: str) -> Prompt:
    """Read a prompt's text; ``where`` names it in errors."""
    parts = text.split("---\n", 2)
    if len(parts) != 3 or parts[0].strip():
        raise UserError(f"prompt {where}: must begin with front matter between two lines '---'")
    try:
        front = _Front.model_validate(yaml.safe_load(parts[1]))
    except (yaml.YAMLError, ValidationError) as error:
        raise UserError(f"prompt {where}: front matter: {error}") from error
    _check_output(front.output, where)
    pieces = _SECTION.split(parts[2])
    if pieces[0].strip():
        raise UserError(f"prompt {where}: text before the first section: {pieces[0].strip()[:60]}")
    names, bodies = pieces[1::2], [body.strip() for body in pieces[2::2]]
    asked = [name for name in names if name in PLACEHOLDERS]
    if sorted(asked) != sorted(PLACEHOLDERS) or len(set(names)) != len(names):
        raise UserError(
            f"prompt {where}: needs the sections {', '.join(PLACEHOLDERS)}, each once; "
            f"found {', '.join(names) or 'none'}"
        )
    found = dict(zip(names, bodies, strict=True))
    own = {name: body for name, body in found.items() if name not in PLACEHOLDERS}
    _check_pieces(own, found, where)
    sections = {name: _filled(found[name], {**shared(), **own}) for name in asked}
    for name, body in sections.items():
        _check(name, body, where)
    return Prompt(front.id, front.version, front.purpose, front.output, front.must_not, sections)


def _check_output(output: Mapping[str, Any], where: str) -> None:
    """UserError unless it is a schema, all of it here, that asks for a caption."""
    if not _holds_caption(output):
        raise UserError(
            f"prompt {where}: output must ask for a text: {{type: string}}, or an object that "
            "requires a property caption of type string"
        )
    try:
        json.dumps(output)
        Draft202012Validator.check_schema(output)
        for answer in ("A dog runs.", {"caption": "A dog runs."}):
            list(Draft202012Validator(output, registry=Registry()).iter_errors(answer))
    except (SchemaError, Unresolvable, RecursionError, TypeError, re.error) as error:
        told = error.message if isinstance(error, SchemaError) else str(error)
        raise UserError(f"prompt {where}: output is no JSON schema: {told}") from error


def _holds_caption(output: Mapping[str, Any]) -> bool:
    """Whether an answer after this schema always has a caption."""
    if output.get("type") == "string":
        return True
    member = (output.get("properties") or {}).get("caption")
    asked = isinstance(member, dict) and member.get("type") == "string"
    return asked and "caption" in (output.get("required") or ())


@cache
def shared() -> Mapping[str, str]:
    """Pieces that every prompt may use, by name."""
    return {path.stem: path.read_text(encoding="utf-8").strip() for path in PIECES.glob("*.md")}


def _filled(body: str, pieces: Mapping[str, str]) -> str:
    """A section with its pieces."""
    return _PIECE.sub(lambda found: pieces.get(found[1], found[0]), body)


def _check_pieces(own: Mapping[str, str], sections: Mapping[str, str], where: str) -> None:
    known = set[str]().union(*PLACEHOLDERS.values())
    used = {name for body in sections.values() for name in _PIECE.findall(body)}
    for name, body in own.items():
        if name in known:
            raise UserError(f"prompt {where}: {name} is a placeholder, so no section can be it")
        if name not in used:
            raise UserError(
                f"prompt {where}: section {name} is none of {', '.join(PLACEHOLDERS)}, "
                f"and none of them holds {{{name}}}"
            )
        if set(_PIECE.findall(body)) & {*own, *shared()}:
            raise UserError(f"prompt {where}: section {name}: a piece cannot hold a piece")


def _check(name: str, body: str, where: str) -> None:
    if not body:
        raise UserError(f"prompt {where}: section {name} is empty")
    try:
        unknown = _fields(body) - PLACEHOLDERS[name]
        if not unknown:
            body.format_map(dict.fromkeys(PLACEHOLDERS[name], ""))
    except ValueError as error:
        raise UserError(
            f"prompt {where}, section {name}: {error}; a literal brace is written twice"
        ) from error
    if unknown:
        raise UserError(
            f"prompt {where}, section {name}: {sorted(unknown)} are no placeholders, "
            f"there are {sorted(PLACEHOLDERS[name])}; a literal brace is written twice"
        )


def example(prompt: Prompt) -> str:
    """All that a prompt says, about a made-up clip: for people, and to see what an edit changed."""
    values = {"start": 2.0, "end": 4.5, "duration": 2.5, "previous": "A dog runs to the left."}
    first = {**values, "start": 0.0, "end": 2.5}
    parts = [prompt.name, prompt.purpose]
    parts += [f"must not {one}" for one in prompt.must_not]
    parts.append(f"answers after the schema {json.dumps(prompt.output, sort_keys=True)}")
    for name in PLACEHOLDERS:
        told = prompt.render(name, **(first if name == "first" else values))
        parts.append(f"\n[{name}]\n{told}")
    return "\n".join(parts) + "\n"


def _fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def _names(prompt: Prompt) -> str:
    return ", ".join(prompt.sections)


def _spoken(value: object) -> str:
    """Seconds are told to the hundredth, without idle zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
