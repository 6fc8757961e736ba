"""Which works a variant trains on is found without a tensor, as the reader finds it."""

import numpy as np
import pytest
from toys import CAPTIONS, CATALOG, write_store

from commoncanvas.core.errors import ManifestError, ParameterError
from commoncanvas.evaluate.prompts import human_names
from commoncanvas.latents.mixing import make_index
from commoncanvas.latents.reader import Latents
from commoncanvas.latents.selection import choose_works, read_works, shuffled

ASKED = [
    {"licenses": ["c"], "caption_source": "human"},
    {"licenses": ["c", "nc"], "caption_source": "synthetic", "fraction": 0.4},
    {"licenses": ["cc0"], "caption_source": {"human": 1, "synthetic": 3}},
    {"licenses": ["c"], "caption_source": "human", "holdout": True},
    {"licenses": ["c"], "caption_source": "human", "sources": ["a"]},
    {"licenses": ["c"], "caption_source": "human", "num": 3},
    {"licenses": ["c"], "caption_source": "synthetic", "shuffle_seed": 7},
]


@pytest.fixture
def store(tmp_path):
    write_store(
        tmp_path, CATALOG, CAPTIONS, (4, 2, 2), (3, 5), np.random.default_rng(0)
    )
    return tmp_path


@pytest.mark.parametrize("asked", ASKED)
def test_works_are_those_of_the_reader_in_its_order_without_tensors(store, asked):
    data = Latents(store, **asked)
    for file in store.glob("*.safetensors"):
        file.unlink()
    works = read_works(store, **asked)
    assert works["key"].tolist() == data.keys
    assert works["text"].tolist() == data.texts()
    with pytest.raises(ManifestError, match="has no"):
        Latents(store, **asked)


def test_names_of_held_out_works_need_no_tensors(store):
    wanted = Latents(store, ["c", "nc", "web"], "human", holdout=True).keys
    for file in store.glob("*.safetensors"):
        file.unlink()
    assert set(human_names(store)["id"]) <= set(wanted)


@pytest.mark.parametrize("asked", ASKED)
def test_the_choice_is_the_one_written_out_here(asked):
    index, _ = make_index(CATALOG, CAPTIONS)
    works = choose_works(index, **asked)
    index = index.to_pandas()
    slugs = {"c": ["by", "cc0"], "nc": ["by-nc"], "cc0": ["cc0"]}
    allowed = [slug for name in asked["licenses"] for slug in slugs[name]]
    sources = asked["caption_source"]
    sources = [sources] if isinstance(sources, str) else list(sources)
    has_text = sum(index[f"text_{source}"].map(len) for source in sources) > 0
    rows = index[index["license_slug"].isin(allowed) & has_text]
    rows = rows[rows["is_holdout"] == asked.get("holdout", False)]
    rows = rows[rows["source"].isin(asked.get("sources", ["a", "b"]))]
    rows = rows.sort_values("order")
    rows = rows.head(round(len(rows) * asked.get("fraction", 1.0)))
    rows = rows.head(asked.get("num", len(rows)))
    assert works.keys == rows["key"].tolist()
    assert works.text_rows.shape == works.text_shares.shape
    assert len(works.text_rows) == len(rows) and (works.text_shares[:, -1] == 1).all()


def test_as_many_works_as_asked_for_come_first_in_the_order_of_the_share():
    index, _ = make_index(CATALOG, CAPTIONS)
    every = choose_works(index, ["c"], "human").keys
    half = choose_works(index, ["c"], "human", fraction=0.5).keys
    assert choose_works(index, ["c"], "human", num=3).keys == every[:3]
    assert choose_works(index, ["c"], "human", fraction=0.5, num=2).keys == half[:2]
    assert choose_works(index, ["c"], "human", num=len(every)).keys == every
    with pytest.raises(
        ParameterError, match=f"num_works is {len(every) + 1}, and "
    ) as e:
        choose_works(index, ["c"], "human", num=len(every) + 1)
    assert f"and {len(every)} works are chosen" in str(e.value)


def test_shuffled_works_keep_their_order_and_exchange_their_captions():
    index, _ = make_index(CATALOG, CAPTIONS)
    source = {"human": 1, "synthetic": 3}
    own = choose_works(index, ["c"], source)
    found = choose_works(index, ["c"], source, shuffle_seed=7)
    assert found.keys == own.keys and not (found.text_rows == own.text_rows).all()
    pairs = [
        sorted(zip(w.text_rows.tolist(), w.text_shares.tolist(), strict=True))
        for w in (own, found)
    ]
    assert pairs[0] == pairs[1]  # each caption goes with its probability


@pytest.mark.parametrize("most", [1, 3, 49, 50])
def test_no_work_keeps_its_captions_where_that_is_possible(most):
    said = np.concatenate([np.zeros(most, int), np.arange(1, 101 - most)])
    rows = np.stack([said, said * 2], 1)
    orders = [shuffled(rows, seed) for seed in range(20)]
    for order in orders:
        assert sorted(order) == list(range(100))
        assert not (rows[order] == rows).all(1).any()
    assert (orders[0] == shuffled(rows, 0)).all()
    assert len({tuple(order) for order in orders}) == 20
    if most == 3:  # a random permutation, not a rotation: neighbours part
        assert (np.diff(orders[0]) == 1).mean() < 0.1


def test_where_most_works_have_one_caption_only_the_others_change():
    rows = np.array([[5], [5], [5], [5], [6]])
    for seed in range(5):
        order = shuffled(rows, seed)
        assert sorted(order) == [0, 1, 2, 3, 4] and rows[order][4] == 5
    assert shuffled(rows[:1], 0).tolist() == [0]
