"""The same training from other seeds widens an interval by what seeds are worth."""

import numpy as np
import pytest

from commoncanvas.analysis.estimates import (
    Estimate,
    mean_interval,
    over_trainings,
    trainings_of,
)

RUNS = {
    name: {"of": of, "seed": seed}
    for name, of, seed in (
        ("a", "a", 17),
        ("b", "b", 17),
        ("any name", "a", 18),
        ("b-19", "b", 19),
        ("a-19", "a", 19),
        ("b-20", "b", 20),
        ("c", "c", 17),
    )
}


@pytest.mark.parametrize(
    ("variants", "repeats"),
    [
        (["a"], [["any name"], ["a-19"]]),
        (["a", "b"], [["a-19", "b-19"]]),
        (["b", "a"], [["b-19", "a-19"]]),
        (["b", "c"], []),
        (["d"], []),
    ],
)
def test_repeats_are_those_from_seeds_that_all_sides_share(variants, repeats):
    assert trainings_of(variants, RUNS) == [variants, *repeats]


def test_one_training_stays_as_it_is():
    one = Estimate(3, 1, 7, 50)
    assert over_trainings(one, [3.0]) is one


def test_trainings_that_agree_add_nothing():
    one = Estimate(3, 2, 5, 50)
    assert over_trainings(one, [3.0, 3.0]) == one


def test_three_trainings_add_students_interval_in_squares():
    found = over_trainings(Estimate(2, 1, 4, 9), [1.0, 2.0, 3.0])
    spread = 4.302653 / 3**0.5  # Student's, two degrees of freedom; deviation 1
    assert found.value == 2 and found.n == 9
    assert found.low == pytest.approx(2 - (1 + spread**2) ** 0.5)
    assert found.high == pytest.approx(2 + (4 + spread**2) ** 0.5)


@pytest.mark.parametrize("own", [0.0, 2.0])
def test_the_interval_covers_where_prompts_and_trainings_vary(own):
    """`own` is what each training's prompts add to what all trainings share."""
    rng, hits, rounds = np.random.default_rng(0), 0, 400
    for _ in range(rounds):
        shared = rng.normal(0, 5.0, 100)
        runs = shared + rng.normal(0, 0.7, (3, 1)) + rng.normal(0, own, (3, 100))
        prompts = mean_interval(runs.mean(0))
        found = over_trainings(prompts, runs.mean(1).tolist())
        hits += found.low <= 0 <= found.high
    assert hits / rounds >= 0.93
