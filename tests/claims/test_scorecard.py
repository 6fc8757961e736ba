"""The scorecard of made-up worlds: the paper is right, wrong, or cannot be tested.

No model that ignores its captions passes a rule that speaks of captions.
"""

import json

import numpy as np
import pytest

from commoncanvas.analysis.estimates import Estimate, Replicates
from commoncanvas.claims import scorecard
from commoncanvas.claims.contrasts import Run
from commoncanvas.claims.outcomes import OUTCOMES, Effect
from commoncanvas.claims.rules import load_paper

N = 500
SHARED = np.random.default_rng(1)
PROMPTS = {name: SHARED.normal(0, 4, N) for name in ("gap", "like", "score")}
PAPER = load_paper()
CLOSE, ANALOGUE = "close", "analogue"


def distance(value, seed, noise=0.004):
    values = np.random.default_rng(seed).normal(value, noise * value, 41)
    values[0] = value
    return Replicates(values, (N, 600)).as_array()


def cells(gap, like, fd, seed, score=None):
    rng = np.random.default_rng(seed)
    return {
        "alignment": PROMPTS["score"] + rng.normal(score or 20 + gap / 2, 1, N),
        "alignment_gap": PROMPTS["gap"] + rng.normal(gap, 1, N),
        "likeness_gap": PROMPTS["like"] + rng.normal(like, 1, N),
        "replicates/fd_efficientnet": distance(fd, seed),
        "replicates/kd_efficientnet": distance(fd / 1000, seed + 1),
    }


def model(gap=10.0, like=4.0, fd=1200.0, told=None, named=0.0, marks=9.0, seed=0):
    """Rows of one model; `told` is its gap on the captioner's words."""
    told = gap if told is None else told
    rng = np.random.default_rng(seed + 50)
    return {
        "human": cells(gap, like, fd, seed),
        "synthetic": cells(told, like * told / max(gap, 0.1), fd, seed + 20),
        "marks_named": {"likeness_gap": rng.normal(named, 3, 100)},
        "marks_told": {"likeness_gap": rng.normal(marks, 3, 100)},
    }


RIGHT = {
    "cc_synthetic": model(9.5, 3.8, told=10.0, seed=1),
    "cc_human": model(10.5, 4.2, told=9.0, seed=2),
    "web_human": model(10.0, 4.0, seed=3),
    "cc_shuffled": model(0.0, 0.0, 1230.0, seed=4),
    "cc_brief": model(2.0, 1.0, 2400.0, seed=5),
    "cc_human_tenth": model(10.3, 4.1, 1210, seed=6),
    "cc_human_hundredth": model(3.0, 1.0, 2000.0, seed=7),
    "cc_tenth": model(9.4, 3.7, 1210, seed=8),
    "cc_hundredth": model(3.0, 1.0, 2000.0, seed=9),
    "cc_large": model(12.0, 5.0, 1150, seed=10),
    "cc_large_hundredth": model(3.0, 1.0, 2100, seed=11),
    "cc_nc": model(9.5, 3.8, 1205, seed=12),
    "cc_const": model(2.0, 1.0, 2000, seed=13),
    "cc_const_late": model(9.0, 4.0, seed=14),
    "cc_const_full": model(9.0, 4.0, seed=15),
    "marks_human": model(named=18, seed=16),
    "marks_synthetic": model(named=0, marks=16, seed=17),
}
SPEED = {
    "speed.latents": Effect(Estimate(1.8, 1.7, 1.9, 5), "timings"),
    "speed.total": Effect(Estimate(2.8, 2.72, 2.9, 5), "timings"),
    "speed.same": Effect(Estimate(1.0, 0.95, 1.05, 5), "timings"),
    "speed.caption_hours": Effect(Estimate(1000, 990, 1010, 5), "timings"),
}
BEFORE = scorecard.measured_before(
    {
        "claims": {
            "variety": Estimate(1, 0.9, 1.1, 800),
            "halves": Estimate(0, -0.1, 0.1, 400),
            "marks_learnt": Estimate(0.9, 0.8, 0.95, 200),
            "marks_repeated": Estimate(1.0, 0.98, 1.0, 200),
            "marks_lost_more": Estimate(0.2, 0.1, 0.3, 200),
        }
    },
    {"splits": {"c": 30000}, "alt_texts": 9228},
)
VOTES = {
    "votes.cc_synthetic": Effect(Estimate(0.37, 0.3, 0.44, 150), "pairs"),
    "votes.cc_nc": Effect(Estimate(0.38, 0.31, 0.45, 150), "pairs"),
    "votes.cc_large": Effect(Estimate(0.5, 0.43, 0.57, 150), "pairs"),
}
GIVEN = {**BEFORE, **SPEED, **VOTES}


def run_of(rows):
    metrics = {}
    for name in rows:
        of, _, seed = name.partition("-")
        metrics[name] = {"of": of, "seed": int(seed or 17)}
    return Run(metrics, rows)


def outcomes_of(rows, given=GIVEN, closeness=CLOSE):
    card = scorecard.make_scorecard(closeness, run_of(rows), given)
    assert {row["outcome"] for row in card} <= set(OUTCOMES)
    return {row["claim_id"]: row for row in card}


