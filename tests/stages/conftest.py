"""What the tests of captions share."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corpus.clock import Clock
from corpus.layout import Media
from stages.captioning.settings import BACKENDS, CaptionsConfig
from stages.captions import CaptionsStage
from stages.stage import Context

sys.path.insert(0, str(Path(__file__).parent))
from asked import Reply, Scripted


@pytest.fixture
def media(tmp_path: Path) -> Media:
    return Media(tmp_path)


@pytest.fixture
def scripted(
    media: Media, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[CaptionsStage, Scripted]]:
    """Makes a stage and its backend; ``settings`` are the stage's."""

    def make(
        reply: Reply,
        kind: type[Scripted] = Scripted,
        settings: dict[str, Any] | None = None,
        **more: Any,
    ) -> tuple[CaptionsStage, Scripted]:
        backend = kind(reply, **more)
        monkeypatch.setitem(BACKENDS, "scripted", lambda config: backend)
        chosen = {"canaries": 0, **(settings or {})}
        config = CaptionsConfig(backend="scripted", **chosen)
        return CaptionsStage(config, Context(media, Clock())), backend

    return make
