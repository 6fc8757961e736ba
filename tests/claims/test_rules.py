"""A verdict follows from a rule and an interval, and from nothing else."""

import itertools
import re

import pytest
import yaml
from toys import estimate

from commoncanvas.analysis.estimates import Estimate
from commoncanvas.claims import rules
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.paths import DOCS, NOTEBOOKS, ROOT

CLAIM_IDS = [
    "catalog_sizes",
    "alt_text_share",
    "caption_cost",
    "speedup_total",
    "speedup_latents",
    "ema_last_fraction",
    "data_saturation",
    "synthetic_captions_match",
    "cc_matches_web",
    "larger_model_closes_gap",
    "caption_domain_shift",
    "telephoning_suppresses_marks",
    "marks_fade_in_pictures",
    "preference_37_38_50",
]
YES, NO, OPEN = rules.SUPPORTED, rules.NOT_SUPPORTED, rules.NOT_TESTABLE
RULES = {
    "interval_contains": {"value": 0.37, "max_width": 0.2},
    "interval_above": {"threshold": 0.0},
    "interval_below": {"threshold": 0.1},
    "equivalence": {"margin": 0.1},
    "ratio_at_least": {"threshold": 2.71},
}


CASES = [
    ("interval_contains", 0.30, 0.45, YES),
    ("interval_contains", 0.40, 0.45, NO),
    ("interval_contains", 0.10, 0.45, OPEN),
    ("interval_contains", 0.37, 0.57, YES),
    ("interval_above", 0.01, 0.45, YES),
    ("interval_above", -0.45, -0.01, NO),
    ("interval_above", -0.01, 0.45, OPEN),
    ("interval_above", 0.0, 0.45, OPEN),
    ("interval_below", -0.30, 0.05, YES),
    ("interval_below", 0.11, 0.45, NO),
    ("interval_below", 0.05, 0.45, OPEN),
    ("interval_below", -0.45, 0.1, OPEN),
    ("equivalence", -0.09, 0.09, YES),
    ("equivalence", 0.11, 0.45, NO),
    ("equivalence", -0.45, -0.11, NO),
    ("equivalence", -0.05, 0.45, OPEN),
    ("equivalence", -0.45, 0.45, OPEN),
    ("equivalence", -0.1, 0.1, YES),
    ("equivalence", 0.1, 0.45, OPEN),
    ("ratio_at_least", 2.71, 3.00, YES),
    ("ratio_at_least", 2.00, 2.70, NO),
    ("ratio_at_least", 2.00, 3.00, OPEN),
]


def rule_of(kind, **more):
    return {"kind": kind, "needs": 10, "metric": "m", **RULES.get(kind, {}), **more}


@pytest.mark.parametrize(("kind", "low", "high", "verdict"), CASES)
def test_each_kind_of_rule_reaches_its_verdict(kind, low, high, verdict):
    found, why = rules.judge(rule_of(kind), estimate((low + high) / 2, low, high))
    assert found == verdict
    assert "interval" in why and why.endswith(".")


def test_every_kind_of_rule_is_tried_for_all_three_verdicts():
    tried = {(kind, verdict) for kind, _, _, verdict in CASES}
    assert tried == set(itertools.product(rules.IN_WORDS, (YES, NO, OPEN)))


def interval_for(rule, verdict):
    """Return an estimate that a rule of the paper file gives this verdict."""
    middle = rule.get("threshold", rule.get("value", 0.0))
    reach = rule.get("max_width", rule.get("margin", 1.0))
    if verdict == OPEN:
        return estimate(middle, middle - 9 * reach, middle + 9 * reach, 10**6)
    inside = rule["kind"] in ("equivalence", "interval_contains")
    up = 1 if rule["kind"] != "interval_below" else -1
    shift = 0 if inside and verdict == YES else 5 * reach * up
    shift = -shift if verdict == NO else shift
    around = middle + shift
    return estimate(around, around - reach / 3, around + reach / 3, 10**6)


@pytest.mark.parametrize("verdict", [YES, NO, OPEN])
@pytest.mark.parametrize("claim_id", CLAIM_IDS)
def test_every_claim_can_come_out_either_way_but_the_untestable(claim_id, verdict):
    rule = rules.load_paper()["claims"][claim_id]["rule"]
    parts = {
        part["name"]: interval_for(part, YES)
        for part in rule.get("requires", []) + rule.get("also", [])
    }
    expected = OPEN if rule["kind"] == "untestable" else verdict
    found = rules.judge(rule, interval_for(rule, verdict), parts)
    assert found[0] == expected, found


@pytest.mark.parametrize("kind", [*rules.IN_WORDS, "untestable"])
def test_a_rule_in_words_holds_every_number_it_judges_by(kind):
    keys = (*RULES.get(kind, {}), "needs")
    numbers = {key: f"{n}.25" for n, key in enumerate(keys, start=71)}
    given = {k: float(v) for k, v in numbers.items()}
    words = rules.in_words(rule_of(kind, **given | {"reason": "No Flickr here."}))
    if kind == "untestable":
        assert words.endswith("No Flickr here.")
    else:
        assert all(number in words for number in numbers.values())
        assert words.startswith("supported if the 95 % interval") and words[-1] == "."


def test_an_equivalence_that_cannot_be_decided_says_that_its_interval_is_too_wide():
    _, why = rules.judge(rule_of("equivalence"), estimate(0, -0.45, 0.45))
    assert "too wide" in why


def test_an_untestable_rule_gives_its_reason_whatever_was_measured():
    rule = rule_of("untestable", reason="No Flickr here.")
    assert rules.judge(rule, estimate(1, 0.9, 1.1)) == (OPEN, "No Flickr here.")


