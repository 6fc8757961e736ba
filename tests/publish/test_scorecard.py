"""The scorecard says by outcome what was found, on axes that hold what judges it."""

import itertools
import json

import pytest

from commoncanvas.claims.rules import load_paper
from commoncanvas.core import paths
from commoncanvas.core.errors import CommonCanvasError
from commoncanvas.publish import scorecard

TEST = {
    "name": "the candidate follows its prompts",
    "metric": "alignment gap, `a` − `b`",
    "aim": "not_lower",
    "result": "passes",
    "why": "The interval shows at most 2 less.",
    "text": "a 3, b 4",
    "value": -1.0,
    "interval": [-1.5, -0.5],
    "n": 500,
    "unit": "prompts",
    "trainings": 3,
    "by_training": [-1.2, -1.0, -0.8],
    "margin": 2.0,
    "control": {"value": -4.0, "interval": [-5.0, -3.0], "n": 500},
}


def row(claim_id="data_saturation", outcome="transfers", why="So it is.", **more):
    tests = more.pop("tests", [TEST])
    found = {"claim_id": claim_id, "outcome": outcome, "why": why, "tests": tests}
    found |= {"requires": []}
    found |= {"source": "commoncanvas-cvpr, §5.2", "closeness": "analogue"}
    return scorecard._with_looks(found | more, load_paper())


def ticks(axis):
    return {tick["kind"]: (tick["at"], tick["label"]) for tick in axis["ticks"]}


def test_an_axis_holds_zero_margin_control_and_every_training():
    axis = row()["measured"][0]["axis"]
    found = ticks(axis)
    (bad, bad_word), (limit, limit_word), (zero, word) = (
        found[kind] for kind in ("bad", "limit", "zero")
    )
    assert bad < limit < zero and limit == pytest.approx((bad + zero) / 2, abs=0.2)
    assert (bad_word, limit_word, word) == (
        "cc_human_hundredth -4",
        "margin -2",
        "0",
    )
    ends = axis["start"], axis["start"] + axis["width"]
    assert limit < ends[0] < axis["value"] < ends[1] < zero
    assert len(axis["trainings"]) == 3
    assert all(0 <= at <= 100 for at in (bad, zero, *ends, *axis["trainings"]))


def test_a_control_bears_its_model_s_name():
    (first, *_), *_ = [load_paper().claims["larger_model_closes_gap"].tests]
    found = row("larger_model_closes_gap", tests=[TEST | {"name": first.name}])
    assert ticks(found["measured"][0]["axis"])["bad"][1] == "cc_synthetic -4"


@pytest.mark.parametrize(("aim", "side"), [("not_lower", -1), ("not_higher", 1)])
@pytest.mark.parametrize("bad", [-4.0, 4.0])
def test_the_margin_lies_where_the_rule_has_it(aim, side, bad):
    control = {"value": bad, "interval": [bad - 1, bad + 1], "n": 500}
    found = row(tests=[TEST | {"aim": aim, "control": control}])
    (_, word) = ticks(found["measured"][0]["axis"])["limit"]
    assert word == f"margin {2 * side:+d}"


def test_an_equal_test_has_a_margin_on_both_sides():
    axis = row(tests=[TEST | {"aim": "equal"}])["measured"][0]["axis"]
    assert sum(tick["kind"] == "limit" for tick in axis["ticks"]) == 2


@pytest.mark.parametrize("interval", [[-1.5, -0.5], [-30.0, 30.0]])
@pytest.mark.parametrize("aim", ["not_lower", "equal"])
def test_labels_of_an_axis_are_all_there_and_do_not_overlap(interval, aim):
    found = row(tests=[TEST | {"interval": interval, "aim": aim}])
    axis = found["measured"][0]["axis"]
    shown = [tick for tick in axis["ticks"] if tick["label"]]
    assert len(shown) == (4 if aim == "equal" else 3)
    for a, b in itertools.combinations(shown, 2):
        width = scorecard.CHARACTER * (len(a["label"]) + len(b["label"])) / 2
        assert a["row"] != b["row"] or abs(a["label_at"] - b["label_at"]) > width
    for tick in shown:
        half = scorecard.CHARACTER * len(tick["label"]) / 2
        assert half <= tick["label_at"] <= 100 - half
    assert axis["rows"] == 1 + max(tick["row"] for tick in shown)