# Claims that no run can decide, since they are of published counts.
COUNTED = {
    "catalog_sizes": "transfers",
    "released_sets": "does not transfer",
    "under_three_percent": "true by construction",
}


def test_a_world_in_which_the_paper_is_right_carries_its_claims_over():
    found = {key: row["outcome"] for key, row in outcomes_of(RIGHT).items()}
    expected = dict.fromkeys(PAPER.claims, "transfers") | COUNTED
    expected |= {
        "synthetic_captions_clip_fid": "no test here",  # without CLIP
        "larger_model_closes_gap": "uninformative",  # there is no gap to close
    }
    assert found == expected, {
        k: outcomes_of(RIGHT)[k]["why"] for k in found if found[k] != expected[k]
    }


@pytest.mark.parametrize(
    ("claim_id", "changes"),
    [
        ("cc_matches_web", {"cc_synthetic": model(1.0, 0.2, told=10, seed=1)}),
        ("synthetic_captions_match", {"cc_synthetic": model(9, 4, told=1, seed=1)}),
        ("synthetic_captions_score_higher", {"cc_human": model(9, told=19, seed=2)}),
        ("data_saturation", {"cc_human_tenth": model(1.0, 0.0, 2500, seed=6)}),
        ("synthetic_saturation", {"cc_tenth": model(1.0, 0.0, 2500, seed=6)}),
        ("larger_needs_more_data", {"cc_large_hundredth": model(12, seed=3)}),
        ("nc_adds_nothing", {"cc_nc": model(19.0, 9.0, 300.0, seed=3)}),
        ("caption_domain_shift", {"cc_synthetic": model(9.5, told=3, seed=3)}),
        ("marks_fade_in_pictures", {"marks_synthetic": model(named=18, marks=18)}),
        ("ema_last_fraction", {"cc_const_late": model(0.5, 0.2, 2600, seed=3)}),
    ],
)
def test_a_world_in_which_the_paper_is_wrong_does_not(claim_id, changes):
    row = outcomes_of({**RIGHT, **changes})[claim_id]
    assert row["outcome"] == "does not transfer", row["why"]


def test_a_gap_that_stays_is_not_closed():
    rows = RIGHT | {
        "cc_synthetic": model(4.0, 1.5, 2000, told=10, seed=1),
        "cc_large": model(4.5, 1.6, 1950, seed=10),
    }
    assert (
        outcomes_of(rows)["larger_model_closes_gap"]["outcome"] == "does not transfer"
    )


@pytest.mark.parametrize("variant", ["cc_synthetic", "cc_nc"])
def test_a_model_of_shuffled_captions_passes_no_rule_that_speaks_of_captions(variant):
    """Not even where its distance to real pictures is as good as any."""
    for fd in (1100.0, 1200.0, 1230.0):
        rows = RIGHT | {"cc_shuffled": model(0.0, 0.0, fd, seed=4)}
        assert scorecard.passed_by(run_of(rows), variant, "cc_shuffled") == []
    honest = scorecard.passed_by(run_of(RIGHT), "cc_synthetic", "cc_synthetic")
    assert {"cc_matches_web", "synthetic_captions_match"} <= set(honest)


def test_a_brief_training_passes_no_comparison_either():
    passed = scorecard.passed_by(run_of(RIGHT), "cc_synthetic", "cc_brief")
    assert not {"cc_matches_web", "synthetic_captions_match"} & set(passed)


def test_a_control_that_does_nothing_makes_the_rule_uninformative():
    rows = RIGHT | {"cc_shuffled": RIGHT["web_human"]}
    row = outcomes_of(rows)["cc_matches_web"]
    assert row["outcome"] == "uninformative" and "Control failed" in row["why"]


def test_a_requirement_that_fails_makes_it_uninformative_too():
    blurred = GIVEN | {"speed.same": Effect(Estimate(1.6, 1.5, 1.7, 5), "timings")}
    rows = outcomes_of(RIGHT, blurred)
    assert rows["speedup_latents"]["outcome"] == "uninformative"
    assert "plain loop" in rows["speedup_latents"]["why"]


def test_an_interval_across_the_margin_is_inconclusive():
    half = model(5.0, 2.0, told=10.0, seed=1)
    row = outcomes_of(RIGHT | {"cc_synthetic": half})["cc_matches_web"]
    assert row["outcome"] == "inconclusive", row["why"]


def test_what_an_analogue_cannot_test_says_why():
    rows = outcomes_of(RIGHT, closeness=ANALOGUE)
    for claim_id in ("alt_text_share", "caption_cost", "speedup_total"):
        assert rows[claim_id]["outcome"] == "no test here"
        assert rows[claim_id]["closeness"] == "not attempted"
        assert rows[claim_id]["why"] == PAPER.claims[claim_id].only_close
    assert rows["cc_matches_web"]["closeness"] == "analogue"
    assert rows["catalog_sizes"]["closeness"] == "direct"


