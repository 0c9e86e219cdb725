"""What `tv2tv plan` prints."""

from collections.abc import Callable

from rich.table import Table as RichTable

from pipeline.forecast.estimate import LEAST, Estimate
from pipeline.forecast.forecast import HOUR, Forecast

TITLES = {"clip_seconds": "seconds of clips", "tokens": "caption tokens out"}


def table(found: Forecast) -> RichTable:
    """For people."""
    shown = RichTable(box=None, pad_edge=False)
    shown.add_column("what")
    for name in ("predicted", "from", "to"):
        shown.add_column(name, justify="right")
    rows: list[tuple[str, Estimate, Callable[[float], str]]] = [
        ("film", found.seconds, duration),
        *((TITLES.get(n, n), e, _shown(n)) for n, e in found.made.items()),
        *((f"CPU: {name}", e, _hours) for name, e in found.cpu_hours.items()),
        ("CPU in all", found.cpu_total, _hours),
        *((f"GPU: {name}", e, _hours) for name, e in found.gpu_hours.items()),
        (f"time on {found.workers} cores", found.wall, duration),
    ]
    for title, one, text in rows:
        ends = [text(end) if end is not None else "?" for end in (one.low, one.high)]
        shown.add_row(title.replace("bytes.", "bytes of "), text(one.value), *ends)
    return shown


def notes(found: Forecast) -> list[str]:
    """What the table does not say."""
    told = [f"from {found.tried} films that were tried; 95 times in 100 the truth lies in between"]
    if found.wall.low is None:
        told.append(f"fewer than {LEAST} films could be tried: too few to say how far it is off")
    if found.ended:
        told.append(f"{found.ended} of {found.probed} probed files are no film, unfit, or copies")
    ended = [f"{one.count} {one.level} {one.outcome}: {one.reason}" for one in found.endings]
    return told + ([f"in the sample: {'; '.join(ended)}"] if ended else [])


def _shown(name: str) -> Callable[[float], str]:
    if name == "clip_seconds":
        return duration
    return size if name.startswith("bytes") else lambda number: f"{number:,.0f}"


def _hours(hours: float) -> str:
    return duration(hours * HOUR)


def duration(seconds: float) -> str:
    """``1.2 h``, ``3.4 min`` or ``5.0 s``."""
    if seconds >= HOUR:
        return f"{seconds / HOUR:,.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def size(count: float) -> str:
    """``1.2 GB`` and the like."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:,.1f} {unit}" if unit != "B" else f"{count:.0f} B"
