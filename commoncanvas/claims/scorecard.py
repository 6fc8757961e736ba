"""The scorecard: the paper's claims, what was measured for each, and its outcome."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from commoncanvas.analysis.estimates import Estimate, as_estimate, wilson
from commoncanvas.claims.contrasts import Run, contrast_of
from commoncanvas.claims.outcomes import (
    ANALOGUE,
    BLIND,
    BY_CONSTRUCTION,
    CLOSE,
    DIRECT,
    MISSING,
    NO_TEST,
    NOT_ATTEMPTED,
    TRANSFERS,
    Effect,
    Judged,
    judge_test,
    outcome_of,
)
from commoncanvas.claims.rules import Claim, Paper, Test, load_paper, value_of

Given = Mapping[str, Effect | str | None]  # name -> effect, or why there is none


def published_shares(paper: Paper) -> dict[str, Effect]:
    """Return what docs/paper.yaml says of published counts; they have no interval."""
    sizes = paper.claims["catalog_sizes"].value
    assert isinstance(sizes, dict)
    found = {}
    for name, counts in (("published", "yfcc100m"), ("released", "commoncatalog")):
        rows = paper.published[counts]
        c = rows["by"] + rows["by-sa"]
        both = c + rows["by-nc"] + rows["by-nc-sa"]
        for split, total in (("c", c), ("nc", both)):
            a, b = sizes[split], total
            share = a / b if name == "published" else b / a
            text = f"{a:,.0f} in the paper, {b:,} in {counts}: {share:.3g}"
            exact = Estimate(share, share, share, 1)
            found[f"{name}.{split}"] = Effect(exact, "counts", text=text)
    return found


def measured_before(
    captions_metrics: Mapping[str, Any], licenses_metrics: Mapping[str, Any]
) -> dict[str, Effect | str | None]:
    """Return what stages 01 and 02 measured for claims.

    Args:
        captions_metrics: metrics.json of 02_captions.
        licenses_metrics: metrics.json of 01_licenses, with splits and alt_texts (rows
            of split c that have any).
    """
    c = licenses_metrics.get("splits", {}).get("c", 0)
    with_text = licenses_metrics.get("alt_texts", 0)
    described: Effect | str = "The sources of this run have no alt text."
    if with_text:
        described = Effect(wilson(with_text, c), "works")
    found: dict[str, Effect | str | None] = {"licenses.alt_text": described}
    for name, written in captions_metrics.get("claims", {}).items():
        estimate = as_estimate(written)
        found[f"captions.{name}"] = Effect(estimate, "pictures") if estimate else None
    return found


def make_scorecard(
    closeness: str,
    run: Run | None = None,
    given: Given | None = None,
    stages: Iterable[str] | None = None,
    paper: Paper | None = None,
) -> list[dict[str, Any]]:
    """Judge the paper's claims: the rows of claims.json, in the paper's order.

    Args:
        closeness: of this run's world to the paper's: "close" or "analogue".
        run: what stage 05 wrote; None where it has not run.
        given: what other stages measured, by the names that tests use.
        stages: those whose claims are wanted; None for all.
        paper: what `load_paper` returns.
    """
    paper = paper or load_paper()
    known = {**published_shares(paper), **(given or {})}
    wanted = None if stages is None else set(stages)
    return [
        {"claim_id": claim_id, **_row(claim, closeness, run or Run({}, {}), known)}
        for claim_id, claim in paper.claims.items()
        if wanted is None or claim.stage in wanted
    ]


def passed_by(
    run: Run, variant: str, known_bad: str, paper: Paper | None = None
) -> list[str]:
    """Return the claims about `variant` that would transfer for a known-bad model.

    A claim is about the variant that its first contrast begins with. One with this
    model as its control is not passed by construction; this guards the others.
    """
    if not {variant, known_bad} <= run.rows.keys():
        return []
    posing, passed = run.posing(variant, known_bad), []
    for claim_id, claim in (paper or load_paper()).claims.items():
        contrast = next((t.contrast for t in claim.tests if t.contrast), {"": 0})
        if next(iter(contrast)).partition("/")[0] == variant:
            outcome, *_ = judge_claim(claim, CLOSE, posing, {})
            passed += [claim_id] if outcome == TRANSFERS else []
    return passed


def judge_claim(
    claim: Claim, closeness: str, run: Run, given: Given
) -> tuple[str, str, list[Judged], list[Judged]]:
    """Return a claim's outcome, why, and its judged tests and requirements."""
    if claim.only_close and closeness == ANALOGUE:
        return NO_TEST, claim.only_close, [], []
    sure = claim.by_construction
    if sure and (sure.unless is None or not isinstance(given.get(sure.unless), Effect)):
        return BY_CONSTRUCTION, sure.reason, [], []
    requires = [_judged(test, run, given) for test in claim.requires]
    tests = [_judged(test, run, given) for test in claim.tests]
    kept = [t for t in tests if not (t.test.optional and t.result == MISSING)]
    return *outcome_of(kept, requires), tests, requires


