"""Precision, recall, density and coverage are the published ones, with intervals."""

import numpy as np
import pytest

from commoncanvas.analysis import manifolds
from commoncanvas.analysis.estimates import jackknife
from commoncanvas.core.errors import ParameterError, ShapeError

NAMES = ["precision", "recall", "density", "coverage"]
# (n, m, features, seed, shift) and what prdc 0.2 (scikit-learn 1.9.1) gives at k = 5.
PUBLISHED = [
    ((90, 140, 6, 1, 0.3), [0.9555555555555556, 0.9142857142857143]
     + [0.8622222222222222, 0.7928571428571428]),
    ((60, 60, 16, 2, 0.0), [1.0, 0.85, 1.7533333333333336, 1.0]),
    ((140, 90, 3, 3, 0.8), [0.9428571428571428, 0.8]
     + [0.9314285714285715, 0.7777777777777778]),
]  # fmt: skip


def draw(n, m, width, seed, shift, scale=0.9):
    """Return (samples, real)."""
    rng = np.random.default_rng(seed)
    real = rng.normal(size=(m, width))
    return scale * rng.normal(size=(n, width)) + shift, real


@pytest.mark.parametrize(("shape", "expected"), PUBLISHED)
def test_values_are_those_of_prdc(shape, expected, monkeypatch):
    monkeypatch.setattr(manifolds, "ROWS", 32)  # more than one part, and a short one
    found = manifolds.manifold_metrics(*draw(*shape))
    assert list(found) == NAMES
    assert [found[n].value for n in NAMES] == pytest.approx(expected, rel=1e-12)
    assert all(estimate.n == shape[0] for estimate in found.values())


@pytest.mark.parametrize("blocks", [4, 20])
def test_the_fast_jackknife_is_the_plain_one(blocks):
    samples, real = draw(47, 90, 4, 5, 0.4)
    found = manifolds.manifold_metrics(samples, real, 3, blocks)

    def plain(name):
        def measure(a, b):
            return manifolds.manifold_metrics(a, b, 3, 2)[name].value

        return jackknife(measure, samples, real, num_blocks=blocks)

    for name in NAMES:
        slow = plain(name)
        high = slow.high if name == "density" else min(slow.high, 1)
        assert found[name].value == pytest.approx(slow.value, rel=1e-12)
        assert found[name].high >= high - 1e-12
        if name == "density" or 0 < slow.low and slow.high < 1:
            assert found[name].low == pytest.approx(slow.low, rel=1e-9)


def test_balls_of_the_reference_serve_any_samples():
    samples, real = draw(47, 90, 4, 5, 0.4)
    balls = manifolds.Balls.of(real)
    for some in (samples, samples[::2]):
        expected = manifolds.manifold_metrics(some, real)
        assert manifolds.manifold_metrics(some, balls) == expected


def test_pictures_of_another_world_are_in_no_ball():
    samples, real = draw(40, 60, 4, 5, 50.0)
    found = manifolds.manifold_metrics(samples, real)
    assert [found[name].value for name in NAMES] == [0, 0, 0, 0]
    assert found["precision"].low == 0 and 0.05 < found["precision"].high < 0.2
    assert found["density"].high == 0


def test_samples_that_are_all_alike_are_precise_and_recall_nothing():
    _, real = draw(1, 80, 4, 6, 0.0)
    samples = np.repeat(real[:1], 40, axis=0)
    found = manifolds.manifold_metrics(samples, real)
    assert found["precision"].value == 1 and found["precision"].high == 1
    assert found["precision"].low > 0.8  # Wilson's: replicates alone say exactly 1
    assert found["recall"].value == 0 and found["coverage"].value < 0.3


def test_too_few_rows_have_no_neighbours():
    samples, real = draw(6, 60, 4, 5, 0.4)
    assert manifolds.is_enough(7) and not manifolds.is_enough(6)
    assert not manifolds.is_enough(0) and not manifolds.is_enough(1)
    with pytest.raises(ShapeError, match="more than 5 expected"):
        manifolds.manifold_metrics(samples, real)
    with pytest.raises(ShapeError, match="equal widths"):
        manifolds.manifold_metrics(draw(60, 9, 3, 5, 0.4)[0], real)
    real[3, 1] = np.nan
    with pytest.raises(ParameterError, match="NaN"):
        manifolds.Balls.of(real)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(100, 300, 6, 0.4), (160, 600, 16, 0.3)])
def test_intervals_cover_what_other_draws_give_on_average(shape):
    n, m, width, shift = shape
    found = [
        manifolds.manifold_metrics(*draw(n, m, width, seed, shift))
        for seed in range(120)
    ]
    for name in NAMES:
        estimates = [one[name] for one in found]
        mean = np.mean([e.value for e in estimates])
        covered = np.mean([e.low <= mean <= e.high for e in estimates])
        needed = 1.96 * np.std([e.value for e in estimates])
        half = np.mean([e.high - e.low for e in estimates]) / 2
        assert covered >= 0.94, name
        assert half < 2 * needed, name  # safe, and not useless
