"""``source.where``: which rows of a manifest are taken, by their own columns.

::

    source:
      where:
        sport: {one_of: [football, tennis]}
        title: {contains: [match, final], lacks: [compilation]}
        duration: {at_least: 10, at_most: 7200}
        licence: CC0                                  # short for {one_of: [CC0]}

All columns that are named must fit. Text is compared without regard to case.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from corpus.errors import UserError

Plain = str | int | float | bool


class Condition(BaseModel):
    """What a value must be; whatever is given must hold.

    Attributes:
        one_of: it is one of these; a list has one of these.
        contains: one of these texts is in it.
        lacks: none of these texts is in it.
        at_least, at_most: bounds of a number, also of one that a CSV file has as text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    one_of: tuple[Plain, ...] | None = None
    contains: tuple[str, ...] | None = None
    lacks: tuple[str, ...] | None = None
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        if isinstance(given, str | int | float | bool):
            return {"one_of": [given]}
        return {"one_of": given} if isinstance(given, list) else given

    def refuses(self, value: Any) -> str | None:
        """Why a value does not fit; None if it does."""
        if value is None or value == "":
            return "has no value"
        values = value if isinstance(value, list) else [value]
        texts = [_text(one) for one in values]
        wanted = None if self.one_of is None else {_text(one) for one in self.one_of}
        if wanted is not None and not wanted & set(texts):
            return f"is {value!r}, which is not wanted"
        if self.contains is not None and not _holds(texts, self.contains):
            return f"is {value!r}, which holds none of {', '.join(self.contains)}"
        if self.lacks is not None and _holds(texts, self.lacks):
            return f"is {value!r}, which is not to hold any of {', '.join(self.lacks)}"
        return self._out_of_bounds(value)

    def _out_of_bounds(self, value: Any) -> str | None:
        if self.at_least is None and self.at_most is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            return f"is {value!r}, which is no number"
        low = float("-inf") if self.at_least is None else self.at_least
        high = float("inf") if self.at_most is None else self.at_most
        return None if low <= number <= high else f"is {value!r}, not within [{low:g}, {high:g}]"


Where = Mapping[str, Condition]


def refusal(meta: Mapping[str, Any], where: Where) -> str | None:
    """Why a row is not taken; None if it is."""
    for column, condition in where.items():
        why = condition.refuses(meta.get(column))
        if why is not None:
            return f"{column} {why}"
    return None


def check_columns(metas: Iterable[Mapping[str, Any]], where: Where) -> None:
    """UserError when a column that is asked for stands in no row: it is misspelt."""
    if not where:
        return
    known = {column for meta in metas for column in meta}
    missing = sorted(set(where) - known)
    if missing:
        there = ", ".join(sorted(known)) or "none: only manifests have columns"
        raise UserError(f"source.where asks for {', '.join(missing)}; the columns are {there}")


def _text(value: Any) -> str:
    return str(value).strip().casefold()


def _holds(texts: Iterable[str], parts: Iterable[str]) -> bool:
    return any(part.casefold() in text for text in texts for part in parts)
