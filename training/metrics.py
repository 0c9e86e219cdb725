"""What a run tells about itself: a line of JSON per step, and a line for the person watching."""

import json
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, TextIO

from corpus.files import write_text

PLAIN_EVERY = 10.0  # seconds between lines where there is no terminal
LIVE_EVERY = 0.2
WINDOW = 50  # steps that the shown means look back on


class MetricsLog:
    """``metrics.jsonl``: one object per step, in order, each step once.

    Args:
        step: steps done; lines of later ones, from a run that was cut off, are taken back.
    """

    def __init__(self, path: Path, step: int) -> None:
        kept = [line for line in read_lines(path) if json.loads(line)["step"] <= step]
        write_text(path, "".join(line + "\n" for line in kept))
        self._file = path.open("a", encoding="utf-8")

    def write(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_lines(path: Path) -> list[str]:
    """Whole lines of a metrics file; [] when there is none. A torn last line is left out."""
    if not path.exists():
        return []
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def tell(text: str) -> None:
    """A line for the person watching."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class Progress:
    """One line that lives in a terminal, or a plain line now and then elsewhere."""

    def __init__(self, steps: int, done: int, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._steps, self._first = steps, done
        self._begun = self._told = time.monotonic()
        self._recent: deque[dict[str, Any]] = deque(maxlen=WINDOW)

    def show(self, row: dict[str, Any]) -> None:
        """Tell of a step, if it is time."""
        self._recent.append(row)
        now, last = time.monotonic(), row["step"] == self._steps
        if not last and now - self._told < (LIVE_EVERY if self._live else PLAIN_EVERY):
            return
        self._told = now
        left = (now - self._begun) / (row["step"] - self._first) * (self._steps - row["step"])
        text = (
            f"step {row['step']}/{self._steps}  text {self._mean('text')}  "
            f"video {self._mean('video')}  lr {row['lr']:.1e}  "
            f"{sum(row['tokens_per_second'].values()):,.0f} tokens/s  left {clock(left)}"
        )
        self._stream.write(f"\r\x1b[K{text}" + "\n" * last if self._live else text + "\n")
        self._stream.flush()

    def _mean(self, name: str) -> str:
        values = [row["loss"][name] for row in self._recent if row["loss"][name] is not None]
        return f"{sum(values) / len(values):.3f}" if values else "-"


def clock(seconds: float) -> str:
    """Minutes and seconds, or hours and minutes."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60} h {minutes % 60:02d} min"
