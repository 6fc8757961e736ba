"""The scorecard: what was measured for each claim, judged by its rule."""

import math

from commoncanvas.analysis.distances import frechet_change, frechet_difference
from commoncanvas.analysis.estimates import (
    as_estimate,
    difference,
    paired_difference,
    pooled,
    relative_change,
    repeat_ends,
    wilson,
)
from commoncanvas.claims.rules import NOT_TESTABLE, judge, load_paper, value_of
from commoncanvas.core.errors import ParameterError


def paired(rows_a, rows_b, name, change, prompts=None):
    """Estimate how two variants differ in one metric.

    Args:
        rows_a, rows_b: of the variants.
        name: of the metric: a distance, or a score of each sample.
        change: "absolute" (a - b) or "relative" ((a - b) / b).
        prompts: name of the prompt set; None for the one that leads.

    Returns:
        Estimate, or None where the rows do not tell it: they lack the metric, their
        numbers differ, or a score should be relative.
    """
    prompts = prompts or next(iter(rows_a))
    a, b = (rows.get(prompts, {}).get(name) for rows in (rows_a, rows_b))
    if a is None or b is None or len(a) != len(b):
        return None
    if a.ndim == 1:
        return paired_difference(a, b) if change == "absolute" else None
    real = rows_b["reference"][name]
    distances = {"absolute": frechet_difference, "relative": frechet_change}
    return distances[change](a, b, real)


def common_guidance(metrics_by_variant, wanted):
    """Return the guidance key that all variants share nearest to `wanted`, or None.

    It is not chosen by result, so no variant gains from its own best scale.
    """
    sweeps = [set(run.get("guidance", {})) for run in metrics_by_variant.values()]
    shared = set.intersection(*sweeps) if sweeps else set()
    return min(shared, key=lambda k: (abs(float(k) - wanted), float(k)), default=None)


def _measure(rule, tables, rows):
    """Return estimate, ours, why_not and by_seed of one rule, as `scorecard` takes."""
    entry = {"estimate": None, "ours": None, "by_seed": []}
    plan = rule.get("measure")
    if plan is None:
        return entry | {"why_not": "No stage of this run measures it."}
    sides = [plan[side] for side in ("variant", "against") if side in plan]
    known = [name for where, name in tables if where == plan.get("from", "evaluate")]
    estimates, texts = [], []
    for end in ("", *repeat_ends(known, sides)):
        variants = [side + end for side in sides]
        estimate, text, why_not = _measure_once(rule, tables, rows, variants)
        if why_not:
            return entry | {"why_not": why_not}
        estimates.append(estimate)
        texts.append(text)
    entry |= {"estimate": pooled(estimates), "why_not": None}
    value, interval = _shown(entry["estimate"], plan)
    if len(estimates) > 1:
        entry["by_seed"] = estimates
        first, *others = (_shown(e, plan)[0] for e in estimates)
        value = f"{first}; from other seeds {', '.join(others)}; mean {value}"
    entry["ours"] = f"{texts[0]}: {value} {interval}"
    return entry


def _measure_once(rule, tables, rows, variants):
    """Return (estimate, text, why not) of one training of each of the variants."""
    plan, found = rule["measure"], []
    for variant in variants:
        table = tables.get((plan.get("from", "evaluate"), variant))
        if table is None:
            return None, None, f"Variant `{variant}` was not measured."
        prompts, split = [table], table.get("by_prompt", {})
        if plan["change"] == "interaction":
            prompts = [split.get(name, {}) for name in ("human", "synthetic")]
        elif "prompts" in plan:
            prompts = [split.get(plan["prompts"], {})]
        names = [name for name in plan["of"] if all(name in p for p in prompts)]
        if not names:
            return None, None, f"`{variant}` has no {plan['of'][0]} of the kind needed."
        found.append([as_estimate(prompt[names[0]]) for prompt in prompts])
    if any(estimate is None for estimates in found for estimate in estimates):
        return None, None, "A measured value comes without an interval."
    if len({estimate.n for estimates in found for estimate in estimates}) > 1:
        return None, None, "The variants were measured on unequal numbers of pictures."
    changes = {"level": lambda a: a, "absolute": difference}
    change = changes.get(plan["change"], relative_change)
    values = [change(*pair) for pair in zip(*found, strict=True)]
    estimate = difference(*values) if len(values) == 2 else values[0]
    # Pairing takes minutes; where there are too few prompts it changes no verdict.
    if plan["change"] in ("absolute", "relative") and rows.keys() >= {*variants}:
        if estimate.n >= rule["needs"]:
            words = names[0], plan["change"], plan.get("prompts")
            estimate = paired(*(rows[side] for side in variants), *words) or estimate
    sides = zip(variants, found, strict=True)
    text = " against ".join(f"{e[0].value:.4g} ({name})" for name, e in sides)
    if len(values) == 2:
        others = " against ".join(f"{e[1].value:.4g}" for e in found)
        text += f" on human prompts, {others} on synthetic ones"
    return estimate, f"{names[0]} {text}", None


def _shown(estimate, plan):
    """Write a change with its sign, and its interval."""
    value, low, high = estimate.value, estimate.low, estimate.high
    if plan["change"] in ("relative", "interaction"):
        return f"{100 * value:+z.1f} %", f"[{100 * low:z.1f}, {100 * high:z.1f}]"
    return f"{value:+.3g}", f"[{low:.3g}, {high:.3g}]"


