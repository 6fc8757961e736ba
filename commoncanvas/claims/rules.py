"""Rules: what the paper claims, and how it is tested, as docs/paper.yaml says it.

A rule is one test or several, written before the run. What a test's interval must do
stands here in words; `outcomes` decides.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from commoncanvas.core.errors import ParameterError
from commoncanvas.core.paths import DOCS
from commoncanvas.core.settings import load_yaml

# What the interval must do for a test to pass, and to fail.
IN_WORDS = {
    "above": ("lies above {threshold:g}", "lies below"),
    "below": ("lies below {threshold:g}", "lies above"),
    "not_lower": ("lies above minus the margin", "lies below"),
    "not_higher": ("lies below the margin", "lies above"),
    "equal": ("lies within the margin on both sides", "lies outside"),
    "contains": ("holds {value:g}, {max_width:g} wide at most", "misses it"),
}
WITH_MARGIN = ("not_lower", "not_higher", "equal")
# What `compare` looks at: metrics of which the first that exists counts, in words, and
# the better direction. The first two see captions, the others pictures alone.
COMPARED = (
    ("words", "follows its prompts", "alignment gap",
     ("alignment_gap", "clip_score_gap"), "higher"),
    ("words", "draws what they mean", "likeness gap", ("likeness_gap",), "higher"),
    ("distances", "is close to real pictures", "kernel distance",
     ("kd_efficientnet", "kid_inception"), "lower"),
    ("distances", "is so by the Frechet distance", "Frechet distance",
     ("fd_efficientnet", "fid_inception"), "lower"),
)  # fmt: skip
NOT_WORSE = {"higher": "not_lower", "lower": "not_higher"}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Test(_Model):
    """One test of a claim; docs/paper.yaml describes the fields."""

    name: str
    metric: str
    aim: Literal["above", "below", "not_lower", "not_higher", "equal", "contains"]
    needs: int
    of: list[str] = []
    contrast: dict[str, float] = {}
    given: str | None = None
    control: dict[str, str] = {}
    threshold: float = 0.0
    value: float | None = None
    max_width: float | None = None
    optional: bool = False  # left out where the metric was not taken

    @model_validator(mode="after")
    def _is_complete(self) -> "Test":
        if bool(self.given) == bool(self.of and self.contrast):
            raise ValueError("it needs either given, or of and contrast")
        if self.aim in WITH_MARGIN and not self.control:
            raise ValueError(f"{self.aim} needs a control, whose effect is the margin")
        if strange := self.control.keys() - self.contrast.keys():
            raise ValueError(f"control replaces {sorted(strange)}, not in contrast")
        if self.aim == "contains" and None in (self.value, self.max_width):
            raise ValueError("contains needs value and max_width")
        return self


class Compare(_Model):
    """Four tests of one contrast; see `COMPARED`."""

    contrast: dict[str, float]
    aim: Literal["not_worse", "equal"]
    words: dict[str, str]
    distances: dict[str, str]
    needs: int

    def tests(self) -> list[Test]:
        controls = {"words": self.words, "distances": self.distances}
        return [
            Test(
                name=f"the candidate {what}",
                metric=f"{metric}, {contrast_in_words(self.contrast)}",
                aim="equal" if self.aim == "equal" else NOT_WORSE[better],  # type: ignore[arg-type]
                needs=self.needs,
                of=list(names),
                contrast=self.contrast,
                control=controls[kind],
                optional=names == ("likeness_gap",),
            )
            for kind, what, metric, names, better in COMPARED
        ]


class ByConstruction(_Model):
    """Why a claim is true whatever is measured, unless a value was given."""

    reason: str
    unless: str | None = None


class Claim(_Model):
    """One claim: what the paper says, where it says it, and its tests."""

    says: str
    text: str | None = None  # the numbers as the paper words them
    value: float | dict[str, float] | None = None  # one, or one a licence kind
    unit: str | None = None
    shares: dict[str, float] | None = None  # of votes, by variant
    source: str
    stage: str
    differs: str | None = None
    audit: bool = False
    only_close: str | None = None
    by_construction: ByConstruction | None = None
    compare: Compare | None = None
    tests: list[Test] = []
    requires: list[Test] = []

    @model_validator(mode="after")
    def _is_whole(self) -> "Claim":
        if self.text is None and (self.value is None or self.unit is None):
            raise ValueError("it lacks text, or value and unit")
        if self.compare:
            self.tests = [*self.compare.tests(), *self.tests]
            self.compare = None
        if not (self.tests or self.by_construction):
            raise ValueError("it lacks tests, or why there are none")
        return self


class Comparison(_Model):
    """Which variants stage 06 shows together, and what votes compare with."""

    against: str
    captions: list[str]
    marks: list[str]
    sizes: list[str]


class _Source(_Model):
    url: str
    year: int


class Paper(_Model):
    """docs/paper.yaml."""

    comparison: Comparison
    published: dict[str, dict[str, int]]
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


def load_paper(path: Path | None = None) -> Paper:
    """Read docs/paper.yaml and check that it is complete.

    Returns: its claims in the order of the file, each `compare` as four tests.
    Raises: ParameterError if a claim lacks a field, has one too many or cites no known
        source, or if a test has no known aim or lacks what its aim needs.
    """
    try:
        return Paper.model_validate(load_yaml(path or DOCS / "paper.yaml"))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ParameterError(
            f"docs/paper.yaml: {place}: {first['msg']}; a complete claim with a known "
            "source and complete tests was expected; correct it."
        ) from None


def value_of(claim: Claim) -> str:
    """Write what the paper says in numbers or words."""
    if claim.text is not None:
        return claim.text
    if not isinstance(claim.value, Mapping):
        return f"{claim.value:,g} {claim.unit}"
    parts = [f"{number:,.0f} ({kind.upper()})" for kind, number in claim.value.items()]
    return f"{' and '.join(parts)} {claim.unit}"


def contrast_in_words(contrast: Mapping[str, float]) -> str:
    """Write what is added and subtracted, as `a − b`."""
    parts: list[str] = []
    for cell, factor in contrast.items():
        sign = "−" if factor < 0 else "+" if parts else ""
        size = "" if abs(factor) == 1 else f"{abs(factor):g} "
        parts.append(f"{sign} {size}`{cell}`".strip())
    return " ".join(parts)


def in_words(test: Test) -> str:
    """Write a test as one sentence."""
    values: dict[str, Any] = test.model_dump()
    passes, fails = (words.format(**values) for words in IN_WORDS[test.aim])
    text = f"passes if the 95 % interval {passes}, fails if it {fails}"
    if test.control:
        pairs = ", ".join(f"`{bad}` for `{own}`" for own, bad in test.control.items())
        text += f"; the margin is half of what the control does, {pairs}"
    return f"{text}; no test below n = {test.needs:,}."
