"""Each outcome word comes from made-up rows, and from tests and controls alone."""

import pytest

from commoncanvas.analysis.estimates import Estimate
from commoncanvas.claims import outcomes
from commoncanvas.claims.outcomes import Effect, judge_test, outcome_of
from commoncanvas.claims.rules import Test as Rule

BAD = Effect(Estimate(-4.0, -4.5, -3.5, 500), "prompts")  # its half is 2


def rule(aim, **more):
    if aim in ("not_lower", "not_higher", "equal"):
        more = {"contrast": {"a": 1}, "of": ["m"], "control": {"a": "bad"}} | more
    else:
        more = {"given": "x"} | more
    if aim == "contains":
        more = {"value": 0.5, "max_width": 0.2} | more
    return Rule(name="it is so", metric="m", aim=aim, needs=10, **more)


def effect(low, high, n=500):
    return Effect(Estimate((low + high) / 2, low, high, n), "prompts")


CASES = [
    ("above", 0.1, 0.5, "passes"),
    ("above", -0.5, -0.1, "fails"),
    ("above", -0.1, 0.5, "open"),
    ("below", -0.5, -0.1, "passes"),
    ("below", 0.1, 0.5, "fails"),
    ("below", -0.1, 0.5, "open"),
    ("not_lower", -1.9, 9.0, "passes"),
    ("not_lower", -9.0, -2.1, "fails"),
    ("not_lower", -2.1, 9.0, "open"),
    ("not_higher", -9.0, 1.9, "passes"),
    ("not_higher", 2.1, 9.0, "fails"),
    ("not_higher", -9.0, 2.1, "open"),
    ("equal", -1.9, 1.9, "passes"),
    ("equal", 2.1, 9.0, "fails"),
    ("equal", -9.0, -2.1, "fails"),
    ("equal", -2.1, 1.9, "open"),
    ("contains", 0.45, 0.55, "passes"),
    ("contains", 0.55, 0.65, "fails"),
    ("contains", 0.35, 0.65, "open"),
]


@pytest.mark.parametrize(("aim", "low", "high", "result"), CASES)
def test_a_test_is_decided_by_where_its_interval_lies(aim, low, high, result):
    bad = BAD if aim != "not_higher" else Effect(Estimate(4, 3.5, 4.5, 500), "prompts")
    judged = judge_test(rule(aim), effect(low, high), bad)
    assert judged.result == result, judged.why
    assert judged.why.endswith(".")


def test_every_aim_is_tried_for_all_that_can_come_out():
    aims = {"above", "below", "not_lower", "not_higher", "equal", "contains"}
    tried = {(aim, result) for aim, _, _, result in CASES}
    assert tried == {(a, r) for a in aims for r in ("passes", "fails", "open")}


def test_the_margin_is_half_of_what_the_control_does():
    judged = judge_test(rule("not_lower"), effect(-1, 1), BAD)
    assert judged.margin == 2.0 and judged.control is BAD


@pytest.mark.parametrize(
    "bad",
    [
        effect(-0.5, 0.4),  # it does nothing
        effect(-7.0, -1.0),  # seen to be worse, but not by half of that for certain
        effect(3.5, 4.5),  # it is better
    ],
)
def test_a_test_that_a_known_bad_model_is_not_seen_to_fail_is_blind(bad):
    judged = judge_test(rule("not_lower"), effect(-0.1, 0.1), bad)
    assert judged.result == outcomes.BLIND and "Control failed" in judged.why


@pytest.mark.parametrize("aim", ["not_lower", "not_higher", "equal"])
def test_the_known_bad_model_never_passes_its_own_control(aim):
    """In the candidate's place it fails, or the test says that it is blind."""
    for value in (-4.0, -1.0, 0.0, 1.0, 4.0):
        for reach in (0.1, 0.6, 3.0):
            bad = effect(value - reach, value + reach)
            assert judge_test(rule(aim), bad, bad).result in ("fails", "blind")


def test_without_effect_control_or_enough_rows_there_is_no_test():
    assert judge_test(rule("above"), None).why == "Nothing was measured."
    assert judge_test(rule("above"), "Nobody voted.").why == "Nobody voted."
    few = judge_test(rule("above"), effect(1, 2, n=9))
    assert few.result == "missing" and "n = 9" in few.why
    alone = judge_test(rule("equal"), effect(-1, 1), "`bad` is no row.")
    assert alone.result == "missing" and "`bad` is no row." in alone.why
    endless = Effect(Estimate(1, float("-inf"), float("inf"), 99), "prompts")
    assert "finite" in judge_test(rule("above"), endless).why


def test_a_count_has_no_interval_and_is_near_or_not():
    near, far = (judge_test(rule("contains"), effect(x, x)) for x in (0.59, 0.61))
    assert (near.result, near.why) == ("passes", "0.59 is within 0.1 of 0.5.")
    assert (far.result, far.why) == ("fails", "0.61 is not within 0.1 of 0.5.")
    assert judge_test(rule("above"), effect(0.2, 0.2)).why == "0.2 shows more than 0."


def results(*names):
    """Return judged tests of these results."""
    low_high = {"passes": (1, 2), "fails": (-2, -1), "open": (-1, 2)}
    found = []
    for name in names:
        if name == "blind":
            found.append(judge_test(rule("not_lower"), effect(-1, 1), effect(-1, 1)))
        elif name == "missing":
            found.append(judge_test(rule("above"), "It is absent."))
        else:
            found.append(judge_test(rule("above"), effect(*low_high[name])))
    assert [judged.result for judged in found] == list(names)
    return found


@pytest.mark.parametrize(
    ("tests", "requires", "outcome"),
    [
        (["passes", "passes"], [], "transfers"),
        (["passes"], ["passes"], "transfers"),
        (["passes", "fails"], ["passes"], "does not transfer"),
        (["fails", "blind", "open", "missing"], [], "does not transfer"),
        (["passes", "open"], [], "inconclusive"),
        (["passes", "blind", "open"], [], "uninformative"),
        (["passes"], ["fails"], "uninformative"),
        (["fails"], ["open"], "uninformative"),
        (["passes", "missing"], [], "no test here"),
        (["passes"], ["missing"], "no test here"),
    ],
)
def test_outcomes_follow_from_the_tests(tests, requires, outcome):
    found, why = outcome_of(results(*tests), results(*requires))
    assert found == outcome and why


def rows(**counts):
    return [
        {"closeness": closeness, "outcome": outcome.replace("_", " ")}
        for key, number in counts.items()
        for closeness, outcome in [key.split("__")]
        for _ in range(number)
    ]


def test_the_headline_counts_what_carries_over():
    some = (
        rows(
            analogue__transfers=3,
            analogue__does_not_transfer=2,
            analogue__inconclusive=1,
            analogue__uninformative=1,
            analogue__true_by_construction=1,
            direct__transfers=1,
            direct__does_not_transfer=1,
        )
        + [{"closeness": "not attempted", "outcome": "no test here"}] * 4
    )
    assert outcomes.headline(some) == (
        "No model trained here tests the paper's own numbers. Of 8 claims rebuilt in a "
        "small analogue world, 3 carry over, 2 do not, 2 stay open and 1 is true by "
        "construction; 4 were not tested. Of 2 statements about published counts, "
        "which need no model, 1 holds."
    )
    assert outcomes.headline([]) == "No claim has been tested yet."
    close = outcomes.headline(rows(close__transfers=1))
    assert "Of 1 claim rebuilt with the paper's shapes and other weights" in close
