"""Metrics: counted in Ray's workers, scraped as Prometheus does it; nothing without Ray."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from pipeline.telemetry.events import Event
from pipeline.telemetry.metrics import counting

ROOT = Path(__file__).resolve().parents[2]
# A Ray of its own: the port of the metrics is told when Ray starts.
SCRAPE = textwrap.dedent(
    """
    import socket, time, urllib.request
    import ray
    from pipeline.telemetry.metrics import counting

    class Worker:
        def __init__(self):
            self.report = counting(lambda event: None)

        def work(self, event):
            self.report(event)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False,
             _metrics_export_port=port, _system_config={"metrics_report_interval_ms": 500})
    worker = ray.remote(num_cpus=0)(Worker).remote()
    batch = {"event": "batch", "stage": "shots", "seconds": 2.0, "cpu": 1.5, "records": 3,
             "outcomes": {"ok": 5, "filtered": 2, "put off": 1},
             "reasons": {"filtered:too_short": 2}, "bytes": 1000}
    ray.get([worker.work.remote(batch) for _ in range(2)])
    ray.get(worker.work.remote({"event": "failure"}))
    text, end = "", time.monotonic() + 60
    while "tv2tv_batch_records" not in text and time.monotonic() < end:
        time.sleep(0.5)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            pass
    print("\\n".join(line for line in text.splitlines() if line.startswith("ray_tv2tv")))
    """
)


def test_a_scrape_finds_what_workers_counted() -> None:
    command = [sys.executable, "-c", SCRAPE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = {}
    for line in done.stdout.splitlines():
        name, labels, value = re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line).groups()  # type: ignore[union-attr]
        told = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        ours = [told[key] for key in ("stage", "outcome", "reason", "le") if key in told]
        found["/".join([name, *ours])] = float(value)
    assert found["ray_tv2tv_records_total/shots/ok/"] == 10
    assert found["ray_tv2tv_records_total/shots/filtered/too_short"] == 4
    assert found["ray_tv2tv_put_off_total/shots"] == 2
    assert found["ray_tv2tv_written_bytes_total/shots"] == 2000
    assert found["ray_tv2tv_cpu_seconds_total/shots"] == 3
    assert found["ray_tv2tv_batch_records/shots"] == 3
    assert found["ray_tv2tv_batch_seconds_count/shots"] == 2
    assert found["ray_tv2tv_batch_seconds_sum/shots"] == 4


def test_without_ray_nothing_is_counted_and_nothing_imported() -> None:
    events: list[Event] = []
    report: Any = events.append
    assert counting(report) is report
    script = "import sys; from pipeline.telemetry.metrics import counting; counting(print)\n"
    check = f"{script}assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True, timeout=60)
