"""Plots in one look: colours with fixed meanings, SVG with text kept as text.

The same input always gives the same bytes: no dates, no random ids. All text is
escaped, because titles and authors come from strangers. Of every plot `alt` says what
it shows to readers who cannot see it, and `caption` is the line below; a label of an
axis is a quantity with its [unit].
"""

import hashlib
import io
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from IPython.display import HTML
from matplotlib import pyplot
from matplotlib.figure import Figure

from commoncanvas.core.errors import ParameterError
from commoncanvas.core.text import printable

HOUSE = Path(__file__).with_name("house.mplstyle")
INK, MUTED, ACCENT = "#22262b", "#5c6570", "#0f6b63"  # as in `HOUSE`, where it has them
# The paper is hatched ochre and ours is solid blue, so that the two stay apart
# in print and for readers who do not see the colours.
PAPER, OURS = "#b0793a", "#1f5fa8"
PAPER_HATCH = "////"
MARKERS = "osDXv^<P>hp"  # by the order of the variants; used up, from the first again
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (7, 2, 1.5, 2)))
# Each stands out from white by 3 : 1 or more; what colours alone do not part for a
# reader who sees fewer of them, marker, dashes and the label at a line's end do.
VARIANT_COLOURS = {
    "cc_synthetic": OURS,
    "cc_human": "#178a78",
    "cc_nc": "#6d7f1e",
    "web_human": "#c2410c",
    "cc_third": "#3f7cc4",
    "cc_tenth": "#6a6fd0",
    "cc_thirtieth": "#8f63c4",
    "cc_large": "#0b2f5b",
    "cc_hundredth": "#a95db8",
    "cc_full_ema": "#7a5ba6",
    "cc_emoji": "#a86a10",
    "released": "#8a5a3c",
    "cc_shuffled": "#5b636d",  # controls, in grey
    "cc_brief": "#868e97",
    "marks_human": "#2aa08c",
    "marks_synthetic": "#5a8fd0",
}
OTHER_COLOURS = ["#178a78", "#a23b72", "#6d7f1e", "#7a5ba6", MUTED]
# From the defaults, so that a reader's own matplotlibrc changes no byte.
matplotlib.style.use(["default", HOUSE])
SYSTEM_FONTS = "-apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"


def canvas(height_px: int = 320) -> tuple[Figure, Any]:
    """Return a figure, as wide as the text of a page, and its axes."""
    with matplotlib.style.context(HOUSE, after_reset=True):
        figure = Figure(figsize=(720 / 96, height_px / 96), layout="constrained")
        return figure, figure.subplots()


def plate(figure: Figure, alt: str | None, caption: str | None = None) -> HTML:
    """Return a matplotlib figure as one inline SVG, text kept as text.

    Raises:
        ParameterError: `alt` is empty.
    """
    label = need_alt(alt)
    buffer = io.StringIO()
    with matplotlib.style.context(HOUSE, after_reset=True), warnings.catch_warnings():
        # Text stays text, so a script that our font lacks is set in the reader's.
        warnings.filterwarnings("ignore", r"Glyph \d+")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = in_tags(svg, r' xmlns(:\w+)?="[^"]*"', "")
    svg = in_tags(svg, "xlink:href", "href")
    svg = in_tags(svg, r"'DejaVu Sans'(, [^;\"]*)?", SYSTEM_FONTS)
    # Matplotlib numbers its groups afresh in each figure; on a page ids are unique.
    mark = "f" + hashlib.sha256((svg + label + str(caption)).encode()).hexdigest()[:8]
    svg = in_tags(svg, r'\b(id="|href="#|url\(#)', rf"\g<1>{mark}-")
    width_pt, height_pt = (round(float(s) * 72, 3) for s in figure.get_size_inches())
    head = (
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {width_pt} {height_pt}"'
        f' style="width:100%;max-width:{width_pt * 4 / 3:.0f}px;height:auto">'
    )
    svg = head + svg[svg.index(">") + 1 :]
    return as_figure(svg, caption, "plot")


