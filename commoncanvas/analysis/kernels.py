"""Kernel distances (squared MMD) between sets of features, with their intervals.

KID's polynomial kernel without bias, and CMMD's Gaussian one. Every pair of rows is
looked at once, block by block, and all replicates of a jackknife are sums of the same
blocks. Stage 05 reports torchmetrics' KID; tests hold the two equal.
Source: kid, §4; cmmd; torchmetrics.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from commoncanvas.analysis.estimates import Replicates, as_features, block_of

ROWS = 2048  # whose pairs with all others are in memory at once
SIGMA = 10  # of CMMD's kernel
SCALE = 1000  # of CMMD, to make it readable

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


def polynomial(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return KID's kernel of all pairs of rows, (a'b / features + 1)^3."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def gaussian(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return CMMD's kernel of all pairs of rows, a Gaussian of width `SIGMA`."""
    squares = np.sum(a**2, 1)[:, None] + np.sum(b**2, 1) - 2 * a @ b.T
    return np.exp(-squares / (2 * SIGMA**2))


def kernel_distance(a: Any, b: Any) -> float:
    """Measure the unbiased squared MMD with the polynomial kernel of KID.

    Without bias at small n: 0 on average for equal distributions. Source: kid, §4.
    Raises: ShapeError for fewer than 2 rows or unequal widths; ParameterError for NaN.
    """
    a, b = as_features(a, b)
    a, b = (Side.of(table, polynomial, 1) for table in (a, b))
    return _Pairs.of(a, b, polynomial).distance()


def kernel_replicates(a: Any, b: "Any | Side", num_blocks: int = 20) -> Replicates:
    """Return `kernel_distance` with its replicates, at the cost of one distance.

    A replicate that lacks a block of rows is the sums of all pairs less those of the
    block's, so every pair of rows is looked at once and not once a replicate.

    Args:
        b: rows, or their `Side` where several a are measured against them.

    Raises: as `kernel_distance`.
    """
    return _replicates(a, b, polynomial, num_blocks)


def clip_mmd(a: Any, b: Any) -> float:
    """Measure CMMD: 1000 times the squared MMD of embeddings of length one.

    As the authors' code, with each row's pair with itself (the V-statistic), so it is a
    little above 0 for equal distributions: about 1000 (1/n + 1/m) (1 - k), with k the
    kernel's mean, which is near 1. Source: cmmd, Eq. 2 and its code, `distance.mmd`.

    Raises: as `kernel_distance`.
    """
    return clip_mmd_replicates(a, b, 2).estimate().value


def clip_mmd_replicates(a: Any, b: "Any | Side", num_blocks: int = 20) -> Replicates:
    """Return `clip_mmd` as `kernel_replicates` does; embeddings may have any length.

    Args:
        b: embeddings, or the `Side` of their `unit_rows` with the Gaussian kernel.

    Raises: as `kernel_distance`.
    """
    b = b if isinstance(b, Side) else unit_rows(b)
    found = _replicates(unit_rows(a), b, gaussian, num_blocks, with_itself=True)
    return replace(found, values=SCALE * found.values)


def unit_rows(table: Any) -> np.ndarray:
    """Return the rows, float64, at length one."""
    (table,) = as_features(table)
    return table / np.linalg.norm(table, axis=1, keepdims=True)


@dataclass(frozen=True)
class Side:
    """Rows in the order of their blocks, and the kernel's sums over pairs of them.

    Blocks are those of `jackknife`; rows beyond whole blocks come last, in one more.

    Attributes:
        table: (rows, features), sorted by block.
        counts: (blocks,) rows of each.
        own: (blocks, blocks) sums over pairs of rows.
        diagonal: (blocks,) sums over rows paired with themselves.
    """

    table: np.ndarray
    counts: np.ndarray
    own: np.ndarray
    diagonal: np.ndarray

    @classmethod
    def of(cls, table: Any, kernel: Kernel, num_blocks: int = 20) -> "Side":
        """Sum the kernel over all pairs of rows.

        Raises: as `kernel_distance`.
        """
        (table,) = as_features(table)
        block = block_of(len(table), num_blocks)
        table = table[np.argsort(block, kind="stable")]
        counts = np.bincount(block)
        alone = np.array([kernel(row[None], row[None])[0, 0] for row in table])
        diagonal = np.add.reduceat(alone, _starts(counts))
        own = _pair_sums(kernel, table, table, counts, counts)
        return cls(table, counts, own, diagonal)


@dataclass(frozen=True)
class _Pairs:
    """Two sides, and the kernel's sums over pairs between them, block by block.

    `with_itself` keeps each row's pair with itself, which is no pair of independent
    draws: a small bias for the least variance.
    """

    sides: tuple[Side, Side]
    cross: np.ndarray  # (blocks of a, blocks of b)
    with_itself: bool

    @classmethod
    def of(
        cls, a: Side, b: Side, kernel: Kernel, with_itself: bool = False
    ) -> "_Pairs":
        as_features(a.table[:2], b.table[:2])  # equally wide
        cross = _pair_sums(kernel, a.table, b.table, a.counts, b.counts)
        return cls((a, b), cross, with_itself)

    def distance(self, side: int = 0, lost: int | None = None) -> float:
        """Return the distance without a block of a (`side` 0) or of b (1)."""
        kept = [np.ones(len(s.counts), bool) for s in self.sides]
        if lost is not None:
            kept[side][lost] = False
        pairs = list(zip(self.sides, kept, strict=True))
        n, m = (int(s.counts[k].sum()) for s, k in pairs)
        total = -2 * float(self.cross[kept[0]][:, kept[1]].sum()) / (n * m)
        for size, (s, k) in zip((n, m), pairs, strict=True):
            within = float(s.own[k][:, k].sum())
            if self.with_itself:
                total += within / size / size
            else:
                total += (within - float(s.diagonal[k].sum())) / size / (size - 1)
        return total


def _replicates(
    a: Any, b: Any, kernel: Kernel, num_blocks: int, with_itself: bool = False
) -> Replicates:
    a, b = (
        side if isinstance(side, Side) else Side.of(side, kernel, num_blocks)
        for side in (a, b)
    )
    pairs = _Pairs.of(a, b, kernel, with_itself)
    rows = [len(a.table), len(b.table)]
    return Replicates.of(pairs.distance, rows, num_blocks)


def _starts(counts: np.ndarray) -> np.ndarray:
    return np.cumsum(counts) - counts


def _pair_sums(
    kernel: Kernel,
    a: np.ndarray,
    b: np.ndarray,
    counts_a: np.ndarray,
    counts_b: np.ndarray,
) -> np.ndarray:
    """Sum the kernel over pairs of rows that lie sorted by block, block by block."""
    rows = []
    for start, count in zip(_starts(counts_a), counts_a, strict=True):
        total = np.zeros(len(counts_b))
        for first in range(start, start + count, ROWS):
            part = a[first : min(first + ROWS, start + count)]
            total += np.add.reduceat(kernel(part, b).sum(0), _starts(counts_b))
        rows.append(total)
    return np.stack(rows)
