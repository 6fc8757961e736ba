"""Pages to vote on offline, and the votes that come back as lines of JSON.

A page is one file that holds all it needs, pictures too; the reader names file and line
of what is wrong. Votes belong to a sample, the rows of one page, and never mix with
those on another.
"""

import base64
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from commoncanvas.analysis.estimates import Estimate, student_quantile, wilson
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.files import once, write_text
from commoncanvas.core.templates import page_template
from commoncanvas.core.text import is_seen, nfc, printable

_FIELDS = ["sample", "rater", "key", "vote"]
# Systems and mail programs change the end of a file's name.
_ENDING = re.compile(r"\.(jsonl?|ndjson)(\.txt)?$", re.IGNORECASE)


def digest(value: Any) -> str:
    """Return 12 hexadecimal digits that name a JSON-able value."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]


def data_uri(picture: bytes) -> str:
    """Return the bytes of a PNG or JPEG as an address that needs no network."""
    kind = "jpeg" if picture.startswith(b"\xff\xd8") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"


def write_page(
    path: Path | str,
    template: str,
    title: str,
    sample: str,
    rows: Sequence[dict[str, Any]],
) -> None:
    """Write a page of `reports/template`; the same rows give the same bytes.

    Args:
        path: of the HTML file.
        template: a file that extends `ballot.html`.
        title: the heading, plain text.
        sample: the name under which the page keeps and exports votes.
        rows: what is voted on, JSON-able, with a `key` each.
    """
    page = page_template(template)
    # The template's `tojson` writes every `<` as \u003c: no caption ends its script.
    text = page.render(title=title, data={"sample": sample, "rows": rows}) + "\n"
    write_text(path, text)


def read_votes(
    folder: Path | str,
    sample: str,
    keys: Iterable[str],
    check: Callable[[str, dict[str, str]], None],
    **optional: str,
) -> tuple[list[dict[str, str]], int]:
    """Read the votes on one sample from all `*.jsonl` and `*.json` below a folder.

    The case of the ending does not matter, and names of raters and keys are compared in
    NFC. Files come in order of name, numbers as numbers, so that a second download
    ("… (1).jsonl") follows the first. The last vote of a rater on a key counts.

    Args:
        folder: where exported votes lie; it need not exist.
        keys: of the sample.
        check: called with (where, vote) for every vote on the sample; it raises
            `wrong` for one that cannot be.
        **optional: further texts of a line, each with its default.

    Returns:
        The votes, by rater and then as `keys`, and the number of votes on other
        samples, left out.

    Raises:
        ParameterError: a file cannot be read, a line is malformed or a key unknown; it
            names file and line.
    """
    votes: dict[tuple[str, int], dict[str, str]] = {}
    num_others = 0
    places = {nfc(key): (i, key) for i, key in enumerate(keys)}
    for where, line in _lines(Path(folder)):
        vote = _parsed(where, line, optional)
        if vote["sample"] != sample:
            num_others += 1
            continue
        name = nfc(vote["key"])
        if name not in places:
            raise wrong(where, f"key {vote['key']}", "a key of this sample")
        place, vote["key"] = places[name]
        check(where, vote)
        votes[vote["rater"], place] = vote
    return [votes[i] for i in sorted(votes)], num_others


def wrong(where: str, found: str, expected: str) -> ParameterError:
    """Return the ParameterError of one line of a file of votes."""
    found = printable(found)
    found = found if len(found) <= 80 else found[:79] + "…"
    return ParameterError(
        f"{printable(where)}: found {found}; expected {expected}. "
        "Mend the line or export again."
    )


def share(scores: pd.Series, votes: pd.DataFrame) -> Estimate | None:
    """Estimate the mean score of what was voted on, a share.

    With one rater, each key is one Bernoulli trial of Wilson's interval (ties count ½,
    which makes it slightly conservative), which speaks of this rater alone. With
    several, a key has the mean of its raters, and the interval covers both the choice
    of keys and that of raters (variances clustered by either, less that of votes), with
    Student's quantile for the fewer of the two, cut to 0 and 1: of two or three raters
    it is wide. Where all means are equal it is Wilson's again, because zero variance
    would give a zero-width interval. n counts the keys that were voted on; without
    votes it is None. Source: two-way-clusters.

    Args:
        scores: 0 to 1 (or truth values), one a vote.
        votes: has the columns rater and key, one vote per rater and key.
    """
    if votes.empty:
        return None
    scores = scores.astype(float)
    shares = scores.groupby(votes["key"]).mean()
    if votes["rater"].nunique() == 1 or shares.nunique() == 1:
        return wilson(float(shares.sum()), len(shares))
    mean = float(shares.mean())
    weights = 1 / len(shares) / scores.groupby(votes["key"]).transform("size")
    parts = weights * (scores - mean)
    by = {name: _clustered(parts, votes[name]) for name in ("rater", "key")}
    both = sum(by.values()) - _clustered(
        parts, pd.Series(range(len(votes)), votes.index)
    )
    num = min(votes["rater"].nunique(), len(shares))
    half = student_quantile(num) * math.sqrt(max(both, *by.values()))
    return Estimate(mean, max(mean - half, 0.0), min(mean + half, 1.0), len(shares))


def _clustered(parts: pd.Series, of: pd.Series) -> float:
    """Return the variance of the sum of parts that vary together within clusters."""
    sums = parts.groupby(of).sum()
    return float((sums**2).sum() * len(sums) / (len(sums) - 1))


def krippendorff_alpha(counts: Any) -> float:
    """Measure how far raters agree, beyond chance, on unordered categories.

    It is 1 for full agreement, 0 for chance, and NaN where all votes are alike. Unlike
    Fleiss' kappa it allows each item its own number of raters. Source: krippendorff.

    Args:
        counts: (items, categories), the raters who chose each; 2 or more an item.
    """
    counts = np.asarray(counts, dtype=np.float64)
    raters, totals = counts.sum(1), counts.sum(0)
    num = totals.sum()
    differing = num**2 - np.sum(totals**2)
    if not differing:
        return math.nan
    # Pairs of raters of the same item who differ, against pairs of any two votes.
    observed = np.sum((raters**2 - np.sum(counts**2, 1)) / (raters - 1))
    return float(1 - (num - 1) * observed / differing)


def _lines(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (where, line) of every line that is not blank."""
    if folder.exists() and not folder.is_dir():
        raise wrong(folder.name, "a file", "a folder of votes")
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    for name in sorted(found, key=_natural):
        path = found[name]
        if path.is_symlink() and path.is_dir():  # what it leads to is not searched
            raise wrong(name, "a link to a folder", "the files themselves")
        if path.is_dir() or not _ENDING.search(name):
            continue
        if not path.is_file():  # reading a pipe would wait for ever
            raise wrong(name, "a broken link or no regular file", "a file of votes")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise wrong(name, str(error.strerror), "a file of votes") from None
        # Only \n ends a line of JSON; captions may hold what `splitlines` cuts at.
        for number, line in enumerate(content.split(b"\n"), 1):
            if line.strip():
                yield f"{name}, line {number}", line


def _natural(name: str) -> tuple[list[Any], str]:
    """Sort numbers within names as numbers."""
    parts = re.split(r"([0-9]+)", _ENDING.sub("", name))
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _parsed(where: str, line: bytes, optional: dict[str, str]) -> dict[str, str]:
    try:
        vote = optional | json.loads(line, object_pairs_hook=once)
        # Only texts can be joined, and only without lone surrogates they are UTF-8.
        "".join(vote[name] for name in (*_FIELDS, *optional)).encode("utf-8")
        is_vote = is_seen(vote["rater"]) and all(vote[name].strip() for name in _FIELDS)
    except (KeyError, TypeError, ValueError, RecursionError):
        is_vote = False
    if not is_vote:
        raise wrong(where, line.decode(errors="replace"), f"JSON texts {_FIELDS}")
    return vote | {"rater": printable(vote["rater"])}
