"""What strangers wrote is shown, and steers nothing."""

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commoncanvas.core.text import printable

ANY = st.text(st.characters(exclude_categories=()))  # lone surrogates, too
JOINERS = "\u200c\u200d"
# Format characters that are seen: signs around Arabic, Syriac and Kaithi numbers, and
# the quadrats of hieroglyphs.
SEEN = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
SEEN |= {*range(0x13430, 0x13440)}


@pytest.mark.parametrize(
    ("found", "seen"),
    [
        ("a red cat", "a red cat"),
        ("  two\n\nlines\tand \x85more\u2028", "two lines and more"),
        ("\x1b]0;title\x07\x1b[2J\x9b31mred", "]0;title[2J31mred"),
        ("photo\u202egnp.exe\u202c \u2066x\u2069", "photognp.exe x"),
        ("a \u200b b\ufeff", "a b"),
        ("cafe\u0301", "caf\xe9"),
        ("e\u200b\u0301", "\xe9"),
        ("\U0001f469\u200d\U0001f52c", "\U0001f469\u200d\U0001f52c"),  # a scientist
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"),  # Persian
        ("\u200da\u200d\u200db\u200c c", "a\u200db c"),
        ("\U0001f3f4\U000e0067\U000e0062\U000e007f", "\U0001f3f4\U000e0067\U000e0062\U000e007f"),
        ("hi\U000e0068\U000e0069", "hi"),
        ("\ud800x", "\ufffdx"),
        (None, "None"),
    ],
)  # fmt: skip
def test_what_is_seen_stays(found, seen):
    assert printable(found) == seen


@given(ANY)
def test_a_line_is_safe_and_printing_it_again_changes_nothing(text):
    line = printable(text)
    assert printable(line) == line == unicodedata.normalize("NFC", line)
    kinds = {unicodedata.category(c) for c in line if c not in JOINERS}
    assert not kinds & {"Cc", "Cs", "Zl", "Zp"}
    line.encode("utf-8")


def test_every_character_that_is_not_seen_goes():
    hidden = [chr(i) for i in range(sys.maxunicode)]
    hidden = [c for c in hidden if unicodedata.category(c) in ("Cc", "Cf")]
    left = {ord(c) for c in hidden if printable(f"a{c}b") not in ("ab", "a b")}
    assert left <= SEEN | {ord(c) for c in JOINERS}  # Unicode adds some each year
