"""What strangers wrote is shown, and steers nothing."""

import html
import sys
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commoncanvas.core.text import (
    cut,
    html_to_text,
    is_page,
    is_seen,
    nfc,
    printable,
    says_something,
)

ANY = st.text(st.characters(exclude_categories=()))  # lone surrogates, too
JOINERS = "\u200c\u200d"
# Format characters that are seen: signs around Arabic, Syriac and Kaithi numbers, and
# the quadrats of hieroglyphs.
SEEN = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
SEEN |= {*range(0x13430, 0x13440)}
FLAG = "\U0001f3f4\U000e0067\U000e0062\U000e007f"


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
        (FLAG, FLAG),
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


@pytest.mark.parametrize(
    "text",
    ["Ada", "\u674e", "7", "\u2665", "Na", "N.A. Smith", "Nana", "\x1b[31m", "-a-"],
)
def test_a_letter_a_digit_or_a_picture_sign_says_something(text):
    assert says_something(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "-",
        "?!",
        "\u2026",
        "n/a",
        "N/A",
        "#N/A",
        "n.a.",
        "(none)",
        "NaN",
        "null",
        *(
            "NA",
            "<NA>",
            "\\N",
            "n / a",
            "NaT",
            "\uff2e\uff0f\uff21",
            "\u3002",
            "\u2212",
        ),
        *("\u30fb\u30fb", "no author", "not available", "[deleted]", "null null"),
    ]
    + [
        "Unknown",
        "\u200b\u200d",
        "\x00\x07\x1b",
        "\u202e",
        "\ufeff",
        "\u0301",
        "\ufffd",
    ]
    # Fillers are letters, and the braille blank is a symbol, for Unicode.
    + [
        "\u3164",
        "\u115f\u1160",
        "\uffa0",
        "\u2800",
        "\xad",
        "\u17b4",
        "\ud800",
        "\ue000",
    ],
)
def test_what_no_reader_sees_says_nothing(text):
    assert not says_something(text)


def test_a_mark_alone_is_seen_though_it_names_nothing():
    assert is_seen("?") and is_seen("n/a") and not says_something("?")
    assert not any(map(is_seen, ["", " \u200b", "\u3164\u0301", "\x1b", "\ue000"]))


@pytest.mark.parametrize(
    "address",
    ["https://example.org", "HTTP://www.flickr.com/photos/1?q=a b#c", "http://a.bc:80/"]
    + ["https://example.org./x", "https://\u043f\u0440\u0438.\u0440\u0444/e\u0301"],
)
def test_an_address_with_a_host_is_a_page(address):
    assert is_page(address)


@pytest.mark.parametrize(
    "address",
    ["", "n/a", "javascript:x", "data:text/html,x", "www.example.org", "//example.org"]
    + [
        "http://",
        "https:///x",
        "https://n/a",
        "http://a..b",
        "https://.org",
        "ftp://a.b",
    ]
    + ["https://\u3164.\u3164/", "https://example.org/\x1b[2J", "https://a.b/\u202e"]
    + [
        "https://a.b\n.org",
        " https://a.b",
        "https://a.b/\ud800",
        "https://exa mple.org",
    ],
)
def test_an_address_without_a_host_or_with_hidden_signs_is_no_page(address):
    assert not is_page(address)


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        (
            'Recipe here: <a href="http://example.org/barn" rel="nofollow">example.org/'
            "barn</a>\n<b>Red</b> barn &quot;at dusk&quot; &lt; 3",
            'Recipe here: example.org/barn Red barn "at dusk" < 3',
        ),
        ("AT&T tower, 3 < 4", "AT&T tower, 3 < 4"),
        ("I <3 you </3 & <http://a.b> <j@a.b>", "I <3 you </3 & <http://a.b> <j@a.b>"),
        ("x<y, &copy 2005, cats&notdogs", "x<y, &copy 2005, cats&notdogs"),
        ("one<br>two<BR/>three<p class=x>four</p>five", "one two three four five"),
        ("<b>s</b>top <i\ntitle='a > b'>sign</i>", "stop sign"),
        ("<i don't>a</i>", "a"),
        ("a<script>alert(1)</script>b<style>p{}</STYLE >c<!-- d -->e", "a b c e"),
        ("a<script>alert(1)", "a"),
        ("<!DOCTYPE html><o:p>a</o:p><img src=x alt='b'>", "a"),
        ("&amp;lt;b&amp;gt; &#233;&#xE9;&eacute;", "&lt;b&gt; \xe9\xe9\xe9"),
        ("&#8238;a&#x1b;[31m&#0;&#155;", "a[31m\ufffd\u203a"),
        ("&#" + "9" * 5000 + ";", "&#" + "9" * 5000 + ";"),
        ("a \u200bb\x1b", "a b"),
    ],
)
def test_html_becomes_what_a_reader_sees_of_it(source, seen):
    assert html_to_text(source) == seen


@given(ANY.filter(lambda text: not set(text) & set("<&")))
def test_text_without_markup_stays(text):
    assert html_to_text(text) == printable(text)


@given(ANY)
def test_escaped_text_is_read_back(text):
    assert html_to_text(html.escape(text)) == printable(text)


@pytest.mark.parametrize(
    "part",
    ["<", "<a", "<a ", '<a "', "<a \"'", "<a:", "<!--", "<script>", "&a", "&#1"]
    + ["\u0301\u0316"],  # marks that Unicode's normal form sorts
)
def test_html_is_read_in_time_that_grows_with_its_length(part):
    started = time.process_time()
    html_to_text(part * 100_000)
    assert time.process_time() - started < 3


@pytest.mark.parametrize("host", ["null.null", "undefined.undefined", "n.a"])
def test_a_host_that_names_nothing_is_no_page(host):
    assert not is_page(f"https://{host}/")


def test_a_long_text_is_cut_with_an_ellipsis():
    assert cut("abc", 3) == "abc" and cut("abcd", 3) == "ab…"


def test_few_marks_stay_and_a_thousand_are_cut_to_thirty():
    assert nfc("e\u0301") == "\xe9" and nfc("\u0e33" * 99) == "\u0e33" * 99
    assert len(nfc("x" + "\u0316" * 1000)) == 31
