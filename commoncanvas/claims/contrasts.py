"""Contrasts: sums and differences of one metric over trained models and prompt sets.

All is paired: the same prompts, noise and reference pictures, so that what models share
cancels. Scores are added prompt by prompt, distances replicate by replicate of their
jackknife. Over several trainings the value is their mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from commoncanvas.analysis.estimates import (
    REPLICATES,
    Estimate,
    Replicates,
    mean_interval,
    over_trainings,
    trainings_of,
)
from commoncanvas.analysis.tables import digits
from commoncanvas.claims.outcomes import Effect
from commoncanvas.core.errors import ShapeError
from commoncanvas.core.settings import names_of

Rows = Mapping[str, Mapping[str, np.ndarray]]  # prompt set -> metric -> values


@dataclass(frozen=True)
class Run:
    """What stage 05 wrote, by variant: metrics.json, and the rows behind it."""

    metrics: Mapping[str, Mapping[str, Any]]
    rows: Mapping[str, Rows]

    def posing(self, variant: str, other: str) -> "Run":
        """Return the run in which another model poses as `variant`, from every seed."""
        seeds = {r["seed"]: n for n, r in self.metrics.items() if r["of"] == other}
        rows = {
            name: self.rows[seeds[run["seed"]]]
            if run["of"] == variant
            else self.rows[name]
            for name, run in self.metrics.items()
            if run["of"] != variant or run["seed"] in seeds
        }
        return Run({name: self.metrics[name] for name in rows}, rows)


def contrast_of(
    run: Run, of: Sequence[str], contrast: Mapping[str, float]
) -> Effect | str:
    """Estimate a contrast of the first metric of some that all its cells have.

    Args:
        of: names of the metric, in order of preference.
        contrast: {cell: factor}; a cell is "variant", at the leading prompts, or
            "variant/prompt set".

    Returns:
        The effect, whose n counts prompts; or, in words, why there is none.
    """
    cells = [(*cell.partition("/")[::2], factor) for cell, factor in contrast.items()]
    variants = list(dict.fromkeys(variant for variant, _, _ in cells))
    if absent := [v for v in variants if v not in run.rows]:
        verb = "is no row" if len(absent) == 1 else "are no rows"
        return f"{names_of(absent)} {verb} of this run's experiment."
    rows = [(run.rows[v], prompts) for v, prompts, _ in cells]
    sets = [prompts or next(iter(of_variant)) for of_variant, prompts in rows]
    lacking = {s for s, (found, _) in zip(sets, rows, strict=True) if s not in found}
    if lacking:
        return f"The profile has no prompts of the sets {names_of(lacking)}."
    has = [run.rows[v][s].keys() for (v, _, _), s in zip(cells, sets, strict=True)]
    for name in of:
        for key in (name, REPLICATES + name):
            if all(key in keys for keys in has):
                return _effect(run, key, cells, sets, variants)
    return _lacking(of, variants, set().union(*has))


def _effect(
    run: Run,
    key: str,
    cells: Sequence[tuple[str, str, float]],
    sets: Sequence[str],
    variants: Sequence[str],
) -> Effect | str:
    """Estimate a contrast of a metric that all cells have."""
    sums: list[np.ndarray] = []
    for names in trainings_of(variants, run.metrics):
        of = dict(zip(variants, names, strict=True))
        parts = [
            run.rows[of[v]][s][key] for (v, _, _), s in zip(cells, sets, strict=True)
        ]
        if len({part.shape for part in parts}) > 1:
            return "The cells were measured on unequal numbers of prompts."
        sums.append(_added(key, parts, [factor for _, _, factor in cells]))
    values = [_value(key, one) for one in sums]
    if len({one.shape for one in sums}) > 1:
        return "The trainings were measured on unequal numbers of prompts."
    prompts = _estimate(key, np.mean(sums, 0))
    name = key.removeprefix(REPLICATES)
    terms = [
        f"{digits(_value(key, run.rows[v][s][key]))} "
        f"({v}{f', {p} prompts' if p else ''})"
        for (v, p, _), s in zip(cells, sets, strict=True)
    ]
    of_first = " of the first trainings" if len(sums) > 1 else ""
    text = f"{name} {', '.join(terms)}{of_first}"
    return Effect(over_trainings(prompts, values), "prompts", tuple(values), text)


def _added(
    key: str, parts: Sequence[np.ndarray], factors: Sequence[float]
) -> np.ndarray:
    """Return the sum of factor x part, over the same rows."""
    if not key.startswith(REPLICATES):
        return np.sum([f * p for f, p in zip(factors, parts, strict=True)], 0)
    tables = [Replicates.from_array(part) for part in parts]
    if len({table.rows for table in tables}) > 1:
        raise ShapeError(
            f"Distances of {sorted({t.rows for t in tables})} rows; equal counts "
            "expected; measure all variants on the same prompts and reference."
        )
    values = np.sum([f * t.values for f, t in zip(factors, tables, strict=True)], 0)
    return Replicates(values, tables[0].rows, tables[0].num_blocks).as_array()


def _value(key: str, row: np.ndarray) -> float:
    if key.startswith(REPLICATES):
        return float(Replicates.from_array(row).values[0])
    return float(np.mean(row))


def _estimate(key: str, row: np.ndarray) -> Estimate:
    if key.startswith(REPLICATES):
        return Replicates.from_array(row).estimate()
    return mean_interval(row)


def _lacking(of: Sequence[str], variants: Sequence[str], found: set[str]) -> str:
    """Say why there is none of the metrics that a test is about."""
    names = sorted(name.removeprefix(REPLICATES) for name in found)
    if others := [n for n in names for wanted in of if n.startswith(f"{wanted}_to_")]:
        return (
            f"The prompts do not belong to the reference: only {others[0]} was taken."
        )
    return f"{names_of(variants)} were measured without {' and '.join(of)}."