def _judged(test: Test, run: Run, given: Given) -> Judged:
    """Measure one test and its control, and decide it."""
    if test.given:
        return judge_test(test, given.get(test.given))
    effect = contrast_of(run, test.of, test.contrast)
    if not test.control or not isinstance(effect, Effect):
        return judge_test(test, effect)
    cells = {test.control.get(cell, cell): f for cell, f in test.contrast.items()}
    return judge_test(test, effect, contrast_of(run, test.of, cells))


def _row(claim: Claim, closeness: str, run: Run, given: Given) -> dict[str, Any]:
    """Return the row of one claim."""
    outcome, why, tests, requires = judge_claim(claim, closeness, run, given)
    if claim.audit:
        closeness = DIRECT
    elif outcome == NO_TEST:
        closeness = NOT_ATTEMPTED
    return {
        "says": claim.says,
        "paper": value_of(claim),
        "source": claim.source,
        "differs": claim.differs,
        "closeness": closeness,
        "outcome": outcome,
        "why": why,
        "tests": [_written(judged) for judged in tests],
        "requires": [_written(judged) for judged in requires],
        "stage": claim.stage,
    }


def _written(judged: Judged) -> dict[str, Any]:
    """Return a judged test as JSON holds it."""
    effect, control = judged.effect, judged.control
    by_training = effect.by_training if effect else ()
    return {
        "name": judged.test.name,
        "metric": judged.test.metric,
        "aim": judged.test.aim,
        "result": judged.result,
        "why": judged.why,
        "text": effect.text if effect else None,
        **(effect.estimate.as_dict() if effect else dict.fromkeys(_NUMBERS)),
        "unit": effect.unit if effect else None,
        "trainings": len(by_training),
        "by_training": [float(f"{x:.6g}") for x in by_training],
        "margin": None if judged.margin is None else float(f"{judged.margin:.6g}"),
        "control": control.estimate.as_dict() if control else None,
    }


_NUMBERS = ("value", "interval", "n")


def on_one_axis(rows: Sequence[Mapping[str, Any]]) -> list[tuple]:
    """Return the tests whose control failed them, as shares of its effect, for a plot.

    0 is no difference, 1 as bad as the known-bad model, ½ the margin. A share of an
    effect that a control was not seen to have would say nothing.

    Returns:
        (label, value, (low, high)) a test, as `plots.point_intervals` takes them.
    """
    lines = []
    for row in rows:
        for test in row["tests"]:
            if test["control"] and test["result"] != BLIND:
                bad = test["control"]["value"]
                ends = sorted(end / bad for end in test["interval"])
                metric = test["text"].partition(" ")[0].replace("_", " ")
                label = f"{row['claim_id']}: {metric}"
                lines.append((label, test["value"] / bad, tuple(ends)))
    return lines


def tests_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return every test that was measured as a table of text."""
    lines = []
    for row in rows:
        for test in row["tests"] + row["requires"]:
            if test["interval"]:
                control = test["control"]
                lines.append(
                    {
                        "claim": row["claim_id"],
                        "test": test["name"],
                        "measured": test["text"] or test["metric"],
                        "effect": f"{Estimate.from_dict(test):+.3g}",
                        "margin": test["margin"],
                        "control": control and f"{Estimate.from_dict(control):+.3g}",
                        "n": f"{test['n']:,} {test['unit']}",
                        "trainings": test["trainings"] or None,
                        "result": test["result"],
                    }
                )
    return pd.DataFrame(lines)
