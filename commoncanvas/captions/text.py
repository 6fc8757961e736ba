"""Measures of caption text: cleaning, agreement, variety, junk and leaked trademarks.

Stage 02 uses them to compare what a captioner wrote with human names and alt text.
They depend on the text alone, not on the model that wrote it. Shares come as counts,
from which the caller makes an interval.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

import pandas as pd
import pyarrow as pa

# Words that appear in many trademarks and in plain captions too. A mark is never
# recognised by one of them: "drive" alone does not name Google Drive.
GENERIC_WORDS = frozenset(
    "a an and app apps black blue brand by business card cloud code color community "
    "company data design desktop drive file flag for game games green group icon "
    "icons in inc international io js light line logo logotype mail map mark media "
    "mobile music my network new news of official on online open pay photo photos "
    "play plus red search service services shop sign site social software store "
    "studio symbol system team the to tv video web white world yellow".split()
)
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_DASHES = re.compile(r"[-_‐‑‒–—]+")
# What cameras, phones and uploaders leave behind when nobody wrote a caption.
_JUNK = re.compile(
    r"(?:img|dsc[fn]?|pict?|mvi|vid|scan|image|photo|picture|p)?[\s_-]*\d+"
    r"(?:\s*\(\d+\))?(?:\.(?:jpe?g|png|gif|tiff?|svg))?"
    r"|\S+\.(?:jpe?g|png|gif|tiff?|svg)|untitled"
    r"|.*https?://.*|.*\bdigital camera|exif[\s_-]jpe?g.*",
    re.IGNORECASE | re.DOTALL,
)


def normalise(text: str) -> str:
    """Return text in lower case, hyphens and dashes as spaces, spaces collapsed."""
    return " ".join(_DASHES.sub(" ", text.lower()).split())


def words(text: str) -> list[str]:
    """Return the normalised words of a text, without punctuation."""
    return _WORD.findall(normalise(text))


def clean_caption(raw: str) -> str:
    """Return a caption without stray spaces or immediate repetition of a word.

    "a a cat  cat" becomes "a cat", the classic failure of a greedy decoder. Case
    and punctuation stay; "cat, cat" is a repetition only without its comma.
    """
    kept: list[str] = []
    for part in raw.split():
        if not kept or part.lower() != kept[-1].lower():
            kept.append(part)
    return " ".join(kept)


def tidy(tables: Mapping[str, pa.Table]) -> pd.DataFrame:
    """Join what captioners wrote to one table, each caption cleaned or with a reason.

    Args:
        tables: {source: table of key and caption_raw; a captioner that reads its own
            answers adds caption, what it made of one, and reason}.

    Returns:
        DataFrame with key, source, caption_raw, caption (cleaned, "" where there is
        none) and reason ("" where there is a caption).
    """
    captions = pd.concat([t.to_pandas().assign(source=s) for s, t in tables.items()])
    columns = ["key", "source", "caption_raw", "caption", "reason"]
    captions = captions.reindex(columns=columns).astype(object)
    is_missing = captions["caption_raw"].isna()
    read = captions["caption"].fillna(captions["caption_raw"]).fillna("")
    captions["caption"] = read.map(clean_caption)
    captions["reason"] = captions["reason"].fillna("")
    is_empty = (captions["caption"] == "") & (captions["reason"] == "")
    captions.loc[is_empty, "reason"] = "empty caption"
    captions.loc[is_missing, "reason"] = "not among the imported captions"
    return captions[columns].reset_index(drop=True)


def exact_match(prediction: str, truth: str) -> bool:
    """Tell whether two texts hold the same words in the same order."""
    return words(prediction) == words(truth)


def word_f1(prediction: str, truth: str) -> float:
    """Score word overlap in [0, 1], each word as often as it occurs, order aside.

    1 when both texts are empty, 0 when only one is.
    Source: squad, §6.1 (there called F1; articles are kept here).
    """
    found, wanted = Counter(words(prediction)), Counter(words(truth))
    if not found or not wanted:
        return float(found == wanted)
    return 2 * (found & wanted).total() / (found.total() + wanted.total())


def ngram_counts(captions: Iterable[str], n: int) -> Counter[tuple[str, ...]]:
    """Count each run of n words, 1 or more, within a caption."""
    counts: Counter[tuple[str, ...]] = Counter()
    for caption in captions:
        tokens = words(caption)
        counts.update(zip(*(tokens[i:] for i in range(n)), strict=False))
    return counts


def unique_ngrams(captions: Iterable[str], n: int) -> int:
    """Count the different runs of n words over all captions."""
    return len(ngram_counts(captions, n))


def is_repetitive(caption: str) -> bool:
    """Tell whether some word follows itself at once, as in "a cat cat"."""
    tokens = words(caption)
    return any(a == b for a, b in zip(tokens, tokens[1:], strict=False))


def is_junk(caption: str) -> bool:
    """Tell whether a text says nothing of its picture.

    That is: a camera's default name ("DSC_0012.JPG", "OLYMPUS DIGITAL CAMERA"), a
    bare number, a web address, or no letter at all. An empty text is counted as
    empty, not as junk.
    """
    text = caption.strip()
    if not text:
        return False
    has_letter = any(character.isalpha() for character in text)
    return not has_letter or _JUNK.fullmatch(text) is not None


def caption_profile(captions: Iterable[str]) -> dict[str, float]:
    """Describe captions, one per picture, some of them empty, in a few numbers.

    Returns:
        dict: n, empty (count), mean_words and p95_words (nearest rank) over all n,
        vocabulary, unique_1grams to unique_3grams (counts), share_most_common,
        repetition_rate and junk_rate (shares of n, 0 to 1; 0 when n is 0).
    """
    captions = list(captions)
    n = len(captions)
    lengths = sorted(len(words(caption)) for caption in captions)
    common = Counter(normalise(c) for c in captions if c.strip()).most_common(1)
    unique = {f"unique_{k}grams": unique_ngrams(captions, k) for k in (1, 2, 3)}
    return {
        "n": n,
        "empty": sum(not caption.strip() for caption in captions),
        "mean_words": sum(lengths) / n if n else 0.0,
        "p95_words": lengths[-(-95 * n // 100) - 1] if n else 0,
        "vocabulary": unique["unique_1grams"],
        **unique,
        "share_most_common": common[0][1] / n if common else 0.0,
        "repetition_rate": sum(map(is_repetitive, captions)) / n if n else 0.0,
        "junk_rate": sum(map(is_junk, captions)) / n if n else 0.0,
    }


def distinctive_words(marks: Iterable[str]) -> set[str]:
    """Return the words that identify marks ("Google Drive", "github-icon").

    They are in lower case, have 3 letters or more, and are not `GENERIC_WORDS`.
    """
    found = {word for mark in marks for word in words(mark)} - GENERIC_WORDS
    return {w for w in found if len(w) > 2 and any(c.isalpha() for c in w)}


def leaks(caption: str, marks: Iterable[str] | str) -> bool:
    """Tell whether a caption has a distinctive word of a mark, or of one of several.

    Case and hyphens do not matter; only whole words count ("metadata" leaks no
    "Meta").
    """
    marks = [marks] if isinstance(marks, str) else marks
    return not distinctive_words(marks).isdisjoint(words(caption))


def leak_rate(captions: Iterable[str], marks: Iterable[str]) -> tuple[int, int]:
    """Count captions that name any of the marks: (leaked, n), for `wilson`.

    An upper bound, where a mark is an ordinary word ("Apple").
    """
    captions = list(captions)
    wanted = distinctive_words(marks)
    leaked = sum(not wanted.isdisjoint(words(caption)) for caption in captions)
    return leaked, len(captions)
