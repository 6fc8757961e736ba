"""An audit counts what a reader would, with intervals, for any number of captioners."""

import json

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from commoncanvas.captions import measures
from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError, ShapeError

WORDS = np.array([f"w{i}" for i in range(40)])
RNG = np.random.default_rng(0)
DULL = [f"a picture of a {word}" for word in RNG.choice(WORDS[:10], 60)]
RICH = [" ".join(RNG.choice(WORDS, 6)) for _ in range(60)]
PROMPTS = ["a red w1", "a w2 picture", "blue sun"]


def by_spaces(texts):
    """Tokenize as an encoder does, with a begin and an end."""
    return {"input_ids": [["<s>", *text.split(), "</s>"] for text in texts]}


def audit(captions, prompts=PROMPTS, limit=8, labels=None):
    return measures.audit(captions, prompts, by_spaces, limit, labels)


def values(measured):
    return {name: found["value"] for name, found in measured.items()}


def test_every_measure_can_be_counted_by_hand():
    captions = ["a red cat", "a red dog on a red mat", "sun sun", "a red cat"]
    found = values(audit({"one": captions}, limit=5)[0]["one"])
    assert found["words"] == 15 / 4 and found["tokens"] == 23 / 4
    assert found["cut at 5 tokens"] == 0.25
    assert found["distinct 1-grams, share"] == pytest.approx(7 / 15, abs=1e-5)
    assert found["distinct 2-grams, share"] == pytest.approx(7 / 11, abs=1e-5)
    assert found["begin with the most common opening"] == 0.5
    assert found["repeat 4 words"] == 0
    again = ["a b c d e", "a b c d a b c d"]
    assert values(audit({"one": again})[0]["one"])["repeat 4 words"] == 0.5


@pytest.mark.parametrize("n", [1, 2])
def test_the_distance_to_prompts_is_jensen_s_and_shannon_s(n):
    texts = {"said": RICH, "asked": PROMPTS + RICH[:5]}
    grams = {
        name: measures._ngrams([measures.words(text) for text in lines], n)
        for name, lines in texts.items()
    }
    every = sorted({*grams["said"], *grams["asked"]})
    said, asked = ([grams[k].count(g) for g in every] for k in ("said", "asked"))
    found = audit({"rich": RICH}, PROMPTS + RICH[:5])[0]["rich"]
    wanted = jensenshannon(said, asked, base=2)
    assert found[f"distance to prompts, {n}-grams"]["value"] == pytest.approx(
        wanted, abs=1e-5
    )


def test_the_distance_is_0_to_oneself_and_1_to_what_shares_no_word():
    same = values(audit({"rich": RICH}, RICH)[0]["rich"])
    other = values(audit({"rich": RICH}, ["x y", "z"])[0]["rich"])
    for n in (1, 2):
        assert same[f"distance to prompts, {n}-grams"] == pytest.approx(0, abs=1e-6)
        assert other[f"distance to prompts, {n}-grams"] == 1
    assert not any("prompts" in name for name in audit({"rich": RICH}, [])[0]["rich"])


def test_captioners_stand_side_by_side_with_intervals_and_paired_differences():
    captions = {"dull": DULL, "rich": RICH, "dull again": DULL}
    measured, differences = audit(captions)
    assert list(measured) == list(captions)
    assert list(differences) == ["rich", "dull again"]
    assert values(differences["dull again"]) == dict.fromkeys(measured["dull"], 0)
    for name, found in differences["rich"].items():
        apart = measured["rich"][name]["value"] - measured["dull"][name]["value"]
        assert found["value"] == pytest.approx(apart, abs=1e-5)
        low, high = found["interval"]
        assert low <= found["value"] <= high and found["n"] == 60
    assert differences["rich"]["distinct 2-grams, share"]["interval"][0] > 0
    json.dumps([measured, differences], allow_nan=False)


def test_intervals_cover_the_spread_over_new_pictures():
    # Variety depends on the number of captions, so these are drawn anew, not again.
    def drawn(seed):
        rng = np.random.default_rng(seed)
        lines = [" ".join(rng.choice(WORDS, 5)) for _ in range(100)]
        return audit({"x": lines}, PROMPTS + RICH)[0]["x"]

    found = [drawn(seed) for seed in range(60)]
    for name in ("distinct 2-grams, share", "distance to prompts, 1-grams"):
        mean = np.mean([one[name]["value"] for one in found])
        ends = [one[name]["interval"] for one in found]
        assert np.mean([low <= mean <= high for low, high in ends]) > 0.8, name