def test_a_captioner_that_never_learnt_the_names_loses_them_by_construction():
    given = {k: v for k, v in GIVEN.items() if k != "captions.marks_learnt"}
    row = outcomes_of(RIGHT, given)["telephoning_suppresses_marks"]
    assert row["outcome"] == "true by construction" and "never trained" in row["why"]
    leaky = GIVEN | {
        "captions.marks_learnt": Effect(Estimate(0.1, 0.0, 0.2, 200), "pictures")
    }
    row = outcomes_of(RIGHT, leaky)["telephoning_suppresses_marks"]
    assert row["outcome"] == "does not transfer"


def test_marks_that_are_lost_no_more_than_other_words_show_nothing_of_marks():
    alike = Effect(Estimate(0.0, -0.05, 0.05, 200), "pictures")
    given = GIVEN | {"captions.marks_lost_more": alike}
    row = outcomes_of(RIGHT, given)["telephoning_suppresses_marks"]
    assert row["outcome"].startswith("uninformative")
    assert "ordinary things" in row["why"].lower()


def test_an_empty_run_tests_nothing_but_published_counts():
    card = scorecard.make_scorecard(ANALOGUE)
    others = [row for row in card if row["claim_id"] not in COUNTED]
    sure = {"telephoning_suppresses_marks"}
    assert {r["outcome"] for r in others if r["claim_id"] not in sure} == {
        "no test here"
    }
    reasons = {row["claim_id"]: row["why"] for row in others}
    assert "`cc_synthetic`, `web_human` are no rows" in reasons["cc_matches_web"]


def test_a_missing_variant_is_named_in_the_reason():
    rows = {k: v for k, v in RIGHT.items() if k != "cc_shuffled"}
    row = outcomes_of(rows)["cc_matches_web"]
    assert row["outcome"] == "no test here"
    assert "`cc_shuffled` is no row of this run's experiment" in row["why"]


def test_a_world_without_likeness_compares_by_what_it_has():
    bare = {
        name: {
            sets: {k: v for k, v in found.items() if k != "likeness_gap"}
            for sets, found in rows.items()
        }
        for name, rows in RIGHT.items()
    }
    rows = outcomes_of(bare)
    assert rows["cc_matches_web"]["outcome"] == "transfers"
    assert rows["caption_domain_shift"]["outcome"] == "no test here"


def test_several_trainings_are_counted_beside_n():
    more = {
        f"{name}-{seed}": RIGHT[name]
        for name in ("cc_synthetic", "web_human", "cc_shuffled", "cc_brief")
        for seed in (18, 19)
    }
    row = outcomes_of(RIGHT | more)["cc_matches_web"]
    assert {test["trainings"] for test in row["tests"]} == {3}
    assert {test["n"] for test in row["tests"]} == {N}
    assert {test["unit"] for test in row["tests"]} == {"prompts"}
    assert len(row["tests"][0]["by_training"]) == 3


def test_rows_survive_json_and_have_what_pages_show():
    card = scorecard.make_scorecard(CLOSE, run_of(RIGHT), GIVEN)
    assert json.loads(json.dumps(card)) == card
    wanted = {"claim_id", "says", "paper", "source", "differs", "closeness", "outcome"}
    assert all(
        row.keys() == wanted | {"why", "tests", "requires", "stage"} for row in card
    )
    assert [row["claim_id"] for row in card] == list(PAPER.claims)


def test_the_stages_ask_for_their_own_claims():
    card = scorecard.make_scorecard(ANALOGUE, None, SPEED, ["07_speed"])
    assert [row["claim_id"] for row in card] == [
        "caption_cost",
        "speedup_total",
        "speedup_latents",
    ]
    assert card[2]["outcome"] == "transfers"


def test_effects_stand_on_one_axis_where_the_known_bad_model_is_1():
    card = scorecard.make_scorecard(CLOSE, run_of(RIGHT), GIVEN)
    lines = {label: (value, ends) for label, value, ends in scorecard.on_one_axis(card)}
    value, (low, high) = lines["cc_matches_web: alignment gap"]
    assert low < value < high and abs(value) < 0.2  # −0.5 of −10
    table = scorecard.tests_table(card).set_index(["claim", "test"])
    row = table.loc["cc_matches_web", "the candidate follows its prompts"]
    assert row["result"] == "passes" and float(row["margin"]) == pytest.approx(
        5, abs=0.5
    )


def test_an_effect_that_a_control_was_not_seen_to_have_is_no_axis():
    blind = RIGHT | {"cc_shuffled": RIGHT["web_human"]}
    card = scorecard.make_scorecard(CLOSE, run_of(blind), GIVEN)
    lines = [label for label, *_ in scorecard.on_one_axis(card)]
    assert any(label.startswith("cc_matches_web: kd") for label in lines)
    assert "cc_matches_web: alignment gap" not in lines


def test_alt_text_is_counted_where_a_source_has_any():
    none = scorecard.measured_before({}, {"splits": {"c": 10}, "alt_texts": 0})
    assert none == {"licenses.alt_text": "The sources of this run have no alt text."}
    effect = BEFORE["licenses.alt_text"]
    assert effect.estimate.value == pytest.approx(0.3076) and effect.unit == "works"
