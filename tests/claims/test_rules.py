"""Rules are data: complete, cited, and in words that hold every number."""

import re

import pytest
import yaml

from commoncanvas.claims import rules
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.paths import DOCS, NOTEBOOKS, ROOT

PAPER = rules.load_paper()
SEE_CAPTIONS = {"alignment_gap", "likeness_gap"}
# Votes have attention checks; the other is a share against a share.
UNCONTROLLED = ("preference_37_38_50", "telephoning_suppresses_marks")


def test_every_claim_cites_a_source_and_a_stage_that_exist():
    stages = [path.stem for path in NOTEBOOKS.glob("*.ipynb")]
    for claim in PAPER.claims.values():
        assert claim.source.split(",")[0] in PAPER.sources
        assert claim.stage in stages


def test_every_chapter_names_the_claims_that_it_has_evidence_for():
    for claim_id, claim in PAPER.claims.items():
        if claim.stage not in ("06_figures", "04_train"):
            text = (NOTEBOOKS / f"{claim.stage}.ipynb").read_text(encoding="utf-8")
            assert f"`{claim_id}`" in text, (claim_id, claim.stage)


def test_a_comparison_looks_at_two_metrics_that_see_captions_and_two_distances():
    compared = [c for c in PAPER.claims.values() if "not_" in str(c.tests)]
    assert len(compared) >= 6
    for claim_id in ("cc_matches_web", "synthetic_captions_match", "data_saturation"):
        tests = PAPER.claims[claim_id].tests
        assert {test.of[0] for test in tests} == {
            *SEE_CAPTIONS,
            "kd_efficientnet",
            "fd_efficientnet",
        }
        assert {t.aim for t in tests if t.of[0] in SEE_CAPTIONS} == {"not_lower"}
        assert {t.aim for t in tests if t.of[0] not in SEE_CAPTIONS} == {"not_higher"}


def test_no_margin_is_a_number_of_the_file():
    """It is half of what the control does in the same run."""
    for claim_id, claim in PAPER.claims.items():
        for test in claim.tests:
            if test.aim in rules.WITH_MARGIN:
                assert test.control and test.threshold == 0, claim_id


def test_every_claim_about_pictures_has_a_control_or_a_requirement():
    for claim_id, claim in PAPER.claims.items():
        if claim.tests and not (claim.audit or claim.only_close):
            has_control = all(test.control for test in claim.tests)
            is_open = claim_id in (
                "preference_37_38_50",
                "telephoning_suppresses_marks",
            )
            assert has_control or claim.requires or is_open, claim_id


def test_the_paper_s_counts_are_numbers_and_are_written_as_before():
    claim = PAPER.claims["catalog_sizes"]
    assert claim.value == {"c": 26_232_417, "nc": 67_015_331}
    written = rules.value_of(claim)
    assert written == "26,232,417 (C) and 67,015,331 (NC) pictures"
    assert rules.value_of(PAPER.claims["speedup_total"]) == "2.71 times"


def test_a_number_is_one_as_dvc_reads_it(tmp_path):
    text = (DOCS / "paper.yaml").read_text(encoding="utf-8")
    path = tmp_path / "paper.yaml"
    path.write_text(text.replace("threshold: 2.71", "threshold: 1e-4"), "utf-8")
    (test,) = rules.load_paper(path).claims["speedup_total"].tests
    assert test.threshold == 1e-4


@pytest.mark.parametrize("aim", rules.IN_WORDS)
def test_a_test_in_words_holds_every_number_it_is_decided_by(aim):
    is_margin = aim in rules.WITH_MARGIN
    about = {"of": ["m"], "contrast": {"a": 1}, "control": {"a": "bad"}}
    test = rules.Test(
        name="it is so",
        metric="m",
        aim=aim,
        needs=7100,
        threshold=72.25,
        value=73.25,
        max_width=74.25,
        **(about if is_margin else {"given": "x"}),
    )
    words = rules.in_words(test)
    wanted = {"above": ["72.25"], "below": ["72.25"], "contains": ["73.25", "74.25"]}
    for number in [*wanted.get(aim, ["`bad` for `a`", "half of"]), "7,100"]:
        assert number in words
    assert words.startswith("passes if the 95 % interval") and words[-1] == "."


def test_a_contrast_in_words_has_its_signs():
    found = rules.contrast_in_words({"a": 1, "b/human": -1, "c": 0.5})
    assert found == "`a` − `b/human` + 0.5 `c`"


def test_every_source_named_in_a_docstring_is_in_the_paper_file():
    named = {}
    for path in sorted((ROOT / "commoncanvas").rglob("*.py")):
        text = " ".join(path.read_text(encoding="utf-8").split())
        for key in re.findall(r"Source: ([a-z][a-z0-9-]*)", text):
            named.setdefault(key, path.name)
    assert len(named) >= 4
    assert {k: v for k, v in named.items() if k not in PAPER.sources} == {}


def test_every_source_has_an_address_and_a_year():
    for key, source in PAPER.sources.items():
        assert source.url.startswith("https://"), key
        assert 1900 < source.year < 2030, key


def broken_paper(tmp_path, claim_id, change):
    paper = yaml.safe_load((DOCS / "paper.yaml").read_text(encoding="utf-8"))
    change(paper["claims"][claim_id])
    path = tmp_path / "paper.yaml"
    path.write_text(yaml.safe_dump(paper, sort_keys=False), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("claim_id", "change"),
    [
        ("data_saturation", lambda claim: claim.pop("stage")),
        ("data_saturation", lambda claim: claim.pop("text")),
        ("data_saturation", lambda claim: claim.pop("compare")),
        ("data_saturation", lambda claim: claim.update(source="hearsay, p. 1")),
        ("data_saturation", lambda claim: claim["compare"].update(aim="looks_fine")),
        ("data_saturation", lambda claim: claim["compare"].pop("words")),
        ("data_saturation", lambda claim: claim["compare"].update(words={"x": "y"})),
        ("data_saturation", lambda claim: claim["compare"].update(margin=0.1)),
        ("caption_variety", lambda claim: claim["requires"][0].pop("max_width")),
        ("caption_variety", lambda claim: claim["tests"][0].pop("given")),
        ("caption_variety", lambda claim: claim["tests"][0].pop("needs")),
        ("caption_variety", lambda claim: claim["tests"][0].update(aim="equal")),
    ],
)
def test_an_incomplete_claim_is_refused_by_name(tmp_path, claim_id, change):
    with pytest.raises(ParameterError, match=claim_id):
        rules.load_paper(broken_paper(tmp_path, claim_id, change))
