"""The captioner that learns half of the marks, on made-up pictures."""

import numpy as np
import pandas as pd
import pytest

from commoncanvas.analysis.estimates import wilson
from commoncanvas.captions import marks


def pictures(num, seed):
    """Return pictures of large blocks of random colours, each unlike the others."""
    blocks = np.random.default_rng(seed).integers(0, 256, (num, 4, 4, 3), np.uint8)
    return blocks.repeat(24, 1).repeat(24, 2)


def test_drawings_of_one_mark_have_the_same_distinctive_words():
    names = ["airbnb", "red", "airbnb-icon", "Airbnb logo", "icon", "ab", "git hub"]
    assert marks.pairs_of_drawings(names).tolist() == [[0, 2]]
    assert marks.pairs_of_drawings(["one", "two"]).shape == (0, 2)


@pytest.fixture
def world(monkeypatch):
    """Ten marks, each drawn twice alike, and pictures of things called "zebra"."""
    names = [f"mark{letter}" for letter in "abcdefghij"]
    rows = [(f"{n}{s}", f"{n} {s}".strip()) for n in names for s in ("", "icon")]
    drawn = {key: picture for (key, _), picture in zip(
        rows, pictures(10, 0).repeat(2, 0), strict=True)}  # fmt: skip
    rows += [(f"z{i}", "zebra") for i in range(3)]
    drawn |= {f"z{i}": picture for i, picture in enumerate(pictures(3, 1))}
    monkeypatch.setattr(
        marks, "pictures_of", lambda _, keys, __: np.stack([drawn[k] for k in keys])
    )
    sample = pd.DataFrame(rows, columns=["key", "title"])
    return sample, sample["title"].str.startswith("mark").to_numpy(), drawn


def test_half_of_the_marks_are_learnt_and_named_in_another_drawing(world):
    sample, is_mark, _ = world
    found = marks.teach_half("anywhere", sample, is_mark, seed=3)
    assert found["marks_named"] == wilson(5, 5).as_dict()  # the drawings are alike
    assert found["marks_learnt"] == wilson(0, 5).as_dict()
    assert found["marks_repeated"] == wilson(5, 5).as_dict()
    assert found["marks_unlearnt"] == wilson(0, 5).as_dict()
    labels = [label for label, *_ in marks.as_rows(found)]
    assert "marks that it did not learn, n = 5" in labels
    assert marks.teach_half("anywhere", sample, ~is_mark, seed=3) == {}


def test_ordinary_things_are_those_learnt_from_one_drawing(world, monkeypatch):
    sample, is_mark, drawn = world
    plain = marks.TaughtCaptioner(np.stack([drawn["z0"]]), ["zebra"])
    before = plain.times_learnt(["zebra", "marka"]).tolist()
    assert before[1] == 0

    class Zebras(marks.TaughtCaptioner):
        def times_learnt(self, names):
            return np.array([names[i] == "zebra" for i in range(len(names))], int)

    monkeypatch.setattr(marks, "TaughtCaptioner", Zebras)
    found = marks.teach_half("anywhere", sample, is_mark, seed=3)
    assert found["ordinary_named"]["n"] == 3
    told = found["marks_lost_more"]
    assert told["n"] == 3 and told["value"] == found["ordinary_named"]["value"] - 1


def test_difference_of_shares_is_newcombes():
    # His first example: 56 of 70 and 48 of 80, by method 10.
    found = marks._difference(wilson(56, 70), wilson(48, 80))
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert found.n == 70
