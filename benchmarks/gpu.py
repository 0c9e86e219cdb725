"""Everything here that wants a GPU, in one call: ``python -m benchmarks gpu [ROUNDS]``.

Latents: a VAE of Wan of full size with random weights, in bfloat16: the stage against the bare
codec, clips at once, how far a batch's latents are from a single clip's, whether a device that is
too small is survived, and tiles. Without a GPU it says so and measures nothing.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.latents import Work, film, measure, random_wan
from corpus.codecs import OutOfMemory, build, prove

SIZES = (((256, 448), 16), ((480, 832), 16), ((720, 1280), 16))  # (height, width), chunks
AT_ONCE = (1, 2, 4)


def main(arguments: list[str]) -> None:
    import torch

    write = sys.stdout.write
    if not torch.cuda.is_available():
        write("no GPU here: nothing was measured\n")
        return
    rounds = int(arguments[0]) if arguments else 3
    write(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    with tempfile.TemporaryDirectory() as place:
        weights = random_wan(Path(place) / "wan")
        _equal(weights)
        _tiles(weights)
        for size, chunks in SIZES:
            for at_once in AT_ONCE:
                config: dict[str, Any] = {"codec": "wan", "weights": weights, "gpus": 1.0}
                name = f"wan, {at_once} at once"
                measure(Work(name, 8, chunks, size, {**config, "at_once": at_once}), rounds)
                torch.cuda.empty_cache()


def _equal(weights: str) -> None:
    """A batch against single clips, and bfloat16 on the GPU against float32 on the CPU."""
    films = np.stack([film(2, (64, 64), seed) for seed in range(4)])
    for dtype in ("float32", "bfloat16"):
        codec = build("wan", weights=weights, device="cuda", dtype=dtype)
        prove(codec)
        single = np.stack([codec.encode(one) for one in films])
        apart = np.abs(codec.encode_batch(films) - single).max()
        cpu = build("wan", weights=weights).encode(films[0])
        off = np.abs(single[0] - cpu).max()
        sys.stdout.write(
            f"{dtype}: batch against single {apart:.2g}, GPU against CPU in float32 {off:.2g}, "
            f"of latents with a deviation of {cpu.std():.2g}\n"
        )


def _tiles(weights: str) -> None:
    """Frames of 2160 lines: whole, and in tiles."""
    import torch

    frames = film(4, (2160, 3840), 0)
    for tile in (None, 512):
        codec = build("wan", weights=weights, device="cuda", tile=tile)
        torch.cuda.reset_peak_memory_stats()
        try:
            codec.encode(frames)
            said = "fits"
        except OutOfMemory:
            said = "does not fit"
        peak = torch.cuda.max_memory_allocated() / 2**30
        sys.stdout.write(f"17 frames 3840x2160, tile {tile}: {said}, peak {peak:.1f} GiB\n")
        del codec
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main(sys.argv[1:])
