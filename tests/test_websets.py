"""Names of the captioned web sets are read as words, or left out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commoncanvas import websets

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
