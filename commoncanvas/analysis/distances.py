"""Distances between sets of features, from moments that are summed in one pass."""

import functools
import math
from dataclasses import dataclass

import numpy as np

from commoncanvas.analysis.estimates import _demand, _features, _same_rows, jackknife
from commoncanvas.core.errors import ParameterError, ShapeError


@dataclass(frozen=True)
class Moments:
    """Moments of rows of features; those of two tables merge into those of both.

    The covariance is kept as a factor F with F'F = (count − 1) covariance. Sums of
    squares would lose half of the digits where the mean is large or rows are few.

    Attributes:
        count: rows, 1 or more.
        mean: (features,) float64.
        factor: (any number, features) float64.
    """

    count: int
    mean: np.ndarray
    factor: np.ndarray

    @classmethod
    def of(cls, features):
        """Return the moments of (rows, features), 1 row or more.

        Raises: ShapeError if it is no such table; ParameterError for NaN.
        """
        features = np.asarray(features, dtype=np.float64)
        if features.ndim != 2 or not len(features):
            raise ShapeError(
                f"Features are {features.shape}; (rows, features) expected; add rows."
            )
        if not np.isfinite(features).all():
            raise ParameterError(
                "Features hold NaN; finite numbers expected; find the broken picture."
            )
        mean = features.mean(0)
        return cls(len(features), mean, features - mean)

    @classmethod
    def gather(cls, tables):
        """Return the moments of all rows of an iterable of tables, read once."""
        return functools.reduce(cls.merge, map(cls.of, tables))

    def merge(self, other):
        """Return the moments of the rows of both.

        Raises: ShapeError if the two differ in width.
        """
        if len(self.mean) != len(other.mean):
            raise ShapeError(
                f"Features are {len(self.mean)} and {len(other.mean)} wide; equal "
                "widths expected; use one network for both."
            )
        count, gap = self.count + other.count, other.mean - self.mean
        between = gap * math.sqrt(self.count * other.count / count)
        factor = np.vstack([self.factor, other.factor, between])
        if len(factor) > 2 * len(gap):  # not sooner: QR costs more than it saves
            factor = np.linalg.qr(factor, mode="r")
        return Moments(count, self.mean + gap * (other.count / count), factor)

    @property
    def covariance(self):
        """(features, features) float64, divided by count − 1."""
        return self.factor.T @ self.factor / (self.count - 1)

    def root(self):
        """Return F with F'F the covariance, of at most `features` rows."""
        factor = self.factor / math.sqrt(self.count - 1)
        is_long = len(factor) > len(self.mean)
        return np.linalg.qr(factor, mode="r") if is_long else factor


def frechet_distance(a, b):
    """Measure the Frechet distance of two Gaussians fitted to features.

    Tr sqrt(C1 C2) is the nuclear norm of A B', with A'A = C1 and B'B = C2. That is
    exact also when there are fewer rows than features, where a matrix root is not.
    The distance is biased upwards at small n: compare only at equal n, and show
    `frechet_floor` beside it. Source: fid, Eq. 6.

    Args:
        a, b: features, or their `Moments`.

    Returns: float, 0 or more, in squared units of the features.
    Raises: ShapeError for fewer than 2 rows or unequal widths; ParameterError for NaN.
    """
    a, b = (t if isinstance(t, Moments) else Moments.of(t) for t in (a, b))
    shapes = [(t.count, len(t.mean)) for t in (a, b)]
    message = f"Features are {shapes}; 2 rows or more, equal widths expected; add rows."
    fits = min(a.count, b.count) >= 2 and len(a.mean) == len(b.mean)
    _demand(fits, ShapeError, message)
    root_a, root_b = a.root(), b.root()
    nuclear = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    traces = np.sum(root_a**2) + np.sum(root_b**2)
    return max(float(np.sum((a.mean - b.mean) ** 2) + traces - 2 * nuclear), 0.0)


