"""Marks: does a model draw those that it was trained on more than others?

`commoncanvas marks --scale full` splits what stage 05 measured of prompts for marks. A
model of fewer works was trained on some of the marks and not on the others, so it is
its own control: what it draws of marks that it was not trained on is guessing.
"""

from typing import Any

import numpy as np

from commoncanvas.analysis.estimates import Estimate, mean_interval
from commoncanvas.core import paths
from commoncanvas.core.files import shown, write_json
from commoncanvas.evaluate.prompts import read_prompts
from commoncanvas.evaluate.results import read_rows
from commoncanvas.release.recognition import read_finished
from commoncanvas.release.reference import evaluated_variants

GAP = "likeness_gap"  # likeness of a sample to its own mark, less that to others


def measure(scale: str, variant: str) -> dict[str, dict[str, Any]]:
    """Estimate likeness to marks, apart for those that were trained on.

    Returns:
        {prompt set: {"met", "never met"}} of the sets that ask for works which may be
        trained on: each an `Estimate.as_dict` of the mean of `likeness_gap`, None where
        there are fewer than two marks.

    Raises:
        CommonCanvasError: one of stages 03 to 05 has not run.
    """
    run = read_finished(scale, variant)
    rows, found = read_rows(run.evaluated), {}
    protocol = run.metrics["protocol"]
    for name, settings in protocol["prompts"].items():
        if settings.get("holdout", True) or GAP not in rows.get(name, {}):
            continue
        prompts = read_prompts(folder=run.latents, seed=protocol["seed"], **settings)
        is_met = prompts["id"].isin(run.keys).to_numpy()
        gaps = rows[name][GAP]
        found[name] = {"met": _mean(gaps[is_met]), "never met": _mean(gaps[~is_met])}
    return found


def _mean(values: np.ndarray) -> dict[str, Any] | None:
    return mean_interval(values).as_dict() if len(values) > 1 else None


def report(scale: str) -> None:
    """Measure all variants of a run; keep and print what was found."""
    found = {v: measure(scale, v) for v in evaluated_variants(scale)}
    file = paths.RESULTS / scale / "marks.json"
    write_json(file, found)
    for variant, sets in found.items():
        for name, sides in sets.items():
            parts = [
                f"{side} {Estimate.from_dict(mean):.2f}, n = {mean['n']}"
                for side, mean in sides.items()
                if mean
            ]
            print(f"{variant}, {name}: {'; '.join(parts)}")
    print(f"wrote {shown(file)}")
