"""Moments of a stream are those of the table, and give the same Frechet distance."""

import math

import numpy as np
import pytest

from commoncanvas.analysis import distances
from commoncanvas.analysis.distances import Moments
from commoncanvas.core.errors import ParameterError, ShapeError

WIDTH = 24
ROWS = [150, 15]  # more than there are features, and fewer


def draw(n, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(WIDTH, WIDTH))
    return rng.normal(size=(n, WIDTH)) @ mixing + shift


def in_parts(features, size):
    return Moments.gather(features[i : i + size] for i in range(0, len(features), size))


def gaussian(mean, covariance):
    """Return the moments of 1,000 rows that have exactly this mean and covariance."""
    factor = np.linalg.cholesky(covariance).T * math.sqrt(999)
    return Moments(1000, np.asarray(mean, float), factor)


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
@pytest.mark.parametrize("n", ROWS)
def test_moments_of_a_stream_are_those_of_the_table(n, size):
    features = draw(n, 1, shift=3)
    found = in_parts(features, size)
    assert found.count == n
    assert found.mean == pytest.approx(features.mean(0), rel=1e-12)
    assert found.covariance == pytest.approx(np.cov(features.T), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("size", [1, 7, 64])
@pytest.mark.parametrize("n", ROWS)
def test_the_distance_of_streams_is_that_of_the_tables(n, size):
    a, b = draw(n, 1), draw(n + 9, 2, shift=0.3)
    expected = distances.frechet_distance(a, b)
    both = distances.frechet_distance(in_parts(a, size), in_parts(b, size))
    one = distances.frechet_distance(a, in_parts(b, size))
    assert both == pytest.approx(expected, rel=1e-9)
    assert one == pytest.approx(expected, rel=1e-9)


def test_no_digits_are_lost_far_from_zero():
    # Sums of squares would leave 2 of 16 digits of this covariance.
    features = np.round(draw(150, 1) * 1024) / 1024
    moved = in_parts(features + 2.0**24, 7)
    assert moved.covariance == pytest.approx(np.cov(features.T), rel=1e-6, abs=1e-6)


def test_the_order_of_merging_does_not_matter():
    a, b, c = (Moments.of(draw(n, n)) for n in (1, 40, 70))
    left, right = a.merge(b).merge(c), c.merge(a.merge(b))
    assert left.count == right.count == 111
    assert left.mean == pytest.approx(right.mean, rel=1e-9)
    assert left.covariance == pytest.approx(right.covariance, rel=1e-9)


def test_a_long_stream_is_not_kept():
    moments = in_parts(draw(2000, 1), 1)
    assert len(moments.factor) <= 2 * WIDTH + 2


def test_the_distance_of_gaussians_of_one_dimension_is_the_formula():
    a, b = gaussian([1.0], [[4.0]]), gaussian([3.0], [[25.0]])
    assert distances.frechet_distance(a, b) == pytest.approx(
        (1 - 3) ** 2 + (2 - 5) ** 2
    )


def test_the_distance_of_gaussians_that_commute_is_that_of_their_axes():
    turn, _ = np.linalg.qr(draw(WIDTH, 3))
    first, second = (np.random.default_rng(k).uniform(0.1, 9, WIDTH) for k in (1, 2))
    a = gaussian(np.zeros(WIDTH), turn @ np.diag(first) @ turn.T)
    b = gaussian(np.full(WIDTH, 0.5), turn @ np.diag(second) @ turn.T)
    expected = WIDTH * 0.25 + np.sum((np.sqrt(first) - np.sqrt(second)) ** 2)
    assert distances.frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_the_distance_of_gaussians_that_do_not_commute_is_the_formula():
    first, second = np.array([[4.0, 1], [1, 2]]), np.array([[3.0, -1], [-1, 5]])
    # The root of a 2 x 2 matrix has the trace sqrt(tr + 2 sqrt(det)).
    product = first @ second
    root = math.sqrt(np.trace(product) + 2 * math.sqrt(np.linalg.det(product)))
    expected = 1 + np.trace(first) + np.trace(second) - 2 * root
    found = distances.frechet_distance(
        gaussian([0, 0], first), gaussian([0, 1], second)
    )
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_single_row_has_moments_but_no_distance():
    one, many = Moments.of(draw(1, 1)), Moments.of(draw(9, 2))
    with pytest.raises(ShapeError, match="2 rows or more"):
        distances.frechet_distance(one, many)


@pytest.mark.parametrize("features", [np.zeros((0, 3)), np.zeros(3)])
def test_what_is_no_table_of_features_is_refused(features):
    with pytest.raises(ShapeError, match="expected; add rows"):
        Moments.of(features)


def test_a_broken_picture_in_a_stream_is_found():
    features = draw(9, 1)
    features[7, 2] = np.nan
    with pytest.raises(ParameterError, match="find the broken picture"):
        in_parts(features, 2)


def test_features_of_two_networks_do_not_merge():
    with pytest.raises(ShapeError, match="24 and 3 wide"):
        Moments.of(draw(5, 1)).merge(Moments.of(np.zeros((5, 3))))
