"""Variants are compared prompt by prompt, and what they share cancels."""

import numpy as np
import pytest

from commoncanvas.analysis import estimates
from commoncanvas.analysis.distances import frechet_distance
from commoncanvas.claims import scorecard

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(90, 3))
SHARED = RNG.normal(1, 1, size=(60, 3))


def rows(noise, shift=0.0, seed=1):
    own = np.random.default_rng(seed).normal(scale=noise, size=SHARED.shape)
    features = SHARED + own + shift
    return {
        "human": {"fd": features, "score": features[:, 0]},
        "marks": {"score": features[:20, 1]},
        "reference": {"fd": REAL},
    }


def test_a_variant_beside_itself_does_not_differ_at_all():
    one = rows(0)
    for name, change in (("fd", "relative"), ("fd", "absolute"), ("score", "absolute")):
        found = scorecard.paired(one, one, name, change)
        assert (found.value, found.low, found.high) == pytest.approx((0, 0, 0))
        assert found.n == 60


def test_the_change_is_the_ratio_of_the_distances():
    one, other = rows(0.1), rows(0.1, shift=0.5, seed=2)
    found = scorecard.paired(other, one, "fd", "relative")
    distances = [frechet_distance(r["human"]["fd"], REAL) for r in (other, one)]
    assert found.value == pytest.approx(distances[0] / distances[1] - 1)
    assert found.low > 0


def test_pairing_narrows_the_interval():
    one, other = rows(0.1), rows(0.1, seed=2)
    found = scorecard.paired(one, other, "fd", "absolute")
    apart = [
        estimates.jackknife(frechet_distance, r["human"]["fd"], REAL)
        for r in (one, other)
    ]
    width = sum((e.high - e.low) ** 2 for e in apart) ** 0.5
    assert found.high - found.low < 0.5 * width


def test_scores_are_paired_within_the_prompt_set_asked_for():
    one, other = rows(0), rows(0, shift=2.0)
    found = scorecard.paired(other, one, "score", "absolute", "marks")
    assert (found.value, found.n) == (pytest.approx(2.0), 20)


@pytest.mark.parametrize(
    ("name", "change", "prompts"),
    [("fd", "absolute", "gate"), ("kd", "relative", None), ("score", "relative", None)],
)
def test_what_the_rows_do_not_tell_is_none(name, change, prompts):
    assert scorecard.paired(rows(0), rows(0), name, change, prompts) is None


def test_unequal_numbers_of_prompts_are_not_paired():
    short = rows(0)
    short["human"] = {name: values[:50] for name, values in short["human"].items()}
    assert scorecard.paired(rows(0), short, "score", "absolute") is None
