"""Rules: what the paper claims, and how an interval becomes one of three verdicts.

docs/paper.yaml holds both, written before the run. A verdict needs an interval and
enough samples; without them a claim is "not testable at this scale", never quietly
confirmed.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from commoncanvas.analysis.estimates import Estimate, as_estimate
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.paths import DOCS
from commoncanvas.core.settings import load_yaml

SUPPORTED = "supported"
NOT_SUPPORTED = "not supported"
NOT_TESTABLE = "not testable at this scale"

# What the interval must do for "supported", and for "not supported".
IN_WORDS = {
    "interval_contains": ("holds {value:g}, {max_width:g} wide at most", "misses it"),
    "interval_above": ("lies above {threshold:g}", "lies below"),
    "interval_below": ("lies below {threshold:g}", "lies above"),
    "equivalence": ("lies within ±{margin:g}", "lies outside"),
    "ratio_at_least": ("starts at {threshold:g} or above", "ends below it"),
}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Measure(_Model):
    """How a rule's estimate is computed from metrics files."""

    change: Literal["relative", "absolute", "level", "interaction"]
    of: list[str]
    variant: str
    against: str | None = None
    where: Literal["captions"] | None = Field(None, alias="from")
    prompts: str | None = None


class _Rule(_Model):
    metric: str
    name: str | None = None
    measure: Measure | None = None
    requires: list["Rule"] = []
    also: list["Rule"] = []


class Untestable(_Rule):
    """A rule that never gives a verdict."""

    kind: Literal["untestable"]
    reason: str


class Contains(_Rule):
    """A rule about the paper's own value."""

    kind: Literal["interval_contains"]
    value: float
    max_width: float
    needs: int


class Limit(_Rule):
    """A rule about one side of a threshold."""

    kind: Literal["interval_above", "interval_below", "ratio_at_least"]
    threshold: float
    needs: int


class Equivalence(_Rule):
    """A rule about a value near zero."""

    kind: Literal["equivalence"]
    margin: float
    needs: int


Rule = Annotated[
    Untestable | Contains | Limit | Equivalence, Field(discriminator="kind")
]


class Claim(_Model):
    """One claim: what the paper says, where it says it, and the rule."""

    says: str
    text: str | None = None  # the numbers as the paper words them
    value: float | dict[str, float] | None = None  # one, or one a licence kind
    unit: str | None = None
    shares: dict[str, float] | None = None  # of votes, by variant
    source: str
    stage: str
    rule: Rule

    @model_validator(mode="after")
    def _has_a_value(self) -> "Claim":
        if self.text is None and (self.value is None or self.unit is None):
            raise ValueError("it lacks text, or value and unit")
        return self


class Comparison(_Model):
    """At which guidance scale variants are compared, and which of them."""

    guidance_scale: float
    against: str
    captions: list[str]
    sizes: list[str]


class _Source(_Model):
    url: str
    year: int


class Paper(_Model):
    """docs/paper.yaml."""

    comparison: Comparison
    sources: dict[str, _Source]
    claims: dict[str, Claim]

    @model_validator(mode="after")
    def _sources_are_known(self) -> "Paper":
        for claim_id, claim in self.claims.items():
            if claim.source.split(",")[0] not in self.sources:
                raise ValueError(
                    f"{claim_id} cites {claim.source!r}, which is not in `sources`"
                )
        return self


def load_paper(path: Path | None = None) -> dict[str, Any]:
    """Read docs/paper.yaml and check that it is complete.

    Returns: dict as `Paper` describes it, in the order of the file; what a claim or
        rule does not state is left out.
    Raises: ParameterError if a claim lacks a field, has one too many or cites no known
        source, or if its rule is of no known kind or lacks a threshold of its kind.
    """
    paper = load_yaml(path or DOCS / "paper.yaml")
    try:
        Paper.model_validate(paper)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ParameterError(
            f"docs/paper.yaml: {place}: {first['msg']}; a complete claim with a known "
            "source and a complete rule was expected; correct it."
        ) from None
    return paper


def value_of(claim: Mapping[str, Any]) -> str:
    """Write what the paper says in numbers or words."""
    if "text" in claim:
        return claim["text"]
    value, unit = claim["value"], claim["unit"]
    if not isinstance(value, Mapping):
        return f"{value:,g} {unit}"
    parts = [f"{number:,} ({kind.upper()})" for kind, number in value.items()]
    return f"{' and '.join(parts)} {unit}"


def _decide(low: float, high: float, yes: bool, no: bool, aim: str) -> tuple[str, str]:
    """Return the verdict and one sentence about where the interval lies."""
    place = f"The interval [{low:.3g}, {high:.3g}]"
    if yes:
        return SUPPORTED, f"{place} shows {aim}."
    if no:
        return NOT_SUPPORTED, f"{place} rules out {aim}."
    return NOT_TESTABLE, f"{place} is too wide to show or rule out {aim}."


def _judge_alone(rule: Mapping[str, Any], estimate: Any) -> tuple[str, str]:
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


def judge(
    rule: Mapping[str, Any],
    estimate: Estimate | Mapping[str, Any] | None,
    parts: Mapping[str, Any] | None = None,
) -> tuple[str, str]:
    """Reach a claim's verdict from its rule and what was measured.

    Args:
        rule: one of paper.yaml.
        estimate: None where nothing was measured.
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


def in_words(rule: Mapping[str, Any]) -> str:
    """Write a rule as one sentence, without its `requires` and `also`."""
    if rule["kind"] == "untestable":
        return f"never judged. {rule['reason']}"
    yes, no = (words.format(**rule) for words in IN_WORDS[rule["kind"]])
    return (
        f"supported if the 95 % interval {yes}, not supported if it {no}; no verdict "
        f"in between, nor below n = {rule['needs']:,}."
    )
