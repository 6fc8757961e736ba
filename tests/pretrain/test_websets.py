"""Names of the captioned web sets are read as words, or left out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from commoncanvas.catalog.originals import source_sha256
from commoncanvas.core.errors import ParameterError, SourceError
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


def svg_row(key, colour, **fields):
    body = f'<rect width="8" height="8" fill="{colour}"/>' if colour else ""
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8">{body}</svg>'
    return {"key": key, "reason": "", "is_hidden": False, "svg": svg, **fields}


ROWS = [
    svg_row("a/red", "red"),
    svg_row("a/blue", "blue"),
    svg_row("a/none", ""),
    svg_row("a/late", "red", reason="its set holds no drawing of it"),
    svg_row("a/gone", "red", is_hidden=True),
]


@pytest.mark.parametrize("by", ["key", "sha256", "source_sha256"])
def test_a_work_that_is_listed_by_key_or_hash_is_not_trained_on(monkeypatch, by):
    asked = []

    def is_listed(works, listed):
        asked.append(works)
        return works[by].isin(listed)

    monkeypatch.setattr(websets, "read_sources", lambda names: ROWS)
    monkeypatch.setattr(websets.takedown, "is_listed", is_listed)
    monkeypatch.setattr(websets.takedown, "read_list", set)
    rows, rgba = websets.load_pictures(["a"], 4)
    assert [row["key"] for row in rows] == ["a/red", "a/blue"]
    assert rgba.shape == (2, 4, 4, 4) and (rgba[:, 0, 0, 2] == [0, 255]).all()
    assert asked[0]["source_sha256"][1] == source_sha256(ROWS[1])
    listed = {asked[0][by][1]}
    monkeypatch.setattr(websets.takedown, "read_list", lambda: listed)
    rows, rgba = websets.load_pictures(["a"], 4)
    assert [row["key"] for row in rows] == ["a/red"] and len(rgba) == 1


def test_pictures_that_are_not_there_are_one_line(monkeypatch):
    with pytest.raises(ParameterError, match="'noto' more than once"):
        websets.load_pictures(["noto", "noto"], 4)
    for rows in ([], ROWS[2:]):
        monkeypatch.setattr(websets, "read_sources", lambda names, rows=rows: rows)
        with pytest.raises(SourceError, match="no pictures to train on.*expected"):
            websets.load_pictures([], 4)
