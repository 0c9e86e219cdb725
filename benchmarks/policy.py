"""Time of applying a caption policy per sample, and proof that it touches no pixel.

The floor is reading the stored text of the same samples without any policy.
"""

import sys
import time
from collections.abc import Callable
from unittest import mock

from corpus.captions import Caption, ClipCaptions, SegmentCaption
from corpus.clock import Clock
from corpus.policy import Policy
from corpus.views import bind

SAMPLES = 20_000
SEGMENTS = 6
POLICIES = {
    "stored": {},
    "every 4 s": {"every": "4s"},
    "whole clip": {"every": "clip"},
    "25 % verb swap": {"corrupt": [{"kind": "verb_swap", "rate": 0.25}]},
}


def index() -> list[tuple[str, ClipCaptions]]:
    """Clips of 12 s with a caption every 2 s."""
    return [
        (
            f"clip{i}",
            ClipCaptions(
                (Caption("a scene"),),
                tuple(
                    SegmentCaption(8 * j, 8 * j + 8, Caption(f"thing {i % 97} moves left {j}"))
                    for j in range(SEGMENTS)
                ),
            ),
        )
        for i in range(SAMPLES)
    ]


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main(arguments: list[str]) -> None:
    """Print microseconds per sample, for binding and for reading, and the ratio to the floor."""
    clips = index()
    floor = seconds(lambda: [[s.caption.text for s in c.segments] for _, c in clips])
    write = sys.stdout.write
    write(f"{SAMPLES} samples of {SEGMENTS} segments; floor {floor / SAMPLES * 1e6:.1f} us\n")
    with mock.patch("corpus.video.read_video", side_effect=AssertionError("a frame was decoded")):
        for name, data in POLICIES.items():
            policy = Policy.model_validate(data)
            bind_seconds = seconds(lambda policy=policy: bind(policy, Clock(), clips))
            bound = bind(policy, Clock(), clips)
            read = seconds(lambda bound=bound: [bound.spans(key) for key, _ in clips])
            write(
                f"{name:16} bind {bind_seconds / SAMPLES * 1e6:6.1f} us/sample   read "
                f"{read / SAMPLES * 1e6:6.1f} us/sample = {read / floor:5.1f} x floor\n"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
