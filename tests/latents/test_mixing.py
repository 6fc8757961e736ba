"""Every picture points at its own words, and mixtures are what was asked for."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import CAPTIONS, CATALOG, NUM, SAID

from commoncanvas.core.errors import ParameterError
from commoncanvas.latents import mixing


def made(catalog, captions):
    index, texts = mixing.make_index(catalog, captions)
    return index.to_pandas(), texts


def test_the_first_text_is_the_empty_caption():
    texts = mixing.make_index(CATALOG, CAPTIONS)[1]
    assert texts[0] == "" and texts.count("") == 1
    assert mixing.make_index(CATALOG, CAPTIONS.iloc[:0])[1][0] == ""


def test_texts_are_distinct_and_none_is_missing():
    texts = mixing.make_index(CATALOG, CAPTIONS)[1]
    assert len(texts) == len(set(texts))
    assert set(texts) == {"", "cat", "dog", *SAID.values()}


def test_every_picture_points_at_its_own_words():
    index, texts = made(CATALOG, CAPTIONS)
    titles = CATALOG.set_index("key")["title"]
    for row in index.itertuples():
        title = titles[row.key]
        assert [texts[i] for i in row.text_human] == ([title] if title else [])
        said = [SAID[row.key]] if row.key in SAID else []
        assert [texts[i] for i in row.text_synthetic] == said
        assert len(row.text_alt_text) == 0


def test_a_picture_may_have_several_captions_of_one_source_or_none():
    key = CATALOG["key"][0]
    told = pd.DataFrame(
        {"key": [key] * 3, "source": "told", "caption": ["x", "y", None]}
    )
    index, texts = made(CATALOG, pd.concat([CAPTIONS, told]))
    rows = index.set_index("key")["text_told"]
    assert [texts[i] for i in rows[key]] == ["x", "y"]
    assert rows.map(len).sum() == 2


def test_the_index_is_in_the_order_of_the_catalogue():
    turned = CATALOG.sample(frac=1, random_state=1)
    first, texts = made(CATALOG, CAPTIONS)
    second, same = made(turned, CAPTIONS)
    assert texts == same and second["key"].tolist() == turned["key"].tolist()
    second = second.set_index("key").loc[first["key"]].reset_index()
    pd.testing.assert_frame_equal(first, second)


def test_only_texts_that_something_reads_are_encoded():
    catalog = CATALOG.assign(alt_text="told by its author")
    catalog.loc[1, ["title", "split", "is_holdout"]] = ["web's own", "web", False]
    catalog.loc[2, ["title", "is_holdout"]] = ["seen by none", False]
    index, texts = mixing.make_index(catalog, CAPTIONS, text_sources=["alt_text"])
    named = index.to_pandas().set_index("key")["text_human"].map(len) > 0
    kept = (catalog["is_holdout"] | (catalog["split"] == "web")) & catalog["title"].ne(
        ""
    )
    assert named.tolist() == kept.tolist()
    assert {"web's own", "told by its author"} < set(texts)
    assert "seen by none" not in texts
    _, texts = mixing.make_index(catalog, CAPTIONS, text_sources=["human"])
    assert "seen by none" in texts and "told by its author" not in texts


def test_a_source_without_captions_here_has_its_column(tmp_path):
    none = CAPTIONS.iloc[:0]
    index, _ = mixing.make_index(CATALOG, none, ["synthetic", "told"])
    assert index["text_told"].to_pylist() == [[]] * NUM
    with pytest.raises(ParameterError, match="has synthetic; expected some of human"):
        next(mixing.read_pieces(tmp_path, tmp_path, [], ["synthetic"]))


def test_an_openly_licensed_web_work_is_not_among_the_licensed():
    index, _ = mixing.make_index(CATALOG.assign(split="web"), CAPTIONS)
    assert set(index["license_slug"].to_pylist()) == {"web"}


def test_alt_texts_are_captions_where_an_author_wrote_one():
    told = CATALOG.assign(alt_text=["a red cat", *[""] * (NUM - 1)])
    index, texts = mixing.make_index(told, CAPTIONS)
    (rows,) = [rows for rows in index["text_alt_text"].to_pylist() if rows]
    assert [texts[i] for i in rows] == ["a red cat"]


INDEX = pa.table({"text_a": [[3], [], [], [5, 6]], "text_b": [[4], [7], [], [8]]})


def slow_choices(index, mixture):
    """Lay out captions work by work, as a reader would."""
    names = [f"text_{source}" for source in mixture]
    table = index.select(names).to_pylist()
    width = max(1, *(sum(map(len, row.values())) for row in table))
    rows, shares = (
        np.zeros((len(table), width), np.int64),
        np.zeros((len(table), width)),
    )
    for place, row in enumerate(table):
        pairs = [
            (text, weight / len(texts))
            for texts, weight in zip(row.values(), mixture.values(), strict=True)
            for text in texts
        ]
        if pairs:
            found, odds = zip(*pairs, strict=True)
            rows[place, : len(found)] = found
            shares[place] = 1.0
            shares[place, : len(found)] = np.cumsum(odds) / sum(odds)
    return rows, shares


COUNTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=2)


@given(COUNTS, st.floats(0.1, 9))
def test_captions_are_laid_out_as_one_by_one(counts, weight):
    rng = np.random.default_rng(0)
    columns = {
        f"text_{name}": pa.array(
            [rng.integers(99, size=n[i]).tolist() for n in counts],
            pa.list_(pa.int64()),
        )
        for i, name in enumerate("ab")
    }
    index, mixture = pa.table(columns), {"b": weight, "a": 1.0}
    for found, wanted in zip(
        mixing.caption_choices(index, mixture),
        slow_choices(index, mixture),
        strict=True,
    ):
        assert np.allclose(found, wanted, rtol=1e-12, atol=0)
    shares = mixing.caption_choices(index, mixture)[1][:, -1]
    assert (shares == mixing.has_captions(index, mixture)).all()


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
