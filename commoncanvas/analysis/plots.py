"""Plots in one look: colours with fixed meanings, SVG with text kept as text.

Used through `figures.py` by all stages. The same input always gives the same
bytes: no dates, no random ids. All text is escaped, because titles and authors
come from strangers.
"""

import hashlib
import io
import re
from html import escape

import matplotlib
import numpy as np
from IPython.display import HTML
from matplotlib import pyplot
from matplotlib.figure import Figure

from commoncanvas.core.errors import ParameterError

INK, MUTED, RULE, ACCENT = "#22262b", "#5c6570", "#d9dde2", "#0f6b63"
# The paper is hatched ochre and ours is solid blue, so that the two stay apart
# in print and for readers who do not see the colours.
PAPER, OURS = "#b0793a", "#1f5fa8"
PAPER_HATCH = "////"
VARIANT_COLOURS = {
    "cc_synthetic": OURS,
    "cc_human": "#178a78",
    "cc_nc": "#6d7f1e",
    "web_human": "#a23b72",
    "cc_third": "#4d84c4",
    "cc_tenth": "#7ca6d6",
    "cc_thirtieth": "#a3c0e2",
    "cc_large": "#0b2f5b",
    "cc_hundredth": "#c4d6ec",
    "cc_full_ema": "#7a5ba6",
    "cc_emoji": "#b7791f",
}
VARIANT_MARKERS = dict(zip(VARIANT_COLOURS, "osDXv^<P>hp", strict=True))
OTHER_COLOURS = ["#178a78", "#a23b72", "#6d7f1e", "#7a5ba6", MUTED]

LOOK = {
    "svg.fonttype": "none",
    "svg.hashsalt": "commoncanvas",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.prop_cycle": matplotlib.cycler(color=[OURS, *OTHER_COLOURS]),
    "grid.color": "#eceff2",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "hatch.linewidth": 0.8,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
matplotlib.rcParams.update(LOOK)
SYSTEM_FONTS = "-apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"


def canvas(columns=1, width_px=720, height_px=320):
    """Return a figure and its axes in the house look, sized in page pixels.

    Args:
        columns: number of axes side by side.
        width_px: width on the page; 720 is the text figure, 1080 the wide one.
        height_px: height on the page [pixels].
    """
    size = (width_px / 96, height_px / 96)
    with matplotlib.rc_context(LOOK):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(1, columns)
    return figure, axes


def plate(figure, alt, caption=None):
    """Return a matplotlib figure as one inline SVG, text kept as text.

    Raises:
        ParameterError: `alt` is empty.
    """
    label = need_alt(alt)
    buffer = io.StringIO()
    with matplotlib.rc_context(LOOK):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r"'DejaVu Sans'(, [^;\"]*)?", SYSTEM_FONTS, svg)
    # Matplotlib numbers its groups afresh in each figure; on a page ids are unique.
    mark = "f" + hashlib.sha256((svg + label + str(caption)).encode()).hexdigest()[:8]
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{mark}-", svg)
    width_pt, height_pt = (round(float(s) * 72, 3) for s in figure.get_size_inches())
    head = (
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {width_pt} {height_pt}"'
        f' style="width:100%;max-width:{width_pt * 4 / 3:.0f}px;height:auto">'
    )
    svg = head + svg[svg.index(">") + 1 :]
    return as_figure(svg, caption, "plot")


def bars(labels, series, alt, caption=None, x_label="", intervals=None, log=False):
    """Return horizontal bars, one group per label and one bar per series.

    Args:
        labels: text of each group, first on top.
        series: name -> values (None leaves a gap). "paper", "here" and the names
            of variants have fixed colours.
        alt: what the plot shows.
        caption: the line below the plot.
        x_label: quantity and unit [unit].
        intervals: name -> (low, high) for each label, or None where unknown.
        log: logarithmic axis.
    """
    num_bars = len(labels) * len(series)
    figure, axes = canvas(height_px=90 + 22 * num_bars + 14 * len(labels))
    thick = 0.78 / len(series)
    for row, (name, values) in enumerate(series.items()):
        style = _style(name, row)
        fill = {"color": style["color"]}
        if style.get("hatch"):
            fill = {"facecolor": "none", "edgecolor": PAPER, "hatch": PAPER_HATCH}
        for place, value in enumerate(values):
            if value is None:
                continue
            y = place + (row - (len(series) - 1) / 2) * thick
            axes.barh(y, value, thick * 0.9, label=None if place else name, **fill)
            tip, ends = value, (intervals or {}).get(name, [None] * len(labels))[place]
            if ends:
                axes.plot(ends, [y, y], color=INK, linewidth=1.2)
                tip = max(value, ends[1])
            axes.annotate(
                as_text(value, 3), (tip, y), (5, 0), textcoords="offset points",
                va="center", fontsize=9,
            )  # fmt: skip
    if log:
        axes.set_xscale("log")
    axes.margins(x=0.12)
    return _finish(figure, axes, labels, x_label, alt, caption, legend=len(series) > 1)


