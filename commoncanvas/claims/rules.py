"""Rules: what the paper claims, and how an interval becomes one of three verdicts.

docs/paper.yaml holds both, written before the run. A verdict needs an interval and
enough samples; without them a claim is "not testable at this scale", never quietly
confirmed.
"""

import math

import yaml

from commoncanvas.analysis.estimates import as_estimate
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.paths import DOCS

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
# What the interval must do for "supported", and for "not supported".
IN_WORDS = {
    "interval_contains": ("holds {value:g}, {max_width:g} wide at most", "misses it"),
    "interval_above": ("lies above {threshold:g}", "lies below"),
    "interval_below": ("lies below {threshold:g}", "lies above"),
    "equivalence": ("lies within ±{margin:g}", "lies outside"),
    "ratio_at_least": ("starts at {threshold:g} or above", "ends below it"),
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


def value_of(claim):
    """Write what the paper says in numbers or words."""
    return claim.get("text") or f"{claim['value']:,g} {claim['unit']}"


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
    kind, estimate = rule["kind"], as_estimate(estimate)
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


def in_words(rule):
    """Write a rule as one sentence, without its `requires` and `also`."""
    if rule["kind"] == "untestable":
        return f"never judged. {rule['reason']}"
    yes, no = (words.format(**rule) for words in IN_WORDS[rule["kind"]])
    return (
        f"supported if the 95 % interval {yes}, not supported if it {no}; no verdict "
        f"in between, nor below n = {rule['needs']:,}."
    )
