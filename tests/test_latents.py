"""What stage 03 writes is what training reads, work by work."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from commoncanvas import latents, mixing
from commoncanvas.errors import ManifestError, ParameterError
from commoncanvas.features import NUM_FEATURES

NUM = 24
SHAPE, TEXT_SHAPE = (4, 2, 2), (3, 5)
RNG = np.random.default_rng(0)
CATALOG = pd.DataFrame(
    {
        "key": [f"toy/{i:02d}" for i in range(NUM)][::-1],
        "title": ["cat", "dog", "cat", ""] * (NUM // 4),
        "alt_text": "",
        "source": ["a", "b"] * (NUM // 2),
        "split": ["c", "c", "nc"] * (NUM // 3),
        "license_slug": ["by", "cc0", "by-nc"] * (NUM // 3),
        "is_holdout": [i % 4 == 1 for i in range(NUM)],
        "order": RNG.permutation(NUM) / NUM,
    }
)
SAID = {key: f"a {key[-1]}" for key in CATALOG["key"][4:]}
CAPTIONS = pd.DataFrame(
    {"key": list(SAID), "source": "synthetic", "caption": list(SAID.values())}
)


def raw(array, dtype="float16"):
    return [row.tobytes() for row in array.astype(dtype)]


@pytest.fixture
def written(tmp_path):
    """A folder of random latents, and the arrays that went into it."""
    index, texts = mixing.make_index(CATALOG, CAPTIONS)
    arrays = {name: RNG.normal(size=(NUM, *SHAPE)) for name in ("mean", "logvar")}
    arrays["features"] = RNG.normal(size=(NUM, NUM_FEATURES))
    arrays["states"] = RNG.normal(size=(len(texts), *TEXT_SHAPE))
    table = pa.table(
        {
            "key": index["key"].tolist(),
            "mean": raw(arrays["mean"]),
            "logvar": raw(arrays["logvar"]),
            "features": raw(arrays["features"], "float32"),
        }
    )
    states = pa.table({"text": texts, "states": raw(arrays["states"])})
    latents.write_latents(tmp_path, table, states, index, SHAPE, TEXT_SHAPE)
    return tmp_path, index, texts, arrays


@pytest.mark.parametrize("holdout", [False, True])
def test_every_work_gets_its_own_latents_back(written, holdout):
    folder, index, _, arrays = written
    data = latents.Latents(folder, ["c", "nc"], "human", holdout=holdout)
    places = torch.arange(len(data))
    rows = [index["key"].tolist().index(key) for key in data.keys]
    mean, std = data.posterior(places)
    assert torch.equal(mean, torch.tensor(arrays["mean"][rows]).half().float())
    logvar = torch.tensor(arrays["logvar"][rows]).half().float()
    assert torch.allclose(std.log() * 2, logvar, atol=1e-5)
    assert np.allclose(data.features(), arrays["features"][rows])
    assert data.features().dtype == np.float64


def test_rows_are_found_whatever_index_the_table_had(written):
    folder, index, _, arrays = written
    index.set_axis(range(100, 100 + NUM)).to_parquet(folder / "index.parquet")
    data = latents.Latents(folder, ["c"], "human")
    row = index["key"].tolist().index(data.keys[0])
    mean = data.posterior(torch.tensor([0]))[0][0]
    assert torch.equal(mean, torch.tensor(arrays["mean"][row]).half().float())


def test_every_work_gets_its_own_caption_back(written):
    folder, _, texts, arrays = written
    data = latents.Latents(folder, ["c", "nc"], "synthetic")
    assert data.texts() == [SAID[key] for key in data.keys]
    places = torch.tensor([3, 0])
    states = data.prompt_embeds(places, torch.tensor([False, False]))
    rows = [texts.index(data.texts()[place]) for place in places.tolist()]
    assert torch.equal(states, torch.tensor(arrays["states"][rows]).half().float())


def test_a_dropped_caption_is_the_empty_one_s_states(written):
    folder, _, _, arrays = written
    data = latents.Latents(folder, ["c"], "human")
    states = data.prompt_embeds(torch.tensor([0, 1]), torch.tensor([True, False]))
    empty = torch.tensor(arrays["states"][0]).half().float()
    assert torch.equal(states[0], empty) and not torch.equal(states[1], empty)


@pytest.mark.parametrize("source", ["human", "synthetic"])
def test_a_smaller_share_is_part_of_every_larger_one(written, source):
    args = written[0], ["c", "nc"], source
    shares = [latents.Latents(*args, fraction=f).keys for f in (0.1, 0.3, 0.7, 1.0)]
    for small, large in zip(shares, shares[1:], strict=False):
        assert set(small) < set(large)


def test_training_and_held_out_works_have_none_in_common(written):
    trained = latents.Latents(written[0], ["c", "nc"], "human").keys
    held = latents.Latents(written[0], ["c", "nc"], "human", holdout=True).keys
    assert not set(trained) & set(held)
    named = CATALOG[CATALOG["title"] != ""]  # an empty name is no caption
    assert sorted(trained + held) == sorted(named["key"])


def test_a_users_own_policy_chooses_by_licence(written):
    data = latents.Latents(written[0], ["cc0"], "human")
    wanted = (CATALOG["license_slug"] == "cc0") & (CATALOG["title"] != "")
    wanted &= ~CATALOG["is_holdout"]
    assert sorted(data.keys) == sorted(CATALOG.loc[wanted, "key"])


def test_only_the_asked_splits_and_sets_are_read(written):
    data = latents.Latents(written[0], ["c"], "human", sources=["a"])
    wanted = (CATALOG["split"] == "c") & (CATALOG["source"] == "a")
    wanted &= ~CATALOG["is_holdout"]
    assert sorted(data.keys) == sorted(CATALOG.loc[wanted, "key"])


@pytest.mark.parametrize(
    "words", [{"fraction": 0.01}, {"licenses": ["web"]}, {"caption_source": "alt_text"}]
)
def test_no_work_left_is_one_line_that_says_what_was_asked(written, words):
    asked = {"licenses": ["c"], "caption_source": "human", **words}
    with pytest.raises(ParameterError, match="no work is left.*expected") as caught:
        latents.Latents(written[0], **asked)
    message = str(caught.value)
    assert "\n" not in message and asked["caption_source"] in message


MIXED = pd.concat(
    [
        CAPTIONS,
        CAPTIONS.assign(source="imported", caption="told " + CAPTIONS["caption"]),
        CAPTIONS.assign(source="imported", caption="more " + CAPTIONS["caption"]),
    ]
)


@pytest.fixture
def mixed(written):
    """The folder with three captions a work, and states that number the texts."""
    folder, index = written[:2]
    table = pa.table({"key": index["key"].tolist()})
    for name in ("mean", "logvar", "features"):
        size = NUM_FEATURES if name == "features" else SHAPE
        kind = "float32" if name == "features" else "float16"
        table = table.append_column(
            name, [raw(np.zeros((NUM, *np.atleast_1d(size))), kind)]
        )
    index, texts = mixing.make_index(CATALOG, MIXED)
    numbers = np.arange(len(texts))[:, None, None] * np.ones(TEXT_SHAPE)
    states = pa.table({"text": texts, "states": raw(numbers)})
    latents.write_latents(folder, table, states, index, SHAPE, TEXT_SHAPE)
    return folder, texts


def drawn(data, seed, num=4000):
    """Return the row of the text that each of many draws of work 0 reads."""
    states = data.prompt_embeds(
        torch.zeros(num, dtype=torch.int64),
        torch.zeros(num, dtype=torch.bool),
        torch.Generator().manual_seed(seed),
    )
    return states[:, 0, 0].long()


def test_captions_are_drawn_by_weight_and_a_source_s_several_alike(mixed):
    folder, texts = mixed
    weights = {"synthetic": 3, "imported": 1}
    data = latents.Latents(folder, ["c", "nc"], weights)
    found = drawn(data, 0)
    shares = {texts[i]: float((found == i).float().mean()) for i in found.unique()}
    said = SAID[data.keys[0]]
    wanted = {said: 0.75, f"told {said}": 0.125, f"more {said}": 0.125}
    assert shares == pytest.approx(wanted, abs=0.03)
    assert torch.equal(drawn(data, 0), found) and not torch.equal(drawn(data, 1), found)


def test_one_caption_a_work_needs_no_draw(mixed):
    data = latents.Latents(mixed[0], ["c", "nc"], "synthetic")
    generator = torch.Generator().manual_seed(0)
    data.prompt_embeds(torch.tensor([0]), torch.tensor([False]), generator)
    assert torch.equal(
        torch.rand(1, generator=generator),
        torch.rand(1, generator=torch.Generator().manual_seed(0)),
    )


def test_dropped_captions_of_a_mixture_are_empty(mixed):
    data = latents.Latents(mixed[0], ["c"], {"synthetic": 1, "imported": 1})
    states = data.prompt_embeds(
        torch.arange(3), torch.ones(3, dtype=torch.bool), torch.Generator()
    )
    assert (states == 0).all()


def test_a_work_without_captions_of_one_source_draws_from_the_others(mixed):
    alone = latents.Latents(mixed[0], ["c", "nc"], "synthetic")
    data = latents.Latents(mixed[0], ["c", "nc"], {"synthetic": 1, "human": 1e-9})
    assert set(alone.keys) < set(data.keys)
    place = next(i for i, key in enumerate(data.keys) if key not in SAID)
    states = data.prompt_embeds(
        torch.tensor([place]), torch.tensor([False]), torch.Generator()
    )
    titles = CATALOG.set_index("key")["title"]
    assert mixed[1][int(states[0, 0, 0])] == titles[data.keys[place]]


def test_latents_of_other_works_are_not_written(tmp_path):
    index, _ = mixing.make_index(CATALOG, CAPTIONS)
    table = pa.table({"key": index["key"].tolist()[::-1]})
    with pytest.raises(ManifestError, match="same keys in the same order"):
        latents.write_latents(tmp_path / "new", table, table, index, SHAPE, TEXT_SHAPE)
    assert not (tmp_path / "new").exists()
