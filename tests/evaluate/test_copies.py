"""Copies are separated from other works at the stated rate, and the source named."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import binom
from toys import write_real_world

from commoncanvas.analysis.estimates import wilson
from commoncanvas.core.picture_store import pictures_of
from commoncanvas.evaluate import copies
from commoncanvas.evaluate.nearest import TrainingWorks, nearest

RATES = [0.01, 0.02, 0.1]


@pytest.fixture(scope="module")
def works(tmp_path_factory):
    folder = tmp_path_factory.mktemp("01_licenses")
    frame = write_real_world(folder, num=160)
    return TrainingWorks(folder, frame.loc[~frame["is_holdout"], "key"].tolist())


@pytest.fixture(scope="module")
def controls(works):
    return copies.control(works, 64, num_copies=150, num_others=300, seed=3)


def test_copies_are_told_from_the_nearest_other_works(controls):
    area = controls.area()
    assert 0.95 <= area.value <= area.high <= 1 and area.low > 0.9
    assert area.n == 150 and controls.copies["is_named"].mean() > 0.95
    assert set(controls.copies["kind"]) == set(copies.CHANGES)
    assert controls.copies["kind"].value_counts().nunique() == 1


def test_no_other_work_meets_its_own_copy(works, controls):
    group = works.catalog["near_group"]
    own, found = (group[controls.others[c]].to_numpy() for c in ("key", "nearest"))
    assert (own != found).all() and len(controls.others) == 300
    assert not controls.others["key"].isin(works.keys).all()  # held out ones too


@pytest.mark.parametrize("rate", RATES)
def test_at_most_the_stated_share_of_the_others_is_flagged(controls, rate):
    flagged = controls.others["similarity"] > controls.threshold(rate)
    assert flagged.mean() <= rate
    just_below = controls.threshold(rate) - 1e-4
    assert (controls.others["similarity"] > just_below).mean() >= rate - 1 / 300


@pytest.mark.parametrize("num", [40, 99, 150])
def test_the_stated_share_holds_for_any_number_of_others(num):
    others = pd.DataFrame({"similarity": np.linspace(0, 1, num)})
    for rate in RATES:
        cut = copies.Control(others, others).threshold(rate)
        assert (others["similarity"] > cut).mean() <= rate


def test_planted_copies_are_found_and_named_and_real_pictures_are_not(works, controls):
    rng = np.random.default_rng(8)
    frame = works.comparable().drop(index=works.keys)
    fresh = frame.index.difference(controls.others["key"])
    fresh = fresh[~frame.loc[fresh, "near_group"].isin(works.groups)]
    planted = rng.permutation(len(works))[:30]
    planted = planted[~np.isin(works.keys[planted], controls.copies["source"])]
    originals = pictures_of(works.folder, works.keys[planted], 64)
    kinds = np.resize(["flip", "blur"], len(planted))
    changed = [
        np.asarray(copies.CHANGES[kind](Image.fromarray(original), rng))
        for kind, original in zip(kinds, originals, strict=True)
    ]
    samples = np.concatenate([pictures_of(works.folder, fresh, 64), changed])
    places, similarity = nearest(samples, works, 1)
    is_copy = similarity[:, 0] > controls.threshold(0.05)
    num = len(fresh)
    assert len(planted) >= 10 and is_copy[num:].mean() > 0.8
    right = works.groups[places[num:, 0]] == works.groups[planted]
    assert right[is_copy[num:]].all()
    flagged = (controls.others["similarity"] > controls.threshold(0.05)).sum()
    high = wilson(int(flagged), len(controls.others)).high
    assert num >= 20 and is_copy[:num].sum() <= binom.ppf(0.999, num, high)


def test_a_seed_gives_the_same_control_in_any_order(works):
    backwards = TrainingWorks(works.folder, works.keys[::-1].tolist(), chunk_size=50)
    first, again, other = (
        copies.control(w, 32, 15, 15, seed=s)
        for w, s in ((works, 1), (backwards, 1), (works, 2))
    )
    for name in ("copies", "others"):
        a, b = getattr(first, name), getattr(again, name)
        pd.testing.assert_frame_equal(a, b, atol=1e-4)
        assert not a.equals(getattr(other, name))


def test_a_study_reads_the_works_once_and_finds_what_each_search_finds(works):
    samples = pictures_of(works.folder, works.keys[:9], 64)
    expected, alone = copies.control(works, 64, seed=4), nearest(samples, works)
    read = []

    def chunks(self):
        read.append(self)
        return TrainingWorks.chunks(works)

    once = type("Works", (TrainingWorks,), {"chunks": chunks})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "TrainingWorks", once)
        study = copies.study(samples, works.folder, works.keys, seed=4)
    assert len(read) == 1
    assert np.array_equal(study.places, alone[0])
    np.testing.assert_allclose(study.similarity, alone[1], atol=1e-4)
    for name in ("copies", "others"):
        a, b = getattr(study.control, name), getattr(expected, name)
        pd.testing.assert_frame_equal(a, b, atol=1e-4)


def test_the_curve_rises_from_corner_to_corner_and_holds_the_area(controls):
    rates, recalls = (np.array(side) for side in controls.roc())
    assert (rates[0], rates[-1], recalls[-1]) == (0, 1, 1)
    assert (np.diff(rates) >= 0).all() and (np.diff(recalls) >= 0).all()
    assert np.trapezoid(recalls, rates) == pytest.approx(controls.area().value)


# Nine works of six groups, two of which have several members.
GROUPS = SimpleNamespace(groups=np.array(list("aaabbcdef"), object))
MADE_UP = copies.Control(
    pd.DataFrame({"similarity": [0.95, 0.99, 0.8, 0.7] * 5, "is_named": True}),
    pd.DataFrame({"similarity": np.linspace(0, 0.92, 40)}),
)


def test_what_is_measured_is_what_was_found():
    places = np.array([0, 2, 5, 5, 8, 3])  # of the groups a, a, c, c, f and b
    similarity = np.array([0.99, 0.98, 0.97, 0.96, 0.5, 0.9])
    found = copies.measure(places, similarity, GROUPS, MADE_UP, 0.9)
    expected = {
        "copy_rate": (4, 6),
        "copied_unique": (1, 4),
        "copied_duplicated": (1, 2),
        "recall": (10, 20),
        "named": (20, 20),
        "false_positive_rate": (1, 40),
    }
    area = found.pop("roc_area")
    assert found == {name: wilson(*n).as_dict() for name, n in expected.items()}
    low, high = area["interval"]
    assert low < area["value"] < high and area["n"] == 20
    assert json.loads(json.dumps(found)) == found


def test_the_most_similar_samples_come_first_beside_their_works():
    works = SimpleNamespace(keys=np.array(list("abc"), object))
    places, similarity = np.array([2, 0, 1, 2]), np.array([0.5, 0.8, 0.9, 0.8])
    found = places[:, None], similarity[:, None]
    study = copies.Study(works, MADE_UP, 0.8, *found, {})
    rows = study.most_similar(3)
    assert rows["place"].tolist() == [2, 1, 3]
    assert rows["key"].tolist() == ["b", "a", "c"]
    assert rows["similarity"].tolist() == [0.9, 0.8, 0.8]
    assert rows["is_copy"].tolist() == [True, False, False]


def test_without_near_copies_among_the_works_none_are_reported():
    alone = SimpleNamespace(groups=np.array(list("abc"), object))
    one = np.array([0]), np.array([0.1])
    found = copies.measure(*one, alone, MADE_UP, 0.9)
    assert "copied_duplicated" not in found and found["copied_unique"]["n"] == 3


def test_equal_similarity_is_half_an_area():
    same = pd.DataFrame({"similarity": [0.5] * 20})
    area = copies.Control(same, same).area()
    assert (area.value, area.low, area.high) == (0.5, 0.5, 0.5)
