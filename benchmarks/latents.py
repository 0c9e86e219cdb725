"""The latents stage against the bare codec on the same clips, in alternating rounds.

``python -m benchmarks latents [ROUNDS]``, on a CPU: VAEs of Wan with random weights, one of full
size on small frames and a tiny one; a device beside the processors, as a GPU is, that takes ten
times as long as reading; and `dct`, of which is told what bounds it. The bare codec has its clips
in memory and writes nothing; the stage reads, encodes, checks and writes. The aim is 95 % of the
bare codec's pace where encoding takes ten times as long as reading. It wants two free processors,
one to read while the other encodes. `benchmarks.gpu` does the same on a GPU.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from corpus.clock import Clock
from corpus.codecs import BUILDERS, DctCodec
from corpus.codecs.base import Latent
from corpus.ids import sha256_bytes, sha256_file
from corpus.layout import Media
from corpus.video import Frames, read_video, write_video
from stages.latents import LatentsConfig, LatentsStage
from stages.stage import Context, Record

AIM = 0.95
SLOWER = 10  # times than reading
TINY = {"base_dim": 4, "num_res_blocks": 1, "dim_mult": [1, 1, 2, 2]}


@dataclass(frozen=True)
class Work:
    """One comparison.

    Attributes:
        clips, chunks, size: how many, how long, and (height, width).
    """

    name: str
    clips: int
    chunks: int
    size: tuple[int, int]
    config: dict[str, Any]

    @property
    def frames(self) -> int:
        return self.clips * (1 + 4 * self.chunks)


class Elsewhere(DctCodec):
    """A device that leaves the processors alone: it takes so many seconds per clip, and gives what
    `dct` gave for the first one."""

    seconds = 0.0
    given: Latent | None = None

    def encode_batch(self, frames: Frames) -> Latent:
        if self.given is None or not self.seconds:
            self.given = super().encode_batch(frames)
        time.sleep(self.seconds * len(frames))
        return self.given


def film(chunks: int, size: tuple[int, int], seed: int) -> Frames:
    """Waves that move, and grain: neither easy nor impossible to compress."""
    t, y, x = np.mgrid[0 : 1 + 4 * chunks, 0 : size[0], 0 : size[1]].astype(np.float32)
    rng = np.random.default_rng(seed)
    waves = [np.sin(x / 9 + y / 14 + t / 5 + phase) for phase in rng.uniform(0, 6, 3)]
    grain = rng.normal(0, 4, (*t.shape, 3))
    return np.clip(127 + 90 * np.stack(waves, -1) + grain, 0, 255).astype(np.uint8)


def records_of(media: Media, work: Work) -> list[Record]:
    """The clips of a comparison, written."""
    found = []
    for number in range(work.clips):
        name = f"{number:032x}"
        path = media.path(media.clip(name))
        write_video(path, film(work.chunks, work.size, number), 16)
        found.append(
            {
                **{"clip_id": name, "shot_id": "s", "chunks": work.chunks},
                **{"clip": media.clip(name), "clip_sha256": sha256_file(path)},
            }
        )
    return found


def random_wan(folder: Path, **settings: Any) -> str:
    """A VAE of Wan's class with random weights, as diffusers saves it; by default of full size."""
    import torch
    from diffusers.models.autoencoders import AutoencoderKLWan

    torch.manual_seed(0)
    AutoencoderKLWan(**settings).save_pretrained(folder)
    return str(folder)


Took = tuple[float, float]  # seconds by the clock, and of all processors


def seconds(work: Callable[[], object]) -> Took:
    begun, spent = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begun, time.process_time() - spent


