"""A sample is matched to names as a stranger to the training would match it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from toys import write_store

from commoncanvas.core.errors import ParameterError
from commoncanvas.models.efficientnet import image_features
from commoncanvas.release import recognition

NAMES = ["red", "green", "blue", "white"]
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], np.uint8)
# Twelve names: drawn by an emoji set (some held out), by another, and by the web.
WORDS = [f"word {i}" for i in range(12)]


def pictures(order):
    return np.stack([np.full((64, 64, 3), COLOURS[i]) for i in order])


# It knows a colour by its mean, and its name by its place.
SCORER = SimpleNamespace(
    image_embeds=lambda pixels: pixels.mean((1, 2)) / 255,
    text_embeds=lambda names: COLOURS[[NAMES.index(n) for n in names]] / 255,
)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [1, 0, 2, 3], [3, 3, 3, 3]])
def test_both_judges_know_what_is_there(order):
    gallery = pd.DataFrame({"name": NAMES[::-1]})
    features = image_features(pictures([3, 2, 1, 0]))
    found = recognition.recognise(pictures(order), NAMES, gallery, features, SCORER)
    right = [place == kind for place, kind in enumerate(order)]
    assert found["scorer"].tolist() == found["neighbour"].tolist() == right


def test_several_samples_of_a_name_come_one_round_after_another():
    gallery = pd.DataFrame({"name": NAMES})
    features = image_features(pictures(range(4)))
    pixels = pictures([0, 1, 2, 3, 3, 2, 1, 0])
    found = recognition.recognise(pixels, NAMES, gallery, features, SCORER)
    assert found["scorer"].tolist() == [True] * 4 + [False] * 4


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rows = [
        {"source": source, "title": word, "split": split, "is_holdout": held}
        for source, split in (("emoji", "c"), ("other", "c"), ("noto", "web"))
        for i, word in enumerate(WORDS)
        if (source != "noto" or i < 9) and (source != "other" or i % 2)
        for held in [source == "emoji" and i < 8]
    ]
    catalog = pd.DataFrame(rows).assign(alt_text="", license_slug="by", order=0.5)
    catalog["key"] = catalog["source"] + "/" + catalog["title"]
    catalog.loc[catalog["split"] == "web", "license_slug"] = "web"
    said = pd.DataFrame({"key": catalog["key"], "source": "synthetic", "caption": "x"})
    folder = tmp_path_factory.mktemp("latents")
    rng = np.random.default_rng(0)
    write_store(folder, catalog, said, (4, 2, 2), (3, 8), rng)
    return folder


def keys_of(source, numbers):
    return [f"{source}/{WORDS[i]}" for i in numbers]


def test_names_are_held_out_and_drawn_by_sets_never_trained_on(store):
    trained = keys_of("emoji", range(8, 12)) + keys_of("other", [1, 3])
    chosen = recognition.choose_names(store, trained, ["emoji"], 8, 0)
    names, is_new = chosen.held["prompt"], chosen.held["is_new"]
    assert sorted(names) == sorted(chosen.gallery["name"]) == WORDS[:8]
    assert chosen.held["id"].tolist() == [f"emoji/{name}" for name in names]
    assert chosen.features.shape == (8, 1280)
    # The other set's drawings of 1 and 3 were trained on, those of 5 and 7 were not.
    assert {name for name, new in zip(names, is_new, strict=True) if not new} == {
        WORDS[1],
        WORDS[3],
    }


def test_too_few_names_are_one_line(store):
    with pytest.raises(ParameterError, match="8 held-out names .* expected 9 or more"):
        recognition.choose_names(store, [], ["emoji"], 9, 0)


def test_a_model_of_unknown_sets_is_one_line(store):
    with pytest.raises(ParameterError, match="not known which sets the model was"):
        recognition.choose_names(store, keys_of("other", [1]), [], 2, 0)


def test_a_model_of_the_web_has_no_gallery(store):
    with pytest.raises(ParameterError, match="trained on the captioned web"):
        recognition.choose_names(store, keys_of("noto", [0]), ["emoji"], 4, 0)


def test_a_scale_without_web_pictures_is_one_line(tmp_path):
    rows = [
        {"key": f"emoji/{word}", "source": "emoji", "title": word, "is_holdout": True}
        for word in WORDS
    ]
    catalog = pd.DataFrame(rows).assign(alt_text="", license_slug="by", order=0.5)
    catalog["split"] = "c"
    said = pd.DataFrame({"key": catalog["key"], "source": "synthetic", "caption": "x"})
    shapes = (4, 2, 2), (3, 8)
    write_store(tmp_path, catalog, said, *shapes, np.random.default_rng(0))
    with pytest.raises(ParameterError, match="no captioned web pictures.*web_sources"):
        recognition.choose_names(tmp_path, [], ["emoji"], 4, 0)


@pytest.mark.parametrize("shape", [(1.0, 2.6), (0.5, 1.3), (0.25, 0.65)])
def test_an_interval_covers_though_samples_of_a_name_are_alike(shape):
    rng = np.random.default_rng(0)
    truth = shape[0] / sum(shape)
    held = []
    for _ in range(2000):
        chances = rng.beta(*shape, size=100)
        found = recognition.share(rng.random((4, 100)) < chances)
        held.append(found.low <= truth <= found.high)
    assert 0.93 < np.mean(held) < 0.98


def test_a_share_without_spread_counts_each_name_once():
    assert recognition.share(np.ones((4, 9), bool)).low < 0.75  # Wilson's of 9
    alone = recognition.share(np.array([[True, False, True]]))
    assert alone.value == pytest.approx(2 / 3) and alone.n == 3
