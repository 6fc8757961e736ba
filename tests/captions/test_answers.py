"""A model's answer becomes a caption, or nothing for a reason that is said."""

import pytest

from commoncanvas.captions.answers import AnswerRules
from commoncanvas.captions.text import tidy
from commoncanvas.core.errors import EngineError, ParameterError

ASKED = "Describe the picture in one sentence."
REFUSALS = [r"\bI (?:can(?:no|')t|am unable)\b", r"\bas an AI\b"]
LOOP = r"(\b.{6,60}?)(?:\W+\1){2,}"


def read(answer, is_cut=False, **rules):
    return AnswerRules(ASKED, **rules).read(answer, is_cut)


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("The image shows a red barn.", "a red barn."),
        ("the IMAGE shows  a red barn.", "a red barn."),
        (
            "<think>It is red.\nA barn?</think>\n\nThis picture features a barn.",
            "a barn.",
        ),
        ("A barn; the image shows it in snow.", "A barn; the image shows it in snow."),
        ("a\u202ebarn\x1b[31m\n by a lake", "abarn[31m by a lake"),
    ],
)
def test_phrases_are_stripped_from_the_beginning_alone(answer, caption):
    openers = [
        r"<think>.*?</think>",
        "(?:The|This) (?:image|picture) (?:shows|features)",
    ]
    assert read(answer, strip=openers) == (caption, "")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (" \n", "empty caption"),
        ("I can't help with that.", "matches"),
        ("As an AI, I see a barn.", "matches"),
        ("a barn and a barn and a barn and a barn and", "matches"),
        ("Describe the picture in one sentence. A barn.", "repeats the prompt"),
        ("USER: describe the picture, in one sentence! a barn", "repeats the prompt"),
    ],
)
def test_an_answer_that_is_no_caption_has_a_reason(answer, reason):
    caption, why = read(answer, reject=[*REFUSALS, LOOP])
    assert caption == "" and why.startswith(reason)


def test_a_short_prompt_counts_at_the_beginning_alone():
    rules = AnswerRules("a photo of")
    assert rules.read("a photo of a cat", False)[1] == "repeats the prompt"
    assert rules.read("this is a photo of a cat", False)[1] == ""
    assert AnswerRules("").read("a photo of a cat", False)[1] == ""


@pytest.mark.parametrize(
    ("cut", "answer", "found"),
    [
        ("reject", "A barn. It is re", ("", "cut off")),
        ("keep", "A barn. It is re", ("A barn. It is re", "")),
        ("sentence", "A barn. It is re", ("A barn.", "")),
        ("sentence", 'A "barn." It is 3.5 m hi', ('A "barn."', "")),
        ("sentence", "A barn in the", ("", "cut off")),
    ],
)
def test_an_answer_that_is_cut_off_is_handled_as_asked(cut, answer, found):
    assert read(answer, True, cut=cut) == found
    assert read(answer, False, cut=cut)[0] == answer


def test_raw_answers_captions_and_reasons_stand_side_by_side():
    rules = AnswerRules(ASKED, strip=["It is"])
    answers, keys = ["It is a a barn", "", "so lon", ""], list("abcd")
    refused = ["", "", "", "refused by the server (400)"]
    table = rules.table(keys, answers, [False, False, True, False], "x", refused)
    rows = tidy({"mine": table})
    assert rows["key"].tolist() == keys and rows["caption_raw"].tolist() == answers
    assert rows["caption"].tolist() == ["a barn", "", "", ""]
    reasons = ["", "empty caption", "cut off", refused[-1]]
    assert rows["reason"].tolist() == reasons


def test_captioners_of_both_kinds_stand_in_one_table():
    read_by_rules = AnswerRules().table(["a"], ["a cat"], [False], "x")
    plain = read_by_rules.select(["key", "caption_raw"])
    rows = tidy({"plain": plain, "rules": read_by_rules})
    assert rows["caption"].tolist() == ["a cat", "a cat"]
    assert rows["reason"].tolist() == ["", ""]


def test_a_prompt_in_every_answer_stops_with_one_line():
    rules = AnswerRules(ASKED)
    with pytest.raises(EngineError, match="'x' repeats its prompt in every answer"):
        rules.table(["a", "b"], [f"{ASKED} a cat"] * 2, [False] * 2, "'x'")
    one = rules.table(["a", "b"], [f"{ASKED} a cat", "a dog"], [False] * 2, "'x'")
    assert one["reason"].to_pylist() == ["repeats the prompt", ""]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"cut": "off"}, "`cut` of a captioner is 'off'; expected one of reject"),
        ({"strip": ["("]}, r"`strip` of a captioner has '\(', which is no pattern"),
        ({"reject": "sorry"}, "`reject` of a captioner is 'sorry'; expected a list"),
    ],
)
def test_rules_that_cannot_be_are_refused_in_one_line(rules, message):
    with pytest.raises(ParameterError, match=message) as refused:
        AnswerRules(**rules)
    assert "\n" not in str(refused.value)
