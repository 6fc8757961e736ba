"""Every value comes with its interval and count, and a copy is found."""

import json

import numpy as np
import pytest
import torch

from commoncanvas.analysis import matching, tables
from commoncanvas.analysis.estimates import REPLICATES, Estimate
from commoncanvas.evaluate import measurement, results
from commoncanvas.evaluate.extractors import FeatureExtractor, Scorer
from commoncanvas.evaluate.judges import Judge
from commoncanvas.models import efficientnet

METRICS = {
    "alignment",
    "alignment_shuffled",
    "alignment_gap",
    "nearest_train_cosine",
    "fd_efficientnet",
    "kd_efficientnet",
    "retrieval_top1",
}
NUM = 24
EXACT = {"value": 5.0, "interval": [4.0, 6.0], "n": 3}
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(60, 12))
TEXTS = RNG.normal(size=(NUM, 384))


def places(pictures):
    return [picture[0, 0, 0] for picture in pictures]


def judge(name, frechet, kernel):
    """Return a judge that gives each picture its own row of FEATURES."""
    return FeatureExtractor(
        name, frechet, kernel, 12, lambda p: torch.from_numpy(FEATURES[places(p)]), {}
    )


def scorer(name):
    """Return a scorer that gives a picture the row of its prompt."""
    return Scorer(name, matching.alignment, lambda p: TEXTS[places(p)], None, {})


OPEN = judge("efficientnet", "fd_efficientnet", "kd_efficientnet")
REAL = {"efficientnet": FEATURES[30:]}


def trained():
    """Yield the features of the works trained on, in blocks of two sizes."""
    yield FEATURES[20:33]
    yield FEATURES[33:]


ARGS = TEXTS, scorer("alignment"), [Judge(OPEN, REAL["efficientnet"])], trained, 10


@pytest.fixture
def pixels(monkeypatch):
    """Pictures whose first number is their place, and features drawn to match."""
    for module in (measurement, efficientnet):
        monkeypatch.setattr(
            module, "image_features", lambda pixels: FEATURES[places(pixels)]
        )
    shape = (NUM, 8, 8, 3)
    return np.broadcast_to(np.arange(NUM, dtype=np.uint8)[:, None, None, None], shape)


@pytest.fixture
def measured(pixels):
    return measurement.measure(pixels, *ARGS, seed=1).values


def test_every_metric_is_there_with_interval_and_count(measured):
    assert set(measured) == METRICS
    for estimate in measured.values():
        assert set(estimate) == {"value", "interval", "n"} and estimate["n"] == NUM
        low, high = estimate["interval"]
        assert low <= estimate["value"] <= high
    assert json.loads(json.dumps(measured)) == measured


def test_a_scorer_that_knows_gives_full_marks(measured):
    assert measured["alignment"]["value"] == 100
    assert measured["retrieval_top1"]["value"] == 1
    assert abs(measured["alignment_shuffled"]["value"]) < 10


def test_the_gap_is_matched_less_shuffled(measured):
    matched, shuffled = (measured[f"alignment{x}"]["value"] for x in ("", "_shuffled"))
    assert measured["alignment_gap"]["value"] == pytest.approx(matched - shuffled, 1e-4)


def test_the_same_seed_gives_the_same_values(pixels, measured):
    assert measurement.measure(pixels, *ARGS, seed=1).values == measured
    other = measurement.measure(
        pixels, *ARGS, seed=2
    ).values  # moves the choices in retrieval alone
    assert all(other[name] == measured[name] for name in METRICS - {"retrieval_top1"})


def test_each_judge_and_the_scorer_name_their_metrics(pixels, measured):
    fid = judge("inception", "fid_inception", "kid_inception")
    judges = [Judge(fid, FEATURES[30:])]
    judges.append(Judge(judge("clip", "clip_fid", ""), FEATURES[24:] + 1))
    args = TEXTS, scorer("clip_score"), judges, trained, 10, 1
    found = measurement.measure(pixels, *args).values
    names = {"clip_score", "clip_score_shuffled", "clip_score_gap", "clip_fid"}
    names |= {"fid_inception", "kid_inception"}
    assert set(found) == names | {"nearest_train_cosine", "retrieval_top1"}
    assert found["fid_inception"] == measured["fd_efficientnet"]
    assert found["kid_inception"] == measured["kd_efficientnet"]
    assert found["clip_fid"]["value"] > found["fid_inception"]["value"]
    assert found["clip_score_gap"] == measured["alignment_gap"]
    assert found["nearest_train_cosine"] == measured["nearest_train_cosine"]


