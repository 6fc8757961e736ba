"""Figures are escaped, described in words, and the same bytes every time."""

import os
import re
import subprocess
import sys
from html import escape

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from commoncanvas.analysis import figures, plots, tables
from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError, ShapeError
from commoncanvas.core.text import printable

EVIL = "<script>alert(1)</script>"


def pictures(count=4, side=8):
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def plot(alt="a falling line", caption="Loss"):
    figure, axes = plots.canvas()
    axes.plot([0, 1], [1, 0])
    axes.set_title("Loss & noise")
    return plots.plate(figure, alt, caption).data


def test_a_plot_keeps_its_text_as_text():
    assert "Loss &amp; noise</text>" in plot()


def test_the_same_plot_gives_the_same_bytes():
    assert plot() == plot()


def test_a_plot_carries_no_date_and_no_remote_address():
    assert not re.search(r"<metadata|https?://|\d{4}-\d{2}-\d{2}", plot())


def test_two_plots_share_no_id():
    first, second = (set(re.findall(r' id="([^"]+)"', plot(c))) for c in ("a", "b"))
    assert first and not first & second


def test_every_reference_inside_a_plot_resolves():
    svg = plot()
    wanted = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    assert wanted and wanted <= set(re.findall(r' id="([^"]+)"', svg))


@pytest.mark.parametrize(("columns", "scrolls"), [(7, False), (8, True)])
def test_many_columns_with_heads_scroll_and_keep_their_size(columns, scrolls):
    heads = [str(i) for i in range(columns)]
    body = figures.sheet(pictures(columns), None, columns, alt="a", heads=heads).data
    for part in ("overflow-x:auto", 'tabindex="0"', "minmax(56px, 1fr)"):
        assert (part in body) == scrolls


def test_a_finding_is_a_figure_and_below_it_its_sentence():
    found = figures.Finding(figures.table(pd.DataFrame({"n": [1]})), f"One {EVIL}")
    assert found.data.index("<table") < found.data.index('<p class="finding">')
    assert found.sentence == f"One {EVIL}" and EVIL not in found.data
    assert escape(EVIL) in found.data and "0x" not in repr(found)


def test_a_finding_may_have_no_figure():
    found = figures.Finding(None, "Nothing was kept.")
    assert found.data == '<p class="finding">Nothing was kept.</p>'


def test_findings_are_a_list_of_sentences():
    found = figures.findings(["One.", EVIL]).data
    assert found.count("<li>") == 2 and EVIL not in found


@pytest.mark.parametrize("alt", [None, "", "  "])
def test_a_figure_without_alt_text_is_refused(alt):
    with pytest.raises(ParameterError, match="alt"):
        figures.sheet(pictures(), alt=alt)


def test_titles_from_strangers_are_text_in_a_sheet():
    html = figures.sheet(pictures(1), [(EVIL, EVIL)], alt=EVIL, caption=EVIL).data
    assert "<script" not in html and html.count("&lt;script&gt;") >= 4


def test_titles_from_strangers_are_text_in_a_table():
    html = figures.table(pd.DataFrame({EVIL: [EVIL]}), caption=EVIL).data
    assert "<script" not in html and html.count("&lt;script&gt;") == 3


def test_titles_from_strangers_are_text_in_a_plot():
    assert "<script" not in plots.bars([EVIL], {EVIL: [1.0]}, alt=EVIL).data


DOLLARS = ["$x^2$", "$ and $", r"\$5", r"\\$5$", "$\\frac{", "_", "$", "100 $ & 200 $"]


@pytest.mark.parametrize(
    "label", [*DOLLARS, "a xmlns:a=\"b\" xlink:href 'DejaVu Sans'"]
)
def test_a_label_is_text_and_never_a_formula(label):
    drawn = [
        plots.bars([label], {label: [1.0], "b": [2.0]}, "a bar", x_label=label),
        plots.curves({label: ([1], [1]), "b": ([1], [2])}, "a", None, label, label),
        plots.point_intervals([(label, 1.0, None)], "a dot", x_label=label),
    ]
    wanted = f">{escape(label, quote=False)}</text>"
    for place, times in enumerate([2, 2, 2]):
        assert drawn[place].data.count(wanted) >= times, drawn[place].data


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\u202eb", "a\n\tb"])
def test_text_from_strangers_steers_nothing(text):
    shown = [
        figures.sheet(pictures(1), [(text, text)], 1, text, text, heads=[text]).data,
        figures.table(pd.DataFrame({text: [text]}), caption=text).data,
        plots.bars([text], {text: [1.0]}, text, text, text).data,
    ]
    seen = escape(printable(text))
    assert all(seen in one and text not in one for one in shown)
    assert tables.table([text], [[text]]).count("\n") == 2


