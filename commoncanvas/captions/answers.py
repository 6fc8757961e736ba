"""What becomes of a model's answer: the caption in it, or the reason why there is none.

A captioner that is asked in words may begin with a phrase, decline, repeat what it was
asked, or be cut off. Each answer is kept as it was written, beside what is made of it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from commoncanvas.captions.text import words
from commoncanvas.core.errors import EngineError, ParameterError
from commoncanvas.core.text import is_whole, made_whole, printable

CUTS = ("reject", "sentence", "keep")
LONG_PROMPT = 4  # words of a prompt that nobody writes by chance
_SENTENCES = re.compile(r".*[.!?][\"')\]’”]*(?=\s|\Z)", re.DOTALL)
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("key", "caption_raw", "caption", "reason")]
)


@dataclass(frozen=True)
class AnswerRules:
    """How answers are read, by patterns of Python's `re`, whatever the case.

    Attributes:
        prompt: what was asked. An answer that repeats it is no caption.
        strip: patterns removed from the beginning, one after the other.
        reject: patterns; an answer that holds one is no caption.
        cut: of an answer that ends at the most tokens allowed: `reject`, end it after
            its last whole `sentence`, or `keep`.

    Raises:
        ParameterError: a pattern cannot be read, or `cut` is something else.
    """

    prompt: str = ""
    strip: Sequence[str] = ()
    reject: Sequence[str] = ()
    cut: str = "reject"
    _strip: list[re.Pattern[str]] = field(init=False, repr=False)
    _reject: list[re.Pattern[str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.cut not in CUTS:
            raise ParameterError(
                f"`cut` of a captioner is {self.cut!r}; expected one of "
                f"{', '.join(CUTS)}; edit `captioners` in the profile."
            )
        for name in ("strip", "reject"):
            found = [_pattern(name, text) for text in self._listed(name)]
            object.__setattr__(self, f"_{name}", found)

    def _listed(self, name: str) -> Sequence[str]:
        texts = getattr(self, name)
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise ParameterError(
                f"`{name}` of a captioner is {texts!r}; expected a list of patterns; "
                "edit `captioners` in the profile."
            )
        return texts

    def read(self, answer: str, is_cut: bool) -> tuple[str, str]:
        """Return (caption, reason) of one answer; one of the two is ""."""
        caption = printable(answer)
        for pattern in self._strip:
            if found := pattern.match(caption):
                caption = caption[found.end() :].lstrip()
        if not caption:
            return "", "empty caption"
        if is_cut and self.cut == "sentence":
            whole = _SENTENCES.match(caption)
            caption = whole[0] if whole else ""
        if is_cut and (self.cut == "reject" or not caption):
            return "", "cut off"
        if self.repeats_prompt(caption):
            return "", "repeats the prompt"
        for pattern in self._reject:
            if pattern.search(caption):
                return "", f"matches {pattern.pattern!r}"
        return caption, ""

    def repeats_prompt(self, caption: str) -> bool:
        """Tell whether a caption begins with the prompt, or holds a longer one."""
        asked, said = words(self.prompt), words(caption)
        places = len(said) - len(asked) + 1 if len(asked) >= LONG_PROMPT else 1
        return bool(asked) and any(
            said[place : place + len(asked)] == asked for place in range(places)
        )

    def table(
        self,
        keys: Sequence[str],
        answers: Sequence[str],
        is_cut: Sequence[bool],
        whose: str,
        refused: Sequence[str] = (),
    ) -> pa.Table:
        """Return key, caption_raw (the answers as they are), caption and reason.

        Half a character, which no file holds, is U+FFFD in caption_raw, and a reason.

        Args:
            whose: the captioner's name, for a message.
            refused: reasons why there is no answer, "" where there is one.

        Raises:
            EngineError: all of two or more answers repeat the prompt, so that it was
                not told apart from them.
        """
        refused = refused or [""] * len(answers)
        refused = [r or _unwritable(a) for r, a in zip(refused, answers, strict=True)]
        answers = [made_whole(answer) for answer in answers]
        pairs = zip(answers, is_cut, refused, strict=True)
        read = [("", why) if why else self.read(text, cut) for text, cut, why in pairs]
        told = [caption for caption, _ in read], [reason for _, reason in read]
        if len(keys) > 1 and set(told[1]) == {"repeats the prompt"}:
            raise EngineError(
                f"the captioner {whose} repeats its prompt in every answer, such as "
                f"{printable(answers[0])[:80]!r}; expected the answer alone; see "
                "`chat` and `prompt` in `captioners` of the profile."
            )
        columns = dict(zip(SCHEMA.names, (keys, answers, *told), strict=True))
        return pa.table(columns, SCHEMA)


def _unwritable(answer: str) -> str:
    return "" if is_whole(answer) else "holds half a character"


def _pattern(name: str, text: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise ParameterError(
            f"`{name}` of a captioner has {text!r}, which is no pattern ({error}); "
            "see Python's `re`, and edit `captioners` in the profile."
        ) from None
