"""Count, mean and covariance of features, gathered in a stream.

They are all that a Frechet distance needs, so features of any number of pictures need
not be kept. Stage 05's `metrics` take them wherever they take a table of features.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np

from commoncanvas.errors import ParameterError, ShapeError


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