def paces(
    stage: LatentsStage, records: Sequence[Record], at_once: int, rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds of the bare codec over those of the stage, by the clock and of processors, round by
    round; the order changes."""
    clips = [read_video(stage.clip_path(record)) for record in records]
    groups = [np.stack(clips[at : at + at_once]) for at in range(0, len(clips), at_once)]

    def bare() -> None:
        for group in groups:
            stage.codec.encode_batch(group)

    def whole() -> None:
        stage.process(records)

    for work in (bare, whole):  # caches and lazy imports are nobody's pace
        work()
    clock, processors = list[float](), list[float]()
    for number in range(rounds):
        order = (bare, whole) if number % 2 else (whole, bare)
        took = {work: seconds(work) for work in order}
        clock.append(took[bare][0] / took[whole][0])
        processors.append(took[bare][1] / took[whole][1])
    return clock, processors


def split(stage: LatentsStage, records: Sequence[Record], rounds: int) -> dict[str, float]:
    """Milliseconds per clip of each part of the work, one after the other; the median of rounds."""
    parts: dict[str, list[float]] = {}
    for _ in range(rounds):
        for record in records:
            clip: list[Any] = []
            latent: list[Any] = []
            name = stage.context.media.latent("bench", record["clip_id"])
            steps: dict[str, Callable[[], object]] = {
                "read": partial(_read, stage, record, clip),
                "encode": partial(_encoded, stage, clip, latent),
                "pack": partial(_packed, latent),
                "write": partial(_written, stage, name, latent),
                "decode back": partial(_decoded, stage, latent),
            }
            for step, work in steps.items():
                parts.setdefault(step, []).append(1e3 * seconds(work)[0])
    return {step: statistics.median(took) for step, took in parts.items()}


def _read(stage: LatentsStage, record: Record, clip: list[Any]) -> None:
    clip.append(read_video(stage.clip_path(record)))


def _encoded(stage: LatentsStage, clip: list[Any], latent: list[Any]) -> None:
    latent.append(stage.codec.encode(clip[0]))


def _packed(latent: list[Any]) -> None:
    data = save({"latent": latent[0].astype(np.float16, order="C")})
    sha256_bytes(data)
    latent.append(data)


def _written(stage: LatentsStage, name: str, latent: list[Any]) -> None:
    stage.context.media.store.write(name, latent[1])


def _decoded(stage: LatentsStage, latent: list[Any]) -> None:
    stage.codec.decode(latent[0])


def told(found: Sequence[float]) -> str:
    middle = statistics.median(found)
    return f"{middle:6.1%} [{min(found):.1%}, {max(found):.1%}]"


def measure(work: Work, rounds: int) -> float:
    """Print one comparison and give the median pace."""
    write = sys.stdout.write
    with tempfile.TemporaryDirectory() as folder:
        media = Media(Path(folder))
        records = records_of(media, work)
        config = LatentsConfig(check=0.0, **work.config)
        stage = LatentsStage(config, Context(media, Clock()))
        stage.open()
        at_once = config.at_once if config.gpus else 1
        parts = split(stage, records, 1)
        if isinstance(stage.codec, Elsewhere):
            stage.codec.seconds = SLOWER * parts["read"] / 1e3
            parts["encode"] = SLOWER * parts["read"]
        clock, processors = paces(stage, records, at_once, rounds)
        height, width = work.size
        shown = "   ".join(f"{step} {took:.1f}" for step, took in parts.items())
        write(
            f"{work.name}: {work.clips} clips of {1 + 4 * work.chunks} frames {width}x{height}\n"
            f"  ms per clip: {shown}; encoding is {parts['encode'] / parts['read']:.1f} x reading\n"
            f"  pace {told(clock)} of the bare codec's, processor time {told(processors)}; "
            f"{work.frames / seconds(lambda: stage.process(records))[0]:.1f} frames/s\n"
        )
        sys.stdout.flush()
    return statistics.median(clock)


def main(arguments: list[str]) -> None:
    """Print paces; exit with an error where a heavy codec misses the aim."""
    import torch

    torch.set_num_threads(1)
    rounds = int(arguments[0]) if arguments else 5
    with tempfile.TemporaryDirectory() as place:
        full = random_wan(Path(place) / "full")
        small = random_wan(Path(place) / "small", **TINY)
        BUILDERS["elsewhere"] = lambda runtime: Elsewhere()
        size = (256, 448)
        heavy = [
            Work("a device ten times slower", 12, 8, size, {"codec": "elsewhere"}),
            Work("wan, full size", 4, 2, (64, 64), {"codec": "wan", "weights": full}),
        ]
        light = [  # told only: of a clip of theirs, opening and writing files is a good share
            Work("wan, tiny", 8, 4, (64, 96), {"codec": "wan", "weights": small}),
            Work("dct", 8, 30, size, {"codec": "dct"}),
        ]
        slowest = min(measure(work, rounds) for work in heavy)
        for work in light:
            measure(work, rounds)
    sys.stdout.write(f"slower of the heavy two {slowest:.1%}, aim {AIM:.0%}\n")
    if slowest < AIM:
        sys.exit("the aim was missed")


if __name__ == "__main__":
    main(sys.argv[1:])
