"""A picture from outside becomes a start frame; its bytes are read by a limited child only."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corpus.errors import UserError

CHILD = Path(__file__).with_name("picture_child.py")
# What people have pictures in; PIL would also hand EPS to Ghostscript, a program of its own.
PICTURES = ("PNG", "JPEG", "WEBP", "BMP")
SECONDS = 30
MEMORY = 2 << 30


def read_picture(path: Path, sizes: Sequence[tuple[int, int]]) -> NDArray[np.uint8]:
    """A picture, upright, cut to the one of ``sizes`` (width, height) whose shape is nearest.

    Returns:
        uint8 (H, W, 3) RGB.

    Raises:
        UserError: it is missing, no picture of a known kind, or reading it crashed, took more than
            SECONDS or more than MEMORY bytes.
    """
    names = [f"{width}x{height}" for width, height in sizes]
    limits = [str(SECONDS), str(MEMORY)]
    arguments = [str(path.absolute()), ",".join(PICTURES), ",".join(names), *limits]
    command = [sys.executable, "-I", str(CHILD), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise _unreadable(path, f"it was not read after {SECONDS} s") from None
    name, _, data = done.stdout.partition(b"\n")
    if done.returncode or name.decode() not in names:
        crashed = f"its reader ended with {done.returncode}"
        raise _unreadable(path, done.stderr.decode(errors="replace").strip()[-300:] or crashed)
    width, height = sizes[names.index(name.decode())]
    return np.frombuffer(data, np.uint8).reshape(height, width, 3)


def _unreadable(path: Path, why: str) -> UserError:
    return UserError(f"--image {path} cannot be read as a picture ({', '.join(PICTURES)}): {why}")
