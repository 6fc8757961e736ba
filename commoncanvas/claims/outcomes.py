"""Outcomes: what became of a claim, on two axes.

How close a test is to the paper's own, and what came out. Nothing is "supported": what
holds in an analogue says that a finding transfers to it, and nothing about the paper's
own numbers. A test that could not have failed is no test: where a known-bad model is
not seen to fail it, the outcome is "uninformative".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from commoncanvas.analysis.estimates import Estimate
from commoncanvas.claims.rules import WITH_MARGIN, Test

# How close.
DIRECT = "direct"  # the same artefact
CLOSE = "close"  # the same code path and shapes, other weights
ANALOGUE = "analogue"  # other data and models
NOT_ATTEMPTED = "not attempted"

# What came out.
TRANSFERS = "transfers"
DOES_NOT = "does not transfer"
INCONCLUSIVE = "inconclusive"
UNINFORMATIVE = "uninformative"
BY_CONSTRUCTION = "true by construction"
NO_TEST = "no test here"
OUTCOMES = (
    TRANSFERS, DOES_NOT, INCONCLUSIVE, UNINFORMATIVE, BY_CONSTRUCTION, NO_TEST,
)  # fmt: skip

PASSES, FAILS, OPEN, BLIND, MISSING = "passes", "fails", "open", "blind", "missing"


@dataclass(frozen=True)
class Effect:
    """What was measured for one test.

    estimate: over prompts and, of several trainings, over these as well.
    unit: what n counts.
    by_training: each training's value; empty where nothing was trained.
    text: the values that it comes from.
    """

    estimate: Estimate
    unit: str
    by_training: tuple[float, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Judged:
    """One test, what was measured, and what became of it."""

    test: Test
    result: str  # PASSES, FAILS, OPEN, BLIND or MISSING
    why: str
    effect: Effect | None = None
    control: Effect | None = None
    margin: float | None = None


def judge_test(
    test: Test, effect: Effect | str | None, control: Effect | str | None = None
) -> Judged:
    """Decide one test from its effect and its control's.

    Args:
        effect: None or, in words, why there is none.
        control: the effect with the known-bad model in the candidate's place.
    """
    if not isinstance(effect, Effect):
        return Judged(test, MISSING, effect or "Nothing was measured.")
    found = effect.estimate
    if not all(map(math.isfinite, (found.value, found.low, found.high))):
        return Judged(test, MISSING, "What was measured is not a finite number.")
    if found.n < test.needs:
        why = f"n = {found.n}, and the test asks for {test.needs} or more."
        return Judged(test, MISSING, why, effect)
    margin, aim = 0.0, test.threshold
    if test.aim in WITH_MARGIN:
        if not isinstance(control, Effect):
            why = (
                f"Without its control there is no margin: {control or 'not measured.'}"
            )
            return Judged(test, MISSING, why, effect)
        bad = control.estimate
        margin = abs(bad.value) / 2
        if _compare(test, bad, margin, aim) != FAILS:
            why = (
                f"Control failed: the known-bad model is not seen to fail ({bad:+.3g}, "
                f"half of it is {margin:.3g})."
            )
            return Judged(test, BLIND, why, effect, control, margin)
    result = _compare(test, found, margin, aim)
    verb = {PASSES: "shows", FAILS: "rules out", OPEN: "is too wide to decide about"}
    why = f"The interval {verb[result]} {_aim(test, margin)}."
    if found.low == found.high:  # a count
        why = f"{found.value:.3g} {verb[result]} {_aim(test, margin)}."
        if test.aim == "contains":
            is_near = "is" if result == PASSES else "is not"
            assert test.max_width is not None
            why = f"{found.value:.3g} {is_near} within {test.max_width / 2:g} of "
            why += f"{test.value:g}."
    own_control = control if isinstance(control, Effect) else None
    shown = margin if test.aim in WITH_MARGIN else None
    return Judged(test, result, why, effect, own_control, shown)


def _compare(test: Test, found: Estimate, margin: float, limit: float) -> str:
    """Return PASSES, FAILS or OPEN by where an interval lies."""
    low, high = found.low, found.high
    if test.aim == "contains":
        assert test.value is not None and test.max_width is not None
        if not low <= test.value <= high and not _is_exact(test, found):
            return FAILS
        return PASSES if high - low <= test.max_width else OPEN
    passes, fails = {
        "above": (low > limit, high < limit),
        "below": (high < limit, low > limit),
        "not_lower": (low > -margin, high < -margin),
        "not_higher": (high < margin, low > margin),
        "equal": (-margin < low and high < margin, low > margin or high < -margin),
    }[test.aim]
    return PASSES if passes else FAILS if fails else OPEN


def _is_exact(test: Test, found: Estimate) -> bool:
    """Say whether a count, which has no interval, is as near as `max_width` allows."""
    assert test.value is not None and test.max_width is not None
    is_count = found.low == found.high
    return is_count and abs(found.value - test.value) <= test.max_width / 2


def _aim(test: Test, margin: float) -> str:
    """Name what an interval shows or rules out."""
    if test.aim == "contains":
        return f"{test.value:g}"
    return {
        "above": f"more than {test.threshold:g}",
        "below": f"less than {test.threshold:g}",
        "not_lower": f"at most {margin:.3g} less (half of the control's effect)",
        "not_higher": f"at most {margin:.3g} more (half of the control's effect)",
        "equal": f"a value within ±{margin:.3g} (half of the control's effect)",
    }[test.aim]


def outcome_of(tests: Sequence[Judged], requires: Sequence[Judged]) -> tuple[str, str]:
    """Return the outcome of a claim's tests, and why.

    One failed test is enough for "does not transfer", whatever the others are blind to;
    "transfers" needs them all.
    """
    for judged in requires:
        if judged.result == MISSING:
            return NO_TEST, judged.why
        if judged.result != PASSES:
            return UNINFORMATIVE, f"Control failed. {_named(judged)}"
    for result, outcome in (
        (FAILS, DOES_NOT),
        (MISSING, NO_TEST),
        (BLIND, UNINFORMATIVE),
        (OPEN, INCONCLUSIVE),
    ):
        found = [judged for judged in tests if judged.result == result]
        reasons = [j.why if result == MISSING else _named(j) for j in found]
        if reasons:
            return outcome, " ".join(dict.fromkeys(reasons))
    return TRANSFERS, " ".join(_named(judged) for judged in tests)


def _named(judged: Judged) -> str:
    name = judged.test.name
    return f"{name[0].upper()}{name[1:]}: {judged.why}"


def headline(rows: Sequence[Mapping[str, str]]) -> str:
    """Say in three sentences what became of the claims.

    Args:
        rows: of claims.json, each with outcome and closeness.
    """
    if not rows:
        return "No claim has been tested yet."
    rebuilt = [r for r in rows if r["closeness"] in (CLOSE, ANALOGUE)]
    direct = [r for r in rows if r["closeness"] == DIRECT]
    counts = {o: sum(r["outcome"] == o for r in rebuilt) for o in OUTCOMES}
    is_close = any(r["closeness"] == CLOSE for r in rebuilt)
    world = (
        "with the paper's shapes and other weights"
        if is_close
        else "in a small analogue world"
    )
    unopened = len(rows) - len(rebuilt) - len(direct)
    still = counts[INCONCLUSIVE] + counts[UNINFORMATIVE]
    text = (
        "No model trained here tests the paper's own numbers. "
        f"Of {_num(len(rebuilt), 'claim')} rebuilt {world}, "
        f"{counts[TRANSFERS]} carry over, {counts[DOES_NOT]} do not, "
        f"{still} {'stays' if still == 1 else 'stay'} open"
    )
    if built := counts[BY_CONSTRUCTION]:
        text += f" and {built} {'is' if built == 1 else 'are'} true by construction"
    text += f"; {unopened} {'was' if unopened == 1 else 'were'} not tested."
    if direct:
        holds = sum(r["outcome"] in (TRANSFERS, BY_CONSTRUCTION) for r in direct)
        text += (
            f" Of {_num(len(direct), 'statement')} about published counts, which need "
            f"no model, {holds} {'holds' if holds == 1 else 'hold'}."
        )
    return text


def _num(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
