"""Distances between sets of features, from moments that are summed in one pass."""

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from commoncanvas.analysis.estimates import (
    Estimate,
    Replicates,
    as_features,
    block_of,
    jackknife,
    replicate,
)
from commoncanvas.core.errors import ParameterError, ShapeError

ROWS = 2048  # whose pairs with all others are in memory at once


@dataclass(frozen=True)
class Moments:
    """Moments of rows of features; those of two tables merge into those of both.

    The covariance is kept as a factor F with F'F = (count − 1) covariance. Sums of
    squares would lose half of the digits where the mean is large or rows are few.
    """

    count: int  # rows, 1 or more
    mean: np.ndarray  # (features,) float64
    factor: np.ndarray  # (any number, features) float64

    @classmethod
    def of(cls, features: Any) -> "Moments":
        """Return the moments of finite (rows, features), 1 row or more."""
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
    def gather(cls, tables: Iterable[Any]) -> "Moments":
        """Return the moments of all rows of an iterable of tables, read once."""
        return functools.reduce(cls.merge, map(cls.of, tables))

    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of the rows of both, which must be equally wide."""
        if len(self.mean) != len(other.mean):
            raise ShapeError(
                f"Features are {len(self.mean)} and {len(other.mean)} wide; equal "
                "widths expected; use one network for both."
            )
        count, gap = self.count + other.count, other.mean - self.mean
        between = gap * math.sqrt(self.count * other.count / count)
        factor = np.vstack([self.factor, other.factor, between])
        if len(factor) > 2 * len(gap):  # not sooner: QR costs more than it saves
            factor = _triangle(factor)
        return Moments(count, self.mean + gap * (other.count / count), factor)

    @property
    def covariance(self) -> np.ndarray:
        """(features, features) float64, divided by count − 1."""
        return self.factor.T @ self.factor / (self.count - 1)

    def root(self) -> np.ndarray:
        """Return F with F'F the covariance, of at most `features` rows."""
        factor = self.factor / math.sqrt(self.count - 1)
        is_long = len(factor) > len(self.mean)
        return _triangle(factor) if is_long else factor


def _triangle(factor: np.ndarray) -> np.ndarray:
    """Return R with R'R = F'F, of no more rows than features."""
    return np.asarray(np.linalg.qr(factor, mode="r"))


def frechet_distance(a: Any, b: Any) -> float:
    """Measure the Frechet distance of two Gaussians fitted to features.

    Tr sqrt(C1 C2) is the nuclear norm of A B', with A'A = C1 and B'B = C2. That is
    exact also when there are fewer rows than features, where a matrix root is not.
    The distance is biased upwards at small n: compare only at equal n, and show
    `frechet_floor` beside it. Source: fid, Eq. 6.

    Args:
        a, b: (rows, features), or their `Moments`.

    Returns: 0 or more, in squared units of the features.
    Raises: ShapeError for fewer than 2 rows or unequal widths; ParameterError for NaN.
    """
    a, b = (t if isinstance(t, Moments) else Moments.of(t) for t in (a, b))
    if min(a.count, b.count) < 2 or len(a.mean) != len(b.mean):
        shapes = [(t.count, len(t.mean)) for t in (a, b)]
        raise ShapeError(
            f"Features are {shapes}; 2 rows or more, equal widths expected; add rows."
        )
    root_a, root_b = a.root(), b.root()
    nuclear = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    traces = np.sum(root_a**2) + np.sum(root_b**2)
    return max(float(np.sum((a.mean - b.mean) ** 2) + traces - 2 * nuclear), 0.0)


def frechet_floor(real: Any, n: int, seed: int, num_blocks: int = 20) -> Estimate:
    """Measure real against real: about what a perfect model would get at n.

    n rows of `real`, drawn at random, are measured against all others, as samples are
    against a reference that is larger than they are.
    Raises: ParameterError if n is below 2 or `real` has fewer than 2 n rows.
    """
    real = np.asarray(real)
    if not 2 <= n <= len(real) // 2:
        raise ParameterError(
            f"Floor at n = {n} of {len(real)} rows; 2 to half expected; lower n."
        )
    order = np.random.default_rng(seed).permutation(len(real))
    sides = real[order[:n]], real[order[n:]]
    return jackknife(frechet_distance, *sides, num_blocks=num_blocks)