def test_samples_are_compared_with_the_pictures_that_their_prompts_name(pixels):
    found = measurement.measure(pixels, *ARGS, seed=1, own=FEATURES[:NUM])
    like, rows = found.values, found.rows
    others = FEATURES[NUM - 1 :: -1]
    unlike = measurement.measure(pixels, *ARGS, seed=1, own=others).values
    assert like["likeness"]["value"] == pytest.approx(100)
    assert like["likeness_gap"]["value"] > 50 > abs(unlike["likeness_gap"]["value"])
    assert rows["likeness"] == pytest.approx(np.full(NUM, 100.0))
    assert set(like) == METRICS | {"likeness", "likeness_gap"}


def test_rows_come_back_as_they_were_written(tmp_path, pixels):
    measured = measurement.measure(pixels, *ARGS, seed=1)
    rows = measured.rows
    reference = {"fd_efficientnet": REAL["efficientnet"]}
    kept = {"b": rows, "a": rows, "reference": reference}
    results.write_rows(tmp_path, kept)
    found = results.read_rows(tmp_path)
    assert list(found) == ["b", "a", "reference"]
    for prompts, metric in ((p, m) for p in kept for m in kept[p]):
        np.testing.assert_allclose(found[prompts][metric], kept[prompts][metric], 1e-6)
    mean = found["b"]["alignment_gap"].mean()
    assert mean == pytest.approx(measured.values["alignment_gap"]["value"], abs=1e-4)


class Reader:
    """Stands for `Latents`: keys, and a row of features for each."""

    def __init__(self, keys, start):
        self.keys, self.start = keys, start

    def features(self, places):
        return FEATURES[self.start + places]


def test_features_of_works_are_found_in_the_prompts_order():
    readers = Reader(["a", "b", "c"], 0), Reader(["d", "e"], 3)
    found = measurement.features_of(readers, ["e", "a", "d"])
    np.testing.assert_array_equal(found, FEATURES[[4, 0, 3]])
    assert measurement.features_of(readers, ["a", "gate/1"]) is None


def test_tables_have_a_row_or_a_column_a_guidance_scale(measured):
    wide = tables.as_table({"1.0": measured, "3.0": measured})
    tall = tables.as_columns({"1.0": measured, "3.0": {"alignment": EXACT}})
    assert wide["guidance_scale"].tolist() == ["1.0", "3.0"]
    assert set(wide.columns) == METRICS | {"guidance_scale"}
    assert wide["alignment"][0] == "100 [100, 100]"
    assert list(tall) == ["metric", "1.0", "3.0"] and len(tall) == len(METRICS)
    rows = tall.set_index("metric")
    assert rows.loc["alignment", "3.0"] == "5 [4, 6]"
    assert rows.loc["kd_efficientnet", "3.0"] == "–"


def test_curves_and_headlines_are_read_off_a_run():
    def values(value):
        estimate = {"value": value, "interval": [value - 1, value + 2], "n": 5}
        return dict.fromkeys(("fd", "likeness_gap", "clip_score_gap"), estimate)

    run = {
        "sweep": {"1.0": values(9), "3.0": values(4), "6.0": values(7)},
        "by_prompt": {"human": values(5), "synthetic": values(8)},
        "reference": {"real_vs_real": {"fd": {}, "other": {}}},
        "num_train_pictures": 12,
    }
    assert tables.headline(run) == ("fd", "clip_score_gap")
    assert tables.leading(run) == values(5)
    x, y = tables.trade(run["sweep"], "likeness_gap", "fd")
    assert x == y == ([1.0, 3.0, 6.0], [9, 4, 7], [8, 3, 6], [11, 6, 9])
    x, y = tables.trade(run["sweep"], "", "fd")
    assert x == ([1.0, 3.0, 6.0],) * 4 and y[1] == [9, 4, 7]
    assert tables.trade({}, "fd", "fd") == (([], [], [], []),) * 2
    line = tables.by_size([run, run], lambda r: r["sweep"]["1.0"]["fd"])
    assert line == ([12, 12], [9, 9], [8, 8], [11, 11])


