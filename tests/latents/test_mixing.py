"""Every picture points at its own words, and mixtures are what was asked for."""

import numpy as np
import pandas as pd
import pytest
from toys import CAPTIONS, CATALOG, NUM, SAID

from commoncanvas.core.errors import ParameterError
from commoncanvas.latents import mixing


def test_the_first_text_is_the_empty_caption():
    texts = mixing.make_index(CATALOG, CAPTIONS)[1]
    assert texts[0] == "" and texts.count("") == 1
    assert mixing.make_index(CATALOG, CAPTIONS.iloc[:0])[1][0] == ""


def test_texts_are_distinct_and_none_is_missing():
    texts = mixing.make_index(CATALOG, CAPTIONS)[1]
    assert len(texts) == len(set(texts))
    assert set(texts) == {"", "cat", "dog", *SAID.values()}


def test_every_picture_points_at_its_own_words():
    index, texts = mixing.make_index(CATALOG, CAPTIONS)
    titles = CATALOG.set_index("key")["title"]
    for row in index.itertuples():
        title = titles[row.key]
        assert [texts[i] for i in row.text_human] == ([title] if title else [])
        said = [SAID[row.key]] if row.key in SAID else []
        assert [texts[i] for i in row.text_synthetic] == said
        assert row.text_alt_text == []


def test_a_picture_may_have_several_captions_of_one_source_or_none():
    key = CATALOG["key"][0]
    told = pd.DataFrame(
        {"key": [key] * 3, "source": "told", "caption": ["x", "y", None]}
    )
    index, texts = mixing.make_index(CATALOG, pd.concat([CAPTIONS, told]))
    rows = index.set_index("key")["text_told"]
    assert [texts[i] for i in rows[key]] == ["x", "y"]
    assert rows.map(len).sum() == 2


def test_the_index_does_not_depend_on_the_order_of_the_catalogue():
    first, texts = mixing.make_index(CATALOG, CAPTIONS)
    second, same = mixing.make_index(CATALOG.sample(frac=1, random_state=1), CAPTIONS)
    pd.testing.assert_frame_equal(first, second)
    assert texts == same and first["key"].is_monotonic_increasing


def test_an_openly_licensed_web_work_is_not_among_the_licensed():
    index, _ = mixing.make_index(CATALOG.assign(split="web"), CAPTIONS)
    assert set(index["license_slug"]) == {"web"}


def test_alt_texts_are_captions_where_an_author_wrote_one():
    told = CATALOG.assign(alt_text=["a red cat", *[""] * (NUM - 1)])
    index, texts = mixing.make_index(told, CAPTIONS)
    (rows,) = [rows for rows in index["text_alt_text"] if rows]
    assert [texts[i] for i in rows] == ["a red cat"]


INDEX = pd.DataFrame({"text_a": [[3], [], [], [5, 6]], "text_b": [[4], [7], [], [8]]})


def test_odds_are_cumulative_and_renormalised_where_a_source_is_missing():
    rows, shares = mixing.caption_choices(INDEX, {"a": 1, "b": 3})
    assert rows.tolist() == [[3, 4, 0], [7, 0, 0], [0, 0, 0], [5, 6, 8]]
    wanted = [[0.25, 1, 1], [1, 1, 1], [0, 0, 0], [0.125, 0.25, 1]]
    assert np.allclose(shares, wanted)


def test_one_source_is_a_mixture_of_one():
    rows, shares = mixing.caption_choices(INDEX, "a")
    assert rows.tolist() == [[3, 0], [0, 0], [0, 0], [5, 6]]
    assert shares.tolist() == [[1, 1], [0, 0], [0, 0], [0.5, 1]]


@pytest.mark.parametrize("asked", ["c", {"a": 0}, {}, {"a": 1, "c": 1}, {"a": -1}])
def test_an_impossible_mixture_is_refused_with_the_sources_there_are(asked):
    with pytest.raises(ParameterError, match="expected one of a, b, or weights"):
        mixing.caption_choices(INDEX, asked)
