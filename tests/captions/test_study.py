"""What captions lose is counted as a reader would, on worlds small enough to see."""

import json
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from toys import CLIP_SIZE, save_clip

from commoncanvas.captions import marks, study
from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.models.clip import Clip

NAMES = np.array(["red cat", "blue dog", "sun", "green tree"])
TEXTS = np.array(["red cat", "dog", "moon", "tree in green"])
SETS = ["a", "a", "b", "b"]
EYE = np.eye(4)


def test_agreement_over_all_and_by_set_can_be_counted_by_hand():
    overall, by_set = study.agree(TEXTS, NAMES, SETS)
    assert overall["exact"]["value"] == 0.25 and overall["exact"]["n"] == 4
    f1 = [1, 2 / 3, 0, 0.8]
    assert overall["word_f1"]["value"] == pytest.approx(np.mean(f1), abs=1e-5)
    assert list(by_set) == ["a", "b"]
    assert by_set["a"]["value"] == pytest.approx(np.mean(f1[:2]), abs=1e-5)


def test_agreement_does_not_depend_on_the_order_of_the_pictures():
    turned = study.agree(TEXTS[::-1], NAMES[::-1], SETS[::-1])
    assert turned == study.agree(TEXTS, NAMES, SETS)


def test_names_that_survive_are_counted_group_by_group():
    names = np.array(["GitHub icon", "Twitter", "flag for Chad", "cat"])
    texts = np.array(["twitter cat", "blue bird", "a flag", "github"])
    groups = {
        "marks": np.array([True, True, False, False]),
        "places": np.array([False, False, True, False]),
        "none": np.zeros(4, bool),
    }
    found = study.leaked_names(texts, names, groups)
    values = {
        g: {s: m["value"] for s, m in sides.items()} for g, sides in found.items()
    }
    assert values == {
        "marks": {"human": 1.0, "synthetic": 0.5, "synthetic, own name": 0.0},
        "places": {"human": 1.0, "synthetic": 0.0, "synthetic, own name": 0.0},
    }


def test_equal_texts_get_equal_embeddings_whatever_stands_beside_them():
    told = {"x": ["a cat", "sun", "a cat"], "y": ["a cat"]}
    embeds = study.embed_captions(told, study.load_judge({"scorer": "open"}))
    assert embeds["x"].shape == (3, 384)
    assert np.array_equal(embeds["x"][0], embeds["x"][2])
    assert np.array_equal(embeds["x"][0], embeds["y"][0])
    assert not np.allclose(embeds["x"][0], embeds["x"][1])


def test_a_caption_finds_its_picture_if_no_other_is_nearer():
    assert study.find_pictures(EYE, EYE)["value"] == 1
    assert study.find_pictures(EYE, EYE[[1, 0, 2, 3]])["value"] == 0.5


def test_pictures_with_the_same_caption_share_one_hit():
    pictures = np.repeat(EYE[:1], 4, axis=0)
    assert study.find_pictures(pictures, pictures)["value"] == 0.25


def test_mistakes_name_the_picture_that_was_found_instead():
    mistakes = study.mistaken_pictures(EYE, EYE[[1, 0, 2, 3]])
    assert mistakes.to_dict("list") == {"row": [0, 1], "found": [1, 0]}
    assert study.mistaken_pictures(EYE, EYE).empty


def test_captions_are_cut_where_the_encoder_stops_reading():
    table = study.cut_captions(
        {"long": ["cat " * 90, "cat"], "short": ["cat"], "none": []},
        [3, 77],
        study.load_judge({"scorer": "open"}).tokenizer,
    )
    assert table.index.tolist() == ["long", "short"]
    assert (
        table.loc["long", "cut at 77"] == 0.5 and table.loc["long", "cut at 3"] == 0.5
    )
    assert table.loc["long", "longest"] == 92  # begin and end are tokens too
    assert table.loc["short", ["mean tokens", "cut at 3", "cut at 77"]].tolist() == [
        3,
        0,
        0,
    ]


def test_mixing_two_captioners_starts_at_one_and_ends_at_the_other():
    second = np.array(["x", "y", "sun", "w"])
    embeds = EYE, EYE[[1, 0, 2, 3]]
    mixed = study.combine_captioners(
        TEXTS, second, NAMES, EYE, embeds, [0.0, 0.5, 1.0], seed=3
    )
    assert [m["value"] for m in mixed["found"]][::2] == [1.0, 0.5]
    wanted = [study.agree(t, NAMES, SETS)[0]["word_f1"] for t in (TEXTS, second)]
    assert list(mixed["word_f1"])[::2] == wanted
    assert mixed["distinct"].tolist()[::2] == [4, 4]


def test_a_larger_share_keeps_what_a_smaller_one_had():
    first, second = np.full(200, "one"), np.array([f"two {i}" for i in range(200)])
    embeds = np.eye(200), np.eye(200)
    counts = study.combine_captioners(
        first, second, first, np.eye(200), embeds, [0.25, 0.5, 0.75], seed=0
    )["distinct"].tolist()
    assert counts == sorted(counts) and 40 < counts[0] < 62


def test_the_profile_s_scorer_ranks_the_pictures(tmp_path):
    """CLIP for photographs; the open scorer knows drawings."""
    settings = {"scorer": "clip", "model": str(save_clip(tmp_path))}
    judge = study.load_judge(settings)
    pictures = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    clip, texts = Clip(str(tmp_path)), ["a cat", "sun"]
    assert judge.size == CLIP_SIZE
    for rows, wanted in [
        (judge.image_embeds(pictures), clip.image_embeds(pictures)),
        (judge.text_embeds(texts), clip.text_embeds(texts)),
    ]:
        assert np.allclose(np.linalg.norm(rows, axis=1), 1)
        assert np.allclose(rows * np.linalg.norm(wanted, axis=1)[:, None], wanted)
    with pytest.raises(ParameterError, match="'minilm'; expected one of open, clip"):
        study.load_judge({"scorer": "minilm"})


def test_a_scale_without_marks_measures_none():
    nobody = np.zeros(4, bool)
    assert study.leaked_names(TEXTS, NAMES, {"marks": nobody, "places": nobody}) == {}


def test_a_page_without_marks_draws_nothing_of_them():
    """Photographs have no `mark_sources`: nothing is drawn of no pictures."""
    text = (paths.NOTEBOOKS / "02_captions.ipynb").read_text(encoding="utf-8")
    cells = ["".join(cell["source"]) for cell in json.loads(text)["cells"]]
    (first,) = [n for n, cell in enumerate(cells) if cell.startswith("groups = ")]
    drawn = Mock()
    known = {"mark_sources": [], "place_prefix": "flag ", "plots": drawn}
    known |= {"figures": drawn, "picture_store": drawn, "np": np, "study": study}
    known |= {"pd": pd, "texts": TEXTS, "titles": NAMES, "above": None, "seed": 1}
    known |= {"teach_half": marks.teach_half, "as_rows": marks.as_rows}
    known["sample"] = pd.DataFrame({"title": NAMES, "source": SETS})
    known["pairs"] = list(zip(NAMES, TEXTS, strict=True))
    exec(cells[first], known)
    exec(cells[first + 2], known)  # after a sentence
    assert known["leaks"] == {} and drawn.mock_calls == []