def bars(
    labels: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    alt: str,
    caption: str | None = None,
    x_label: str = "",
    intervals: Mapping[str, Sequence[Sequence[float] | None]] | None = None,
    log: bool = False,
) -> HTML:
    """Return horizontal bars, one group per label and one bar per series.

    Args:
        labels: of the groups, first on top.
        series: name -> values (None leaves a gap). "paper", "here" and the names
            of variants have fixed colours.
        intervals: name -> (low, high) for each label, or None where unknown.
        log: logarithmic axis.
    """
    if not len(labels) or not series:
        return nothing(alt)
    num_bars = len(labels) * len(series)
    figure, axes = canvas(height_px=90 + 22 * num_bars + 14 * len(labels))
    thick = 0.78 / len(series)
    styles = _styles(series)
    intervals, gaps = intervals or {}, [None] * len(labels)
    for row, (name, values) in enumerate(series.items()):
        fill = {"color": styles[row]["color"]}
        if "hatch" in styles[row]:
            fill = {"facecolor": "none", "edgecolor": PAPER, "hatch": PAPER_HATCH}
        for place, value in enumerate(values):
            if value is None:
                continue
            y = place + (row - (len(series) - 1) / 2) * thick
            label = None if place else as_label(name)
            axes.barh(y, value, thick * 0.9, label=label, **fill)
            tip = value
            ends = intervals.get(name, gaps)[place]
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
    _label_rows(axes, labels, x_label)
    if len(series) > 1:
        parts = axes.get_legend_handles_labels()
        figure.legend(*parts, loc="outside upper left", ncols=4)
    return plate(figure, alt, caption)


def variant_place(name: str) -> int:
    """Return a variant's place in the usual order; those without a colour come last."""
    order = list(VARIANT_COLOURS)
    return order.index(name) if name in order else len(order)


def curves(
    series: Mapping[str, Sequence[Sequence[float]]],
    alt: str,
    caption: str | None = None,
    x_label: str = "",
    y_label: str = "",
    log_x: bool = False,
) -> HTML:
    """Return lines, each name -> (x, y) or, with a band, (x, y, low, high).

    A line without points is left out. Where most lines end together, they are named
    beside their ends, else in a legend.
    """
    series = {name: data for name, data in series.items() if len(data[0])}
    if not series:
        return nothing(alt)
    figure, axes = canvas(height_px=max(340, 80 + 20 * len(series)))
    drawn, dashes = [], []
    for (name, data), style in zip(series.items(), _styles(series), strict=True):
        style.pop("hatch", None)
        if len(data[0]) > 40:
            style.pop("marker")
        style |= {"label": as_label(name), "linewidth": 1.8, "markersize": 5}
        drawn += axes.plot(data[0], data[1], **style)
        dashes.append(style.get("linestyle", "-"))
        if len(data) == 4:
            axes.fill_between(
                data[0], *data[2:], color=style["color"], alpha=0.15, lw=0
            )
    axes.set(xlabel=as_label(x_label), ylabel=as_label(y_label))
    axes.set_xscale("log" if log_x else "linear")
    ends = [float(np.asarray(data[0])[-1]) for data in series.values()]
    if len(series) > 1 and 2 * ends.count(max(ends)) > len(ends):
        _label_ends(axes, dict(zip(drawn, dashes, strict=True)))
    elif len(series) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), handlelength=3.2)
    return plate(figure, alt, caption)


def point_intervals(
    rows: Sequence[Sequence[Any]],
    alt: str,
    caption: str | None = None,
    x_label: str = "",
    reference: float | None = None,
    variants: Sequence[str] | None = None,
) -> HTML:
    """Return a dot and whisker for each row: the value and its interval.

    Args:
        rows: (label, value, (low, high)) or (label, value, (low, high), paper's
            value); interval and paper's value may be None. First row on top.
        reference: a value marked by a dashed vertical line, for example chance.
        variants: whose colour each row bears; None for those that labels name.
    """
    if not rows:
        return nothing(alt)
    figure, axes = canvas(height_px=90 + 30 * len(rows))
    if reference is not None:
        axes.axvline(reference, color=MUTED, linestyle="--", linewidth=1)
    for place, (label, value, interval, *paper) in enumerate(rows):
        color = VARIANT_COLOURS.get(variants[place] if variants else label, OURS)
        if interval is not None:
            axes.plot(interval, [place, place], color=color, linewidth=2)
        axes.plot(value, place, "o", color=color, markersize=7)
        if paper and paper[0] is not None:
            axes.plot(paper[0], place, "D", color=PAPER, fillstyle="none", markersize=7)
    _label_rows(axes, [row[0] for row in rows], x_label)
    return plate(figure, alt, caption)


def nothing(alt: str | None) -> HTML:
    """Return the sentence that stands where a figure would show nothing."""
    return HTML(f"<p>There is nothing to show here: {need_alt(alt)}.</p>")


