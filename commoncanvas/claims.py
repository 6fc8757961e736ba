"""The paper's claims beside our metrics, each with a verdict by a rule set before.

docs/paper.yaml says what the paper claims and how it is judged; stages 06 and 07
bring what was measured. A verdict needs an interval and enough samples; without
them a claim is "not testable at this scale", never quietly confirmed.
"""

import math

import yaml

from commoncanvas.errors import ParameterError
from commoncanvas.metrics import Z95, Estimate, wilson
from commoncanvas.paths import DOCS

SUPPORTED = "supported"
NOT_SUPPORTED = "not supported"
NOT_TESTABLE = "not testable at this scale"

# What each kind of rule must state.
RULE_KINDS = {
    "interval_contains": ("value", "max_width"),
    "interval_above": ("threshold",),
    "interval_below": ("threshold",),
    "equivalence": ("margin",),
    "ratio_at_least": ("threshold",),
    "untestable": ("reason",),
}


def _check_rule(name, rule):
    """Raise ParameterError unless a rule, and each rule within it, is complete."""
    kind = rule.get("kind")
    wanted = RULE_KINDS.get(kind, ()) + (() if kind == "untestable" else ("needs",))
    lacking = [key for key in (*wanted, "metric") if key not in rule]
    if kind not in RULE_KINDS or lacking:
        raise ParameterError(
            f"The rule of `{name}` has kind `{kind}` and lacks {lacking}; a complete "
            f"rule of {sorted(RULE_KINDS)} was expected; edit docs/paper.yaml."
        )
    for part in rule.get("requires", []) + rule.get("also", []):
        _check_rule(f"{name}: {part.get('name')}", part)


def load_paper(path=None):
    """Read docs/paper.yaml and check that it is complete.

    Returns: dict of comparison, sources (key -> url, year) and claims (claim_id ->
        says, text or value and unit, source, stage, rule), in the order of the file.
    Raises: ParameterError if a claim lacks a field or cites no known source, or its
        rule is not one of `RULE_KINDS` with all its thresholds.
    """
    paper = yaml.safe_load((path or DOCS / "paper.yaml").read_text(encoding="utf-8"))
    for claim_id, claim in paper["claims"].items():
        lacking = [k for k in ("says", "source", "stage", "rule") if k not in claim]
        source = str(claim.get("source")).split(",")[0]
        valued = "text" in claim or {"value", "unit"} <= set(claim)
        if lacking or not valued or source not in paper["sources"]:
            raise ParameterError(
                f"Claim `{claim_id}` lacks {lacking} and cites `{source}`; all fields, "
                "text or value and unit, and a known source were expected; edit "
                "docs/paper.yaml."
            )
        _check_rule(claim_id, claim["rule"])
    return paper


def _read(estimate):
    """Return an Estimate from an Estimate or its dict; None stays None."""
    if estimate is None or isinstance(estimate, Estimate):
        return estimate
    if estimate.get("interval") is None or estimate.get("n") is None:
        return None
    return Estimate(estimate["value"], *estimate["interval"], estimate["n"])


def _decide(low, high, yes, no, aim):
    """Return the verdict and one sentence about where the interval lies."""
    place = f"The interval [{low:.3g}, {high:.3g}]"
    if yes:
        return SUPPORTED, f"{place} shows {aim}."
    if no:
        return NOT_SUPPORTED, f"{place} rules out {aim}."
    return NOT_TESTABLE, f"{place} is too wide to show or rule out {aim}."


