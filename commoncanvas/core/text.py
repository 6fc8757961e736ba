"""Text of strangers, made safe to show: titles, authors, addresses, captions.

What a reader sees is kept; what steers a terminal, reorders a line or hides is not.
"""

import re
import unicodedata

# Controls and format characters. Format characters that are seen stay (the Arabic and
# Egyptian ones), joiners stay within a word or an emoji, and so do the tags of a flag.
_HIDDEN = re.compile(
    "(\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,6}\U000e007f)"
    "|[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e\u200f"
    "\u202a-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]"
)
_JOINERS = re.compile(
    "(?<!\\S)[\u200c\u200d]+|[\u200c\u200d]+(?!\\S)|(?<=[\u200c\u200d])[\u200c\u200d]+"
)


def printable(text: object) -> str:
    """Return text as one line in NFC that is safe on a terminal and on a page.

    White space becomes single spaces. Controls, and so escape sequences, go, as do
    characters that turn the direction of writing or are not seen; lone surrogates
    become U+FFFD. Markup is not escaped.
    """
    line = " ".join(str(text).split())
    if not line.isprintable():
        line = _HIDDEN.sub(r"\1", re.sub("[\ud800-\udfff]", "\ufffd", line))
        line = _JOINERS.sub("", " ".join(line.split()))
    return " ".join(unicodedata.normalize("NFC", line).split())
