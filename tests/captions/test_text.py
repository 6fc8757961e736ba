"""Caption measures count what a reader would count."""

import pyarrow as pa
import pytest

from commoncanvas.captions import text
from commoncanvas.captions.text import is_junk, normalise


def test_normalise_ignores_case_hyphens_and_spacing():
    text = "  Red-Apple\n on–a \t Tree_top "
    assert normalise(text) == "red apple on a tree top"


def test_normalise_twice_changes_nothing():
    once = normalise("Woman: Medium-Dark  Skin—Tone")
    assert normalise(once) == once


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  a cat ", "a cat"),
        ("a a  cat Cat cat\n", "a cat"),
        ("cat and cat", "cat and cat"),
        ("", ""),
    ],
)
def test_clean_caption_drops_only_spaces_and_immediate_repeats(raw, clean):
    assert text.clean_caption(raw) == clean
    assert text.clean_caption(clean) == clean


def test_tidying_gives_every_missing_caption_its_reason():
    tables = {
        "synthetic": pa.table({"key": ["a", "b"], "caption_raw": [" a a cat", " "]}),
        "told": pa.table({"key": ["a", "b", "b"], "caption_raw": [None, "x", "y"]}),
    }
    told = text.tidy(tables)
    assert told["source"].tolist() == ["synthetic"] * 2 + ["told"] * 3
    assert told["caption"].tolist() == ["a cat", "", "", "x", "y"]
    reasons = ["", "empty caption", "not among the imported captions", "", ""]
    assert told["reason"].tolist() == reasons
    assert told["caption_raw"][0] == " a a cat"


def test_exact_match_forgives_case_hyphens_and_punctuation_but_not_order():
    assert text.exact_match("Red-apple.", "red apple")
    assert not text.exact_match("apple red", "red apple")


def test_word_f1_is_one_for_any_order_and_half_way_for_half_the_words():
    assert text.word_f1("apple red", "Red-Apple") == 1
    assert text.word_f1("red pear", "red apple") == 0.5
    assert text.word_f1("pear", "apple") == 0


def test_word_f1_counts_each_word_as_often_as_it_occurs():
    assert text.word_f1("red red red", "red apple") == pytest.approx(0.4)


def test_word_f1_of_empty_text_is_one_only_against_empty_text():
    assert text.word_f1("", " ") == 1
    assert text.word_f1("", "apple") == text.word_f1("apple", "") == 0


def test_word_f1_is_symmetric():
    pair = "a red apple on a tree", "an apple tree"
    assert text.word_f1(*pair) == text.word_f1(*pair[::-1])


def test_ngrams_never_cross_from_one_caption_to_the_next():
    counts = text.ngram_counts(["a red cat", "cat", "a red dog"], 2)
    assert counts == {("a", "red"): 2, ("red", "cat"): 1, ("red", "dog"): 1}
    assert text.unique_ngrams(["a red cat", "cat", "a red dog"], 2) == 3


@pytest.mark.parametrize(
    "junk",
    [
        "DSC_0012.JPG",
        "IMG 4711",
        "OLYMPUS DIGITAL CAMERA",
        "20140612",
        "P1010023",
        "http://flic.example/p/1",
        "!?",
    ],
)
def test_junk_is_recognised(junk):
    assert is_junk(junk)


@pytest.mark.parametrize("text", ["", "a pig", "7 cats", "picture", "digital cameras"])
def test_captions_with_something_to_say_are_not_junk(text):
    assert not is_junk(text)


def test_caption_profile_of_a_small_list_can_be_counted_by_hand():
    texts = ["a red cat", "A red-cat", "dog dog", "", "IMG_1"]
    profile = text.caption_profile(texts)
    assert profile["n"] == 5
    assert profile["empty"] == 1
    assert profile["mean_words"] == (3 + 3 + 2 + 0 + 2) / 5
    assert profile["p95_words"] == 3
    assert profile["vocabulary"] == profile["unique_1grams"] == 6
    assert profile["unique_2grams"] == 4
    assert profile["unique_3grams"] == 1
    assert profile["share_most_common"] == 0.4
    assert profile["repetition_rate"] == 0.2
    assert profile["junk_rate"] == 0.2


def test_p95_words_ignores_the_longest_caption_in_a_hundred():
    lengths = [3] * 95 + [50] * 5
    profile = text.caption_profile(["w " * length for length in lengths])
    assert profile["p95_words"] == 3


def test_caption_profile_of_nothing_is_all_zero():
    assert set(text.caption_profile([]).values()) == {0}


def test_a_mark_leaks_as_a_whole_word_only():
    assert text.leaks("a GitHub cat", ["github-icon"])
    assert text.leaks("coca-cola bottle", ["Coca Cola"])
    assert not text.leaks("metadata table", ["Meta"])


def test_a_generic_word_of_a_mark_is_no_leak():
    assert not text.leaks("a hard drive icon", ["Google Drive Icon"])
    assert text.leaks("google hard disk", ["Google Drive Icon"])


def test_a_mark_that_is_an_ordinary_word_is_counted_too():
    assert text.leaks("a red apple", "Apple")


def test_leak_rate_counts_captions_not_words():
    texts = ["github octocat github", "a blue bird", "twitter bird"]
    assert text.leak_rate(texts, ["GitHub", "Twitter"]) == (2, 3)


def test_leak_rate_of_no_captions_counts_nothing():
    assert text.leak_rate([], ["GitHub"]) == (0, 0)