@pytest.mark.parametrize(
    ("metric", "better"),
    [
        ("alignment gap, `a` − `b`", "higher"),
        ("Frechet distance, `a` − `b`", "lower"),
        ("share of votes", ""),
    ],
)
def test_a_metric_says_which_way_is_better_where_one_is(metric, better):
    assert row(tests=[TEST | {"metric": metric}])["measured"][0]["better"] == better


def test_more_of_a_difference_of_differences_is_not_better():
    rule = load_paper().claims["caption_domain_shift"].tests[0]
    own = {"name": rule.name, "metric": rule.metric, "control": None, "margin": None}
    (told,) = row("caption_domain_shift", tests=[TEST | own])["measured"]
    assert rule.metric.startswith("alignment gap") and told["better"] == ""


def test_a_threshold_comes_from_the_paper_s_rules():
    rule = load_paper().claims["speedup_latents"].tests[0]
    own = {"name": rule.name, "aim": "above", "control": None, "margin": None}
    found = row("speedup_latents", tests=[TEST | own])["measured"][0]["axis"]
    assert ticks(found)["zero"][1] == "above 1?"


def test_a_row_says_in_one_sentence_which_tests_fail():
    failed = TEST | {"name": "it is close", "result": "fails"}
    found = row(outcome="does not transfer", tests=[TEST, failed])
    assert found["plain"] == "1 of 2 tests fails: it is close."
    assert row(tests=[TEST, TEST])["plain"].startswith(
        "Both tests pass, and a known-bad"
    )


def test_a_failed_control_is_the_reason_and_is_shown():
    failed = TEST | {"name": "they are named more often", "result": "open"}
    failed |= {"metric": "share named", "control": None, "margin": None}
    found = row(outcome="uninformative", why="Control failed.", requires=[failed])
    assert found["plain"] == "Control failed."
    shown = [one["metric"] for one in found["measured"]]
    assert shown == ["share named", "alignment gap, a − b"]
    held = row(requires=[failed | {"result": "passes"}])
    assert len(held["measured"]) == 1  # a control that held is not shown


def test_metrics_say_once_of_what_they_are_the_value():
    said = ["gap, `a` − `b`", "distance, `a` − `b`", "gap, a less b", "share"]
    words = ["gap, a − b", "distance", "gap, a less b", "share"]
    assert scorecard.in_turn(said) == words


def test_claims_without_a_test_are_grouped_by_the_reason():
    whys = {
        "`cc_tenth` is no row of this run's experiment.": "not trained",
        "`a` and `b` were measured without fid_clip.": "network",
        "Nobody has voted yet. `cc_nc` is no row of this run's experiment.": "voted",
        "n = 12, and the test asks for 200 or more.": "Too few",
        "BLIP-2 needs an A100.": "No test of it",
    }
    rows = [row(outcome="no test here", why=why, tests=[]) for why in whys]
    (group,) = scorecard.grouped(rows)
    found = {claims[0]["why"]: reason for reason, claims in group["reasons"]}
    assert all(whys[why] in found[why] for why in whys) and len(found) == len(whys)


def test_outcomes_are_compared_with_the_reference_run_s():
    pairs = [("transfers", "transfers"), ("does not transfer", "transfers")]
    pairs += [("no test here", "does not transfer"), ("transfers", "inconclusive")]
    rows = [row(outcome=own) | {"reference": {"outcome": o}} for own, o in pairs]
    told = scorecard.compared(rows, "mini")
    assert "Of the 3 outcomes" in told and "repeats 1 and contradicts 1" in told
    assert "other 1" in told
    assert scorecard.compared(rows, "full") == ""


def test_an_unknown_outcome_names_the_remedy():
    with pytest.raises(CommonCanvasError, match="Run stages 06 and 07"):
        row(outcome="supported")


@pytest.mark.parametrize("scale", ["mini", "full"])
def test_the_kept_scorecards_can_be_shown(scale):
    file = paths.RESULTS / scale / "claims.json"
    if not file.is_file():
        pytest.skip("none is kept")
    rows = [
        scorecard._with_looks(r, load_paper()) for r in json.loads(file.read_text())
    ]
    groups = scorecard.grouped(rows)
    assert sum(len(group["claims"]) for group in groups) == len(rows)
    assert all(claim["plain"] and claim["source_url"] for claim in rows)