def in_tags(markup: str, pattern: str, replacement: str) -> str:
    """Replace a pattern within the tags of HTML or SVG; text between them stays."""
    return re.sub("<[^>]*>", lambda tag: re.sub(pattern, replacement, tag[0]), markup)


def as_label(text: Any) -> str:
    """Write a label of a plot; matplotlib would read what stands between `$` as TeX."""
    return printable(text).replace("$", r"\$")


def as_figure(body: str, caption: str | None, kind: str) -> HTML:
    """Wrap HTML as a figure of a kind (CSS classes) with its caption below."""
    below = f"<figcaption>{escape(printable(caption))}</figcaption>" if caption else ""
    return HTML(f'<figure class="cc-figure {kind}">{body}{below}</figure>')


def need_alt(alt: str | None) -> str:
    """Return the alt text, escaped; without one raise a ParameterError."""
    if not alt or not printable(alt):
        raise ParameterError(
            "a figure came without alt text; every figure needs one sentence for"
            " readers who cannot see it; pass alt='...'."
        )
    return escape(printable(alt))


def as_text(value: Any, digits: int) -> str:
    """Write a cell: floats to significant digits, whole numbers grouped by 1,000."""
    if value is None or value != value:
        return "–"
    if isinstance(value, float | np.floating):
        plain = f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:,.0f}"
        return plain if "e" not in plain else f"{value:.{digits - 1}e}"
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def _label_ends(axes: Any, dashes: Mapping[Any, Any]) -> None:
    """Name lines at the right, each beside its end, as far apart as text is high.

    Args:
        dashes: of each line, as it was drawn with.
    """
    axes.autoscale_view()
    apart = 17 / (axes.figure.get_size_inches()[1] * 96 - 70)  # of the axes' height
    to_axes = axes.transData + axes.transAxes.inverted()
    ends = []
    for line in dashes:
        x, y = line.get_data()
        ends.append((float(to_axes.transform((x[-1], y[-1]))[1]), line))
    ends.sort(key=lambda end: end[0])
    heights = [height for height, _ in ends]
    for place in range(1, len(heights)):  # upwards from the lowest
        heights[place] = max(heights[place], heights[place - 1] + apart)
    limit = 1.0
    for place in reversed(range(len(heights))):  # and down again from the top
        heights[place] = min(heights[place], limit)
        limit = heights[place] - apart
    for height, (_, line) in zip(heights, ends, strict=True):
        style = {"color": line.get_color(), "marker": line.get_marker()}
        (sample,) = axes.plot(
            [1.015, 1.05, 1.085], [height] * 3, transform=axes.transAxes, clip_on=False,
            linewidth=1.8, markersize=5, markevery=[1], **style,
        )  # fmt: skip
        sample.set_linestyle(dashes[line])
        axes.text(
            1.1, height, line.get_label(), transform=axes.transAxes, va="center",
            fontsize=9.5,
        )  # fmt: skip


def _label_rows(axes: Any, labels: Sequence[Any], x_label: str) -> None:
    """Label the rows of a plot, the first on top."""
    axes.set_yticks(range(len(labels)), [as_label(label) for label in labels])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(as_label(x_label))


def _styles(names: Iterable[str]) -> list[dict[str, Any]]:
    """Return colour and marker of each series: those of its name, else the next free.

    The search begins at the row's own place, so a plot of plain series counts through
    `OTHER_COLOURS`, and no named variant beside them has the same colour.
    """
    styles: list[dict[str, Any]] = []
    names = [str(name) for name in names]
    taken = {VARIANT_COLOURS[name] for name in names if name in VARIANT_COLOURS}
    variants = list(VARIANT_COLOURS)
    for row, name in enumerate(names):
        if name.lower().startswith("paper"):
            style = {"color": PAPER, "hatch": PAPER_HATCH, "marker": "D"}
            styles.append(style | {"linestyle": "--"})
        elif name.lower() in ("here", "ours"):
            styles.append({"color": OURS, "marker": "o"})
        elif name in VARIANT_COLOURS:
            place = variants.index(name)
            style = {"color": VARIANT_COLOURS[name]}
            style |= {"marker": MARKERS[place % len(MARKERS)]}
            styles.append(style | {"linestyle": DASHES[place % len(DASHES)]})
        else:
            first = row % len(OTHER_COLOURS)
            in_turn = OTHER_COLOURS[first:] + OTHER_COLOURS[:first]
            free = [colour for colour in in_turn if colour not in taken]
            color = (free or in_turn)[0]
            taken.add(color)
            styles.append({"color": color, "marker": "osDX^"[row % 5]})
    return styles
