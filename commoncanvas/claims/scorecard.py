"""The scorecard: what was measured for each claim, and the verdict of its rule."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from commoncanvas.analysis.distances import frechet_change, frechet_difference
from commoncanvas.analysis.estimates import (
    Estimate,
    as_estimate,
    difference,
    paired_difference,
    pooled,
    relative_change,
    trainings_of,
    wilson,
)
from commoncanvas.claims.rules import NOT_TESTABLE, judge, load_paper, value_of
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.settings import names_of

Rows = Mapping[str, Mapping[str, np.ndarray]]  # prompt set -> metric -> values


@dataclass
class Measured:
    """What a run says about one claim."""

    estimate: Estimate | None = None
    ours: str | None = None  # in words, with the values that it comes from
    why_not: str | None = None  # forbids a verdict
    by_seed: list[Estimate] = field(default_factory=list)  # what `estimate` pools
    parts: dict[str, Estimate | None] = field(default_factory=dict)  # of the rule


@dataclass
class _Run:
    """What the stages before wrote."""

    metrics: Mapping[str, Any]  # name -> metrics.json of stage 05
    rows: Mapping[str, Rows]  # name -> values of each sample
    tables: dict[tuple[str, str], Mapping[str, Any]]  # (stage, name) -> estimates


def paired(
    rows_a: Rows, rows_b: Rows, name: str, change: str, prompts: str | None = None
) -> Estimate | None:
    """Estimate how two variants differ in one metric, prompt by prompt.

    Args:
        name: a distance, or a score of each sample.
        change: "absolute" (a - b) or "relative" ((a - b) / b).
        prompts: name of the prompt set; None for the one that leads.

    Returns:
        None where the rows do not allow it: they lack the metric, their numbers
        differ, or a score should be relative.
    """
    prompts = prompts or next(iter(rows_a))
    a, b = (rows.get(prompts, {}).get(name) for rows in (rows_a, rows_b))
    if a is None or b is None or len(a) != len(b):
        return None
    if a.ndim == 1:
        return paired_difference(a, b) if change == "absolute" else None
    compare = {"absolute": frechet_difference, "relative": frechet_change}[change]
    real = name.partition("_to_")[0]  # the distance's own name; see `references`
    return compare(a, b, rows_b["reference"][real])


def common_guidance(metrics_by_variant: Mapping[str, Any], wanted: float) -> str | None:
    """Return the guidance key that all variants share nearest to `wanted`, or None.

    It is not chosen by result, so no variant gains from its own best scale.
    """
    sweeps = [set(run.get("guidance", {})) for run in metrics_by_variant.values()]
    shared = set.intersection(*sweeps) if sweeps else set()
    return min(shared, key=lambda k: (abs(float(k) - wanted), float(k)), default=None)


def _measure(rule: Mapping[str, Any], run: _Run) -> Measured:
    """Measure one rule: over all seeds from which its variants were trained."""
    plan = rule.get("measure")
    if plan is None:
        return Measured(why_not="No stage of this run measures it.")
    sides = [plan[side] for side in ("variant", "against") if side in plan]
    trainings = [sides] if "from" in plan else trainings_of(sides, run.metrics)
    found = [_measure_once(rule, run, variants) for variants in trainings]
    if failed := [one for one in found if one.why_not]:
        return failed[0]
    estimates = [one.estimate for one in found if one.estimate]
    pool = pooled(estimates)
    spec = "+z.1%" if plan["change"] in ("relative", "interaction") else "+.3g"
    text = f"{pool:{spec}}"
    if len(estimates) > 1:
        first, *others = (f"{e:{spec}}".partition(" [")[0] for e in estimates)
        text = f"{first}; from other seeds {', '.join(others)}; mean {text}"
    ours = f"{found[0].ours}: {text}"
    return Measured(pool, ours, by_seed=estimates if len(estimates) > 1 else [])


def _measure_once(rule: Mapping[str, Any], run: _Run, variants: list[str]) -> Measured:
    """Measure one rule from one training of each of its variants."""
    plan: Mapping[str, Any] = rule["measure"]
    found: list[list[Estimate]] = []
    for variant in variants:
        table = run.tables.get((plan.get("from", "evaluate"), variant))
        if table is None:
            return Measured(why_not=_absent(plan, variant))
        split = table.get("by_prompt", {})
        wanted = [plan["prompts"]] if "prompts" in plan else []
        if plan["change"] == "interaction":
            wanted = ["human", "synthetic"]
        if missing := [name for name in wanted if name not in split]:
            why_not = f"The profile has no prompts of the sets {names_of(missing)}."
            return Measured(why_not=why_not)
        prompts = [split[name] for name in wanted] or [table]
        names = [name for name in plan["of"] if all(name in p for p in prompts)]
        if not names:
            return Measured(why_not=_lacking(plan["of"], variant, prompts[0]))
        estimates = [as_estimate(prompt[names[0]]) for prompt in prompts]
        found.append([estimate for estimate in estimates if estimate])
        if len(found[-1]) < len(prompts):
            return Measured(why_not="A measured value comes without an interval.")
    if len({estimate.n for estimates in found for estimate in estimates}) > 1:
        why_not = "The variants were measured on unequal numbers of pictures."
        return Measured(why_not=why_not)
    changes: dict[str, Callable[..., Estimate]]
    changes = {"level": lambda a: a, "absolute": difference}
    change = changes.get(plan["change"], relative_change)
    values = [change(*pair) for pair in zip(*found, strict=True)]
    estimate = difference(*values) if len(values) == 2 else values[0]
    # Pairing takes minutes; where there are too few prompts it changes no verdict.
    if plan["change"] in ("absolute", "relative") and run.rows.keys() >= {*variants}:
        if estimate.n >= rule["needs"]:
            a, b = (run.rows[variant] for variant in variants)
            by_prompt = paired(a, b, names[0], plan["change"], plan.get("prompts"))
            estimate = by_prompt or estimate
    sides = zip(variants, found, strict=True)
    text = " against ".join(f"{e[0].value:.4g} ({name})" for name, e in sides)
    if len(values) == 2:
        others = " against ".join(f"{e[1].value:.4g}" for e in found)
        text += f" on human prompts, {others} on synthetic ones"
    return Measured(estimate, f"{names[0]} {text}")


def _absent(plan: Mapping[str, Any], variant: str) -> str:
    """Say why a variant, or a kind of captions, has no metrics."""
    if plan.get("from") == "captions":
        return "The profile names no sets of marks, whose captions could be searched."
    return f"`{variant}` is no row of this run's experiment."


def _lacking(names: Iterable[str], variant: str, found: Iterable[str]) -> str:
    """Say why a variant has none of the metrics that a rule is about."""
    others = [n for n in found for wanted in names if n.startswith(f"{wanted}_to_")]
    if others:
        return (
            f"The prompts do not belong to the reference: only {others[0]} was taken."
        )
    return f"`{variant}` was measured without {' and '.join(names)}."


def measure_claims(
    metrics_by_variant: Mapping[str, Any],
    captions_metrics: Mapping[str, Any],
    licenses_metrics: Mapping[str, Any],
    votes: Estimate | None = None,
    rows: Mapping[str, Rows] | None = None,
) -> dict[str, Measured]:
    """Compute what the scorecard needs from the metrics files of 01, 02 and 05.

    Args:
        metrics_by_variant: name -> metrics.json of 05_evaluate; may be incomplete,
            and may hold repeats.
        captions_metrics: metrics.json of 02_captions, with marks: human, synthetic.
        licenses_metrics: metrics.json of 01_licenses, with splits and alt_texts
            (rows of split c that have any).
        votes: the share of votes for cc_synthetic against web_human.
        rows: name -> `results.read_rows`; with them, variants are compared
            prompt by prompt wherever there are enough prompts for a verdict.

    Returns: {claim_id: Measured}; the claims of 07_speed are left to that stage.
    Raises: ParameterError if a variant's rows are of another guidance scale than the
        one that the paper's claims are compared at.
    """
    paper, run = load_paper(), _Run(metrics_by_variant, rows or {}, {})
    scale = common_guidance(metrics_by_variant, paper["comparison"]["guidance_scale"])
    for name, estimate in captions_metrics.get("marks", {}).items():
        run.tables["captions", name] = {"marks": estimate}
    if scale is not None:
        _check_guidance(run, scale)
        for variant, metrics in metrics_by_variant.items():
            run.tables["evaluate", variant] = metrics["guidance"][scale]
    measured = {}
    for claim_id, claim in paper["claims"].items():
        if claim["stage"] != "07_speed":
            rule = claim["rule"]
            found = _measure(rule, run)
            if found.ours and found.estimate:
                if rule["measure"].get("from") != "captions":
                    found.ours += f" at guidance {scale}"
                found.ours += f", n = {found.estimate.n:,}"
            for part in rule.get("requires", []) + rule.get("also", []):
                found.parts[part["name"]] = _measure(part, run).estimate
            measured[claim_id] = found
    splits = {"c": 0, "nc": 0, **licenses_metrics.get("splits", {})}
    c, both = splits["c"], splits["c"] + splits["nc"]
    sizes = measured["catalog_sizes"]
    sizes.ours = f"{c:,} (C) and {both:,} (NC) pictures"
    share = c / paper["claims"]["catalog_sizes"]["value"]["c"]
    sizes.why_not = (
        f"This run's catalogue has {share:.2g} times as many pictures in C as the "
        "paper found on Flickr; counts follow from the sources that a profile names."
    )
    with_text = licenses_metrics.get("alt_texts", 0)
    described = wilson(with_text, c) if with_text else None
    compared = [paper["comparison"]["against"]]
    compared += list(paper["claims"]["preference_37_38_50"]["shares"])[:1]
    absent = [name for name in compared if name not in metrics_by_variant]
    unasked = _absent({}, absent[0]) if absent else "Nobody has voted yet."
    for claim_id, estimate, why_not in (
        ("alt_text_share", described, "The sources of this run have no alt text."),
        ("preference_37_38_50", votes, unasked),
    ):
        measured[claim_id].estimate = estimate
        measured[claim_id].why_not = None if estimate else why_not
    return measured


def _check_guidance(run: _Run, scale: str) -> None:
    """Raise ParameterError if rows are of another guidance scale than the claims."""
    for variant in run.rows:
        own = run.metrics[variant]["common_guidance"]
        if own != float(scale):
            raise ParameterError(
                f"the rows of `{variant}` are of guidance {own:g}, its claims of "
                f"{scale}; expected the same; correct `common_guidance` in the profile."
            )


def make_scorecard(
    measured: Mapping[str, Measured],
    stages: Iterable[str] | None = None,
    paper: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Lay the paper's claims beside what was measured: the rows of claims.json.

    Args:
        measured: by claim_id; a claim that is left out was not measured.
        stages: those whose claims are wanted; None for all.
        paper: what `load_paper` returns; read from docs/ where None.

    Returns: one row a claim, in the paper's order.
    Raises: ParameterError if `measured` names a claim that the paper lacks.
    """
    claims = (paper or load_paper())["claims"]
    unknown = sorted(set(measured) - set(claims))
    if unknown:
        raise ParameterError(
            f"Measured claims {unknown} are unknown; {list(claims)} were expected; "
            "correct the claim_id."
        )
    wanted = None if stages is None else set(stages)
    rows = []
    for claim_id, claim in claims.items():
        if wanted is None or claim["stage"] in wanted:
            found = measured.get(claim_id, Measured())
            rows.append({"claim_id": claim_id, **_row(claim, found)})
    return rows


def _row(claim: Mapping[str, Any], found: Measured) -> dict[str, Any]:
    """Return the row of one claim, with its verdict."""
    estimate = found.estimate
    verdict, why = judge(claim["rule"], estimate, found.parts)
    if found.why_not:
        verdict, why = NOT_TESTABLE, found.why_not
    numbers: dict[str, Any] = {"value": None, "interval": None, "n": None}
    ours = found.ours
    if estimate is not None and math.isfinite(estimate.high - estimate.low):
        numbers = estimate.as_dict()
        ours = ours or f"{Estimate.from_dict(numbers):.4g}, n = {estimate.n:,}"
    return {
        "says": claim["says"],
        "paper": value_of(claim),
        "source": claim["source"],
        "ours": ours,
        **numbers,
        "by_seed": [e.as_dict() for e in found.by_seed],
        "verdict": verdict,
        "why": why,
        "stage": claim["stage"],
    }
