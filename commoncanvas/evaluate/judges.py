"""A feature extractor beside the reference: all metrics of samples from its features.

Values of FID's and KID's kind are torchmetrics'; intervals are `analysis`'s, of the
same statistics. What is made of the reference alone is made once for all samples.
"""

import dataclasses
import functools
import math

import numpy as np

from commoncanvas.analysis import distances, kernels, manifolds
from commoncanvas.analysis.estimates import Estimate, Replicates, student_quantile
from commoncanvas.evaluate import standard
from commoncanvas.evaluate.extractors import FeatureExtractor

NUM_BLOCKS = 20  # of the jackknife


class Judge:
    """One network's features of the reference, against which samples are measured.

    Args:
        extractor: the network, and the names of its metrics.
        real: (m, num_features) of the reference, two rows or more.
        seed: of the draws in a kernel distance.
    """

    def __init__(
        self, extractor: FeatureExtractor, real: np.ndarray, seed: int = 0
    ) -> None:
        self.extractor, self.real, self.seed = extractor, real, seed

    @functools.cached_property
    def _frechet(self) -> standard.Frechet:
        return standard.Frechet(self.real)

    @functools.cached_property
    def _side(self) -> kernels.Side:
        if self.extractor.is_gaussian:
            unit = kernels.unit_rows(self.real)
            return kernels.Side.of(unit, kernels.gaussian, NUM_BLOCKS)
        return kernels.Side.of(self.real, kernels.polynomial, NUM_BLOCKS)

    @functools.cached_property
    def _balls(self) -> manifolds.Balls:
        return manifolds.Balls.of(_some(self.real), num_blocks=NUM_BLOCKS)

    def estimates(
        self, features: np.ndarray, suffix: str = ""
    ) -> tuple[dict[str, Estimate], dict[str, Replicates]]:
        """Return {metric: its estimate} of samples, and the distances' replicates.

        Claims compare distances by their replicates, a kernel distance by all pairs of
        rows; its estimate has the value by random subsets, as KID is published.

        Precision, recall, density and coverage are of 10,000 rows of a side at most,
        evenly taken, and are left out where a side has too few for neighbours.

        Args:
            features: (n, num_features), two rows or more.
            suffix: of the metrics' names; see `Reference.suffix`.
        """
        frechet = distances.frechet_replicates(features, self.real, NUM_BLOCKS)
        taken = {self.extractor.frechet: frechet}
        value = self._frechet.distance(features)
        found = {self.extractor.frechet: moved(frechet.estimate(), value)}
        if self.extractor.kernel:
            taken[self.extractor.kernel] = kernel = self._kernel(features)
            found[self.extractor.kernel] = self._published(kernel, features)
        sides = features, self.real
        if self.extractor.has_balls and all(manifolds.is_enough(len(x)) for x in sides):
            shares = manifolds.manifold_metrics(
                _some(features), self._balls, num_blocks=NUM_BLOCKS
            )
            found |= {f"{k}_{self.extractor.name}": v for k, v in shares.items()}
        return (
            {name + suffix: estimate for name, estimate in found.items()},
            {name + suffix: replicates for name, replicates in taken.items()},
        )

    def _kernel(self, features: np.ndarray) -> Replicates:
        if self.extractor.is_gaussian:
            return kernels.clip_mmd_replicates(features, self._side, NUM_BLOCKS)
        return kernels.kernel_replicates(features, self._side, NUM_BLOCKS)

    def _published(self, kernel: Replicates, features: np.ndarray) -> Estimate:
        """Return the kernel distance's estimate; KID's draws are noise of their own."""
        found = kernel.estimate()
        if self.extractor.is_gaussian:
            return found
        value, error = standard.kernel_distance(features, self.real, self.seed)
        return moved(found, value, error * student_quantile(standard.SUBSETS))


def _some(rows: np.ndarray) -> np.ndarray:
    """Return at most `manifolds.MOST` of the rows, evenly taken."""
    num = min(len(rows), manifolds.MOST)
    return rows[np.arange(num) * len(rows) // num] if num < len(rows) else rows


def moved(estimate: Estimate, value: float, half: float = 0.0) -> Estimate:
    """Return an estimate about another value of the same quantity.

    Args:
        half: what else its interval must hold to either side, added in squares.
    """
    low = value - math.hypot(estimate.value - estimate.low, half)
    high = value + math.hypot(estimate.high - estimate.value, half)
    return dataclasses.replace(estimate, value=value, low=low, high=high)
