"""Metrics of workers, exported by Ray to Prometheus.

Ray serves them at the metrics port of each node and puts ``ray_`` before the names:

=====================================  =========  ==================================================
name                                   labels     what
=====================================  =========  ==================================================
``ray_tv2tv_records_total``            stage,     records answered, by outcome; ``reason``
                                       outcome,   is empty where that is ok
                                       reason
``ray_tv2tv_put_off_total``            stage      records put off: the next run takes them up
``ray_tv2tv_written_bytes_total``      stage      bytes of media files
``ray_tv2tv_batch_seconds``            stage      histogram: wall-clock seconds of batches
``ray_tv2tv_cpu_seconds_total``        stage      processor seconds of batches, children included
``ray_tv2tv_batch_records``            stage      gauge: records of the latest batch of a worker
=====================================  =========  ==================================================

Only workers of Ray make them: without Ray nothing is imported and nothing counted.
"""

from collections.abc import Callable
from typing import Any

from pipeline.telemetry.events import Event

SECONDS = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000]


class Metrics:
    """What one worker counts; takes its events."""

    def __init__(self) -> None:
        from ray.util.metrics import Counter, Gauge, Histogram

        stage = ("stage",)
        self._records = Counter(
            "tv2tv_records_total",
            "Records answered, by outcome and reason.",
            ("stage", "outcome", "reason"),
        )
        self._put_off = Counter("tv2tv_put_off_total", "Records put off.", stage)
        self._bytes = Counter("tv2tv_written_bytes_total", "Bytes of media written.", stage)
        self._seconds = Histogram(
            "tv2tv_batch_seconds", "Wall-clock seconds of batches.", SECONDS, stage
        )
        self._cpu = Counter("tv2tv_cpu_seconds_total", "Processor seconds of batches.", stage)
        self._size = Gauge("tv2tv_batch_records", "Records of the latest batch.", stage)

    def batch(self, event: Event) -> None:
        """Count one event ``batch``."""
        stage = {"stage": event["stage"]}
        outcomes = {"ok:": event["outcomes"].get("ok", 0), **event["reasons"]}
        for name, count in outcomes.items():
            outcome, _, reason = name.partition(":")
            self._add(self._records, count, {**stage, "outcome": outcome, "reason": reason})
        self._add(self._put_off, event["outcomes"].get("put off", 0), stage)
        self._add(self._bytes, event["bytes"], stage)
        self._add(self._cpu, event["cpu"], stage)
        self._seconds.observe(event["seconds"], stage)
        self._size.set(event["records"], stage)

    def _add(self, counter: Any, amount: float, labels: dict[str, str]) -> None:
        if amount > 0:  # Ray refuses to count nothing
            counter.inc(amount, labels)


def counting(report: Callable[[Event], None]) -> Callable[[Event], None]:
    """``report``, which counts batches on the way where this process is a worker of Ray."""
    if not _in_worker():
        return report
    metrics = Metrics()

    def both(event: Event) -> None:
        if event["event"] == "batch":
            metrics.batch(event)
        report(event)

    return both


def _in_worker() -> bool:
    import sys

    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return False
    return ray.get_runtime_context().get_actor_id() is not None
