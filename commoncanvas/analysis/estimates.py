"""Values with their intervals, over prompts and over trainings from several seeds."""

import math
import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from commoncanvas.core.errors import ParameterError, ShapeError

Z95 = 1.959963984540054


def _demand(ok, error, message):
    """Raise `error` with `message` unless `ok`."""
    if not ok:
        raise error(message)


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
    def from_dict(cls, told: dict[str, Any]) -> "Estimate":
        """Make an Estimate of {"value", "interval", "n"}, as `as_dict` wrote it."""
        return cls(told["value"], *told["interval"], told["n"])

    def as_dict(self) -> dict[str, Any]:
        """Return {"value", "interval", "n"} with 6 significant digits, equal in JSON.

        Raises: ParameterError if a number is not finite, which JSON cannot hold.
        """
        numbers = [float(f"{x:.6g}") for x in (self.value, self.low, self.high)]
        message = f"An estimate holds {numbers}; finite ones expected; look for NaN."
        _demand(np.all(np.isfinite(numbers)), ParameterError, message)
        value, low, high = numbers
        return {"value": value, "interval": [low, high], "n": int(self.n)}


def _features(*arrays):
    """Return the arrays as float64 (rows, features), all finite and equally wide."""
    arrays = [np.asarray(array, dtype=np.float64) for array in arrays]
    shapes = [array.shape for array in arrays]
    fits = all(len(shape) == 2 and shape[0] >= 2 for shape in shapes)
    message = f"Features are {shapes}; 2 rows or more, equal widths expected; add rows."
    _demand(fits and len({s[1] for s in shapes}) == 1, ShapeError, message)
    message = "Features hold NaN; finite numbers expected; find the broken picture."
    _demand(all(np.isfinite(a).all() for a in arrays), ParameterError, message)
    return arrays


def _same_rows(*arrays):
    """Return the counts of rows; raise ShapeError where they differ."""
    rows = [len(array) for array in arrays]
    message = f"Paired rows are {rows}; equal counts expected; match prompts and seeds."
    _demand(len(set(rows)) == 1, ShapeError, message)
    return rows


def jackknife(statistic, *arrays, num_blocks=20, paired=False):
    """Estimate statistic(*arrays), a float, by the delete-a-group jackknife.

    Blocks are strided, so a sorted table does not end up in one block, and equal in
    size, so the statistic's bias shifts every block alike. The value itself is not
    corrected for bias; the interval is normal and speaks of noise only.

    Args:
        num_blocks: blocks per array, lowered where there are fewer rows.
        paired: True deletes the same rows of all arrays at once; False deletes from
            one array at a time and adds the variances (independent arrays).

    Returns: Estimate; n counts the rows of the first array.
    Raises: ShapeError if an array has fewer than 2 rows or paired ones differ;
        ParameterError if num_blocks is below 2.
    """
    arrays = [np.asarray(array) for array in arrays]
    rows = _same_rows(*arrays) if paired else [len(array) for array in arrays]
    message = f"{num_blocks} blocks over {rows} rows; 2 of each expected; measure more."
    _demand(num_blocks >= 2, ParameterError, message)
    _demand(min(rows) >= 2, ShapeError, message)
    value, variance = float(statistic(*arrays)), 0.0
    each = range(len(arrays))
    for group in [each] if paired else [[k] for k in each]:
        num = min(num_blocks, n := rows[group[0]])
        size, replicates = n // num, []
        for block in np.arange(num * size).reshape(size, num).T:
            kept = list(arrays)
            for k in group:
                kept[k] = np.delete(arrays[k], block, axis=0)
            replicates.append(float(statistic(*kept)))
        # Rows beyond num x size stay in every replicate; for a mean this factor makes
        # the variance exact whatever the remainder.
        variance += (n - size) ** 2 / (n * size) * np.var(replicates, ddof=1)
    half = Z95 * math.sqrt(variance)
    return Estimate(value, value - half, value + half, rows[0])


def mean_interval(values):
    """Estimate the mean of independent values (n,) with its normal interval.

    Raises: ShapeError for fewer than 2 values, or not one row of them.
    """
    values = np.asarray(values, dtype=np.float64)
    message = f"Values are {values.shape}; (n,) with n > 1 expected; measure more."
    _demand(values.ndim == 1 and len(values) >= 2, ShapeError, message)
    mean, half = values.mean(), Z95 * values.std(ddof=1) / math.sqrt(len(values))
    return Estimate(float(mean), float(mean - half), float(mean + half), len(values))


