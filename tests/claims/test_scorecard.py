"""Claims are measured from metrics files, and the scorecard tells all of them."""

import copy
import json
import re

import numpy as np
import pytest
from toys import estimate

from commoncanvas.analysis import estimates
from commoncanvas.analysis.estimates import Estimate
from commoncanvas.claims import rules, scorecard
from commoncanvas.core.errors import ParameterError

CLAIM_IDS = list(rules.load_paper()["claims"])
YES, NO, OPEN = rules.SUPPORTED, rules.NOT_SUPPORTED, rules.NOT_TESTABLE


def test_the_difference_of_two_intervals_adds_their_errors():
    a, b = Estimate(5, 2, 8, 100), Estimate(1, -3, 5, 80)
    both = estimates.difference(a, b)
    assert (both.value, both.low, both.high, both.n) == (4, -1, 9, 80)


def test_the_difference_of_shares_keeps_their_skewed_intervals():
    a, b = Estimate(1.0, 0.9, 1.0, 50), Estimate(0.0, 0.0, 0.2, 50)
    both = estimates.difference(a, b)
    assert both.high == 1 and both.low == pytest.approx(1 - 0.05**0.5)


def test_the_relative_change_is_free_of_units_and_covers_its_truth():
    a, b = Estimate(110, 100, 120, 50), Estimate(100, 95, 105, 50)
    change = estimates.relative_change(a, b)
    scaled = estimates.relative_change(
        Estimate(1.1, 1.0, 1.2, 50), Estimate(1.0, 0.95, 1.05, 50)
    )
    assert change.value == pytest.approx(0.1)
    assert (change.low, change.high) == pytest.approx((scaled.low, scaled.high))
    assert change.high - change.value == pytest.approx((0.1**2 + 0.055**2) ** 0.5)


def test_the_relative_change_to_nothing_is_refused():
    with pytest.raises(ParameterError, match="use absolute"):
        estimates.relative_change(Estimate(1, 0, 2, 5), Estimate(0, 0, 0, 5))


def test_the_common_guidance_is_shared_and_nearest_to_the_default():
    runs = {
        "a": {"guidance": {"1.0": {}, "3.0": {}, "4.0": {}}},
        "b": {"guidance": {"1.0": {}, "4.0": {}}},
    }
    assert scorecard.common_guidance(runs, 3.0) == "4.0"
    assert scorecard.common_guidance({"a": runs["a"]}, 3.0) == "3.0"
    assert scorecard.common_guidance({"c": {"guidance": {}}, **runs}, 3.0) is None
    assert scorecard.common_guidance({}, 3.0) is None


def again(**runs):
    """Return runs of other seeds by name: a__18 is of a, from seed 18."""
    named = {}
    for key, run in runs.items():
        of, _, seed = key.partition("__")
        named[f"{of}-{seed}"] = {**run, "of": of, "seed": int(seed)}
    return named


def run_of(fd, gap=10.0, alignment=20.0, n=1000, likeness=1.0):
    def around(value, half):
        return estimate(value, value - half, value + half, n)

    table = {
        "fd_efficientnet": around(fd, 0.01 * fd),
        "alignment": around(alignment, 0.5),
        "alignment_gap": around(gap, 0.5),
        "by_prompt": {"marks_named": {"likeness_gap": around(likeness, 0.5)}},
    }
    return {"common_guidance": 3.0, "guidance": {"1.0": run_far(n), "3.0": table}}


def run_far(n):
    # Another guidance scale, where every number would give another verdict.
    return {
        name: estimate(500, 1, 999, n)
        for name in ("fd_efficientnet", "alignment", "alignment_gap")
    }


def world(**changes):
    runs = {
        "cc_synthetic": run_of(100, alignment=25),
        "cc_human": run_of(101, alignment=20, likeness=5),
        "web_human": run_of(99),
        "cc_tenth": run_of(102),
        "cc_thirtieth": run_of(150),
        "cc_large": run_of(80),
    }
    runs |= changes
    return {name: {"of": name, "seed": 17, **run} for name, run in runs.items()}


MARKS = {
    "marks": {"human": estimate(0.95, 0.9, 0.97), "synthetic": estimate(0, 0, 0.02)}
}
SPLITS = {"splits": {"c": 3000, "nc": 352}, "alt_texts": 0}


def verdicts(runs, captions_metrics=MARKS, licenses_metrics=SPLITS, **more):
    measured = scorecard.measure_claims(
        runs, captions_metrics, licenses_metrics, **more
    )
    return {row["claim_id"]: row for row in scorecard.make_scorecard(measured)}


