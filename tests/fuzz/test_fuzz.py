"""A few broken films through a run: `make fuzz` does it with hundreds."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import self_made
from campaign import campaign
from mutants import KINDS, mutants

FILMS = ("h264.mp4", "h264.ts", "vp9.webm", "mpeg4.avi", "hevc.mp4")


def test_mutants_follow_from_films_count_and_seed(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(bytes(range(256)) * 100)
    films = [tmp_path / "a.mp4"]
    made = mutants(films, 2 * len(KINDS), seed=5)
    assert made == mutants(films, 2 * len(KINDS), seed=5) != mutants(films, 2 * len(KINDS), seed=6)
    assert {mutant.kind for mutant in made} == set(KINDS)
    assert len({mutant.data for mutant in made} | {films[0].read_bytes()}) == len(made) + 1


def test_a_run_survives_broken_films_and_accounts_for_each(tmp_path: Path) -> None:
    films = self_made.make(tmp_path / "films", FILMS)
    broken = mutants(films, len(KINDS), seed=1)
    found = campaign(tmp_path, films, broken, limit=240.0)
    assert found.broken == []
    assert sum(found.outcomes.values()) == len(broken)
    assert {outcome for outcome, _ in found.outcomes} >= {"ok", "failed"}  # of both sorts
