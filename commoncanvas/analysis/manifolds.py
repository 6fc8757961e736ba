"""Precision, recall, density and coverage of samples, with their intervals.

Around each picture lies a ball that reaches to its k-th nearest neighbour of the same
set. Precision is the share of samples within a real picture's ball; density counts the
balls, k of them as one; recall is the share of real pictures within a sample's ball;
coverage the share of real pictures whose ball holds a sample. Source: prdc, §2 and §3.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from commoncanvas.analysis.estimates import (
    Estimate,
    as_features,
    block_of,
    jackknife_of,
    wilson,
)
from commoncanvas.core.errors import ShapeError

K = 5  # neighbours that a ball reaches to. Source: prdc, §5
MOST = 10_000  # rows of a side of which stage 05 makes balls. Source: gpic
ROWS = 512  # whose distances to all others are in memory at once


@dataclass(frozen=True)
class Balls:
    """Features with the balls around them, whole and without a block at a time.

    Attributes:
        table: (rows, features).
        block: (rows,) block of each, of `block_of`.
        radii: (1 + blocks, rows) squared radii: of all rows, then without each block.
            A row has none without its own block: −1, which holds nothing.
    """

    table: np.ndarray
    block: np.ndarray
    radii: np.ndarray

    @classmethod
    def of(cls, features: Any, k: int = K, num_blocks: int = 20) -> "Balls":
        """Find the balls of (rows, features), `ROWS` at a time.

        Raises: ShapeError for no more than k rows beside one and its block, or no
            table; ParameterError for NaN.
        """
        (table,) = as_features(features)
        block = block_of(len(table), num_blocks)
        num = min(num_blocks, len(table))
        if not is_enough(len(table), k, num_blocks):
            raise ShapeError(
                f"{len(table)} rows in {num} blocks; more than {k} expected beside "
                "each block, for neighbours; measure more."
            )
        order = np.argsort(block, kind="stable")
        ends = np.cumsum(np.bincount(block))
        radii = np.empty((1 + num, len(table)))
        for first in range(0, len(table), ROWS):
            rows = slice(first, min(first + ROWS, len(table)))
            squares = squared_distances(table[rows], table)
            squares[np.arange(len(squares)), np.arange(rows.start, rows.stop)] = np.inf
            near = _nearest(squares[:, order], ends, k)
            radii[0, rows] = _kth(near, k)
            for lost in range(num):
                radii[1 + lost, rows] = _kth(np.delete(near, lost, 1), k)
        for lost in range(num):
            radii[1 + lost, block == lost] = -1
        return cls(table, block, radii)


def is_enough(num_rows: int, k: int = K, num_blocks: int = 20) -> bool:
    """Return whether rows have k neighbours, and keep them without any block."""
    return num_rows > 1 and num_rows - num_rows // min(num_blocks, num_rows) > k


def manifold_metrics(
    samples: "Any | Balls", real: "Any | Balls", k: int = K, num_blocks: int = 20
) -> dict[str, Estimate]:
    """Estimate precision, recall, density and coverage of samples.

    Intervals are the jackknife's of both sets, as those of distances: a twentieth of a
    set is deleted and the balls are made anew, since samples that share the real balls
    are no independent trials of a share. Balls do not shrink smoothly, so it errs on
    the safe side: simulated, these intervals are a quarter to two thirds wider than
    they need be and cover in 97 of 100 cases or more (a slow test repeats it). Where a
    share is near 0 or 1 all replicates agree, which says nothing: none is narrower than
    Wilson's of its own count.

    Args:
        samples, real: (n, features) and (m, features), or their `Balls` of this k and
            these blocks.

    Returns:
        {"precision", "recall", "density", "coverage"}: n counts the samples. All but
        density lie in [0, 1].

    Raises: as `Balls.of`.
    """
    a, b = (
        side if isinstance(side, Balls) else Balls.of(side, k, num_blocks)
        for side in (samples, real)
    )
    inside = _Inside.of(a, b)
    rows = [len(a.table), len(b.table)]
    trials = {"precision": rows[0], "recall": rows[1], "coverage": rows[1]}
    found = {}
    measures: dict[str, Callable[..., float]] = {
        "precision": lambda *lost: float((inside.samples(*lost) > 0).mean()),
        "recall": lambda *lost: float(inside.recalled(*lost).mean()),
        "density": lambda *lost: float(inside.samples(*lost).mean()) / k,
        "coverage": lambda *lost: float(inside.covered(*lost).mean()),
    }
    for name, measure in measures.items():
        found[name] = jackknife_of(measure, rows, num_blocks)
        if name in trials:
            found[name] = _as_share(found[name], trials[name])
    return found


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the (n, m) squared Euclidean distances of all pairs of rows."""
    squares = np.sum(a**2, 1)[:, None] + np.sum(b**2, 1) - 2 * a @ b.T
    return np.maximum(squares, 0, out=squares)


