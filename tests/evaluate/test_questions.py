"""A file of questions is read row by row, and answers become Soft-TIFA's two means."""

import json
import math

import pytest

from commoncanvas.core.errors import ParameterError
from commoncanvas.evaluate.questions import (
    means,
    read_questions,
    soft_tifa,
    spellings,
    spread,
)

# Made up, in the columns of the published file.
ROWS = [
    {
        "prompt": "two red apples",
        "atom_count": 3,
        "vqa_list": [
            ["How many apples are in the image?", "two"],
            ["Are the apples red?", "Yes"],
            ["Are there any apples in the image?", "Yes"],
        ],
        "skills": ["count", "attribute", "object"],
    },
    {
        "prompt": "a heart under a star",
        "atom_count": 3,
        "vqa_list": [
            ["Is the heart under the star?", "Yes"],
            ["How many hearts are in the image?", "one"],
        ],
        "skills": ["position", "count"],
    },
    {
        "prompt": "a rocket",
        "atom_count": 1,
        "vqa_list": [["How many rockets are in the image?", "one"]],
        "skills": ["count"],
    },
]
ANSWERED = [[0.5, 0.2, 0.8], [0.9, 0.4], [0.1]]


@pytest.fixture
def write(tmp_path):
    def written(rows):
        file = tmp_path / "questions.jsonl"
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    return written


def test_a_file_is_read_line_by_line(write):
    asked = read_questions(write([ROWS[0], "", *ROWS[1:]]))
    assert [one.line for one in asked] == [1, 3, 4]
    assert asked[0].prompt == "two red apples" and asked[0].atom_count == 3
    assert asked[1].questions[0] == "Is the heart under the star?"
    assert asked[1].answers == ("Yes", "one")
    assert asked[1].skills == ("position", "count")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{", "line 2: Expecting property name"),
        ("[" * 100_000, "line 2: "),
        ("[1]", "line 2: it is no object"),
        ('{"prompt": "a", "prompt": "b"}', "line 2: a name stands there twice"),
        ({"prompt": " "}, "line 2: `prompt` is no text"),
        ({"prompt": "\ud800"}, "line 2: `prompt` is no text"),
        ({"atom_count": True}, "line 2: `atom_count` is no whole number"),
        ({"atom_count": 0}, "line 2: `atom_count` is no whole number"),
        ({"vqa_list": []}, "line 2: `vqa_list` is no list of pairs"),
        ({"vqa_list": ["ab"]}, "line 2: `vqa_list` is no list of pairs"),
        ({"vqa_list": [["Is it red?", 3]]}, "line 2: `vqa_list` is no list of pairs"),
        ({"vqa_list": [["Is it red?", "Yes"]]}, "`skills` is no list with a text for"),
        ({"skills": "count"}, "line 2: `skills` is no list"),
    ],
)
def test_a_wrong_line_is_one_line(write, change, message):
    row = change if isinstance(change, str) else ROWS[1] | change
    with pytest.raises(ParameterError, match=message) as refused:
        read_questions(write([ROWS[0], row]))
    assert "\n" not in str(refused.value) and "geneval2_data.jsonl" in str(
        refused.value
    )


@pytest.mark.parametrize("name", ROWS[0])
def test_a_missing_column_is_named(write, name):
    row = {key: value for key, value in ROWS[0].items() if key != name}
    with pytest.raises(ParameterError, match=f"line 1: it has no `{name}`"):
        read_questions(write([row]))


def test_a_file_that_is_none_or_has_too_little_is_one_line(write, tmp_path):
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff")
    for file, message in [
        (tmp_path / "absent.jsonl", "No such file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "picture.png", "expected JSON lines"),
        (write(ROWS[:1]), "1 prompts; expected 2 or more"),
    ]:
        with pytest.raises(ParameterError, match=message) as refused:
            read_questions(file)
        assert "\n" not in str(refused.value)


def test_few_prompts_are_spread_over_the_file(write):
    asked = read_questions(write(ROWS * 4))
    assert [one.line for one in spread(asked, 3)] == [1, 5, 9]
    assert spread(asked, None) == asked
    with pytest.raises(ParameterError, match="--num is 13; expected at most the 12"):
        spread(asked, 13)


def test_an_answer_is_spelt_as_the_benchmark_spells_it():
    assert set(spellings("Yes")) == {"Yes", "yes", " yes", " Yes"}
    assert set(spellings("two")) == {"two", "Two", " two", " Two", "2", " 2"}
    assert "10" in spellings("ten") and len(spellings("eleven")) == 4


def test_means_are_those_by_hand():
    am, gm = means([0.5, 0.2, 0.8])
    assert am == 0.5 and math.isclose(gm, 0.08 ** (1 / 3))
    assert means([0.8, 0.5, 0.2]) == means([0.2, 0.8, 0.5])
    assert means([0.0, 1.0]) == (0.5, 0.0)


def test_scores_are_those_by_hand(write):
    found = soft_tifa(read_questions(write(ROWS)), ANSWERED)
    gms = [0.08 ** (1 / 3), 0.6, 0.1]
    assert found["am"]["value"] == pytest.approx((0.5 + 0.65 + 0.1) / 3, abs=1e-6)
    assert found["gm"]["value"] == pytest.approx(sum(gms) / 3, abs=1e-6)
    assert found["am"]["n"] == found["gm"]["n"] == 3
    low, high = found["am"]["interval"]
    assert low < found["am"]["value"] < high
    count = found["skills"]["count"]
    assert count["value"] == pytest.approx((0.5 + 0.4 + 0.1) / 3, abs=1e-6)
    assert (count["n"], count["questions"]) == (3, 3)
    assert found["skills"]["position"] == {
        **{"value": 0.9, "interval": None, "n": 1},
        "questions": 1,
    }
    assert list(found["atom_counts"]) == ["1", "3"]
    three = found["atom_counts"]["3"]
    assert three["value"] == pytest.approx((gms[0] + gms[1]) / 2, abs=1e-6)
    assert found["atom_counts"]["1"] == {"value": 0.1, "interval": None, "n": 1}


def test_a_skill_s_mean_is_over_questions_and_its_interval_over_prompts(write):
    """Ten questions about one picture are one draw of the model, not ten."""
    once = {"prompt": "a", "atom_count": 1, "vqa_list": [["Is it?", "Yes"]]}
    rows = [once | {"skills": ["object"]}, once | {"skills": ["object"]}]
    many = once | {"vqa_list": once["vqa_list"] * 10, "skills": ["object"] * 10}
    few = soft_tifa(read_questions(write(rows)), [[0.2], [0.8]])
    found = soft_tifa(read_questions(write([many, many])), [[0.2] * 10, [0.8] * 10])
    assert found["skills"]["object"] == few["skills"]["object"] | {"questions": 20}
    uneven = soft_tifa(read_questions(write([rows[0], many])), [[0.2], [0.8] * 10])
    assert uneven["skills"]["object"]["value"] == pytest.approx(8.2 / 11, abs=1e-6)


def test_the_order_of_questions_changes_nothing(write):
    turned = [
        row | {"vqa_list": row["vqa_list"][::-1], "skills": row["skills"][::-1]}
        for row in ROWS
    ]
    back = soft_tifa(read_questions(write(turned)), [row[::-1] for row in ANSWERED])
    assert back == soft_tifa(read_questions(write(ROWS)), ANSWERED)
