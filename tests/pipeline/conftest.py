"""A local Ray for the whole session, and plans made of the fake stages."""

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, create_model
from rich.console import Console

from corpus import layout
from corpus.clock import Clock
from corpus.store import Folder, store_at
from pipeline.plan import Plan
from pipeline.recipe import Recipe, check_plan
from pipeline.telemetry.progress import PlainView
from stages.stage import Context, CorpusStage, Record, StageConfig

sys.path.insert(0, str(Path(__file__).parent))
from pipeline_fakes import WITH_FILES, FakeConfig


class ListConfig(StageConfig):
    name: str = "main"


class ListStage(CorpusStage[ListConfig]):
    """Writes the finished records as they are, but for names of files."""

    name = "shards"
    version = "1"
    Config = ListConfig

    def run(
        self,
        records: Mapping[str, Record],
        folder: Folder,
        header: dict[str, Any],
        ready: Callable[[], None] = lambda: None,
    ) -> bool:
        named = [{k: v for k, v in one.items() if k != "uri"} for one in records.values()]
        text = json.dumps([header, named], sort_keys=True)
        store = store_at(folder)
        if store.has("records.json") and store.read_text("records.json") == text:
            return False
        ready()
        store.write_text("records.json", text)
        return True


class ShardsSection(BaseModel):
    name: str = "main"


FakeRecipe = create_model("FakeRecipe", __base__=Recipe, shards=(ShardsSection, ShardsSection()))
MakePlan = Callable[..., Plan]


@pytest.fixture
def make_plan(tmp_path: Path) -> MakePlan:
    """``make_plan(tags={"words": "x"}, batch=3)`` on ``tmp_path / "corpus"``; ``count`` stages."""
    log = tmp_path / "calls"
    log.mkdir()

    def make(
        corpus: str = "corpus",
        tags: dict[str, str] | None = None,
        batch: int = 3,
        count: int = len(WITH_FILES),
    ) -> Plan:
        place = layout.create(tmp_path / corpus, Clock())
        context = Context(place.media, Clock())
        stages = [
            kind(
                FakeConfig(log=str(log), tag=(tags or {}).get(kind.name, ""), batch=batch), context
            )
            for kind in WITH_FILES[:count]
        ]
        check_plan(stages)
        return Plan(FakeRecipe(name="fake"), place, stages, [ListStage(ListConfig(), context)])

    return make


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[], dict[str, int]]:
    """How often each stage was asked to process a record, since the last time one looked."""

    def count() -> dict[str, int]:
        counts = {}
        for path in (tmp_path / "calls").iterdir():
            counts[path.name] = len(path.read_text().splitlines())
            path.unlink()
        return counts

    return count


@pytest.fixture
def films(tmp_path: Path) -> Callable[..., Path]:
    """``films(a={"shots": [[["x", "y"]]]})`` writes ``inputs/a.mp4``; text is written as it is."""
    folder = tmp_path / "inputs"

    def write(**scripts: Any) -> Path:
        folder.mkdir(exist_ok=True)
        for name, script in scripts.items():
            text = script if isinstance(script, str) else json.dumps({"name": name, **script})
            (folder / f"{name}.mp4").write_text(text)
        return folder

    return write


@pytest.fixture
def view() -> PlainView:
    return PlainView(Console(quiet=True))


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One Ray for all tests that need one; its CPUs are logical.

    It leaves the usual port of Ray's agent to the runs that tests start: each would try for 3.4 s
    to get it.
    """
    import ray
    from ray._private.parameter import RayParams

    with pytest.MonkeyPatch.context() as patch:
        anywhere = partialmethod(RayParams.__init__, dashboard_agent_listen_port=0)
        patch.setattr(RayParams, "__init__", anywhere)
        ray.init(
            address="local",  # not that of a cluster which runs beside the tests
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}},
        )
    yield
    ray.shutdown()