def wilson(successes, n):
    """Estimate a share with Wilson's score interval, good at 0, at 1 and at small n.

    `successes` may be a fraction where ties are shared out. Source: wilson.
    Raises: ParameterError if n is below 1 or successes are outside 0 to n.
    """
    message = f"{successes} successes in {n} trials; 0 to n expected; count again."
    _demand(n >= 1 and 0 <= successes <= n, ParameterError, message)
    share, z2 = successes / n, Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) * Z95 / (1 + z2 / n)
    # Rounding must not push a bound past the share itself at 0 and at 1.
    low, high = max(min(centre - half, share), 0.0), min(max(centre + half, share), 1.0)
    return Estimate(share, low, high, int(n))


def paired_difference(x, y):
    """Estimate the mean of x - y, both (n,), over the same prompts and seeds.

    Raises: ShapeError if the two differ in length or hold fewer than 2 values.
    """
    _same_rows(x, y)
    return mean_interval(np.asarray(x, np.float64) - np.asarray(y, np.float64))


MARK = "_seed"  # between a variant's name and the seed of a repeat


def is_repeat(variant):
    """Tell whether a variant is another's training from another seed."""
    return MARK in variant


def repeat_ends(known, names):
    """Return the ends of names under which all of `names` were trained again.

    Args:
        known: names of the variants that were measured.
        names: of variants that are compared with each other.

    Returns:
        list of str such as "_seed18", in the order of `known`; none where one of
        `names` was trained once.
    """
    ends = dict.fromkeys(MARK + v.partition(MARK)[2] for v in known if is_repeat(v))
    return [end for end in ends if all(name + end in known for name in names)]


def pooled(estimates):
    """Combine what several trainings gave for one quantity.

    The value is their mean. Each end of the interval is as far from it as the mean of
    the same end's distances and Student's interval of the mean over trainings, added in
    squares. That is conservative: averaging takes nothing off the first part, and the
    second holds some of it already. Few trainings make it wide: of three, the second is
    2.5 standard deviations.

    Args:
        estimates: `Estimate`s of the same prompts, one a training; one stays as it is.

    Returns:
        An `Estimate`; n is the least of theirs, prompts and not trainings.
    """
    if len(estimates) == 1:
        return estimates[0]
    values, num = [e.value for e in estimates], len(estimates)
    spread = statistics.stdev(values) / math.sqrt(num)
    spread *= float(student.ppf(0.975, num - 1))
    mean = statistics.fmean(values)
    below = statistics.fmean(e.value - e.low for e in estimates)
    above = statistics.fmean(e.high - e.value for e in estimates)
    low, high = mean - math.hypot(below, spread), mean + math.hypot(above, spread)
    return Estimate(mean, low, high, min(e.n for e in estimates))


def difference(a, b):
    """Combine two intervals into that of a - b, as if independent.

    Source: newcombe, method 10. Variants share prompts, seeds and reference, so the
    true interval is narrower: this one is conservative. Exact pairs belong to
    `metrics.frechet_difference` and `metrics.paired_difference`.
    """
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    return Estimate(value, low, high, min(a.n, b.n))


def relative_change(a, b):
    """Combine two intervals into that of (a - b) / b, as if independent.

    First order in the standard errors, conservative like `difference`.
    Raises: ParameterError if b is not above 0.
    """
    if not b.value > 0:
        message = f"A reference value is {b.value}; more than 0 expected; use absolute."
        raise ParameterError(message)
    error_a, error_b = ((e.high - e.low) / (2 * Z95) for e in (a, b))
    half = Z95 * math.hypot(error_a / b.value, a.value * error_b / b.value**2)
    value = a.value / b.value - 1
    return Estimate(value, value - half, value + half, min(a.n, b.n))


def as_estimate(estimate):
    """Return an Estimate from an Estimate or its dict; None stays None."""
    if estimate is None or isinstance(estimate, Estimate):
        return estimate
    if estimate.get("interval") is None or estimate.get("n") is None:
        return None
    return Estimate.from_dict(estimate)
