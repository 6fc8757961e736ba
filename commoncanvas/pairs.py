"""Two variants compared prompt by prompt: the same words, seeds and reference.

What both share cancels, so an interval is narrower than one put together from theirs.
Rows are as `evaluation.read_rows` returns them.
"""

import numpy as np

from commoncanvas.metrics import (
    frechet_difference,
    frechet_distance,
    jackknife,
    paired_difference,
)


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


def paired(rows_a, rows_b, name, change, prompts=None):
    """Estimate how two variants differ in one metric.

    Args:
        rows_a, rows_b: of the variants.
        name: of the metric: a distance, or a score of each sample.
        change: "absolute" (a - b) or "relative" ((a - b) / b).
        prompts: name of the prompt set; None for the one that leads.

    Returns:
        Estimate, or None where the rows do not tell it: they lack the metric, their
        numbers differ, or a score should be relative.
    """
    prompts = prompts or next(iter(rows_a))
    a, b = (rows.get(prompts, {}).get(name) for rows in (rows_a, rows_b))
    if a is None or b is None or len(a) != len(b):
        return None
    if a.ndim == 1:
        return paired_difference(a, b) if change == "absolute" else None
    real = rows_b["reference"][name]
    distances = {"absolute": frechet_difference, "relative": frechet_change}
    return distances[change](a, b, real)