def test_a_script_that_the_font_lacks_warns_of_nothing(recwarn):
    assert "\u732b</text>" in plots.bars(["\u732b"], {"here": [1.0]}, "a cat").data
    assert not recwarn.list


def test_where_there_is_nothing_a_sentence_says_so():
    nothing = [
        figures.sheet([], [], alt="pictures of <marks>"),
        plots.bars([], {"here": []}, "pictures of <marks>"),
        plots.bars(["a"], {}, "pictures of <marks>"),
        plots.curves({}, "pictures of <marks>"),
        plots.point_intervals([], "pictures of <marks>"),
    ]
    sentence = "<p>There is nothing to show here: pictures of &lt;marks&gt;.</p>"
    assert {one.data for one in nothing} == {sentence}


def test_every_tile_of_a_sheet_has_alt_text_and_loads_late():
    html = figures.sheet(pictures(3), alt="noise").data
    assert html.count('loading="lazy"') == len(
        re.findall(r'alt="noise, \d of 3"', html)
    )


def test_small_pictures_survive_a_sheet_unchanged():
    uri = figures.data_uri(pictures(1)[0])
    raw = figures.base64.b64decode(uri.split(",")[1])
    opened = figures.Image.open(figures.io.BytesIO(raw)).convert("RGB")
    assert np.array_equal(np.asarray(opened), pictures(1)[0])


@pytest.mark.parametrize(
    "wrong", [pictures() / 255, pictures()[0], pictures()[..., :1]]
)
def test_a_sheet_names_the_shape_it_cannot_show(wrong):
    with pytest.raises(ShapeError, match=re.escape(str(wrong.shape))):
        figures.sheet(wrong, alt="noise")


def test_rows_have_one_label_each_and_a_head_for_each_column():
    made = pictures(3)
    found = figures.rows(
        [[made[0], None], [made[1], made[2]]], ["tram", EVIL], ["work", "a"], alt="rows"
    ).data
    assert found.count("<img") == 3 and found.count('class="tile"') == 4
    assert found.count(">tram<") == 1 and "<script" not in found
    assert 'alt="tram: work"' in found and "<b " in found
    assert "nothing to show" in figures.rows([], [], ["a"], alt="x").data


@pytest.mark.parametrize(
    ("labels", "heads"), [(["a"], ["b"]), (["a", "b"], ["c"]), ([], ["b", "c"])]
)
def test_rows_that_do_not_fit_their_labels_are_refused(labels, heads):
    with pytest.raises(ShapeError, match="rows of"):
        figures.rows([pictures(2)], labels, heads, alt="noise")


def test_code_in_a_table_is_set_as_code():
    html = figures.table(pd.DataFrame({"why": ["`cc_nc` is <no> row `"]})).data
    assert "<code>cc_nc</code> is &lt;no&gt; row `" in html


def test_a_sheet_with_too_few_labels_is_refused():
    with pytest.raises(ShapeError, match="3 labels, expected 4"):
        figures.sheet(pictures(4), ["a", "b", "c"], alt="noise")


def test_a_missing_number_is_a_dash_in_a_table():
    assert "<td" in (html := figures.table(pd.DataFrame({"a": [np.nan]})).data)
    assert "–" in html and "nan" not in html


def test_a_named_index_is_a_column_of_the_table():
    frame = pd.DataFrame({"n": [1]}, index=pd.Index(["cc-by"], name="license"))
    assert "cc-by" in figures.table(frame).data


def test_the_paper_is_hatched_and_ours_is_not():
    paper = plots.bars(["a"], {"Paper": [1]}, alt="one bar").data
    ours = plots.bars(["a"], {"Here": [1]}, alt="one bar").data
    assert "<pattern" in paper and "<pattern" not in ours


def test_variants_have_colours_of_their_own():
    colours = [*plots.VARIANT_COLOURS.values(), plots.PAPER]
    assert len(set(colours)) == len(colours)


def test_a_row_without_interval_is_a_bare_dot():
    with_interval = plots.point_intervals([("a", 1, (0, 2))], alt="dots").data
    without = plots.point_intervals([("a", 1, None)], alt="dots").data
    assert with_interval.count("<path") > without.count("<path")


def test_curves_draw_one_line_per_series():
    lines = {"cc_human": ([1, 2], [3, 4]), "cc_nc": ([1, 2], [4, 5], [3, 4], [5, 6])}
    html = plots.curves(lines, alt="two lines").data
    assert all(plots.VARIANT_COLOURS[name] in html for name in lines)