def rows_of(seed, shift=0.0, n=1000):
    """Return rows of samples whose prompts are the same for all variants."""
    rng, own = np.random.default_rng(7), np.random.default_rng(seed)
    shared, real = rng.normal(size=(n, 4)), rng.normal(size=(n, 4))
    scores = {name: rng.normal(20, 5, n) + shift for name in ("alignment",)}
    human = {"fd_efficientnet": shared + own.normal(shift, 0.01, (n, 4)), **scores}
    marks = {"likeness_gap": rng.normal(0, 5, n) + shift}
    reference = {"fd_efficientnet": real}
    return {"human": human, "marks_named": marks, "reference": reference}


def test_variants_are_compared_prompt_by_prompt_where_rows_are_at_hand():
    apart = verdicts(world())
    rows = {variant: rows_of(i, 0.5) for i, variant in enumerate(world())}
    rows["cc_synthetic"] = rows_of(9, 0.0)
    together = verdicts(world(), rows=rows)
    for claim_id in ("data_saturation", "cc_matches_web", "marks_fade_in_pictures"):
        (low, high), (other_low, other_high) = (
            table[claim_id]["interval"] for table in (together, apart)
        )
        assert (low, high) != (other_low, other_high), claim_id
    # What all samples of a prompt share cancels: 0.5, with hardly any interval.
    found = together["marks_fade_in_pictures"]["interval"]
    assert found == pytest.approx([0.5, 0.5])
    few = world(**{v: run_of(100, n=100) for v in world()})
    lacking = verdicts(few, rows=rows)["data_saturation"]
    assert lacking["interval"] == verdicts(few)["data_saturation"]["interval"]


def test_marks_that_answer_to_their_names_all_the_same_have_not_faded():
    named = world(cc_synthetic=run_of(100, alignment=25, likeness=7))
    assert verdicts(named)["marks_fade_in_pictures"]["verdict"] == NO
    blind = world(cc_human=run_of(101, likeness=0.1))
    assert verdicts(blind)["marks_fade_in_pictures"]["verdict"] == OPEN


def test_a_world_in_which_the_paper_is_right_supports_its_claims():
    rows = verdicts(world())
    for claim_id in (
        "data_saturation",
        "synthetic_captions_match",
        "cc_matches_web",
        "larger_model_closes_gap",
        "telephoning_suppresses_marks",
        "marks_fade_in_pictures",
    ):
        assert rows[claim_id]["verdict"] == YES, rows[claim_id]


@pytest.mark.parametrize(
    ("claim_id", "changes"),
    [
        ("data_saturation", {"cc_tenth": run_of(140)}),
        ("synthetic_captions_match", {"cc_human": run_of(60)}),
        ("synthetic_captions_match", {"cc_human": run_of(100, alignment=40)}),
        ("cc_matches_web", {"web_human": run_of(60)}),
        ("larger_model_closes_gap", {"cc_large": run_of(130)}),
    ],
)
def test_a_world_in_which_the_paper_is_wrong_does_not_support_the_claim(
    claim_id, changes
):
    assert verdicts(world(**changes))[claim_id]["verdict"] == NO


def test_models_that_ignore_their_prompts_prove_nothing_about_data():
    rows = verdicts(world(**{name: run_of(100, gap=0.1) for name in world()}))
    for claim_id in (
        "data_saturation",
        "synthetic_captions_match",
        "cc_matches_web",
        "larger_model_closes_gap",
    ):
        assert rows[claim_id]["verdict"] == OPEN
        assert "prompts" in rows[claim_id]["why"]


def test_data_saturation_is_open_where_even_a_thirtieth_does_not_hurt():
    row = verdicts(world(cc_thirtieth=run_of(100)))["data_saturation"]
    assert row["verdict"] == OPEN and "thirtieth" in row["why"]


def test_a_missing_variant_is_named_in_the_reason():
    runs = world()
    del runs["cc_large"]
    row = verdicts(runs)["larger_model_closes_gap"]
    assert row["verdict"] == OPEN and "cc_large" in row["why"]


def test_trainings_from_other_seeds_are_pooled_where_both_sides_have_them():
    once = verdicts(world())
    one_side = again(cc_synthetic__18=run_of(103), cc_synthetic__19=run_of(98))
    found = verdicts(world(**one_side))["cc_matches_web"]
    assert found == once["cc_matches_web"]
    other = again(web_human__18=run_of(100), web_human__19=run_of(95))
    row = verdicts(world(**one_side, **other))["cc_matches_web"]
    changes = [100 / 99 - 1, 103 / 100 - 1, 98 / 95 - 1]
    values = [found["value"] for found in row["by_seed"]]
    assert values == pytest.approx(changes, abs=1e-6)
    assert row["value"] == pytest.approx(sum(changes) / 3, abs=1e-6)
    (low, high), (first, last) = row["interval"], once["cc_matches_web"]["interval"]
    assert high - low > last - first
    shown = r"from other seeds \+3\.0 %, \+3\.2 %; mean \+2\.4 % \[(.*)\] at"
    low, high = re.search(shown, row["ours"])[1].split(", ")
    assert [float(low), float(high)] == pytest.approx(
        [100 * end for end in row["interval"]], abs=0.05
    )
    assert row["ours"].endswith("guidance 3.0, n = 1,000")
    assert once["cc_matches_web"]["by_seed"] == []


