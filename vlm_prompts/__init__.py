"""Caption prompts: text files with front matter, read, checked and rendered here.

A prompt is a Markdown file::

    ---
    id: generic
    version: "1"           # change it with every change of the text
    purpose: what it is for
    output: {...}          # JSON schema of the answer
    must_not: [...]        # what a caption must not do, for people and for verdicts
    ---
    # clip                 asks for the caption of a whole clip
    # first                for a clip's first segment
    # next                 for a later one, after an accepted caption
    # unchained            for a later one, after a rejected caption

Each section may use the placeholders that `PLACEHOLDERS` allows it; ``{{`` and ``}}`` are braces.
"""

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from corpus.errors import UserError

FOLDER = Path(__file__).parent
PLACEHOLDERS: Mapping[str, frozenset[str]] = {
    "clip": frozenset({"duration"}),
    "first": frozenset({"start", "end", "duration"}),
    "next": frozenset({"start", "end", "duration", "previous"}),
    "unchained": frozenset({"start", "end", "duration"}),
}
_SECTION = re.compile(r"^# +(\w+) *$", re.MULTILINE)


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
        sections: template per section name.
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
    return parse(path.read_text(encoding="utf-8"), str(path))


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
    pieces = _SECTION.split(parts[2])
    if pieces[0].strip():
        raise UserError(f"prompt {where}: text before the first section: {pieces[0].strip()[:60]}")
    names, bodies = pieces[1::2], [body.strip() for body in pieces[2::2]]
    if sorted(names) != sorted(PLACEHOLDERS):
        raise UserError(
            f"prompt {where}: needs the sections {', '.join(PLACEHOLDERS)}, each once; "
            f"found {', '.join(names) or 'none'}"
        )
    for name, body in zip(names, bodies, strict=True):
        _check(name, body, where)
    sections = dict(zip(names, bodies, strict=True))
    return Prompt(front.id, front.version, front.purpose, front.output, front.must_not, sections)


def _check(name: str, body: str, where: str) -> None:
    if not body:
        raise UserError(f"prompt {where}: section {name} is empty")
    try:
        unknown = _fields(body) - PLACEHOLDERS[name]
    except ValueError as error:
        raise UserError(
            f"prompt {where}, section {name}: {error}; a literal brace is written twice"
        ) from error
    if unknown:
        raise UserError(
            f"prompt {where}, section {name}: {sorted(unknown)} are no placeholders, "
            f"there are {sorted(PLACEHOLDERS[name])}; a literal brace is written twice"
        )


def _fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def _names(prompt: Prompt) -> str:
    return ", ".join(prompt.sections)


def _spoken(value: object) -> str:
    """Seconds are told to the hundredth, without idle zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
