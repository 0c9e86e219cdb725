"""Which stages wait for a whole batch: those whose backend or GPU would else work half empty."""

from typing import Any

import pyarrow as pa
import pytest

from pipeline.plan import Cluster
from pipeline.streaming import stream
from stages.stage import Resources


class Recorder:
    """In place of a dataset: keeps how stages are put on it."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def map_batches(self, _: Any, **how: Any) -> "Recorder":
        self.asked.append(how)
        return self


class Stage:
    name, unit = "x", "clip"

    def __init__(self, resources: Resources) -> None:
        self.resources = resources


class Waiting:
    store = None

    def __len__(self) -> int:
        return 1

    def orders(self, _: int) -> pa.Table:
        return pa.table({})


@pytest.mark.parametrize(
    ("resources", "batch"),
    [
        (Resources(batch=8), None),  # takes what has arrived
        (Resources(batch=8, gpus=1.0), 8),
        (Resources(batch=8, patient=True), 8),
    ],
)
def test_a_stage_waits_for_its_batch_where_it_says_so(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, resources: Resources, batch: int | None
) -> None:
    recorder = Recorder()
    monkeypatch.setattr(stream.ray.data, "from_arrow", lambda _: recorder)
    link = stream.Link(0, Stage(resources), None)  # type: ignore[arg-type]
    stream._dataset([link], Waiting(), Cluster(4, 1, 4), tmp_path, None, None)  # type: ignore[arg-type]
    assert recorder.asked[-1]["batch_size"] == batch
