"""Measured values as tables: for pages, for Markdown, by guidance and by size."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import pandas as pd

from commoncanvas.analysis.estimates import Estimate
from commoncanvas.core.text import printable


def table(head: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a table in Markdown; a bar within a cell stays a character."""
    lines = [head, ["---"] * len(head), *rows]
    cells = [[printable(cell).replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def digits(number: float) -> str:
    """Write a number to three digits, never with an exponent."""
    return f"{Decimal(f'{number:.3g}'):,f}"


def in_digits(estimate: Estimate) -> str:
    """Write "value [low, high]", each to three digits, never with an exponent."""
    value, low, high = map(digits, (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


# Of a run's metrics, what a table that compares variants leaves out.
ASIDE = (
    "nearest_train_cosine",
    "alignment_shuffled",
    "clip_score_shuffled",
)


def as_table(
    measured: Mapping[str, Mapping[str, dict]], head: str = "guidance_scale"
) -> pd.DataFrame:
    """Return measured estimates as a table of text, one row a guidance scale."""
    rows = []
    for name, metrics in measured.items():
        texts = {m: in_digits(Estimate.from_dict(e)) for m, e in metrics.items()}
        rows.append({head: name, **texts})
    return pd.DataFrame(rows)


def as_columns(measured: Mapping[str, Mapping[str, dict]]) -> pd.DataFrame:
    """Return measured estimates as a table of text, one column a guidance scale."""
    table = as_table(measured, "metric").set_index("metric").T.fillna("–")
    return table.rename_axis("metric").reset_index()


def num_works(run: Mapping[str, Any]) -> str:
    """Return how many works a run, `metrics.json` of stage 05, was trained on."""
    number = run["num_train_pictures"]  # None of a published model
    return "not known" if number is None else f"{number:,}"


# What a curve shows: x, the values, and the two ends of their intervals.
Line = tuple[list[float], list[float], list[float], list[float]]


def trade(
    swept: Mapping[str, Mapping[str, Any]], x_name: str, y_name: str
) -> tuple[Line, Line]:
    """Return two metrics over the guidance scales that were tried, each as a curve.

    Args:
        swept: {scale: {metric: estimate}}, as `sweep` of a run's metrics.json.
        x_name: "" for the scale itself.
    """
    scales = [float(scale) for scale in swept]
    x, y = (
        as_line(scales, [values[name] for values in swept.values()])
        if name
        else (scales, scales, scales, scales)
        for name in (x_name, y_name)
    )
    return x, y


def leading(run: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a run's estimates at the leading prompts, by metric."""
    return next(iter(run["by_prompt"].values()))


def by_size(
    runs: Sequence[Mapping[str, Any]], read: Callable[[Any], dict[str, Any]]
) -> Line:
    """Return what `read` finds in each run, by its number of training works."""
    sizes = [run["num_train_pictures"] for run in runs]
    return as_line(sizes, [read(run) for run in runs])


def as_line(x: list[float], estimates: list[dict[str, Any]]) -> Line:
    """Return estimates, as `Estimate.as_dict` wrote them, as a curve over x."""
    values = [estimate["value"] for estimate in estimates]
    lows, highs = ([e["interval"][end] for e in estimates] for end in (0, 1))
    return x, values, lows, highs


def headline(run: Mapping[str, Any]) -> tuple[str, str]:
    """Return the names of a run's first distance and of its score's gap."""
    distance = next(iter(run["reference"]["real_vs_real"]))
    gaps = (name for name in leading(run) if name.endswith("_gap"))
    return distance, next(name for name in gaps if name != "likeness_gap")
