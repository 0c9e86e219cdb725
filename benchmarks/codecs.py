"""PSNR of `dct` and `pca` at equal channels, on the clips of a corpus: ``... codecs CORPUS``.

`pca` is fitted on the clips of every other video, and both are measured on those of the others,
through float16 as latents are stored.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from corpus.codecs import Codec, build, psnr
from corpus.codecs.pca import BASIS
from corpus.codecs.pca_fit import fit_basis
from corpus.video import Frames, read_video
from pipeline.calibration.gather import open_run

CHANNELS = (12, 24, 48, 96, 192)


def main(arguments: list[str]) -> None:
    write = sys.stdout.write
    if not arguments:
        write("name a corpus that `tv2tv run` made: nothing was measured\n")
        return
    run = open_run(arguments[0])
    clips = sorted(run.finished(), key=lambda one: one["clip_id"])
    learned = set(sorted({one["video_id"] for one in clips})[::2])
    films = {one["clip_id"]: read_video(run.plan.layout.media.path(one["clip"])) for one in clips}
    fitted = [films[one["clip_id"]] for one in clips if one["video_id"] in learned]
    others = [films[one["clip_id"]] for one in clips if one["video_id"] not in learned]
    write(f"{len(fitted)} clips to learn from, {len(others)} of other videos\n")
    for channels in CHANNELS:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / BASIS).write_bytes(fit_basis(fitted, channels))
            pca = [_trip(build("pca", weights=folder), film) for film in others]
        dct = [_trip(build("dct", channels=channels), film) for film in others]
        better = min(one - other for one, other in zip(pca, dct, strict=True))
        told = f"dct {_told(dct)}   pca {_told(pca)}   better by {better:.1f}"
        write(f"{channels:4} channels   {told}\n")


def _trip(codec: Codec, film: Frames) -> float:
    stored = codec.encode(film).astype(np.float16).astype(np.float32)
    return psnr(codec.decode(stored), film)


def _told(found: list[float]) -> str:
    return f"least {min(found):.1f} median {np.median(found):.1f} dB"


if __name__ == "__main__":
    main(sys.argv[1:])
