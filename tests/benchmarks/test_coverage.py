"""Intervals hold the truth as often as they say, on a small form of the simulation."""

import json

import pytest
from click.testing import CliRunner

from benchmarks import coverage

KINDS = coverage.kinds()
RUNS = 150  # of a kind; the simulation's own error is then 1.8 % at 95 %


def row(covered, error=0.01):
    return {"coverage": covered, "error": error}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda k: f"{k.interval} {k.n} {k.data}")
def test_an_interval_covers_93_to_99_times_in_100_but_for_the_simulations_error(kind):
    found = coverage.simulate(kind, RUNS)
    assert coverage.verdict(found) == "", found


def test_two_errors_decide_on_which_side_coverage_lies():
    assert coverage.verdict(row(0.95)) == coverage.verdict(row(0.915)) == ""
    assert coverage.verdict(row(0.905)) == "too narrow"
    assert (
        coverage.verdict(row(1.0)) == "" and coverage.verdict(row(1.0, 0.004)) == "wide"
    )


def test_coverage_counts_the_misses_on_either_side(monkeypatch):
    ends = iter([(0, 2), (0, 2), (2, 3), (-1, 0)])

    def draw(rng):
        low, high = next(ends)
        return coverage.Estimate(low, low, high, 5), 1.0

    kind = coverage.Kind("name", "used", "5", "data", draw, 4)
    found = coverage.simulate(kind)
    assert (found["coverage"], found["above"], found["below"]) == (0.5, 0.25, 0.25)
    assert found["runs"] == 4 and found["error"] == 0.25


def test_where_no_truth_is_known_it_is_the_mean_of_the_estimates():
    def draw(rng):
        value = rng.normal(10, 1)
        return coverage.Estimate(value, value - 1.96, value + 1.96, 5), float("nan")

    kind = coverage.Kind("name", "used", "5", "data", draw, 2000)
    assert coverage.simulate(kind)["coverage"] == pytest.approx(0.95, abs=0.015)
    assert coverage.simulate(kind) == coverage.simulate(kind)


def test_an_interval_that_is_too_short_is_seen():
    def draw(rng):
        value = rng.normal(10, 1)
        return coverage.Estimate(value, value - 1, value + 1, 5), 10.0

    kind = coverage.Kind("name", "used", "5", "data", draw, 300)
    assert coverage.verdict(coverage.simulate(kind)) == "too narrow"


@pytest.mark.slow
def test_numbers_and_page_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(coverage, "kinds", lambda: KINDS[:2])
    files = ["--json", tmp_path / "c.json", "--markdown", tmp_path / "C.md"]
    done = CliRunner().invoke(coverage.main, [*map(str, files), "--runs", "20"])
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "c.json").read_text())
    assert [found["runs"] for found in rows] == [20, 20]
    page = (tmp_path / "C.md").read_text()
    for found in rows:
        assert f"| {found['interval']} | {found['used_by']} | {found['n']} |" in page
        assert f"| {100 * found['coverage']:.1f} |" in page
