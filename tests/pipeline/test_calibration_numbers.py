"""AUROC, its interval, yield curves, and what language alone gives away."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.calibration import language
from pipeline.calibration.language import Said
from pipeline.calibration.logistic import folds, logistic
from pipeline.calibration.statistics import auroc, curve, estimate

numbers = st.lists(st.integers(-3, 3).map(float) | st.just(float("-inf")), min_size=1, max_size=12)


@given(numbers, numbers)
def test_auroc_is_the_chance_that_true_beats_damaged(
    true: list[float], damaged: list[float]
) -> None:
    wins = [(a > b) + 0.5 * (a == b) for a in true for b in damaged]
    assert auroc(np.array(true), np.array(damaged)) == pytest.approx(np.mean(wins))


def test_the_interval_draws_whole_videos() -> None:
    """The same numbers say less when they come from few films that hang together."""
    rng = np.random.default_rng(0)
    per, many = 40, 10
    shift = np.repeat(rng.normal(size=many), per)  # each film has its own taste
    true, damaged = rng.normal(size=(2, per * many))
    true += 1 + shift
    alone = estimate(true, damaged, [str(n) for n in range(per * many)])
    films = estimate(true, damaged, [str(n // per) for n in range(per * many)])
    assert alone.low is not None and alone.high is not None
    assert films.low is not None and films.high is not None
    assert alone.value == films.value
    assert alone.low < alone.value < alone.high
    assert films.high - films.low > 1.5 * (alone.high - alone.low)
    assert str(films) == f"{films.value:.3f} [{films.low:.3f}, {films.high:.3f}]"


def test_too_few_videos_have_no_interval() -> None:
    two = estimate(np.array([1.0, 2.0]), np.array([0.0, 3.0]), ["a", "b"])
    assert (two.low, two.high) == (None, None) and str(two) == "0.500"


def test_the_interval_holds_with_many_values_and_with_other_captions_on_either_side() -> None:
    rng = np.random.default_rng(1)
    true, damaged = rng.normal(1, 1, 900), rng.normal(0, 1, 700)
    good, bad = [f"{n % 30}" for n in range(900)], [f"{n % 30}" for n in range(700)]
    found = estimate(true, damaged, good, 0, bad)
    assert found.low is not None and found.high is not None
    assert found.value == pytest.approx(0.76, abs=0.03)
    assert found.low < found.value < found.high
    assert found.high - found.low < 0.1


def test_a_missing_score_is_never_kept() -> None:
    true = np.array([0.0, 1.0, 2.0, float("-inf")])
    steps = curve(true, {"verb": np.array([float("-inf"), 0.5])})
    assert steps[0].threshold == 0.0 and steps[0].true == 0.75
    assert steps[0].damaged == {"verb": 0.5}
    assert steps[-1].true == 0.25 and steps[-1].damaged == {"verb": 0.0}
    assert curve(np.array([float("-inf")]), {"verb": np.array([1.0])}) == []


def test_logistic_regression_finds_the_line_and_balances_classes() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(4000, 2))
    labels = (inputs @ [2.0, -1.0] + rng.logistic(size=4000) > 0).astype(float)
    weights, bias = logistic(inputs, labels, 1e-3)
    assert weights == pytest.approx([2.0, -1.0], abs=0.25) and bias == pytest.approx(0, abs=0.15)
    rare = np.concatenate([np.ones(20), np.zeros(980)])
    _, balanced = logistic(np.zeros((1000, 1)), rare)
    assert balanced == pytest.approx(0, abs=1e-4)


def test_folds_never_part_a_video_and_judge_each_once() -> None:
    videos = [f"v{n % 7}" for n in range(50)]
    judged = np.zeros(50, int)
    for learn, judge in folds(videos, 0):
        assert not {v for v, on in zip(videos, learn, strict=True) if on} & {
            v for v, on in zip(videos, judge, strict=True) if on
        }
        judged += judge
    assert (judged == 1).all()
    assert list(folds(["one"] * 4, 0)) == []


def test_language_alone_hears_what_sounds_wrong_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    words = np.array(["left", "right"])
    drawn = words[rng.integers(0, 2, 400)]
    other = np.where(drawn == "left", "right", "left")
    videos = [f"{n % 10}" for n in range(400)]

    def told(damaged: list[str]) -> list[Said]:
        return [Said(*one) for one in zip(videos, drawn.tolist(), damaged, strict=True)]

    fair = language.alone(told(other.tolist()), (), 0)
    assert fair is not None and auroc(*fair) == pytest.approx(0.5, abs=0.1)
    silly = [f"it is not the case that {text}" for text in drawn]
    heard = language.alone(told(silly), (), 0)
    assert heard is not None and auroc(*heard) == 1.0
    assert language.alone([Said("one", "a", "b")], (), 0) is None


def test_what_language_gives_away_is_learned_from_all_other_films() -> None:
    """The rarer word gives damage away, but three films are too few to know which it is."""
    common = [Said("few", "runs left", "runs right")] * 20

    def film(name: str, right: int) -> list[Said]:
        return [Said(name, "runs right", "runs left")] * right + [
            Said(name, *one) for one in [("runs left", "runs right")] * (20 - right)
        ]

    few = [*film("a", 12), *film("b", 12), *film("c", 4)]
    alone = language.alone(few, (), 0)
    among = language.alone(few, [one for n in range(9) for one in film(f"more{n}", 4)], 0)
    assert alone is not None and among is not None
    assert auroc(*alone) < 0.5 < 0.52 < auroc(*among)
    assert len(among[0]) == len(among[1]) == len(few)
    single = language.alone(common, film("other", 4), 0)
    assert single is not None and auroc(*single) == 1.0, "one film, but another to learn from"
