"""Films that crash, hang or eat memory end by themselves; the others come through as if alone.

The decoder is one that misbehaves for films of certain names, given by the documented
``TV2TV_FFMPEG``: no real film does all of this to every build of ffmpeg.
"""

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))
from films import write_film
from scenes import camera

from corpus.video import ffmpeg
from pipeline.ledger.status import read_status

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 3.0  # without a picture, at the first try
GREEDY = "import time; time.sleep(0.3); x = bytearray(64 << 30)"  # waits until it has its limit
# A try is one line in the log; films called ``once-`` are bad at the first try only.
DECODER = """#!/bin/sh
case "$*" in *films-in*) ;; *) exec {real} "$@" ;; esac
for name in $(cat {bad}); do
  case "$*" in *"$name".mp4*)
    tries=$(grep -cx "$name" {log})
    echo "$name" >> {log}
    case "$name" in once-*) [ "$tries" -gt 0 ] && exec {real} "$@" ;; esac
    case "$name" in
      *segfault) kill -SEGV $$ ;;
      *abort) kill -ABRT $$ ;;
      *hang) exec sleep 600 ;;
      *babble) while :; do echo "damage, damage" >&2; done ;;
      *spin) exec {python} -I -S -c 'while True: pass' ;;
      *greedy) exec {python} -I -S -c '{greedy}' ;;
    esac ;;
  esac
done
exec {real} "$@"
"""
BAD = {
    **{"segfault": "crash", "abort": "crash", "hang": "timeout", "babble": "timeout"},
    **{"spin": "timeout", "greedy": "memory"},
}
ONCE = ("once-segfault", "once-hang", "once-greedy")
GOOD = ("a", "m", "z")
RECIPE = (
    *("clips.min_seconds=1", "clips.max_seconds=4", "clips.buckets=[[64,64]]"),
    *("segments.mode=fixed", "captions.backend=given", "captions.given.allow_empty=true"),
    *(f"{stage}.timeout={SECONDS}" for stage in ("shots", "clips")),
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films-in")
    for seed, name in enumerate((*GOOD, *ONCE, *BAD), start=70):
        frames = camera(seed, 40, speed=(2.0, 1.0))[:, :96, :96]
        write_film(folder / f"{name}.mp4", frames, range(0, 1600, 40), Fraction(1, 1000))
    return folder


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The decoder, and the log of its tries at bad films."""
    folder = tmp_path_factory.mktemp("decoder")
    program, log, bad = folder / "ffmpeg", folder / "log", folder / "bad"
    log.touch()
    bad.write_text("\n".join((*ONCE, *BAD)))  # the longer names first
    text = DECODER.format(real=ffmpeg(), bad=bad, log=log, python=sys.executable, greedy=GREEDY)
    program.write_text(text)
    program.chmod(0o755)
    return program, log


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits need prlimit")
def test_bad_films_are_quarantined_after_two_tries_and_the_others_come_through(
    tmp_path: Path, inputs: Path, decoder: tuple[Path, Path]
) -> None:
    program, log = decoder
    corpus = tmp_path / "corpus"
    environment = {**os.environ, "TV2TV_FFMPEG": str(program), "PYTHONPATH": str(ROOT)}

    def tv2tv(*words: str) -> str:
        command = [sys.executable, "-m", "pipeline.cli", *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    settings = [word for setting in RECIPE for word in ("--set", setting)]
    said = tv2tv("run", "films", "--input", str(inputs), "--corpus", str(corpus), *settings)
    assert "--retry" in said
    videos = json.loads(tv2tv("status", str(corpus), "--json"))["levels"]["videos"]
    assert videos["quarantined"] == {"crash": 2, "timeout": 3, "memory": 1}
    assert videos["inputs"] == len(GOOD) + len(ONCE) + len(BAD)
    assert videos["ok"] == len(GOOD) + len(ONCE)
    assert (videos["failed"], videos["filtered"], videos["pending"]) == ({}, {}, 0)
    tries = log.read_text().split()
    assert {name: tries.count(name) for name in BAD} == dict.fromkeys(BAD, 2)
    ended = {
        Path(said.file).stem: ending.reason
        for ending in read_status(corpus).endings
        for said in ending.said
        if ending.level == "videos"
    }
    assert ended == BAD