def _judge_alone(rule, estimate):
    """Judge one rule without its `requires` and `also`."""
    kind, estimate = rule["kind"], _read(estimate)
    if kind == "untestable":
        return NOT_TESTABLE, rule["reason"]
    if estimate is None:
        return NOT_TESTABLE, "Nothing was measured with an interval."
    low, high, n = estimate.low, estimate.high, estimate.n
    if not all(map(math.isfinite, (estimate.value, low, high))):
        return NOT_TESTABLE, "What was measured is not a finite number."
    if n < rule["needs"]:
        return NOT_TESTABLE, f"n = {n}, and the rule asks for {rule['needs']} or more."
    if kind == "equivalence":
        margin = rule["margin"]
        yes, no = -margin <= low and high <= margin, low > margin or high < -margin
        return _decide(low, high, yes, no, f"a value within ±{margin:g}")
    if kind == "interval_contains":
        value, narrow = rule["value"], high - low <= rule["max_width"]
        no = not low <= value <= high
        return _decide(low, high, narrow and not no, no, f"the paper's {value:g}")
    limit = rule["threshold"]
    if kind == "interval_below":
        return _decide(low, high, high < limit, low > limit, f"less than {limit:g}")
    if kind == "interval_above":
        return _decide(low, high, low > limit, high < limit, f"more than {limit:g}")
    return _decide(low, high, low >= limit, high < limit, f"at least {limit:g}")


def judge(rule, estimate, parts=None):
    """Judge an estimate by a rule of paper.yaml.

    Args:
        rule: dict with kind, thresholds and needs, perhaps requires and also.
        estimate: Estimate, its dict, or None.
        parts: estimates of `requires` and `also`, by their name.

    Returns: (verdict, why), one of the three verdicts and a sentence. An interval
        that straddles a threshold gives no verdict, nor does a failed `requires`.
        "not supported" needs one failed condition, "supported" needs them all.
    """
    parts = parts or {}
    for part in rule.get("requires", []):
        verdict, why = _judge_alone(part, parts.get(part["name"]))
        if verdict != SUPPORTED:
            return NOT_TESTABLE, f"The test is blind unless {part['name']}: {why}"
    judged = [_judge_alone(rule, estimate)]
    for part in rule.get("also", []):
        verdict, why = _judge_alone(part, parts.get(part["name"]))
        judged.append((verdict, f"{part['name'].capitalize()}: {why}"))
    for verdict in (NOT_SUPPORTED, NOT_TESTABLE):
        reasons = [why for found, why in judged if found == verdict]
        if reasons:
            return verdict, " ".join(reasons)
    return SUPPORTED, " ".join(why for _, why in judged)


def difference(a, b):
    """Combine two intervals into that of a - b, as if independent.

    Source: newcombe, method 10. Variants share prompts, seeds and reference, so the
    true interval is narrower: this one is conservative. Exact pairs belong to
    `metrics.frechet_difference` and `metrics.paired_difference`.
    """
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    return Estimate(value, low, high, min(a.n, b.n))


def relative_change(a, b):
    """Combine two intervals into that of (a - b) / b, as if independent.

    First order in the standard errors, conservative like `difference`.
    Raises: ParameterError if b is not above 0.
    """
    if not b.value > 0:
        message = f"A reference value is {b.value}; more than 0 expected; use absolute."
        raise ParameterError(message)
    error_a, error_b = ((e.high - e.low) / (2 * Z95) for e in (a, b))
    half = Z95 * math.hypot(error_a / b.value, a.value * error_b / b.value**2)
    value = a.value / b.value - 1
    return Estimate(value, value - half, value + half, min(a.n, b.n))


def common_guidance(metrics_by_variant, wanted):
    """Return the guidance key that all variants share nearest to `wanted`, or None.

    It is not chosen by result, so no variant gains from its own best scale.
    """
    sweeps = [set(run.get("guidance", {})) for run in metrics_by_variant.values()]
    shared = set.intersection(*sweeps) if sweeps else set()
    return min(shared, key=lambda k: (abs(float(k) - wanted), float(k)), default=None)


