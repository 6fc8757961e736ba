"""All checks are run and shown; then one failure names every broken one."""

import numpy as np
import pytest

from commoncanvas.analysis.checks import Checks
from commoncanvas.core.errors import CheckFailed


def test_passed_checks_are_returned_as_a_table():
    check = Checks()
    check.that("rows", 10, "==", 7 + 3)
    check("ledger is complete", True)
    table = check.close()
    assert list(table.columns) == ["check", "found", "bound", "ok"]
    assert list(table["ok"]) == ["✓", "✓"]
    assert list(table["bound"]) == ["== 10", ""]


def test_a_failure_names_every_broken_check_in_one_line():
    check = Checks()
    check.that("rows", 9, "==", 10)
    check.that("fine", 1, "<", 2)
    check("complete", False, "3 empty titles", "none")
    with pytest.raises(CheckFailed) as caught:
        check.close()
    message = str(caught.value)
    assert "2 of 3 checks failed" in message
    assert "rows (found 9, expected == 10)" in message
    assert "complete (found 3 empty titles, expected none)" in message
    assert "fine" not in message and "\n" not in message


def test_the_table_is_shown_before_the_failure(capsys):
    check = Checks()
    check("impossible", False)
    with pytest.raises(CheckFailed):
        check.close()
    assert "impossible" in capsys.readouterr().out


@pytest.mark.parametrize("relation", ["==", "<", "<=", ">", ">="])
def test_not_a_number_never_passes(relation):
    check = Checks()
    check.that("value", float("nan"), relation, 1.0)
    with pytest.raises(CheckFailed, match="found nan"):
        check.close()


def test_numpy_truth_is_truth():
    check = Checks()
    check("numpy", np.bool_(True))
    check.that("array of one", np.float32(0.5), "<=", np.float64(0.5))
    assert list(check.close()["ok"]) == ["✓", "✓"]


@pytest.mark.parametrize("ok", [np.array([True, False]), 1, "yes", None])
def test_anything_but_one_truth_value_is_refused(ok):
    with pytest.raises(CheckFailed, match="one truth value"):
        Checks()("name", ok)


def test_closing_without_a_check_fails():
    with pytest.raises(CheckFailed, match="no check"):
        Checks().close()


def test_a_name_is_used_once():
    check = Checks()
    check("name", True)
    with pytest.raises(CheckFailed, match="twice"):
        check("name", True)


def test_an_unknown_relation_is_refused_with_the_known_ones():
    with pytest.raises(CheckFailed, match="=="):
        Checks().that("name", 1, "=", 1)


def test_the_page_shows_long_names_whole_and_strangers_text_escaped():
    check = Checks()
    name = "a name that is far longer than the fifty characters pandas would show"
    check(name, True, found="<script>")
    html = check.close()._repr_html_()
    assert name in html
    assert "<script>" not in html


def test_floats_are_shown_with_four_digits():
    check = Checks()
    check.that("third", 1 / 3, "<", 1)
    assert list(check.close()["found"]) == ["0.3333"]