def test_only_pictures_that_all_describe_are_compared():
    captions = {"one": ["a cat", "", "a dog", "sun"], "two": ["cat", "x", "", "moon"]}
    measured, _ = audit(captions)
    assert {m["words"]["n"] for m in measured.values()} == {2}
    assert audit({"one": ["a cat", ""], "two": ["", "b"]}) == ({}, {})
    assert measures.as_table({}, {}).empty
    with pytest.raises(ShapeError, match=r"Paired rows are \[2, 1\]"):
        audit({"one": ["a", "b"], "two": ["a"]})


def test_objects_are_recalled_by_whole_words_of_the_pictures_that_have_labels():
    captions = ["two red dogs on a bench", "a man", "a cattle grid", "sky"]
    labels = [["Dog", "Bench", "Tree"], ["person"], ["Cat", "cattle grids"], []]
    found = audit({"one": captions}, labels=labels)[0]["one"]["labelled objects named"]
    assert found["value"] == pytest.approx((2 / 3 + 0 + 1 / 2) / 3, abs=1e-5)
    assert found["n"] == 3
    nothing = audit({"one": captions}, labels=[[], [], [], []])[0]["one"]
    assert "labelled objects named" not in nothing


@pytest.mark.parametrize(
    ("caption", "label", "found"),
    [
        ("three boxes", "box", True),
        ("a glass", "glasses", True),
        ("some berries", "berry", True),
        ("two houses", "house", True),
        ("traffic light at night", "Traffic lights", True),
        ("light traffic", "traffic light", False),
        ("a catalogue", "cat", False),
        ("", "cat", False),
        ("cat", "", False),
    ],
)
def test_an_object_is_named_in_singular_or_plural(caption, label, found):
    assert measures.names_object(caption, label) is found


def test_openings_are_ranked_within_each_captioner():
    found = measures.openings(
        {"dull": DULL, "none": ["", ""], "b": ["B a", "a b", ""]}, 2
    )
    assert found.iloc[0].tolist() == ["dull", "a picture of", 1.0]
    assert found.iloc[1:]["opening"].tolist() == ["a b", "b a"]
    assert found.iloc[1:]["share"].tolist() == [0.5, 0.5]


def test_a_table_has_a_column_for_each_captioner_and_each_difference():
    table = measures.as_table(*audit({"dull": DULL, "rich": RICH}))
    assert list(table) == ["measure", "dull", "rich", "rich − dull"]
    assert table["dull"][0] == "5 [5, 5]"
    assert not table.isna().any().any()


def test_labels_are_read_as_imported_captions_are(tmp_path, monkeypatch):
    lines = [{"id": 7, "objects": ["Dog", "Tree"]}, {"id": 9, "objects": "Cat"}]
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, lines)))
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    settings = {"file": "labels.jsonl", "key_column": "id", "caption_column": "objects"}
    found = measures.read_labels(
        {**settings, "key_prefix": "p/"}, ["p/9", "p/8", "p/7"]
    )
    assert found == [["Cat"], [], ["Dog", "Tree"]]
    assert measures.read_labels({}, ["p/9"]) is None


def test_prompts_are_lines_or_the_first_column_of_a_table(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (tmp_path / "a.txt").write_text("a cat\n\n a dog \n")
    (tmp_path / "b.tsv").write_text('Prompt\tCategory\na "cat"\tAnimals\n')
    (tmp_path / "c.txt").write_text(" \n")
    (tmp_path / "d.txt").write_bytes(b"\xff\xfe\xfa")
    assert measures.read_prompts("a.txt", []) == ["a cat", "a dog"]
    assert measures.read_prompts("b.tsv", []) == ['a "cat"']
    assert measures.read_prompts("", ["x", ""]) == ["x"]
    for name, message in [("c", "are none"), ("d", "Unicode"), ("e", "FileNotFound")]:
        with pytest.raises(ParameterError, match=message) as refused:
            measures.read_prompts(f"{name}.txt", [])
        assert "\n" not in str(refused.value)
