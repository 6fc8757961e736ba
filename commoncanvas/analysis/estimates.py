"""Values with their intervals, over prompts and over trainings from several seeds."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit
from scipy.stats import rankdata
from scipy.stats import t as student

from commoncanvas.core.errors import ParameterError, ShapeError

Z95 = 1.959963984540054
REPLICATES = "replicates/"  # before a distance's name, among rows of values


@dataclass(frozen=True)
class Estimate:
    """A number, its 95 % interval and the count of rows behind it."""

    value: float
    low: float
    high: float
    n: int

    def __format__(self, spec: str) -> str:
        """Write "value [low, high]", each number by `spec`.

        ".1%" gives "28.0 % [24.0, 32.0]": one unit, written once. A plus sign in `spec`
        shows the sign of the value and of neither end.
        """
        ends = spec.replace("+", "")
        if not spec.endswith("%"):
            return f"{self.value:{spec}} [{self.low:{ends}}, {self.high:{ends}}]"
        value, low, high = (100 * x for x in (self.value, self.low, self.high))
        spec, ends = spec[:-1] + "f", ends[:-1] + "f"
        return f"{value:{spec}} % [{low:{ends}}, {high:{ends}}]"

    def __str__(self) -> str:
        return f"{self:.4g}"

    @classmethod
    def from_dict(cls, written: dict[str, Any]) -> "Estimate":
        """Make an Estimate of {"value", "interval", "n"}, as `as_dict` wrote it."""
        low, high = written["interval"]
        return cls(written["value"], low, high, written["n"])

    def as_dict(self) -> dict[str, Any]:
        """Return {"value", "interval", "n"} with 6 significant digits, equal in JSON.

        Raises: ParameterError if a number is not finite, which JSON cannot hold.
        """
        numbers = [float(f"{x:.6g}") for x in (self.value, self.low, self.high)]
        if not np.isfinite(numbers).all():
            raise ParameterError(
                f"An estimate holds {numbers}; finite ones expected; look for NaN."
            )
        value, low, high = numbers
        return {"value": value, "interval": [low, high], "n": int(self.n)}


def as_features(*arrays: Any) -> list[np.ndarray]:
    """Return the arrays as float64 (rows, features), all finite and equally wide."""
    tables = [np.asarray(array, dtype=np.float64) for array in arrays]
    shapes = [table.shape for table in tables]
    are_tables = all(len(shape) == 2 and shape[0] >= 2 for shape in shapes)
    if not are_tables or len({shape[1] for shape in shapes}) != 1:
        raise ShapeError(
            f"Features are {shapes}; 2 rows or more, equal widths expected; add rows."
        )
    if not all(np.isfinite(table).all() for table in tables):
        raise ParameterError(
            "Features hold NaN; finite numbers expected; find the broken picture."
        )
    return tables


def same_rows(*arrays: Any) -> list[int]:
    """Return the counts of rows; raise ShapeError where they differ."""
    rows = [len(array) for array in arrays]
    if len(set(rows)) != 1:
        raise ShapeError(
            f"Paired rows are {rows}; equal counts expected; match prompts and seeds."
        )
    return rows


def jackknife(
    statistic: Callable[..., float],
    *arrays: Any,
    num_blocks: int = 20,
    paired: bool = False,
) -> Estimate:
    """Estimate statistic(*arrays) by the delete-a-group jackknife.

    Blocks are strided, so a sorted table does not end up in one block, and equal in
    size, so the statistic's bias shifts every block alike. The value itself is not
    corrected for bias; the interval, Student's with a degree of freedom a block but
    one, speaks of noise only: of the statistic at this number of rows.

    Args:
        num_blocks: blocks per array, lowered where there are fewer rows.
        paired: True deletes the same rows of all arrays at once; False deletes from
            one array at a time and adds the variances (independent arrays).

    Returns: n counts the rows of the first array.
    Raises: ShapeError if an array has fewer than 2 rows or paired ones differ;
        ParameterError if num_blocks is below 2.
    """
    return replicate(
        statistic, *arrays, num_blocks=num_blocks, paired=paired
    ).estimate()


def replicate(
    statistic: Callable[..., float],
    *arrays: Any,
    num_blocks: int = 20,
    paired: bool = False,
) -> "Replicates":
    """Return what `jackknife` makes its interval of; the same arguments and errors."""
    tables = [np.asarray(array) for array in arrays]
    rows = same_rows(*tables) if paired else [len(table) for table in tables]

    def without(side: int = 0, lost: int | None = None) -> float:
        kept = list(tables)
        for k in range(len(tables)) if paired else [side]:
            if lost is not None:
                is_kept = block_of(rows[k], num_blocks) != lost
                kept[k] = tables[k][is_kept]
        return float(statistic(*kept))

    return Replicates.of(without, rows[:1] if paired else rows, num_blocks)


def block_of(num_rows: int, num_blocks: int) -> np.ndarray:
    """Return (num_rows,) the block of each row: strided, equal in size.

    Rows beyond whole blocks are in one more, which no replicate loses.
    """
    num = min(num_blocks, num_rows)
    block = np.arange(num_rows) % num
    block[num_rows // num * num :] = num
    return block


def jackknife_of(
    without: Callable[..., float], rows: Sequence[int], num_blocks: int = 20
) -> Estimate:
    """Estimate as `jackknife` does from a function that leaves blocks out by itself.

    Args:
        without: () -> the value; (array, block) -> the value without that block, of
            `block_of`, of that array.
        rows: the arrays' counts of rows.

    Raises: as `jackknife`.
    """
    return Replicates.of(without, rows, num_blocks).estimate()


@dataclass(frozen=True)
class Replicates:
    """A statistic, and the same without each block of rows of each array.

    Statistics of the same rows add and subtract replicate by replicate, which is what
    leaving the same rows out of all of them gives.

    Attributes:
        values: (1 + blocks of every array,) float64: the value, then its replicates.
        rows: the arrays' counts of rows.
        num_blocks: blocks an array at most.
    """

    values: np.ndarray
    rows: tuple[int, ...]
    num_blocks: int = 20

    @classmethod
    def of(
        cls, without: Callable[..., float], rows: Sequence[int], num_blocks: int = 20
    ) -> "Replicates":
        """Compute them; the arguments and errors are those of `jackknife_of`."""
        message = f"{num_blocks} blocks over {rows} rows; 2 of each expected; "
        message += "measure more."
        if num_blocks < 2:
            raise ParameterError(message)
        if min(rows) < 2:
            raise ShapeError(message)
        found = [float(without())]
        for array, n in enumerate(rows):
            found += [without(array, block) for block in range(min(num_blocks, n))]
        return cls(np.array(found, np.float64), tuple(rows), num_blocks)

    @classmethod
    def from_array(cls, written: np.ndarray) -> "Replicates":
        """Make them of what `as_array` wrote."""
        num_arrays, num_blocks = (int(x) for x in written[:2])
        rows = tuple(int(x) for x in written[2 : 2 + num_arrays])
        return cls(written[2 + num_arrays :], rows, num_blocks)

    def as_array(self) -> np.ndarray:
        """Return all in one float64 row, for a file."""
        head = [len(self.rows), self.num_blocks, *self.rows]
        return np.concatenate([np.array(head, np.float64), self.values])

    def estimate(self) -> Estimate:
        """Return the value with the jackknife's interval; n counts the first rows."""
        value, variance, start = float(self.values[0]), 0.0, 1
        for n in self.rows:
            num = min(self.num_blocks, n)
            size = n // num
            part = self.values[start : start + num]
            # Rows beyond num x size stay in every replicate; for a mean this factor
            # makes the variance exact whatever the remainder.
            variance += (n - size) ** 2 / (n * size) * float(np.var(part, ddof=1))
            start += num
        fewest = min(self.num_blocks, *self.rows)
        half = student_quantile(fewest) * math.sqrt(variance)
        return Estimate(value, value - half, value + half, self.rows[0])


