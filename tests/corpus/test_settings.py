from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from corpus.errors import UserError
from corpus.settings import check, override, read_settings


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Motion(Strict):
    kind: Literal["motion"] = "motion"
    floor: float = 0.5


class Given(Strict):
    kind: Literal["given"] = "given"


class Whole(Strict):
    steps: int = 1
    captions: Motion | Given = Field(default_factory=Motion, discriminator="kind")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed", "section.key=value"),
        ("=3", "section.key=value"),
        ("a..b=3", "section.key=value"),
        ("seed.x=3", "seed is a value"),
        ("seed=[", "no YAML"),
    ],
)
def test_bad_overrides_are_named(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        override({"seed": 1}, text)


def test_overrides_are_yaml() -> None:
    data: dict[str, Any] = {"probe": None}
    for text in ("a.b=[1, 2]", "probe.c=x=y", "d=null", "e=true"):
        override(data, text)
    assert data == {"a": {"b": [1, 2]}, "probe": {"c": "x=y"}, "d": None, "e": True}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"step": 1}, "step is no key: did you mean steps?"),
        ({"xyzzy": 1}, "xyzzy is no key: there are captions, steps"),
        ({"captions": {"kind": "motion", "flor": 1}}, "captions.motion.flor is no key: .* floor?"),
        ({"steps": "many"}, r"steps: .*integer.* \(got 'many'\)"),
        ({"steps": "x" * 500}, r"steps: .{0,200}$"),
    ],
)
def test_mistakes_are_named_with_what_was_meant(data: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(Whole, data, "here")


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(UserError) as caught:
        check(Whole, {"steps": "many", "captions": {"kind": "given", "x": 1}}, "here")
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("text", ["- a\n", "a: [\n", "", "\x00"])
def test_a_file_that_holds_no_settings(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UserError, match=r"x\.yaml"):
        read_settings(tmp_path / "x.yaml")