@pytest.mark.parametrize("kind", sorted(RULES))
def test_no_verdict_without_interval_or_enough_samples(kind):
    for nothing in (None, {"value": 1.0, "interval": None, "n": 1000}):
        assert rules.judge(rule_of(kind), nothing)[0] == OPEN
    verdict, why = rules.judge(rule_of(kind), estimate(9, 9, 9, n=9))
    assert verdict == OPEN and "n = 9" in why and "10" in why
    assert rules.judge(rule_of(kind), estimate(9, 9, 9, n=10))[0] != OPEN


def test_an_infinite_interval_gives_no_verdict():
    verdict, why = rules.judge(
        rule_of("interval_above"), estimate(1, float("nan"), float("inf"))
    )
    assert verdict == OPEN and "finite" in why


def test_an_estimate_and_its_dict_are_judged_alike():
    rule, record = rule_of("equivalence"), estimate(0.01, -0.02, 0.04)
    assert rules.judge(rule, record) == rules.judge(
        rule, Estimate(0.01, -0.02, 0.04, 1000)
    )


def test_a_failed_requirement_forbids_any_verdict():
    sees = rule_of("interval_above", name="the test sees a loss")
    rule = rule_of("equivalence", requires=[sees])
    for main in (estimate(0, -0.01, 0.01), estimate(0.5, 0.4, 0.6)):
        for part in (None, estimate(0, -1, 1), estimate(-1, -2, -0.5)):
            verdict, why = rules.judge(rule, main, {"the test sees a loss": part})
            assert verdict == OPEN and "the test sees a loss" in why
        met = {"the test sees a loss": estimate(1, 0.5, 2)}
        assert rules.judge(rule, main, met)[0] != OPEN


@pytest.mark.parametrize(
    ("main", "also", "verdict"),
    [
        (YES, YES, YES),
        (YES, NO, NO),
        (NO, YES, NO),
        (YES, OPEN, OPEN),
        (OPEN, YES, OPEN),
        (OPEN, NO, NO),
    ],
)
def test_all_further_conditions_must_hold_and_one_can_fail_the_claim(
    main, also, verdict
):
    within = {YES: (-0.01, 0.01), NO: (0.4, 0.6), OPEN: (0, 1)}[main]
    above = {YES: (1, 2), NO: (-2, -1), OPEN: (-1, 1)}[also]
    part = rule_of("interval_above", name="alignment is higher")
    rule = rule_of("equivalence", also=[part])
    parts = {"alignment is higher": estimate(0, *above)}
    assert rules.judge(rule, estimate(0, *within), parts)[0] == verdict


def test_the_paper_file_has_exactly_the_claims_of_the_design_in_order():
    assert list(rules.load_paper()["claims"]) == CLAIM_IDS


def test_every_claim_cites_a_source_and_a_stage_that_exist():
    paper = rules.load_paper()
    stages = [path.stem for path in NOTEBOOKS.glob("*.ipynb")]
    for claim in paper["claims"].values():
        assert claim["source"].split(",")[0] in paper["sources"]
        assert claim["stage"] in stages


def test_votes_are_a_claim_of_the_chapter_that_counts_them():
    notebook = (NOTEBOOKS / "06_figures.ipynb").read_text(encoding="utf-8")
    assert "read_votes" in notebook
    assert rules.load_paper()["claims"]["preference_37_38_50"]["stage"] == "06_figures"


def test_the_paper_s_counts_are_numbers_and_are_written_as_before():
    claim = rules.load_paper()["claims"]["catalog_sizes"]
    assert claim["value"] == {"c": 26_232_417, "nc": 67_015_331}
    written = rules.value_of(claim)
    assert written == "26,232,417 (C) and 67,015,331 (NC) pictures"


def test_a_number_is_one_as_dvc_reads_it(tmp_path):
    text = (DOCS / "paper.yaml").read_text(encoding="utf-8")
    path = tmp_path / "paper.yaml"
    path.write_text(text.replace("margin: 0.10", "margin: 1e-4", 1), encoding="utf-8")
    claim = rules.load_paper(path)["claims"]["ema_last_fraction"]
    assert claim["rule"]["margin"] == 1e-4


def test_every_source_named_in_a_docstring_is_in_the_paper_file():
    sources = rules.load_paper()["sources"]
    named = {}
    for path in sorted((ROOT / "commoncanvas").rglob("*.py")):
        text = " ".join(path.read_text(encoding="utf-8").split())
        for key in re.findall(r"Source: ([a-z][a-z0-9-]*)", text):
            named.setdefault(key, path.name)
    assert len(named) >= 4
    assert {k: v for k, v in named.items() if k not in sources} == {}


def test_every_source_has_an_address_and_a_year():
    for key, source in rules.load_paper()["sources"].items():
        assert source["url"].startswith("https://"), key
        assert 1900 < source["year"] < 2030, key


def broken_paper(tmp_path, change):
    paper = yaml.safe_load((DOCS / "paper.yaml").read_text(encoding="utf-8"))
    change(paper["claims"]["data_saturation"])
    path = tmp_path / "paper.yaml"
    path.write_text(yaml.safe_dump(paper, sort_keys=False), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda claim: claim.pop("stage"),
        lambda claim: claim.pop("text"),
        lambda claim: claim.update(source="hearsay, p. 1"),
        lambda claim: claim["rule"].update(kind="looks_fine"),
        lambda claim: claim["rule"].pop("margin"),
        lambda claim: claim["rule"].pop("needs"),
        lambda claim: claim["rule"]["requires"][1].pop("threshold"),
        lambda claim: claim["rule"].update(margn=0.1),
    ],
)
def test_an_incomplete_claim_is_refused_by_name(tmp_path, change):
    with pytest.raises(ParameterError, match="data_saturation"):
        rules.load_paper(broken_paper(tmp_path, change))