def test_a_repeat_bears_the_colour_of_its_variant():
    rows, colour = [("cc_human-18", 1.0, (0.5, 1.5))], plots.VARIANT_COLOURS["cc_human"]
    assert colour not in plots.point_intervals(rows, "a dot")._repr_html_()
    html = plots.point_intervals(rows, "a dot", variants=["cc_human"])._repr_html_()
    assert colour in html


def colours_of(*names):
    return [style["color"] for style in plots._styles(names)]


def test_a_plain_series_takes_no_colour_of_a_variant_beside_it():
    colours = colours_of("cc_human", "new", "web_human", "newer", "cc_nc")
    assert len(set(colours)) == 5
    assert colours_of("cc_human", "new", "web_human", "newer", "cc_nc") == colours


def test_more_series_than_colours_are_drawn_all_the_same():
    assert len(colours_of(*"abcdefghijk")) == 11


def test_a_new_variant_needs_a_colour_and_no_marker(monkeypatch):
    for i in range(len(plots.MARKERS)):
        monkeypatch.setitem(plots.VARIANT_COLOURS, f"cc_new{i}", f"#1234{i:02d}")
    html = plots.curves({"cc_new9": ([1, 2], [3, 4])}, alt="a line").data
    assert "#123409" in html


def test_a_readers_own_settings_change_no_byte(tmp_path):
    (tmp_path / "matplotlibrc").write_text("lines.markeredgewidth: 7\nfont.size: 20\n")
    code = (
        "from commoncanvas.analysis import plots; import sys;"
        "sys.stdout.write(plots.curves({'cc_nc': ([1, 2], [3, 4])}, alt='a').data)"
    )
    environment = {**os.environ, "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=paths.ROOT, env=environment, capture_output=True, check=True,
    )  # fmt: skip
    here = plots.curves({"cc_nc": ([1, 2], [3, 4])}, alt="a").data
    assert done.stdout.decode() == here


def test_a_large_picture_is_embedded_at_twice_its_displayed_width():
    noise = np.random.default_rng(0).integers(0, 256, (2, 512, 384, 3), np.uint8)
    found = figures.sheet(noise, alt="noise", tile_px=96).data
    assert found.count('width="192" height="256"') == 2
    small = figures.sheet(noise[:, :64, :64], alt="noise", tile_px=96).data
    assert small.count('width="64" height="64"') == 2


def test_eighty_photographs_fit_on_a_page():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (86, 24, 24, 3), np.uint8)
    pictures = [
        np.asarray(Image.fromarray(one).resize((512, 512), Image.Resampling.BICUBIC))
        for one in coarse
    ]
    assert len(figures.sheet(np.stack(pictures), alt="photographs").data) < 1_500_000


def test_a_line_without_points_is_left_out():
    both = plots.curves({"a": ([], []), "b": ([1, 2], [3, 4])}, alt="lines")
    one = plots.curves({"b": ([1, 2], [3, 4])}, alt="lines")
    assert both.data.count("<path") == one.data.count("<path")
    assert "nothing to show" in plots.curves({"a": ([], [])}, alt="x").data


def contrast_with_white(colour):
    """Return WCAG's ratio of luminances, 1 to 21."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
    ]
    luminance = sum(
        w * x for w, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True)
    )
    return 1.05 / (luminance + 0.05)


def test_every_series_stands_out_from_the_plate():
    colours = [*plots.VARIANT_COLOURS.values(), *plots.OTHER_COLOURS, plots.PAPER]
    assert min(map(contrast_with_white, colours)) >= 3


def test_variants_that_are_compared_differ_in_their_dashes_too():
    names = ("cc_synthetic", "cc_human", "web_human")
    dashes = [style["linestyle"] for style in plots._styles(names)]
    assert len(set(map(str, dashes))) == 3


def heights(html, names):
    found = [
        re.search(rf'<text[^>]* y="([\d.]+)"[^>]*>{name}<', html) for name in names
    ]
    return [float(one[1]) for one in found]


def test_lines_that_end_together_are_named_beside_their_ends():
    names = [f"line {i}" for i in range(6)]
    lines = {name: ([0, 1], [9, 1 + 0.01 * i]) for i, name in enumerate(names)}
    html = plots.curves(lines, alt="six lines").data
    assert "legend" not in html
    down = heights(html, names[::-1])  # in SVG, y grows downwards
    assert all(b - a > 9 for a, b in zip(down, down[1:], strict=False))


def test_lines_that_end_apart_have_a_legend():
    lines = {f"line {i}": ([0, 1 + i], [0, 1]) for i in range(3)}
    assert "legend" in plots.curves(lines, alt="three lines").data
