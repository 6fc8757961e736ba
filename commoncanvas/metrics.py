"""Frechet distance, kernel distance, alignment and their confidence intervals.

Stage 05 calls these on features that some other module made, so the same functions
serve every world. Features are (rows, features), embeddings (n, width) with row i of
pictures belonging to row i of texts. All arithmetic is float64; an interval is 95 %.
"""

import math
from dataclasses import dataclass

import numpy as np

from commoncanvas.errors import ParameterError, ShapeError
from commoncanvas.moments import Moments

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

    def as_dict(self):
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


def _unit(*tables):
    """Return the tables as float64 rows of length 1."""
    tables = _features(*tables)
    _same_rows(*tables)
    norms = [np.linalg.norm(table, axis=1, keepdims=True) for table in tables]
    message = "An embedding is all zero; a direction expected; find the empty caption."
    _demand(all((norm > 0).all() for norm in norms), ParameterError, message)
    return [table / norm for table, norm in zip(tables, norms, strict=True)]


def alignment(image_embeds, text_embeds):
    """Score each picture against its own caption: 100 times the cosine.

    Returns: (n,) float64 in [-100, 100]; give it to `mean_interval`.
    Raises: ShapeError if shapes differ; ParameterError if a row is zero or NaN.
    """
    images, texts = _unit(image_embeds, text_embeds)
    return 100 * np.sum(images * texts, axis=1)


def alignment_shuffled(image_embeds, text_embeds):
    """Score each picture against all other pictures' captions on average, (n,)."""
    images, texts = _unit(image_embeds, text_embeds)
    scores = 100 * images @ texts.T
    return (scores.sum(1) - np.diag(scores)) / (len(scores) - 1)


def alignment_gap(image_embeds, text_embeds):
    """Score matched minus shuffled, picture by picture; (n,) in [-400, 400].

    What a picture gets from any caption, or a caption from any picture, is taken off.
    The mean is that of `alignment` less that of `alignment_shuffled`.
    """
    embeds = image_embeds, text_embeds
    pictures, captions = (alignment_shuffled(*e) for e in (embeds, embeds[::-1]))
    return alignment(*embeds) - pictures - captions + pictures.mean()


def retrieval(image_embeds, text_embeds, num_choices=100, seed=0):
    """Find the right caption of a picture, and the reverse, among `num_choices`.

    Each row meets its own partner and others drawn from `seed`. Ties are shared
    out, so embeddings that are all alike score exactly chance.

    Returns: {"image_to_text": Estimate, "text_to_image": Estimate, "chance": float}.
    Raises: ParameterError if num_choices is outside 2 to n.
    """
    images, texts = _unit(image_embeds, text_embeds)
    n = len(images)
    message = f"{num_choices} choices, {n} pairs; 2 to {n} expected; lower num_choices."
    _demand(2 <= num_choices <= n, ParameterError, message)
    rng = np.random.default_rng(seed)
    sides = {"image_to_text": (images, texts), "text_to_image": (texts, images)}
    hits = dict.fromkeys(sides, 0.0)
    for row in range(n):
        others = rng.choice(n - 1, num_choices - 1, replace=False)
        others += others >= row
        for name, (query, keys) in sides.items():
            margin = keys[others] @ query[row] - keys[row] @ query[row]
            ties = np.count_nonzero(np.abs(margin) <= 1e-9)
            hits[name] += 0.0 if (margin > 1e-9).any() else 1 / (1 + ties)
    rates = {name: wilson(min(count, n), n) for name, count in hits.items()}
    return {**rates, "chance": 1 / num_choices}
