"""Small multiples give each series a panel of its own."""

import pytest

from commoncanvas.analysis import panels, plots

X = ([1.0, 3.0, 8.0], [2.0, 5.0, 6.0], [1.0, 4.0, 5.0], [3.0, 6.0, 7.0])
Y = ([1.0, 3.0, 8.0], [9.0, 4.0, 7.0], [8.0, 3.0, 6.0], [10.0, 5.0, 8.0])
NONE = ([], [], [], [])


@pytest.mark.parametrize("num", [1, 2, 4])
def test_every_series_has_its_panel_its_colour_and_the_ends_of_its_settings(num):
    names = ["cc_synthetic", "cc_human", "web_human", "new <b>"][:num]
    html = panels.trades(dict.fromkeys(names, (X, Y)), "panels", x_label="gap").data
    colours = [plots.VARIANT_COLOURS.get(name, plots.OURS) for name in names]
    assert all(colour in html for colour in colours) and "<b>" not in html
    assert html.count(">8</text>") >= num and ">3</text>" not in html.split("axis")[0]
    grey = html.count(f"stroke: {panels.OTHERS}")
    assert grey == num * (num - 1)
    assert (">cc_synthetic</text>" in html) == (num > 1)


def test_a_series_without_points_is_left_out():
    both = {"a": (X, Y), "b": (NONE, NONE)}
    assert panels.trades(both, "one").data == panels.trades({"a": (X, Y)}, "one").data
    assert "nothing to show" in panels.trades({"b": (NONE, NONE)}, "none").data


def test_the_same_panels_give_the_same_bytes():
    assert (
        panels.trades({"a": (X, Y)}, "a").data == panels.trades({"a": (X, Y)}, "a").data
    )