def kernel_distance(a: Any, b: Any) -> float:
    """Measure the unbiased squared MMD with the polynomial kernel of KID.

    Without bias at small n: 0 on average for equal distributions. Source: kid, §4.
    Raises: ShapeError for fewer than 2 rows or unequal widths; ParameterError for NaN.
    """
    a, b = as_features(a, b)
    return _Kernel.of(a, b, 1).distance()


def frechet_replicates(a: Any, b: Any, num_blocks: int = 20) -> Replicates:
    """Return `frechet_distance` with its replicates, for intervals of differences.

    Raises: as `frechet_distance`.
    """
    return replicate(frechet_distance, *as_features(a, b), num_blocks=num_blocks)


def kernel_replicates(a: Any, b: Any, num_blocks: int = 20) -> Replicates:
    """Return `kernel_distance` with its replicates, at the cost of one distance.

    A replicate that lacks a block of rows is the sums of all pairs less those of the
    block's, so every pair of rows is looked at once and not once a replicate.

    Raises: as `kernel_distance`.
    """
    a, b = as_features(a, b)
    kernel = _Kernel.of(a, b, num_blocks)
    return Replicates.of(kernel.distance, [len(a), len(b)], num_blocks)


@dataclass(frozen=True)
class _Kernel:
    """Sums of (a'b / features + 1)^3 over pairs of rows, by the rows' blocks.

    Blocks are those of `jackknife`; rows beyond whole blocks come last, in one more.

    Attributes:
        counts: of a and of b, (blocks,) rows.
        cross: (blocks of a, blocks of b); own: of a with a and of b with b.
        diagonal: of a and of b, (blocks,) sums of rows paired with themselves.
    """

    counts: list[np.ndarray]
    cross: np.ndarray
    own: list[np.ndarray]
    diagonal: list[np.ndarray]

    @classmethod
    def of(cls, a: np.ndarray, b: np.ndarray, num_blocks: int) -> "_Kernel":
        blocks, tables = [], []
        for table in (a, b):
            block = block_of(len(table), num_blocks)
            order = np.argsort(block, kind="stable")
            tables.append(table[order])
            blocks.append(np.bincount(block))
        diagonal = []
        for table, counts in zip(tables, blocks, strict=True):
            alone = (np.sum(table**2, 1) / table.shape[1] + 1) ** 3
            diagonal.append(np.add.reduceat(alone, _starts(counts)))
        pairs = [(0, 1), (0, 0), (1, 1)]
        cross, *own = (
            _pair_sums(tables[i], tables[j], blocks[i], blocks[j]) for i, j in pairs
        )
        return cls(blocks, cross, own, diagonal)

    def distance(self, side: int = 0, lost: int | None = None) -> float:
        """Return the distance without a block of a (`side` 0) or of b (1)."""
        kept = [np.ones(len(counts), bool) for counts in self.counts]
        if lost is not None:
            kept[side][lost] = False
        n, m = (int(c[k].sum()) for c, k in zip(self.counts, kept, strict=True))
        total = -2 * float(self.cross[kept[0]][:, kept[1]].sum()) / (n * m)
        for size, own, diagonal, k in zip(
            (n, m), self.own, self.diagonal, kept, strict=True
        ):
            # A row paired with itself is no pair of independent draws.
            pairs = float(own[k][:, k].sum()) - float(diagonal[k].sum())
            total += pairs / size / (size - 1)
        return total


def _starts(counts: np.ndarray) -> np.ndarray:
    return np.cumsum(counts) - counts


def _pair_sums(
    a: np.ndarray, b: np.ndarray, blocks_a: np.ndarray, blocks_b: np.ndarray
) -> np.ndarray:
    """Sum the kernel over pairs of rows that lie sorted by block, block by block."""
    rows = []
    for start, count in zip(_starts(blocks_a), blocks_a, strict=True):
        total = np.zeros(len(blocks_b))
        for first in range(start, start + count, ROWS):
            part = a[first : min(first + ROWS, start + count)]
            found = (part @ b.T / a.shape[1] + 1) ** 3
            total += np.add.reduceat(found.sum(0), _starts(blocks_b))
        rows.append(total)
    return np.stack(rows)
