"""Names of the captioned web sets are read as words, or left out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from commoncanvas.pretrain import websets

WORDS = {"a", "broken", "heart", "heartbroken", "he", "art", "sun", "flower"}


@given(st.lists(st.sampled_from(sorted(WORDS)), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_a_name_made_of_known_words_is_split_into_known_words(words):
    found = websets.split_words("".join(words), WORDS).split()
    assert "".join(found) == "".join(words)
    assert set(found) <= WORDS and len(found) <= len(words)


@given(st.text("abcdefghnorstu", max_size=8))
@settings(max_examples=50, deadline=None)
def test_a_split_is_a_split_or_nothing(title):
    found = websets.split_words(title, WORDS)
    assert found is None or found.replace(" ", "") == title


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("brokenheart", "broken heart"),
        ("heartbroken", "heartbroken"),
        ("sunflower", "sun flower"),
        ("sunflowers", None),
    ],
)
def test_the_split_with_the_fewest_words_wins(title, expected):
    assert websets.split_words(title, WORDS) == expected


def test_names_that_cannot_be_read_get_no_caption_and_others_keep_theirs():
    rows = [
        {"title": "red heart", "source": "noto"},
        {"title": "redheart", "source": "fxemoji"},
        {"title": "xyzzy", "source": "fxemoji"},
        {"title": "sun", "source": "noto"},
    ]
    kept, titles = websets.captioned(rows)
    assert kept == [0, 1, 3] and titles == ["red heart", "red heart", "sun"]


def test_numbered_names_lose_their_number_and_foreign_words_their_caption():
    rows = [
        {"title": "sun", "source": "noto"},
        {"title": "sun two", "source": "icon-park"},
        {"title": "pull requests", "source": "icon-park"},
        {"title": "keycap two", "source": "noto"},
    ]
    kept, titles = websets.captioned(rows)
    assert kept == [0, 1, 3] and titles == ["sun", "sun", "keycap two"]


@pytest.fixture(scope="module")
def pictures():
    rgba = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 4), np.uint8)
    return websets.NamedPictures(rgba, ["sun", "left arrow", "sun"])


def test_pictures_of_one_name_share_their_target(pictures):
    assert pictures.distinct == ["left arrow", "sun"]
    assert pictures.names.tolist() == [1, 0, 1] and len(pictures.targets) == 2


def test_a_picture_whose_name_has_sides_is_never_flipped(pictures):
    assert pictures.may_flip.tolist() == [True, False, True]


def test_a_draw_depends_on_its_generator_alone(pictures):
    draws = [
        pictures.draw(5, 16, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    ]
    (places, images), (same, equal), (_, other) = draws
    assert images.shape == (5, 3, 16, 16) and images.abs().max() <= 1
    assert torch.equal(places, same) and torch.equal(images, equal)
    assert not torch.equal(images, other)
