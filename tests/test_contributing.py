"""What CONTRIBUTING.md shows works as it stands there."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpus.clock import Clock
from corpus.layout import Media
from corpus.video import write_video
from pipeline import recipe
from pipeline.recipe import check_plan, load_recipe, make_stages
from stages.stage import Context, Stage

TEXT = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture
def example(tmp_path: Path) -> Stage[Any]:
    """The stage that the text shows."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(code, "CONTRIBUTING.md", "exec"), names)  # noqa: S102 - our own file
    stage: Stage[Any] = names["BrightnessStage"](
        names["BrightnessConfig"](), Context(Media(tmp_path), Clock())
    )
    return stage


def test_the_example_stage_fits_into_the_plan_where_the_text_puts_it(example: Stage[Any]) -> None:
    stages: list[Stage[Any]] = []
    for stage in make_stages(load_recipe("real"), example.context):
        stages += [stage, example] if stage.name == "clips" else [stage]
    assert example in stages
    check_plan(stages)


def test_the_example_stage_keeps_bright_clips_and_names_dark_ones(example: Stage[Any]) -> None:
    records = []
    for name, grey in (("bright", 200), ("dark", 3)):
        frames = np.full((5, 64, 64, 3), grey, np.uint8)
        clip = example.context.media.clip(name)
        write_video(example.context.media.path(clip), frames, 16)
        records.append({"shot_id": "s", "clip_id": name, "clip": clip, "clip_sha256": name})
    assert example.key(records[0]) != example.key(records[1])
    (bright,), (dark,) = example.process([example.seen(record) for record in records])
    assert (bright.outcome, dark.outcome, dark.reason) == ("ok", "filtered", "dark")
    (onward,) = example.advance(records[0], [bright])
    assert onward["brightness"] == pytest.approx(200, abs=3)
    assert example.advance(records[1], [dark]) == []


def test_the_tables_that_it_names_are_there() -> None:
    from corpus.codecs import BUILDERS
    from stages.captioning.settings import BACKENDS

    assert "clips" in recipe.ROW_STAGES and "dct" in BUILDERS and "motion" in BACKENDS
    for name in re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", TEXT):
        assert (Path(__file__).resolve().parents[1] / name).is_file(), name