def curves(series, alt, caption=None, x_label="", y_label="", log_x=False):
    """Return lines over a shared axis; a band or whiskers where intervals exist.

    Args:
        series: name -> (x, y) or (x, y, low, high), each a sequence of numbers.
        alt: what the plot shows.
        caption: the line below the plot.
        x_label: quantity and unit [unit].
        y_label: quantity and unit [unit].
        log_x: logarithmic x axis.
    """
    figure, axes = canvas(height_px=340)
    for row, (name, data) in enumerate(series.items()):
        style = {k: v for k, v in _style(name, row).items() if k != "hatch"}
        if len(data[0]) > 40:
            style.pop("marker")
        axes.plot(data[0], data[1], label=name, linewidth=1.8, markersize=5, **style)
        if len(data) == 4:
            axes.fill_between(
                data[0], *data[2:], color=style["color"], alpha=0.15, lw=0
            )
    axes.set(xlabel=x_label, ylabel=y_label, xscale="log" if log_x else "linear")
    if len(series) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return plate(figure, alt, caption)


def point_intervals(rows, alt, caption=None, x_label="", reference=None):
    """Return a dot and whisker for each row: the value and its interval.

    Args:
        rows: (label, value, (low, high)) or (label, value, (low, high), paper's
            value); interval and paper's value may be None. First row on top.
        alt: what the plot shows.
        caption: the line below the plot.
        x_label: quantity and unit [unit].
        reference: a value marked by a dashed vertical line, for example chance.
    """
    figure, axes = canvas(height_px=90 + 30 * len(rows))
    if reference is not None:
        axes.axvline(reference, color=MUTED, linestyle="--", linewidth=1)
    for place, (label, value, interval, *paper) in enumerate(rows):
        first = str(label).partition("_seed")[0]  # see `estimates`
        color = VARIANT_COLOURS.get(first, OURS)
        if interval is not None:
            axes.plot(interval, [place, place], color=color, linewidth=2)
        axes.plot(value, place, "o", color=color, markersize=7)
        if paper and paper[0] is not None:
            axes.plot(paper[0], place, "D", color=PAPER, fillstyle="none", markersize=7)
    return _finish(figure, axes, [row[0] for row in rows], x_label, alt, caption)


def as_figure(body, caption, kind):
    below = f"<figcaption>{escape(str(caption))}</figcaption>" if caption else ""
    return HTML(f'<figure class="cc-figure {kind}">{body}{below}</figure>')


def need_alt(alt):
    if not alt or not str(alt).strip():
        raise ParameterError(
            "a figure came without alt text; every figure needs one sentence for"
            " readers who cannot see it; pass alt='...'."
        )
    return escape(str(alt))


def as_text(value, digits):
    if value is None or value != value:
        return "–"
    if isinstance(value, float | np.floating):
        plain = f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:,.0f}"
        return plain if "e" not in plain else f"{value:.{digits - 1}e}"
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def _finish(figure, axes, labels, x_label, alt, caption, legend=False):
    axes.set_yticks(range(len(labels)), [str(label) for label in labels])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(x_label)
    if legend:
        parts = axes.get_legend_handles_labels()
        figure.legend(*parts, loc="outside upper left", ncols=4)
    return plate(figure, alt, caption)


def _style(name, row):
    key = str(name).lower()
    if key.startswith("paper"):
        return {"color": PAPER, "hatch": PAPER_HATCH, "marker": "D", "linestyle": "--"}
    if key in ("here", "ours"):
        return {"color": OURS, "marker": "o"}
    other = OTHER_COLOURS[row % len(OTHER_COLOURS)]
    return {
        "color": VARIANT_COLOURS.get(name, other),
        "marker": VARIANT_MARKERS.get(name, "osDX^"[row % 5]),
    }
