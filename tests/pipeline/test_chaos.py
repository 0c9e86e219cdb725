"""Whatever befalls a run: after the same command once more the corpus is as if nothing had.

``make chaos`` runs the long test and prints what it did.
"""

import random
from pathlib import Path

import numpy as np
import pytest
from chaos import KINDS, Round, bytes_of, small_disk

from corpus.video import write_video

FILMS, SHOTS, FRAMES = 3, 2, 49
SEED = 20261121
SHORT_SEED = 20261209  # its moments lie at a quarter, a third and half of what is left
PER_ROUND = 3  # disturbances of one corpus


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films in which a bright square crosses noisy rooms."""
    folder = tmp_path_factory.mktemp("footage")
    for film in range(FILMS):
        frames = [_shot(film * SHOTS + number) for number in range(SHOTS)]
        write_video(folder / f"film-{film}.mp4", np.concatenate(frames), 16)
    return folder


def _shot(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    room = generator.integers(0, 60, (96, 128, 3)) + generator.integers(0, 120, 3)
    frames = np.repeat(room[None].astype(np.uint8), FRAMES, axis=0)
    for number, frame in enumerate(frames):
        left = 52 + (-1) ** seed * (number - FRAMES // 2)
        frame[40:60, left : left + 20] = (250, 240, 30)
    return frames


class Chaos:
    """Rounds of disturbances against one footage."""

    def __init__(self, footage: Path, room: Path) -> None:
        self.footage, self.room = footage, room
        calm = Round(room / "calm", footage)
        assert calm.ended(calm.start()) == 0, calm.told("without any disturbance")
        self.shards, self.parts = bytes_of(calm.corpus), calm.parts()
        calm.leave()
        calm.check(self.shards)

    def disturb(self, kinds: list[str], generator: random.Random) -> None:
        """Every kind once, in rounds; what came too late is done again on a fresh corpus."""
        left, number = list(kinds), 0
        while left:
            number += 1
            one = Round(self.room / str(number), self.footage)
            with small_disk(one.room / "disk") as mounted:
                tries = PER_ROUND
                while left and tries and one.parts() < self.parts:
                    # Without a disk of its own nothing can be said about a full one.
                    if (left[0] == "disk" and not mounted) or one.disturb(
                        left[0], self.parts, generator
                    ):
                        left.pop(0)
                    tries -= 1
                one.finish()
                one.check(self.shards)
            print("\n".join(one.log), flush=True)


@pytest.fixture
def chaos(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Chaos:
    return Chaos(footage, tmp_path_factory.mktemp("c"))


def test_three_disturbances(chaos: Chaos) -> None:
    # What a run survives comes last: it leaves nothing to disturb in that corpus.
    chaos.disturb(["driver", "disk", "worker"], random.Random(SHORT_SEED))


@pytest.mark.slow
def test_twenty_disturbances(chaos: Chaos) -> None:
    generator = random.Random(SEED + 1)
    kinds = [*KINDS, *KINDS, "driver", "worker"]
    generator.shuffle(kinds)
    chaos.disturb(kinds, generator)
