"""One corpus of healthy films and their mutants, through `tv2tv run`, and what must hold of it."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from mutants import Mutant

from corpus.ids import sha256_file
from pipeline.ledger.status import Status, latest, read_status

ROOT = Path(__file__).resolve().parents[2]
# All stages, but cheap after the clips: what is fuzzed is the way from foreign bytes to clips.
RECIPE = (
    *("clips.min_seconds=1", "clips.max_seconds=4", "clips.buckets=[[64,64],[96,64]]"),
    *("segments.mode=fixed", "captions.backend=given", "captions.given.allow_empty=true"),
)
FILE_SECONDS = 60.0  # of one file in one stage: a hang is gone by then
OURS = ("exception", "killed_worker")  # reasons that blame our code and not a film


@dataclass
class Found:
    """What a campaign found.

    Attributes:
        outcomes: (outcome, reason) of every mutant to their number; ``ok`` has no reason.
        broken: what must not be, in sentences; empty when all is well.
        seconds: of the run.
        clips: how many the mutants gave.
        slowest: seconds and stage of the slowest batch.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0
    clips: int = 0
    slowest: tuple[float, str] = (0.0, "")


def campaign(
    folder: Path, healthy: Sequence[Path], broken: Sequence[Mutant], limit: float
) -> Found:
    """Run the healthy films alone, then with their mutants, and compare.

    Args:
        limit: seconds for each of the two runs; more is a hang.
    """
    alone, mixed = folder / "alone", folder / "mixed"
    for place in (alone, mixed):
        (place / "in").mkdir(parents=True)
        for path in healthy:
            shutil.copyfile(path, place / "in" / path.name)
    for mutant in broken:
        (mixed / "in" / mutant.name).write_bytes(mutant.data)
    found = Found()
    for place in (alone, mixed):
        begun = time.monotonic()
        found.broken += _run(place, limit)
        found.seconds = time.monotonic() - begun
    if not found.broken:
        _judge(found, alone, mixed, {path.name for path in healthy})
    return found


def _run(place: Path, limit: float) -> list[str]:
    command = [sys.executable, "-m", "pipeline.cli", "run", "films", "--input", str(place / "in")]
    command += ["--corpus", str(place / "corpus")]
    for setting in RECIPE:
        command += ["--set", setting]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit, env=environment, cwd=place
        )
    except subprocess.TimeoutExpired:
        return [f"the run in {place.name} was not done after {limit} s"]
    if done.returncode or "Traceback" in done.stdout + done.stderr:
        said = (done.stdout + done.stderr)[-2000:]
        return [f"the run in {place.name} ended with {done.returncode}: {said}"]
    return []


def _judge(found: Found, alone: Path, mixed: Path, healthy: set[str]) -> None:
    status = read_status(mixed / "corpus")
    found.broken += _unbalanced(status, mixed / "in")
    _outcomes(found, status, healthy)
    before = _clips(alone / "corpus")
    after = _clips(mixed / "corpus")
    theirs = {clip: told for clip, told in after.items() if told[0] in healthy}
    found.clips = len(after) - len(theirs)
    if not before or theirs != before:
        found.broken.append(f"healthy films gave {len(before)} clips alone, now {len(theirs)}")
    for path in (mixed / "corpus" / "runs").glob("*/events.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            if event["event"] == "batch":
                each = event["seconds"] / max(1, event["records"])
                found.slowest = max(found.slowest, (each, event["stage"]))
    if found.slowest[0] > FILE_SECONDS:
        found.broken.append(f"one file was {found.slowest[0]:.0f} s in {found.slowest[1]}")


def _unbalanced(status: Status, inputs: Path) -> list[str]:
    """Sentences about levels whose counts do not add up, and files that are not counted."""
    broken = []
    for name, level in status.counts.items():
        told = level.to_json()
        ended = sum(sum(told[kind].values()) for kind in ("filtered", "failed", "quarantined"))
        if told["inputs"] != told["ok"] + ended or told["pending"]:
            broken.append(f"{name} do not add up: {told}")
    files = len(list(inputs.iterdir()))
    if status.counts["videos"].inputs + status.listing.ignored != files:
        broken.append(f"{files} files, but {status.counts['videos'].inputs} inputs")
    return broken


def _outcomes(found: Found, status: Status, healthy: set[str]) -> None:
    """Count how the mutants ended; each that did not come through must say why."""
    ended: dict[str, tuple[str, str]] = {}
    for ending in status.endings:
        for said in ending.said:
            if not said.message:
                found.broken.append(f"{said.file}: {ending.outcome} {ending.reason} says nothing")
            if ending.reason in OURS:
                found.broken.append(f"{said.file}: {ending.reason}: {said.message}")
            if ending.level == "videos":
                ended[said.file] = (ending.outcome, ending.reason)
    for source in status.listing.sources:
        if source.uri not in healthy:
            found.outcomes[ended.get(source.uri, ("ok", ""))] += 1
        elif source.uri in ended:
            found.broken.append(f"{source.uri}, a healthy film: {ended[source.uri]}")


def _clips(corpus: Path) -> dict[str, tuple[str, str]]:
    """File and hash of every finished clip by its id; the stored bytes must be that hash's."""
    clips = {}
    for record in (one for part in latest(corpus).slices() for one in part.found.finished):
        stored = sha256_file(corpus / "media" / record["clip"])
        if stored != record["clip_sha256"]:
            raise AssertionError(f"{record['clip']} of {record['uri']} is not what was stored")
        clips[record["clip_id"]] = (record["uri"], stored)
    return clips
