"""What writing, checking and uploading a shard set costs.

    python -m benchmarks shards             all of it
    python -m benchmarks shards write N     one writing and checking of N samples, in this process

The samples are tiny (a latent of 6 kB, two captions), so figures per sample are overhead, and no
disk or codec hides it. Each size has a process of its own: peak memory is of a process.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np

from corpus import uploading
from corpus.captions import Caption, ClipCaptions, SegmentCaption
from corpus.clock import Clock
from corpus.codecs import DctCodec
from corpus.ids import content_id, segment_id
from corpus.remote import RemoteStore
from corpus.shards import Sample, ShardPlan, write_shards
from corpus.shards.verifying import verify
from corpus.store import Folder, store_at

SIZES = (1_000, 20_000, 60_000)
SHARD = 64 * 2**20  # bytes
CODEC = DctCodec(12)
HEADER = {
    "clock": Clock().to_json(),
    "codec": CODEC.info.to_json(),
    "recipe": {"name": "benchmark", "seed": 0, "stages": {}},
    "fingerprints": {},
}
LATENT = np.random.default_rng(0).standard_normal((12, 5, 5, 10)).astype(np.float16)
SECONDS = 0.25  # of one upload to a store that is slow
UPLOADS = (1, 2, 4, 8)


def write(folder: Folder, count: int, target: int) -> int:
    """Shards of a set of so many samples."""
    videos = {content_id("clip", number): f"video{number // 4}" for number in range(count)}
    plan = ShardPlan(target, validation=0.05)
    made = write_shards(folder, videos, lambda key: _sample(key, videos[key]), HEADER, plan)
    return len(made["shards"])


def _sample(key: str, video: str) -> Sample:
    spans = tuple(
        SegmentCaption(
            a,
            a + 2,
            Caption(f"what {key} does from {a} on, in some words", binding=content_id(key, a)),
            segment_id(key, a, a + 2),
        )
        for a in (0, 2)
    )
    info = {
        **{"clip_id": key, "video_id": video, "chunks": 4, "width": 80, "height": 40, "meta": {}},
        "source": {"start_pts": 0, "end_pts": 17, "time_base": [1, 16]},
        **{name: HEADER[name] for name in ("clock", "codec", "fingerprints")},
    }
    meta = Caption(f"about {key}", binding=content_id(key))
    return Sample(key, LATENT, ClipCaptions((meta,), spans), info)


def _peak() -> float:
    """MiB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one_size(count: int) -> None:
    """Print time and memory of writing, and of checking in one process."""
    with tempfile.TemporaryDirectory() as place:
        before, begun = _peak(), time.perf_counter()
        shards = write(Path(place) / "main", count, SHARD)
        written, held = time.perf_counter() - begun, _peak()
        begun = time.perf_counter()
        found = verify(Path(place) / "main", workers=1)
        checked = time.perf_counter() - begun
        if found.faults:
            sys.exit(str(found.faults[0]))
    sys.stdout.write(
        f"{count:7,} samples, {shards:3} shards, {found.bytes / 2**20:5.0f} MiB: written in "
        f"{1e3 * written / count:.2f} ms each, {held - before:.0f} MiB above the imports' "
        f"{before:.0f}; checked in {1e3 * checked / count:.2f} ms each, {_peak():.0f} MiB in all\n"
    )


def uploads() -> None:
    """Print how long a set takes to a store where each upload takes `SECONDS`."""
    real, first = RemoteStore.put, 0.0

    def slow(self: RemoteStore, name: str, path: Path) -> object:
        if not self.uri.endswith(uploading.NOTES):
            time.sleep(SECONDS)
        return real(self, name, path)

    with mock.patch.object(RemoteStore, "put", slow):
        for at_once in UPLOADS:
            with mock.patch.object(uploading, "UPLOADS", at_once):
                begun = time.perf_counter()
                shards = write(store_at(f"memory://uploads-{at_once}/main"), 200, 2**16)
                took = time.perf_counter() - begun
            first = first or took
            sys.stdout.write(
                f"{shards} shards, {at_once} at once: {took:.1f} s, {first / took:.1f} times as "
                "fast as one after the other\n"
            )


def main(arguments: list[str]) -> None:
    """Print what was measured."""
    if arguments:
        one_size(int(arguments[1]))
        return
    for count in SIZES:
        command = [sys.executable, "-m", "benchmarks", "shards", "write", str(count)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    uploads()
