"""Measures of caption text: cleaning, agreement, variety, junk and leaked marks.

Stage 02 uses them to compare what a captioner wrote with human names and alt text.
Nothing here knows which model wrote a caption; shares come as counts, so that the
notebook gives them their interval.
"""

import re
from collections import Counter

import numpy as np
import pandas as pd

# Words that appear in many marks' names and in plain captions too. A mark is never
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


def normalise(text):
    """Return text in lower case, hyphens and dashes as spaces, spaces collapsed."""
    return " ".join(_DASHES.sub(" ", text.lower()).split())


def words(text):
    """Return the normalised words of a text, without punctuation."""
    return _WORD.findall(normalise(text))


def clean_caption(raw):
    """Return a caption without stray spaces or immediate repetition of a word.

    "a a cat  cat" becomes "a cat", the classic failure of a greedy decoder. Case
    and punctuation stay; "cat, cat" is a repetition only without its comma.
    """
    kept = []
    for part in raw.split():
        if not kept or part.lower() != kept[-1].lower():
            kept.append(part)
    return " ".join(kept)


def tidy(tables):
    """Join what captioners wrote to one table, each caption cleaned or with a reason.

    Args:
        tables: {source: pyarrow.Table of key and caption_raw}.

    Returns:
        DataFrame with key, source, caption_raw, caption (cleaned, "" where there is
        none) and reason ("" where there is a caption).
    """
    told = pd.concat([t.to_pandas().assign(source=s) for s, t in tables.items()])
    is_missing = told["caption_raw"].isna()
    told["caption"] = told["caption_raw"].fillna("").map(clean_caption)
    told["reason"] = np.where(told["caption"] == "", "empty caption", "")
    told.loc[is_missing, "reason"] = "not among the imported captions"
    columns = ["key", "source", "caption_raw", "caption", "reason"]
    return told[columns].reset_index(drop=True)


def exact_match(prediction, truth):
    """Tell whether two texts hold the same words in the same order."""
    return words(prediction) == words(truth)


def word_f1(prediction, truth):
    """Score word overlap, each word as often as it occurs, order aside.

    Source: squad, §6.1 (there called F1; articles are kept here).

    Returns:
        float in [0, 1]; 1 when both are empty, 0 when only one is.
    """
    found, wanted = Counter(words(prediction)), Counter(words(truth))
    if not found or not wanted:
        return float(found == wanted)
    return 2 * (found & wanted).total() / (found.total() + wanted.total())


def ngram_counts(captions, n):
    """Count each run of n words within a caption; runs never cross captions.

    Args:
        captions: iterable of text.
        n: words per run, 1 or more.

    Returns:
        Counter of tuples of n words.
    """
    counts = Counter()
    for caption in captions:
        tokens = words(caption)
        counts.update(zip(*(tokens[i:] for i in range(n)), strict=False))
    return counts


def unique_ngrams(captions, n):
    """Count the different runs of n words over all captions."""
    return len(ngram_counts(captions, n))


def is_repetitive(caption):
    """Tell whether some word follows itself at once, as in "a cat cat"."""
    tokens = words(caption)
    return any(a == b for a, b in zip(tokens, tokens[1:], strict=False))


def is_junk(caption):
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


def caption_profile(captions):
    """Describe a list of captions in one flat table of numbers.

    Args:
        captions: list of text, one per picture; empty text allowed.

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


def distinctive_words(marks, common=frozenset()):
    """Return the words by which marks can be told: no generic or very short ones.

    A mark whose every word is ordinary ("Apple", if `common` holds it) adds nothing,
    because a caption of a red apple leaks no mark. Choose `common` from plain
    language, never from what the captioner is able to say: that would hide every
    mark that it can write.

    Args:
        marks: iterable of proper names ("Google Drive", "github-icon").
        common: further words that identify no mark.

    Returns:
        frozenset of words in lower case, 3 letters or longer.
    """
    found = {word for mark in marks for word in words(mark)}
    plain = GENERIC_WORDS | {word.lower() for word in common}
    return frozenset(
        w for w in found - plain if len(w) > 2 and any(c.isalpha() for c in w)
    )


def leaks(caption, marks, common=frozenset()):
    """Tell whether a mark's distinctive word stands in a caption as a whole word.

    Case and hyphens do not matter; parts of words do ("metadata" leaks no "Meta").

    Args:
        caption: text.
        marks: iterable of proper names, or one name.
        common: see `distinctive_words`.
    """
    marks = [marks] if isinstance(marks, str) else marks
    return not distinctive_words(marks, common).isdisjoint(words(caption))


def leak_rate(captions, marks, common=frozenset()):
    """Count captions that name any of the marks: `metrics.wilson(*leak_rate(...))`.

    Marks with ordinary names make the count an upper bound: set `common`.

    Args:
        captions: list of text.
        marks: iterable of proper names; any caption may leak any mark.
        common: see `distinctive_words`.

    Returns:
        (leaked, n), two counts of captions.
    """
    captions = list(captions)
    wanted = distinctive_words(marks, common)
    leaked = sum(not wanted.isdisjoint(words(caption)) for caption in captions)
    return leaked, len(captions)