@dataclass(frozen=True)
class _Inside:
    """Which samples and real pictures lie in each other's balls, block by block.

    Attributes:
        a, b: the samples' balls and the real ones.
        counts: (1 + blocks of b, n) real balls that hold a sample.
        found: (1 + blocks of a, m) whether a sample's ball holds a real picture.
        closest: (1 + blocks of a, m) squared distance of the closest sample.
    """

    a: Balls
    b: Balls
    counts: np.ndarray
    found: np.ndarray
    closest: np.ndarray

    @classmethod
    def of(cls, a: Balls, b: Balls) -> "_Inside":
        n, m = len(a.table), len(b.table)
        counts = np.zeros((len(b.radii), n), np.int64)
        found = np.empty((len(a.radii), m), bool)
        closest = np.empty((len(a.radii), m))
        order = np.argsort(a.block, kind="stable")
        ends = np.cumsum(np.bincount(a.block))
        as_features(a.table[:2], b.table[:2])  # equally wide
        for first in range(0, m, ROWS):
            rows = slice(first, min(first + ROWS, m))
            squares = squared_distances(b.table[rows], a.table)
            whole = squares < b.radii[0, rows, None]
            counts[0] += np.count_nonzero(whole, axis=0)
            for lost in range(1, len(b.radii)):
                # Few balls change: those that lost a neighbour, and the block's own.
                new = b.radii[lost, rows]
                is_new = np.flatnonzero(new != b.radii[0, rows])
                now = squares[is_new] < new[is_new, None]
                counts[lost] += np.count_nonzero(now, axis=0)
                counts[lost] -= np.count_nonzero(whole[is_new], axis=0)
            for lost, radii in enumerate(a.radii):
                found[lost, rows] = (squares < radii).any(1)
            near = _nearest(squares[:, order], ends, 1)
            closest[0, rows] = near.min((1, 2))
            for lost in range(1, len(a.radii)):
                closest[lost, rows] = np.delete(near, lost - 1, 1).min((1, 2))
        counts[1:] += counts[0]
        return cls(a, b, counts, found, closest)

    def samples(self, side: int = 0, lost: int | None = None) -> np.ndarray:
        """Return the counts of balls of the samples that are left."""
        if lost is None or side == 1:
            return self.counts[0 if lost is None else 1 + lost]
        return self.counts[0][self.a.block != lost]

    def recalled(self, side: int = 0, lost: int | None = None) -> np.ndarray:
        """Return whether samples' balls hold the real pictures that are left."""
        if lost is None or side == 0:
            return self.found[0 if lost is None else 1 + lost]
        return self.found[0][self.b.block != lost]

    def covered(self, side: int = 0, lost: int | None = None) -> np.ndarray:
        """Return whether the balls of the real pictures that are left hold a sample."""
        if lost is None or side == 0:
            closest = self.closest[0 if lost is None else 1 + lost]
            return closest < self.b.radii[0]
        kept = self.b.block != lost
        return self.closest[0][kept] < self.b.radii[1 + lost][kept]


def _nearest(squares: np.ndarray, ends: np.ndarray, k: int) -> np.ndarray:
    """Return (rows, blocks, k): each block's least, of columns that lie by block."""
    near = np.full((len(squares), len(ends), k), np.inf)
    for block, (first, end) in enumerate(zip(np.r_[0, ends], ends, strict=False)):
        num = min(k, end - first)
        part = np.partition(squares[:, first:end], num - 1, axis=1)
        near[:, block, :num] = part[:, :num]
    return near


def _kth(near: np.ndarray, k: int) -> np.ndarray:
    """Return the k-th least of each row, (rows,)."""
    return np.partition(near.reshape(len(near), -1), k - 1, axis=1)[:, k - 1]


def _as_share(estimate: Estimate, trials: int) -> Estimate:
    """Return the estimate within [0, 1], at least as wide as Wilson's of its count."""
    least = wilson(min(estimate.value, 1.0) * trials, trials)
    low = max(min(estimate.low, least.low), 0.0)
    high = min(max(estimate.high, least.high), 1.0)
    return Estimate(estimate.value, low, high, estimate.n)
