import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from corpus.errors import UserError
from pipeline.inputs.listing import list_sources
from pipeline.inputs.sources import SourceConfig
from pipeline.inputs.where import Condition


@pytest.mark.parametrize(
    ("given", "fits", "misfits"),
    [
        ("CC0", ["CC0", "cc0", " CC0 ", ["MIT", "CC0"]], ["MIT", "CC0 1.0", None, ""]),
        ([1, "x"], [1, "1", "X"], [2, None]),
        ({"contains": ["ball"]}, ["Football", ["x", "ball"]], ["tennis", None]),
        ({"lacks": ["ad"]}, ["film"], ["An AD", None]),
        ({"at_least": 5, "at_most": 7}, [5, "6.5", 7.0], [4.9, "8", "long", None, float("nan")]),
        ({"contains": ["a"], "lacks": ["b"]}, ["a"], ["ab", "c"]),
        ({"one_of": [True]}, [True, "true"], [False]),
    ],
)
def test_conditions(given: Any, fits: list[Any], misfits: list[Any]) -> None:
    condition = Condition.model_validate(given)
    assert [condition.refuses(value) for value in fits] == [None] * len(fits)
    assert all(condition.refuses(value) for value in misfits)


def test_a_misspelt_condition_is_an_error() -> None:
    with pytest.raises(ValidationError):
        Condition.model_validate({"contain": ["x"]})


def test_rows_that_do_not_fit_are_filtered_and_say_why(tmp_path: Path) -> None:
    rows = [
        {"uri": "a.mp4", "sport": "Tennis"},
        {"uri": "b.mp4", "sport": "golf"},
        {"uri": "c.mp4"},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = SourceConfig.model_validate({"where": {"sport": ["tennis"]}})
    found = {
        s.uri: (s.outcome, s.reason) for s in list_sources(tmp_path / "m.jsonl", config).sources
    }
    out = ("filtered", "metadata")
    assert found == {"a.mp4": ("ok", None), "b.mp4": out, "c.mp4": out}
    messages = [s.message for s in list_sources(tmp_path / "m.jsonl", config).sources]
    assert messages[1:] == ["sport is 'golf', which is not wanted", "sport has no value"]


def test_a_column_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    config = SourceConfig.model_validate({"where": {"sprot": "x"}})
    with pytest.raises(UserError, match=r"sprot; the columns are none"):
        list_sources(tmp_path, config)
    (tmp_path / "m.csv").write_text("uri,sport\na.mp4,golf\n")
    with pytest.raises(UserError, match=r"sprot; the columns are sport"):
        list_sources(tmp_path / "m.csv", config)
