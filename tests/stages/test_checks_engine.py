"""Checks by a real engine: a tiny model of random weights knows nothing, and says so in numbers."""

from pathlib import Path

import pytest
from test_checks import captioned
from tiny_engine import needs_vllm, running

from corpus.clock import Clock
from corpus.layout import Media
from stages.measures.checks import Checks

pytestmark = needs_vllm


def test_questions_go_through_the_engine(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from tiny_vlm import build

    media = Media(tmp_path)
    records = [captioned(media, n, "It is grey. It is dark.", "a red car", "") for n in range(2)]
    with running(build(tmp_path_factory.mktemp("models") / "tiny")) as backend:
        checks = Checks(backend, Clock())
        clips = [(media.path(one["clip"]), one["segments"]) for one in records]
        found, again = checks.scores(clips), checks.scores(clips)
    assert found == again
    for first, second, nothing in found:
        assert nothing == {}
        for scores in (first, second):
            assert set(scores) == {"yes", "agree"}
            assert 0 < scores["yes"] < 1 and 0 <= scores["agree"] <= 1
    assert found[0] != found[1], "they show other frames"
