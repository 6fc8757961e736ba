"""Marks: does a model draw those that it learnt from, more than those it did not?

`python -m commoncanvas marks --scale full` splits what stage 05 measured of
prompts for
marks. A model of fewer works has met some of the marks and never the others, so it is
its own control: what it draws of marks that it never met is guessing.
"""

import json

from commoncanvas.analysis.estimates import mean_interval
from commoncanvas.core import paths
from commoncanvas.core.files import shown
from commoncanvas.evaluate.prompts import read_prompts
from commoncanvas.evaluate.results import evaluated_variants, read_rows
from commoncanvas.publish.recognition import read_finished

GAP = "likeness_gap"  # likeness of a sample to its own mark, less that to others


def measure(scale, variant):
    """Estimate likeness to marks, apart for those that were trained on.

    Args:
        scale, variant: whose stages 03 to 05 are done.

    Returns:
        {prompt set: {"met", "never met"}} of the sets that ask for works which may be
        trained on: each an `Estimate.as_dict` of the mean of `likeness_gap` at the
        common guidance scale, None where there are fewer than two marks.

    Raises:
        CommonCanvasError: a stage has not run.
    """
    (above, _, evaluated), keys, told = read_finished(scale, variant)
    rows, found = read_rows(evaluated), {}
    for name, settings in told["protocol"]["prompts"].items():
        if settings.get("holdout", True) or GAP not in rows.get(name, {}):
            continue
        run = {"folder": above, "seed": told["protocol"]["seed"]}
        asked = read_prompts(**run, **settings)["id"].isin(keys).to_numpy()
        gaps = rows[name][GAP]
        found[name] = {"met": _mean(gaps[asked]), "never met": _mean(gaps[~asked])}
    return found


def _mean(values):
    return mean_interval(values).as_dict() if len(values) > 1 else None


def report(scale):
    """Measure all variants of a run; keep and print what was found."""
    found = {v: measure(scale, v) for v in evaluated_variants(scale)}
    file = paths.RESULTS / scale / "marks.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for variant, sets in found.items():
        for name, sides in sets.items():
            told = [f"{side} {_text(e)}" for side, e in sides.items() if e]
            print(f"{variant}, {name}: {'; '.join(told)}")
    print(f"wrote {shown(file)}")


def _text(estimate):
    low, high = estimate["interval"]
    return f"{estimate['value']:.2f} [{low:.2f}, {high:.2f}], n = {estimate['n']}"