def test_seeds_that_disagree_leave_no_verdict():
    others = again(
        cc_synthetic__18=run_of(100),
        cc_large__18=run_of(99),
        cc_synthetic__19=run_of(100),
        cc_large__19=run_of(130),
    )
    assert verdicts(world())["larger_model_closes_gap"]["verdict"] == YES
    row = verdicts(world(**others))["larger_model_closes_gap"]
    assert row["verdict"] == OPEN and "too wide" in row["why"]


def test_a_condition_is_asked_of_all_trainings():
    others = again(web_human__18=run_of(99, gap=-20), cc_synthetic__18=run_of(99))
    row = verdicts(world(**others))["cc_matches_web"]
    assert row["verdict"] == OPEN and "follows its prompts" in row["why"]


def test_a_repeat_that_cannot_be_compared_is_not_left_out_in_silence():
    others = again(web_human__18=run_of(99, n=900), cc_synthetic__18=run_of(99))
    row = verdicts(world(**others))["cc_matches_web"]
    assert row["verdict"] == OPEN and "unequal" in row["why"]


def test_variants_on_unequal_numbers_of_pictures_are_not_compared():
    row = verdicts(world(cc_tenth=run_of(100, n=900)))["data_saturation"]
    assert row["verdict"] == OPEN and "unequal" in row["why"]


def test_a_small_run_gives_no_verdict_but_shows_its_numbers():
    few = world(**{name: run_of(100, n=64) for name in world()})
    row = verdicts(few)["cc_matches_web"]
    assert row["verdict"] == OPEN and "n = 64" in row["why"]
    assert row["n"] == 64 and row["value"] == 0 and "guidance 3.0" in row["ours"]


def test_rows_of_another_guidance_scale_are_refused():
    runs = world(web_human={**run_of(99), "common_guidance": 1.0})
    rows = {variant: rows_of(i) for i, variant in enumerate(runs)}
    with pytest.raises(ParameterError, match="`web_human` are of guidance 1, its"):
        verdicts(runs, rows=rows)
    alone = {v: {**run, "guidance": {}} for v, run in runs.items()}
    assert verdicts(alone, rows=rows)["cc_matches_web"]["verdict"] == OPEN


def test_marks_that_survive_the_captioner_are_not_supported():
    kept = {"marks": {**MARKS["marks"], "synthetic": estimate(0.7, 0.65, 0.75)}}
    assert verdicts(world(), kept)["telephoning_suppresses_marks"]["verdict"] == NO


def test_caption_domain_shift_needs_two_kinds_of_prompts():
    assert verdicts(world())["caption_domain_shift"]["verdict"] == OPEN
    runs = world()

    def prompts(human, synthetic):
        return {
            name: {"fd_efficientnet": estimate(v, 0.99 * v, 1.01 * v)}
            for name, v in (("human", human), ("synthetic", synthetic))
        }

    runs["cc_synthetic"]["guidance"]["3.0"]["by_prompt"] = prompts(130, 100)
    runs["cc_human"]["guidance"]["3.0"]["by_prompt"] = prompts(100, 100)
    row = verdicts(runs)["caption_domain_shift"]
    assert row["verdict"] == YES
    both = "130 (cc_synthetic) against 100 (cc_human) on human prompts, 100 against 100"
    assert f"{both} on synthetic ones: +30.0 % [" in row["ours"]
    runs["cc_synthetic"]["guidance"]["3.0"]["by_prompt"] = prompts(130, 160)
    assert verdicts(runs)["caption_domain_shift"]["verdict"] == NO


def test_late_averaging_is_judged_only_where_the_ablation_was_run():
    open_row = verdicts(world())["ema_last_fraction"]
    assert open_row["verdict"] == OPEN and "cc_full_ema" in open_row["why"]
    rows = verdicts(world(cc_full_ema=run_of(101)))
    assert rows["ema_last_fraction"]["verdict"] == YES


def test_what_the_open_world_cannot_test_says_why():
    rows = verdicts(world())
    assert rows["catalog_sizes"]["verdict"] == OPEN
    assert "Flickr" in rows["catalog_sizes"]["why"]
    assert rows["catalog_sizes"]["ours"] == "3,000 (C) and 3,352 (NC) pictures"
    assert "alt text" in rows["alt_text_share"]["why"]
    assert "voted" in rows["preference_37_38_50"]["why"]