def test_values_in_a_table_have_three_digits():
    found = tables.in_digits(Estimate(1185.4, 1162.9, 0.00080132, 9))
    assert found == "1,190 [1,160, 0.000801]"


def test_a_distance_to_other_pictures_says_so_in_its_name(pixels, measured):
    found = measurement.measure(pixels, *ARGS, seed=1, suffix="_to_held_out")
    plain = {"fd_efficientnet", "kd_efficientnet"}
    assert set(found.values) == METRICS - plain | {f"{n}_to_held_out" for n in plain}
    for name in plain:
        assert found.values[f"{name}_to_held_out"] == measured[name]
    assert REPLICATES + "fd_efficientnet_to_held_out" in found.rows


def test_a_planted_copy_is_found(pixels):
    trained = RNG.normal(size=(40, 12))
    trained[17] = 3 * FEATURES[5]
    places, cosines = efficientnet.closest(pixels, trained)
    assert places.shape == cosines.shape == (NUM,)
    assert places[5] == 17 and cosines[5] == pytest.approx(1)
    assert np.delete(cosines, 5).max() < 0.999


@pytest.mark.parametrize("num", [1, 7, 40, 99])
def test_blocks_of_works_change_nothing(pixels, num, monkeypatch):
    trained = RNG.normal(size=(40, 12))
    trained[30] = trained[2]  # of equals the first is named
    unit = [x / np.linalg.norm(x, axis=1)[:, None] for x in (FEATURES[:NUM], trained)]
    cosines = unit[0] @ unit[1].T
    monkeypatch.setattr(efficientnet, "NUM_COMPARED", 3)
    blocks = (trained[i : i + num] for i in range(0, 40, num))
    places, found = efficientnet.closest(pixels, blocks)
    assert np.array_equal(places, cosines.argmax(1))
    np.testing.assert_allclose(found, cosines.max(1), atol=1e-6)


def test_features_that_are_known_are_not_made_again(pixels, monkeypatch):
    expected = efficientnet.closest(pixels, FEATURES[20:])
    monkeypatch.setattr(measurement, "image_features", None)
    found = efficientnet.closest(pixels, FEATURES[20:], FEATURES[:NUM])
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))


def test_a_true_copy_is_found_by_the_true_network():
    pictures = RNG.integers(0, 256, (6, 1, 1, 3), np.uint8).repeat(40, 1).repeat(40, 2)
    pictures[:, 10:30, 5:20] = RNG.integers(0, 256, (6, 20, 15, 3), np.uint8)
    trained = measurement.image_features(pictures)
    places, cosines = efficientnet.closest(pictures[[4, 1]], trained)
    assert places.tolist() == [4, 1] and cosines.min() > 0.9999


@pytest.mark.parametrize(("num_samples", "n"), [(10, 10), (500, 30)])
def test_the_floor_is_taken_at_the_samples_count_or_what_there_is(num_samples, n):
    floor = measurement.floors(FEATURES, num_samples, 0)
    assert floor["n"] == n and floor["value"] >= 0


def test_samples_and_prompts_come_back_as_they_were_written(tmp_path, pixels):
    prompts = ["café", "a <b> \n c"] * (NUM // 2)
    samples = {1.0: pixels, 7.5: 255 - pixels}
    results.write_samples(tmp_path, samples, prompts)
    for scale, expected in samples.items():
        found, words = results.read_samples(tmp_path, scale)
        assert np.array_equal(found, expected) and words == prompts


def test_so_many_samples_are_handed_on_as_pages_and_votes_show(
    tmp_path, pixels, monkeypatch
):
    monkeypatch.setattr(results, "NUM_KEPT", 5)
    results.write_samples(tmp_path, {1.0: pixels}, map(str, range(NUM)))
    found, words = results.read_samples(tmp_path, 1.0)
    assert np.array_equal(found, pixels[:5]) and words == list("01234")
