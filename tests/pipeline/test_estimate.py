"""Estimates: right on average, honest about how far off they may be."""

import numpy as np
import pytest

from pipeline.forecast.estimate import LEAST, Draws, Facts, Model, draw, exactly

Films = list[tuple[Facts, dict[str, float]]]


def films(count: int, seed: int) -> Films:
    """Lengths over two orders of magnitude; 3 words a second and 5 a film, both noisy."""
    random = np.random.default_rng(seed)
    made = []
    for seconds in np.exp(random.uniform(np.log(5), np.log(500), count)):
        noise = random.normal() * np.sqrt(seconds)
        facts = Facts(int(seconds * 1e5), float(seconds), int(np.ceil(seconds / 16)))
        made.append((facts, {"words": max(0.0, 5 + 3 * seconds + 2 * noise)}))
    return made


def model(tried: Films, probed: list[Facts]) -> Model:
    return Model([facts for facts, _ in tried], [made for _, made in tried], probed)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    held, errors = 0, []
    for seed in range(40):
        tried, others = films(8, seed), films(30, 1000 + seed)
        found = model(tried, []).total("words", [facts for facts, _ in others]).estimate
        truth = sum(made["words"] for _, made in others)
        assert found.low is not None and found.high is not None
        held += found.low <= truth <= found.high
        errors.append(found.value / truth - 1)
    assert held >= 34
    assert np.median(np.abs(errors)) < 0.15
    assert abs(np.mean(errors)) < 0.1


def test_files_that_nobody_probed_count_by_their_bytes() -> None:
    everything = films(300, 3)
    tried, probed = everything[:40], [facts for facts, _ in everything[:100]]
    sizes = [facts.size for facts, _ in everything[100:]]
    found = model(tried, probed).total("words", [], sizes)
    truth = sum(made["words"] for _, made in everything[100:])
    assert found.value == pytest.approx(truth, rel=0.2)
    surer = model(tried, probed).total("words", [facts for facts, _ in everything[100:]])
    assert np.std(found.replicates) > np.std(surer.replicates)


def test_files_that_end_at_the_probe_give_nothing() -> None:
    tried = films(10, 4)
    ended = [Facts(1000, 0.0, 0)] * 50
    known = [facts for facts, _ in films(5, 5)]
    assert model(tried, []).total("words", known).value == pytest.approx(
        model(tried, []).total("words", known + ended).value
    )


@pytest.mark.parametrize("count", [0, 1, LEAST - 1])
def test_of_too_few_films_no_interval_is_claimed(count: int) -> None:
    found = model(films(count, 6), []).total("words", [Facts(10, 10.0, 1)]).estimate
    assert (found.low, found.high) == (None, None)


def test_what_is_measured_is_no_guess() -> None:
    found = (exactly(3.0) + exactly(4.0)).times(2.0).estimate
    assert (found.value, found.low, found.high) == (14.0, 14.0, 14.0)
    unsure = Draws(1.0, exactly(1.0).replicates, enough=False)
    assert (exactly(1.0) + unsure).estimate.high is None


def test_the_sample_is_seeded_and_meets_every_length() -> None:
    facts = [one for one, _ in films(200, 7)] + [Facts(5, 0.0, 0)] * 20
    drawn = draw(facts, 20, 1)
    assert drawn == draw(facts, 20, 1) != draw(facts, 20, 2)
    assert len(set(drawn)) == 20
    seconds = sorted(facts[i].seconds for i in drawn)
    assert seconds[0] > 0, "what ends at the probe is not tried"
    assert seconds[0] < 20 and seconds[-1] > 250
    assert sorted(draw(facts, 500, 1)) == list(range(200))


def test_a_film_that_dwarfs_all_others_does_not_shrink_the_sample() -> None:
    facts = [Facts(1, 1e6, 1)] + [Facts(1, 1.0, 1)] * 30
    assert len(draw(facts, 10, 0)) == 10
    assert 0 in draw(facts, 10, 0)
