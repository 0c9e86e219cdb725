"""Time of applying a caption policy per sample, and proof that it touches no pixel.

The floor is reading the stored text of the same samples without any policy; the aim is less than a
millisecond per sample. ``view`` is what the shards stage does: one look at all, then clip by clip.
"""

import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

from corpus.captions import Caption, ClipCaptions, SegmentCaption, Segments
from corpus.clock import Clock
from corpus.policy import Policy
from corpus.views import bind, ready

SAMPLES = 20_000
SEGMENTS = 6
AIM_US = 1000.0
POLICIES: dict[str, dict[str, Any]] = {
    "stored": {},
    "every 4 s": {"every": "4s"},
    "whole clip": {"every": "clip"},
    "ladder 4 s": {"every": "4s", "coarser": "ladder"},
    "thresholds": {"keep": {"at_least": {"own": 0.3}, "rejected": "fallback"}},
    "25 % verb swap": {"corrupt": [{"kind": "verb_swap", "rate": 0.25}]},
}


def index() -> list[tuple[str, ClipCaptions]]:
    """Clips of 12 s with a caption every 2 s, and a ladder of 4 s."""
    return [(f"clip{i}", _clip(i)) for i in range(SAMPLES)]


def _clip(i: int) -> ClipCaptions:
    fine = _spans(8, [f"thing {i % 97} moves left {j}" for j in range(SEGMENTS)])
    coarse = _spans(16, [f"thing {i % 97} goes on {j}" for j in range(SEGMENTS // 2)])
    return ClipCaptions((Caption("a scene"),), fine, {"4s": coarse})


def _spans(width: int, texts: list[str]) -> Segments:
    return tuple(
        SegmentCaption(width * j, width * (j + 1), Caption(text, {"own": j / len(texts)}))
        for j, text in enumerate(texts)
    )


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main(arguments: list[str]) -> None:
    """Print microseconds per sample, for binding, reading and views, and the ratio to the floor;
    exit with an error where a policy misses the aim."""
    clips = index()
    floor = seconds(lambda: [[s.caption.text for s in c.segments] for _, c in clips])
    write, slowest = sys.stdout.write, 0.0
    write(f"{SAMPLES} samples of {SEGMENTS} segments; floor {floor / SAMPLES * 1e6:.1f} us\n")
    with (
        mock.patch("av.open", side_effect=AssertionError("a film was opened")),
        mock.patch("decord.VideoReader", side_effect=AssertionError("a film was opened")),
    ):
        for name, data in POLICIES.items():
            policy = Policy.model_validate(data)
            took = {
                "bind": seconds(lambda policy=policy: bind(policy, Clock(), clips)),
                "read": _reading(policy, clips),
                "view": _viewing(policy, clips),
            }
            each = {what: one / SAMPLES * 1e6 for what, one in took.items()}
            slowest = max(slowest, each["bind"] + each["read"], each["view"])
            told = "   ".join(f"{what} {one:6.1f} us/sample" for what, one in each.items())
            write(f"{name:16} {told}   read = {took['read'] / floor:5.1f} x floor\n")
    write(f"slowest {slowest:.0f} us/sample, aim < {AIM_US:.0f}\n")
    if slowest >= AIM_US:
        sys.exit("the aim was missed")


def _reading(policy: Policy, clips: list[tuple[str, ClipCaptions]]) -> float:
    bound = bind(policy, Clock(), clips)
    return seconds(lambda: [bound.spans(key) for key, _ in clips])


def _viewing(policy: Policy, clips: list[tuple[str, ClipCaptions]]) -> float:
    def work() -> None:
        view = ready(policy, Clock(), clips)
        for key, captions in clips:
            view.captions(key, captions).to_json()

    return seconds(work)


if __name__ == "__main__":
    main(sys.argv[1:])