def test_alt_text_and_votes_are_judged_once_they_exist():
    listed = {"splits": {"c": 100_000, "nc": 0}, "alt_texts": 30_800}
    votes = Estimate(0.38, 0.32, 0.44, 300)
    rows = verdicts(world(), licenses_metrics=listed, votes=votes)
    assert rows["alt_text_share"]["verdict"] == YES
    assert rows["alt_text_share"]["ours"] == "0.308 [0.3051, 0.3109], n = 100,000"
    assert rows["preference_37_38_50"]["verdict"] == YES
    listed["alt_texts"] = 20_000
    rows = verdicts(world(), licenses_metrics=listed)
    assert rows["alt_text_share"]["verdict"] == NO


def test_the_speed_stage_brings_its_own_measurements():
    assert "speedup_total" not in scorecard.measure_claims(world(), MARKS, SPLITS)
    measured = {"speedup_total": scorecard.Measured(Estimate(3, 2.9, 3.1, 5))}
    rows = scorecard.make_scorecard(measured, ["07_speed"])
    names = [row["claim_id"] for row in rows]
    assert names == ["caption_cost", "speedup_total", "speedup_latents"]
    assert [row["verdict"] for row in rows] == [OPEN, YES, OPEN]


def test_nothing_measured_gives_thirteen_open_rows():
    for rows in (
        scorecard.make_scorecard({}),
        list(verdicts({}, {}, {}).values()),
    ):
        assert [row["claim_id"] for row in rows] == CLAIM_IDS
        assert {row["verdict"] for row in rows} == {OPEN}
        assert all(row["why"] for row in rows)


def test_a_row_has_the_fields_of_claims_json_and_survives_json():
    rows = scorecard.make_scorecard(scorecard.measure_claims(world(), MARKS, SPLITS))
    fields = ["claim_id", "says", "paper", "source", "ours", "value", "interval", "n"]
    for row in json.loads(json.dumps(rows, allow_nan=False)):
        assert list(row) == [*fields, "by_seed", "verdict", "why", "stage"]
        assert row["paper"]


def test_a_reason_given_against_a_verdict_wins_over_the_interval():
    found = scorecard.Measured(Estimate(3, 2.9, 3.1, 5), why_not="Another captioner.")
    row = scorecard.make_scorecard({"speedup_total": found}, ["07_speed"])[1]
    assert (row["verdict"], row["why"]) == (OPEN, "Another captioner.")
    assert row["value"] == 3


def test_an_unknown_claim_is_refused_with_the_known_ones():
    with pytest.raises(ParameterError, match="data_saturation"):
        scorecard.make_scorecard({"world_peace": scorecard.Measured()})


def test_changing_a_rule_changes_the_verdict_and_no_measurement():
    measured = scorecard.measure_claims(world(), MARKS, SPLITS)
    paper = rules.load_paper()
    stricter = copy.deepcopy(paper)
    stricter["claims"]["data_saturation"]["rule"]["margin"] = 0.001
    before = scorecard.make_scorecard(measured, paper=paper)
    after = scorecard.make_scorecard(measured, paper=stricter)
    changed = {
        (row["claim_id"], key)
        for row, other in zip(before, after, strict=True)
        for key in row
        if row[key] != other[key]
    }
    assert changed == {("data_saturation", "verdict"), ("data_saturation", "why")}


def test_a_reason_is_computed_from_what_the_run_has():
    runs = world()
    del runs["web_human"]
    whole = {"splits": {"c": 26232417, "nc": 40782914}, "alt_texts": 0}
    rows = verdicts(runs, {}, whole)
    assert "no row of this run's experiment" in rows["cc_matches_web"]["why"]
    assert "`web_human` is no row" in rows["preference_37_38_50"]["why"]
    assert "has 1 times as many" in rows["catalog_sizes"]["why"]
    assert "names no sets of marks" in rows["telephoning_suppresses_marks"]["why"]
    assert "`human`, `synthetic`" in rows["caption_domain_shift"]["why"]


def test_a_distance_to_other_pictures_judges_nothing():
    runs = world()
    for run in runs.values():
        table = run["guidance"]["3.0"]
        run["guidance"]["3.0"] = {
            "fid_inception_to_held_out" if name == "fd_efficientnet" else name: value
            for name, value in table.items()
        }
    row = verdicts(runs)["cc_matches_web"]
    assert row["verdict"] == OPEN
    assert "only fid_inception_to_held_out was taken" in row["why"]


def test_a_set_that_is_not_the_references_is_compared_with_it_all_the_same():
    a, b = rows_of(1), rows_of(2)
    plain = scorecard.paired(a, b, "fd_efficientnet", "absolute")
    name = "fd_efficientnet_to_held_out"
    renamed = [
        {**rows, "human": {name: rows["human"]["fd_efficientnet"]}} for rows in (a, b)
    ]
    assert scorecard.paired(*renamed, name, "absolute") == plain