def mean_interval(values: Any) -> Estimate:
    """Estimate the mean of independent values (n,) with Student's interval.

    Raises: ShapeError for fewer than 2 values, or not one row of them.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise ShapeError(
            f"Values are {values.shape}; (n,) with n > 1 expected; measure more."
        )
    mean, num = values.mean(), len(values)
    half = student_quantile(num) * values.std(ddof=1) / math.sqrt(num)
    return Estimate(float(mean), float(mean - half), float(mean + half), num)


def student_quantile(num: int) -> float:
    """Return how many standard errors of a mean of `num` values reach to 95 %."""
    return float(student.ppf(0.975, num - 1))


def wilson(successes: float, n: int) -> Estimate:
    """Estimate a share with Wilson's score interval, good at 0, at 1 and at small n.

    `successes` may be a fraction where ties are shared out. Source: wilson.
    Raises: ParameterError if n is below 1 or successes are outside 0 to n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ParameterError(
            f"{successes} successes in {n} trials; 0 to n expected; count again."
        )
    share, z2 = successes / n, Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) * Z95 / (1 + z2 / n)
    # Rounding must not push a bound past the share itself at 0 and at 1.
    low, high = max(min(centre - half, share), 0.0), min(max(centre + half, share), 1.0)
    return Estimate(share, low, high, int(n))