def _measure(rule, tables):
    """Return (estimate, text, why not) of one rule, None where there is none."""
    plan = rule.get("measure")
    if plan is None:
        return None, None, "No stage of this run measures it."
    found = []
    for variant in filter(None, (plan.get("variant"), plan.get("against"))):
        table = tables.get((plan.get("from", "evaluate"), variant))
        if table is None:
            return None, None, f"Variant `{variant}` was not measured."
        prompts = [table]
        if plan["change"] == "interaction":
            split = table.get("by_prompt", {})
            prompts = [split.get(name, {}) for name in ("human", "synthetic")]
        names = [name for name in plan["of"] if all(name in p for p in prompts)]
        if not names:
            return None, None, f"`{variant}` has no {plan['of'][0]} of the kind needed."
        found.append([_read(prompt[names[0]]) for prompt in prompts])
    if any(estimate is None for estimates in found for estimate in estimates):
        return None, None, "A measured value comes without an interval."
    if len({estimate.n for estimates in found for estimate in estimates}) > 1:
        return None, None, "The variants were measured on unequal numbers of pictures."
    changes = {"level": lambda a: a, "absolute": difference}
    change = changes.get(plan["change"], relative_change)
    values = [change(*pair) for pair in zip(*found, strict=True)]
    estimate = difference(*values) if len(values) == 2 else values[0]
    sides = zip((plan["variant"], plan.get("against")), found, strict=False)
    text = " against ".join(f"{e[0].value:.4g} ({name})" for name, e in sides)
    percent = f"{estimate.value:+.1%}".replace("%", " %")
    shown = percent if change is relative_change else f"{estimate.value:+.3g}"
    return estimate, f"{names[0]} {text}: {shown}", None


def measure_claims(metrics_by_variant, captions_metrics, licenses_metrics, votes=None):
    """Compute what the scorecard needs from the metrics files of 01, 02 and 05.

    Args:
        metrics_by_variant: variant -> metrics.json of 05_evaluate; may be incomplete.
        captions_metrics: metrics.json of 02_captions, with marks: human, synthetic.
        licenses_metrics: metrics.json of 01_licenses, with splits and alt_texts
            (rows of split c that have any).
        votes: Estimate of the share of votes for cc_synthetic against web_human.

    Returns: claim_id -> estimate, ours, why_not, parts, for `scorecard`; the claims
        of 07_speed are left to that stage.
    """
    paper = load_paper()
    scale = common_guidance(metrics_by_variant, paper["comparison"]["guidance_scale"])
    marks = captions_metrics.get("marks", {}).items()
    tables = {("captions", name): {"marks": estimate} for name, estimate in marks}
    for variant, run in metrics_by_variant.items() if scale else ():
        tables["evaluate", variant] = run["guidance"][scale]
    measured = {}
    for claim_id, claim in paper["claims"].items():
        if claim["stage"] != "07_speed":
            rule = claim["rule"]
            estimate, ours, why_not = _measure(rule, tables)
            if ours and rule["measure"].get("from") != "captions":
                ours += f" at guidance {scale}"
            entry = {"estimate": estimate, "ours": ours, "why_not": why_not}
            sub = rule.get("requires", []) + rule.get("also", [])
            entry["parts"] = {part["name"]: _measure(part, tables)[0] for part in sub}
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


def scorecard(measured, stage_filter=None, paper=None):
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
        estimate = _read(entry.get("estimate"))
        verdict, why = judge(claim["rule"], estimate, entry.get("parts"))
        if entry.get("why_not") and claim["rule"]["kind"] != "untestable":
            verdict, why = NOT_TESTABLE, entry["why_not"]
        shown = {"value": None, "interval": None, "n": None}
        finite = estimate is not None and math.isfinite(estimate.high - estimate.low)
        shown.update(estimate.as_dict() if finite else {})
        ours = entry.get("ours")
        if ours is None and finite:
            low, high = shown["interval"]
            ours = f"{shown['value']:.4g} [{low:.4g}, {high:.4g}], n = {shown['n']}"
        said = claim.get("text") or f"{claim['value']:g} {claim['unit']}"
        row = {"claim_id": claim_id, "says": claim["says"], "paper": said}
        row |= {"source": claim["source"], "ours": ours, **shown}
        rows.append(row | {"verdict": verdict, "why": why, "stage": claim["stage"]})
    return rows
