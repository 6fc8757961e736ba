"""Which works a variant trains on is found without a tensor, as the reader finds it."""

import numpy as np
import pytest
from toys import CAPTIONS, CATALOG, write_store

from commoncanvas.core.errors import ManifestError
from commoncanvas.evaluate.prompts import human_names
from commoncanvas.latents.mixing import make_index
from commoncanvas.latents.reader import Latents
from commoncanvas.latents.selection import choose_works, read_works

ASKED = [
    {"licenses": ["c"], "caption_source": "human"},
    {"licenses": ["c", "nc"], "caption_source": "synthetic", "fraction": 0.4},
    {"licenses": ["cc0"], "caption_source": {"human": 1, "synthetic": 3}},
    {"licenses": ["c"], "caption_source": "human", "holdout": True},
    {"licenses": ["c"], "caption_source": "human", "sources": ["a"]},
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
    assert works.keys == rows["key"].tolist()
    assert works.text_rows.shape == works.text_shares.shape
    assert len(works.text_rows) == len(rows) and (works.text_shares[:, -1] == 1).all()