def roc_area(positives: Any, negatives: Any) -> Estimate:
    """Estimate how often a positive's score is above a negative's, ties counting half.

    That is the area under the ROC, with DeLong's variance; the interval is made on the
    logit, so that it stays within 0 and 1. Where every positive is above every negative
    (or below), the variance says nothing, and the interval is Wilson's of the fewer.

    Args:
        positives, negatives: (m,) and (n,) scores.

    Returns: n counts the positives. Source: delong.
    Raises: ShapeError for fewer than 2 scores of a kind.
    """
    positives, negatives = (np.asarray(x, np.float64) for x in (positives, negatives))
    m, n = len(positives), len(negatives)
    if min(m, n) < 2:
        raise ShapeError(
            f"{m} positives and {n} negatives; 2 of each expected; measure more."
        )
    ranks = rankdata(np.concatenate([positives, negatives]))
    # The share of negatives below each positive, and of positives above each negative.
    below = (ranks[:m] - rankdata(positives)) / n
    above = 1 - (ranks[m:] - rankdata(negatives)) / m
    area = float(below.mean())
    if area in (0.0, 1.0):
        few = wilson(area * min(m, n), min(m, n))
        return Estimate(area, few.low, few.high, m)
    error = math.sqrt(below.var(ddof=1) / m + above.var(ddof=1) / n)
    reach = Z95 * error / (area * (1 - area))
    low, high = expit(logit(area) - reach), expit(logit(area) + reach)
    return Estimate(area, float(low), float(high), m)


def paired_difference(x: Any, y: Any) -> Estimate:
    """Estimate the mean of x - y, both (n,), over the same prompts and seeds.

    Raises: ShapeError if the two differ in length or hold fewer than 2 values.
    """
    same_rows(x, y)
    return mean_interval(np.asarray(x, np.float64) - np.asarray(y, np.float64))


def trainings_of(
    variants: Sequence[str], runs: Mapping[str, Mapping[str, Any]]
) -> list[list[str]]:
    """Return the names of `variants`, then of their repeats, one list a seed.

    Args:
        variants: what is compared with each other.
        runs: name -> metrics.json, which says whose training it is (`of`) and from
            which `seed`. A seed counts where all of `variants` have it, in the order
            of `runs`.
    """
    by_seed: dict[int, dict[str, str]] = {}
    for name, run in runs.items():
        if run["of"] != name:
            by_seed.setdefault(run["seed"], {})[run["of"]] = name
    shared = [names for names in by_seed.values() if names.keys() >= {*variants}]
    return [list(variants), *([names[v] for v in variants] for names in shared)]


def over_trainings(prompts: Estimate, by_training: Sequence[float]) -> Estimate:
    """Widen the interval of a mean over trainings by how much trainings differ.

    Half widths are added in squares: over prompts, of the mean over the trainings, and
    Student's over the trainings, which holds some of the first already and so errs on
    the wide side. One training stays as it is: its interval speaks of that trained
    model, not of training it again.

    Args:
        prompts: of the mean over trainings, with its interval over prompts.
        by_training: each training's value.
    """
    num = len(by_training)
    if num < 2:
        return prompts
    reach = student_quantile(num) * statistics.stdev(by_training) / math.sqrt(num)
    low = prompts.value - math.hypot(prompts.value - prompts.low, reach)
    high = prompts.value + math.hypot(prompts.high - prompts.value, reach)
    return Estimate(prompts.value, low, high, prompts.n)


def as_estimate(estimate: Estimate | dict[str, Any] | None) -> Estimate | None:
    """Return an Estimate from one or its dict; None where there is no interval."""
    if estimate is None or isinstance(estimate, Estimate):
        return estimate
    if estimate.get("interval") is None or estimate.get("n") is None:
        return None
    return Estimate.from_dict(estimate)
