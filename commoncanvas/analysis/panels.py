"""Small multiples: one panel a series, the others in grey behind it."""

from collections.abc import Mapping
from typing import Any

import matplotlib.style
import numpy as np
from IPython.display import HTML
from matplotlib.figure import Figure

from commoncanvas.analysis.plots import (
    HOUSE,
    INK,
    OURS,
    VARIANT_COLOURS,
    as_label,
    nothing,
    plate,
)
from commoncanvas.analysis.tables import Line

OTHERS = "#d3d8dd"  # lines behind a panel's own
COLUMNS = 3


def trades(
    series: Mapping[str, tuple[Line, Line]],
    alt: str,
    caption: str | None = None,
    x_label: str = "",
    y_label: str = "",
) -> HTML:
    """Return a panel for each series: one metric against another, with both intervals.

    The first and the last point of a panel bear the setting that they were taken at,
    and all panels have the same axes.

    Args:
        series: name -> (curve of the metric across, curve of the metric upwards), both
            over the same settings; see `tables.trade`. One without points is left out.
    """
    series = {name: pair for name, pair in series.items() if pair[0][0]}
    if not series:
        return nothing(alt)
    columns = min(COLUMNS, len(series))
    rows = -(-len(series) // columns)
    height_px = 80 + (210 if columns > 1 else 260) * rows
    with matplotlib.style.context(HOUSE, after_reset=True):
        figure = Figure(figsize=(720 / 96, height_px / 96), layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for place, axes in enumerate(panels.flat):
        if place >= len(series):
            axes.set_axis_off()
            continue
        name = list(series)[place]
        for other, (x, y) in series.items():
            if other != name:
                axes.plot(x[1], y[1], color=OTHERS, linewidth=1.2)
        _draw(axes, *series[name], VARIANT_COLOURS.get(name, OURS))
        if len(series) > 1:
            axes.set_title(as_label(name), fontsize=10, loc="left", color=INK)
    figure.supxlabel(as_label(x_label), fontsize=10)
    figure.supylabel(as_label(y_label), fontsize=10)
    return plate(figure, alt, caption)


def _draw(axes: Any, x: Line, y: Line, colour: str) -> None:
    """Draw one series with whiskers both ways, and name the settings of its ends."""
    settings, across, *x_ends = x
    _, upwards, *y_ends = y
    whiskers = [
        np.abs(np.asarray(ends) - values)
        for values, ends in ((across, x_ends), (upwards, y_ends))
    ]
    axes.errorbar(
        across, upwards, xerr=whiskers[0], yerr=whiskers[1], color=colour, marker="o",
        markersize=4, linewidth=1.6, elinewidth=1,
    )  # fmt: skip
    ends = {len(settings) - 1: (5, 6), 0: (5, -13)}  # of one point, the first counts
    for place, offset in ends.items():
        axes.annotate(
            f"{settings[place]:g}", (across[place], upwards[place]), offset,
            textcoords="offset points", fontsize=9.5, color=INK,
        )  # fmt: skip