def frechet_floor(real, n, seed, num_blocks=20):
    """Measure real against real: the distance that a perfect model would get at n.

    Returns: Estimate of the distance between two disjoint halves drawn from `real`.
    Raises: ParameterError if n is below 2 or `real` has fewer than 2 n rows.
    """
    real = np.asarray(real)
    message = f"Floor at n = {n} of {len(real)} rows; 2 to half expected; lower n."
    _demand(2 <= n <= len(real) // 2, ParameterError, message)
    halves = np.random.default_rng(seed).permutation(len(real))[: 2 * n].reshape(2, n)
    return jackknife(frechet_distance, *real[halves], num_blocks=num_blocks)


def _kernel_sum(a, b, chunk=2048):
    """Sum (a'b / features + 1)^3 over all pairs of rows, in chunks of rows."""
    chunks = (a[i : i + chunk] for i in range(0, len(a), chunk))
    return sum(float(np.sum((rows @ b.T / a.shape[1] + 1) ** 3)) for rows in chunks)


def kernel_distance(a, b):
    """Measure the unbiased squared MMD with the polynomial kernel of KID.

    Without bias at small n: 0 on average for equal distributions. Source: kid, §4.
    Raises: ShapeError for fewer than 2 rows or unequal widths; ParameterError for NaN.
    """
    a, b = _features(a, b)
    total = -2 * _kernel_sum(a, b) / (len(a) * len(b))
    for table in (a, b):
        diagonal = np.sum((np.sum(table**2, 1) / table.shape[1] + 1) ** 3)
        total += (_kernel_sum(table, table) - diagonal) / len(table) / (len(table) - 1)
    return float(total)


def kernel_distance_subsets(a, b, subset_size, num_subsets, seed):
    """Average the kernel distance over random subsets, as KID is published.

    The deviation is the one usually printed; subsets overlap, so it is no standard
    error: use `jackknife(kernel_distance, a, b)` for an interval. Source: kid, §4.

    Returns: (mean, standard deviation) over the subsets, two floats.
    Raises: ParameterError if subset_size is outside 2 to min(n, m).
    """
    a, b = _features(a, b)
    most = min(len(a), len(b))
    message = f"Subsets of {subset_size} rows; 2 to {most} expected; lower subset_size."
    _demand(2 <= subset_size <= most, ParameterError, message)
    rng, values = np.random.default_rng(seed), []
    for _ in range(num_subsets):
        draw = [t[rng.permutation(len(t))[:subset_size]] for t in (a, b)]
        values.append(kernel_distance(*draw))
    return float(np.mean(values)), float(np.std(values))


def frechet_difference(features_a, features_b, reference, num_blocks=20):
    """Estimate FD(a, reference) - FD(b, reference) of two variants.

    Row i of both variants is the same prompt and seed, so both lose the same rows;
    the reference is shared, so its noise and the bias at this n largely cancel.
    Negative means that a is closer. Raises: ShapeError if rows or widths differ.
    """
    a, b, reference = _features(features_a, features_b, reference)
    _same_rows(a, b)

    def difference(pair, real):
        return np.subtract(*(frechet_distance(pair[:, k], real) for k in (0, 1)))

    return jackknife(difference, np.stack([a, b], 1), reference, num_blocks=num_blocks)


def frechet_change(features_a, features_b, reference, num_blocks=20):
    """Estimate FD(a, reference) / FD(b, reference) - 1 of two variants.

    Both lose the same rows, as in `metrics.frechet_difference`.

    Args:
        features_a, features_b: (n, features), row i of one prompt and one seed.
        reference: (m, features).
        num_blocks: of the jackknife.
    """

    def change(pair, real):
        a, b = (frechet_distance(pair[:, k], real) for k in (0, 1))
        return a / b - 1

    pair = np.stack([features_a, features_b], 1)
    return jackknife(change, pair, reference, num_blocks=num_blocks)
