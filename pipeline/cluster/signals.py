"""How a run ends that is asked to: Ctrl-C and SIGTERM are the same, and neither tears Ray apart."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ASKED = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def terminations_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM, too: what a scheduler sends ends a run as Ctrl-C does.

    Ray's own handler leaves by `sys.exit` from wherever the driver is, without a word, and its
    native threads abort the process now and then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def interrupts_later() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the end of the block.

    Ray's native part that is interrupted while it is built stays behind half built: no shutdown
    finds it, and the process ends in a segmentation fault. Handlers that Ray puts go again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {one: signal.signal(one, lambda number, frame: came.append(number)) for one in ASKED}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        for number in sorted(set(came)):
            signal.raise_signal(number)