def measure_claims(
    metrics_by_variant, captions_metrics, licenses_metrics, votes=None, rows=None
):
    """Compute what the scorecard needs from the metrics files of 01, 02 and 05.

    Args:
        metrics_by_variant: variant -> metrics.json of 05_evaluate; may be incomplete,
            and may hold `repeats`.
        captions_metrics: metrics.json of 02_captions, with marks: human, synthetic.
        licenses_metrics: metrics.json of 01_licenses, with splits and alt_texts
            (rows of split c that have any).
        votes: Estimate of the share of votes for cc_synthetic against web_human.
        rows: variant -> `evaluation.read_rows`; with them, variants are compared
            prompt by prompt wherever there are enough prompts for a verdict.

    Returns: claim_id -> estimate, by_seed, ours, why_not, parts, for `scorecard`;
        the claims of 07_speed are left to that stage.
    Raises: ParameterError if a variant's rows are of another guidance scale than the
        one that the paper's claims are compared at.
    """
    paper = load_paper()
    scale = common_guidance(metrics_by_variant, paper["comparison"]["guidance_scale"])
    for variant in (rows or ()) if scale else ():
        own = metrics_by_variant[variant]["common_guidance"]
        if own != float(scale):
            raise ParameterError(
                f"the rows of `{variant}` are of guidance {own:g}, its claims of "
                f"{scale}; expected the same; correct `common_guidance` in the profile."
            )
    marks = captions_metrics.get("marks", {}).items()
    tables = {("captions", name): {"marks": estimate} for name, estimate in marks}
    for variant, run in metrics_by_variant.items() if scale else ():
        tables["evaluate", variant] = run["guidance"][scale]
    measured, rows = {}, rows or {}
    for claim_id, claim in paper["claims"].items():
        if claim["stage"] != "07_speed":
            rule = claim["rule"]
            entry = _measure(rule, tables, rows)
            if entry["ours"]:
                if rule["measure"].get("from") != "captions":
                    entry["ours"] += f" at guidance {scale}"
                entry["ours"] += f", n = {entry['estimate'].n:,}"
            sub = rule.get("requires", []) + rule.get("also", [])
            entry["parts"] = {
                part["name"]: _measure(part, tables, rows)["estimate"] for part in sub
            }
            measured[claim_id] = entry
    splits = {"c": 0, "nc": 0, **licenses_metrics.get("splits", {})}
    c, both = splits["c"], splits["c"] + splits["nc"]
    measured["catalog_sizes"]["ours"] = f"{c:,} (C) and {both:,} (NC) pictures"
    with_text = licenses_metrics.get("alt_texts", 0)
    share = wilson(with_text, c) if with_text else None
    for claim_id, estimate, why_not in (
        ("alt_text_share", share, "The sources of this run have no alt text."),
        ("preference_37_38_50", votes, "Nobody has voted yet."),
    ):
        why_not = None if estimate else why_not
        measured[claim_id].update(estimate=estimate, why_not=why_not)
    return measured


def make_scorecard(measured, stage_filter=None, paper=None):
    """Lay the paper's claims beside what was measured: the rows of claims.json.

    Args:
        measured: claim_id -> dict with estimate (Estimate, its dict or None) and,
            where they help, ours (text), why_not (text; forbids a verdict), parts.
        stage_filter: a stage, or several, whose claims are wanted; None for all.
        paper: what `load_paper` returns; read from docs/ where None.

    Returns: list of dict, one per claim in the paper's order.
    Raises: ParameterError if `measured` names a claim that the paper lacks.
    """
    claims = (paper or load_paper())["claims"]
    unknown = sorted(set(measured) - set(claims))
    if unknown:
        raise ParameterError(
            f"Measured claims {unknown} are unknown; {list(claims)} were expected; "
            "correct the claim_id."
        )
    stages = [stage_filter] if isinstance(stage_filter, str) else stage_filter
    rows = []
    for claim_id, claim in claims.items():
        if stages is not None and claim["stage"] not in stages:
            continue
        entry = measured.get(claim_id, {})
        estimate = as_estimate(entry.get("estimate"))
        verdict, why = judge(claim["rule"], estimate, entry.get("parts"))
        if entry.get("why_not") and claim["rule"]["kind"] != "untestable":
            verdict, why = NOT_TESTABLE, entry["why_not"]
        shown = {"value": None, "interval": None, "n": None}
        finite = estimate is not None and math.isfinite(estimate.high - estimate.low)
        shown.update(estimate.as_dict() if finite else {})
        ours = entry.get("ours")
        if ours is None and finite:
            low, high = shown["interval"]
            ours = f"{shown['value']:.4g} [{low:.4g}, {high:.4g}], n = {shown['n']:,}"
        said = value_of(claim)
        row = {"claim_id": claim_id, "says": claim["says"], "paper": said}
        row |= {"source": claim["source"], "ours": ours, **shown}
        row["by_seed"] = [e.as_dict() for e in entry.get("by_seed", [])]
        rows.append(row | {"verdict": verdict, "why": why, "stage": claim["stage"]})
    return rows
