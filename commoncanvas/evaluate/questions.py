"""Questions about pictures: GenEval 2's file, and Soft-TIFA of what a judge answers.

The file, geneval2_data.jsonl of facebookresearch/GenEval2 at c088ab7, is under
CC BY-NC 4.0: whoever uses it fetches it, and none of its text is kept. A line is an
object with `prompt`, `atom_count`, `vqa_list` (pairs of question and answer) and
`skills`, one a pair. Source: geneval2.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from commoncanvas.analysis.estimates import jackknife, mean_interval
from commoncanvas.core.errors import ParameterError, brief
from commoncanvas.core.files import once, regular, shown
from commoncanvas.core.text import is_whole

COLUMNS = ("prompt", "atom_count", "vqa_list", "skills")
NUMBERS = "one two three four five six seven eight nine ten".split()


@dataclass(frozen=True)
class Asked:
    """A prompt, and what is asked about its picture.

    Attributes:
        line: its line in the file, from 1.
        atom_count: how many things the prompt demands; "a" and "and" are none, so there
            may be more questions.
        questions, answers, skills: one of each a question.
    """

    line: int
    prompt: str
    atom_count: int
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    skills: tuple[str, ...]


def read_questions(file: Path) -> list[Asked]:
    """Read all prompts of a file with their questions; blank lines are left out.

    Raises:
        ParameterError: it cannot be read, has fewer than two prompts, or a line is not
            as expected.
    """
    try:
        lines = regular(file).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        found = getattr(error, "strerror", None) or brief(error)
        raise _refused(file, found, "JSON lines") from None
    asked = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                asked.append(_read(number, line))
            except (ValueError, RecursionError) as error:
                names = ", ".join(COLUMNS)
                place = f"line {number}: {brief(error)}"
                raise _refused(file, place, f"an object with {names}") from None
    if len(asked) < 2:
        raise _refused(file, f"{len(asked)} prompts", "2 or more, one a line")
    return asked


def _read(number: int, line: str) -> Asked:
    """Return one line's prompt; ValueError says what is wrong with it."""
    found = json.loads(line, object_pairs_hook=once)
    if not isinstance(found, dict):
        raise ValueError("it is no object")
    if missing := [name for name in COLUMNS if name not in found]:
        raise ValueError(f"it has no `{missing[0]}`")
    prompt, atom_count, pairs, skills = (found[name] for name in COLUMNS)
    if not _are_texts([prompt]):
        raise ValueError("`prompt` is no text")
    if type(atom_count) is not int or atom_count < 1:
        raise ValueError("`atom_count` is no whole number from 1")
    is_list = isinstance(pairs, list) and pairs
    if not is_list or not all(_are_texts(p) and len(p) == 2 for p in pairs):
        raise ValueError("`vqa_list` is no list of pairs of question and answer")
    if not _are_texts(skills) or len(skills) != len(pairs):
        raise ValueError("`skills` is no list with a text for each question")
    questions, answers = zip(*pairs, strict=True)
    return Asked(number, prompt, atom_count, questions, answers, tuple(skills))


def _are_texts(found: Any) -> bool:
    """Say whether this is a list of texts that say something."""
    return isinstance(found, list) and all(
        isinstance(text, str) and text.strip() and is_whole(text) for text in found
    )


def _refused(file: Path, found: str, expected: str) -> ParameterError:
    return ParameterError(
        f"{shown(file)}: {found}; expected {expected}; fetch geneval2_data.jsonl of "
        "facebookresearch/GenEval2 anew, or correct the file."
    )


def spread(asked: Sequence[Asked], num: int | None) -> list[Asked]:
    """Return `num` prompts at equal distances, since the file may be sorted.

    Raises:
        ParameterError: there are fewer.
    """
    num = len(asked) if num is None else num
    if num > len(asked):
        raise ParameterError(
            f"--num is {num}; expected at most the {len(asked)} prompts of the file; "
            "give fewer, or leave it out."
        )
    return [asked[place * len(asked) // num] for place in range(num)]


def spellings(answer: str) -> list[str]:
    """Return the spellings of an answer that count as it: `Yes`, ` Yes`, `yes`, ` yes`.

    A number from one to ten may be in digits, too. Source: geneval2.
    """
    word = answer.strip().lower()
    spelt = [word, word.capitalize()]
    if word in NUMBERS:
        spelt.append(str(NUMBERS.index(word) + 1))
    return [space + one for one in spelt for space in ("", " ")]


def means(probabilities: Sequence[float]) -> tuple[float, float]:
    """Return (arithmetic, geometric mean); the order of the values changes neither."""
    num = len(probabilities)
    arithmetic = math.fsum(probabilities) / num
    if min(probabilities) <= 0:
        return arithmetic, 0.0
    return arithmetic, math.exp(math.fsum(map(math.log, probabilities)) / num)


def soft_tifa(
    asked: Sequence[Asked], answered: Sequence[Sequence[float]]
) -> dict[str, Any]:
    """Summarise how probable a judge finds the right answers. Source: geneval2.

    Published scores are these times 100. Intervals are over prompts, each with the one
    picture that was drawn: Student's of means over prompts, the jackknife's of means
    over questions, since those about one picture are right or wrong together.

    Args:
        asked: n prompts, two or more.
        answered: n rows, the right answers' probabilities, one a question.

    Returns:
        JSON-able {"am", "gm", "skills", "atom_counts"}: the mean over prompts of the
        arithmetic mean of a prompt's probabilities, and of their geometric mean; for
        each skill the mean over its questions, whose number is `questions`; for each
        atom count the mean over prompts of the geometric mean. Each has value, interval
        (None of one prompt) and n, the number of prompts.

    Raises:
        ShapeError: fewer than two prompts.
    """
    both = np.array([means(row) for row in answered])
    rows = [
        (skill, one.line, probability)
        for one, row in zip(asked, answered, strict=True)
        for skill, probability in zip(one.skills, row, strict=True)
    ]
    by_prompt = pd.DataFrame(rows).groupby([0, 1])[2].agg(["sum", "count"])
    counts = np.array([one.atom_count for one in asked])
    return {
        "am": mean_interval(both[:, 0]).as_dict(),
        "gm": mean_interval(both[:, 1]).as_dict(),
        "skills": {
            str(skill): _over_questions(part.to_numpy())
            for skill, part in by_prompt.groupby(level=0)
        },
        "atom_counts": {
            str(count): _over_prompts(both[counts == count, 1])
            for count in np.unique(counts)
        },
    }


def _over_prompts(values: Sequence[float]) -> dict[str, Any]:
    if len(values) > 1:
        return mean_interval(values).as_dict()
    return {"value": float(f"{values[0]:.6g}"), "interval": None, "n": 1}


def _over_questions(sums: np.ndarray) -> dict[str, Any]:
    """Estimate the mean over questions from (n, 2): a prompt's sum and their number."""

    def mean(rows: np.ndarray) -> float:
        return float(rows[:, 0].sum() / rows[:, 1].sum())

    is_one = len(sums) == 1
    found = _over_prompts([mean(sums)]) if is_one else jackknife(mean, sums).as_dict()
    return {**found, "questions": int(sums[:, 1].sum())}
