"""Measured values as tables: for pages, for Markdown, by guidance and by size."""

from decimal import Decimal

import pandas as pd


def table(head, rows):
    """Return a table; a bar within a cell stays a character.

    Args:
        head: texts of the columns.
        rows: iterables of as many cells each, of any type.
    """
    lines = [head, ["---"] * len(head), *rows]
    cells = [[str(cell).replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def digits(number):
    """Write a number to three digits, never with an exponent."""
    return f"{Decimal(f'{number:.3g}'):,f}"


# Of a run's figures, what a table that compares variants leaves out.
ASIDE = (
    "by_prompt",
    "nearest_train_cosine",
    "alignment_shuffled",
    "clip_score_shuffled",
)


def as_table(measured, head="guidance_scale"):
    """Return measured figures as a table of text, one row a guidance scale."""
    rows = [
        {head: name, **{metric: _text(m) for metric, m in figures.items()}}
        for name, figures in measured.items()
    ]
    return pd.DataFrame(rows)


def curve(run, name):
    """Return (guidance scales, values, lows, highs) of one metric of a variant.

    Args:
        run: metrics.json of stage 05.
        name: of the metric.
    """
    found = [figures[name] for figures in run["guidance"].values()]
    return (
        [float(scale) for scale in run["guidance"]],
        [estimate["value"] for estimate in found],
        *(list(ends) for ends in zip(*(e["interval"] for e in found), strict=True)),
    )


def headline(run):
    """Return the names of a run's first distance and of its score's gap."""
    distance = next(iter(run["reference"]["real_vs_real"]))
    figures = next(iter(run["guidance"].values()))
    gaps = (name for name in figures if name.endswith("_gap"))
    return distance, next(name for name in gaps if name != "likeness_gap")


def by_size(runs, read):
    """Return (training works, values, lows, highs) of one estimate, for a plot.

    Args:
        runs: list of metrics.json of stage 05.
        read: function of one of them to {"value", "interval", "n"}.
    """
    found = [read(run) for run in runs]
    return (
        [run["num_train_pictures"] for run in runs],
        [estimate["value"] for estimate in found],
        *(list(ends) for ends in zip(*(e["interval"] for e in found), strict=True)),
    )


def best_guidance(run, name):
    """Return the guidance scale, as text, with a variant's lowest distance.

    It is chosen by the figure that it is then judged by, so it flatters: compare
    variants at a common scale too.
    """
    return min(run["guidance"], key=lambda scale: run["guidance"][scale][name]["value"])


def as_columns(measured):
    """Return measured figures as a table of text, one column a guidance scale."""
    table = as_table(measured, "metric").set_index("metric").T.fillna("–")
    return table.rename_axis("metric").reset_index()


def _text(estimate):
    """Write an estimate as "value [low, high]"."""
    low, high = estimate["interval"]
    return f"{estimate['value']:.4g} [{low:.4g}, {high:.4g}]"
