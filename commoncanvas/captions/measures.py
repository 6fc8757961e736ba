"""The measures of a caption audit: several captioners on the same pictures, by CPU.

Length, variety, how far captions are from what people ask for, how alike they begin,
what a text encoder cuts off, and which labelled objects they name. Every value has its
interval, and so has its difference from the first captioner's, over the same pictures.
Source: audit-recap-t2i; distinct-n; jensen-shannon; chair.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from commoncanvas.analysis.estimates import (
    Estimate,
    block_of,
    jackknife_of,
    mean_interval,
    same_rows,
    wilson,
)
from commoncanvas.captions.telephoning import load_captioner
from commoncanvas.captions.text import words
from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError

NUM_BLOCKS = 20  # of the jackknife
NUM_OPENING = 3  # words that are an opening
NUM_REPEATED = 4  # words in a row that a caption repeats
VARIETY = "different 3-grams a picture"  # the measure of the paper's claim
Audit = dict[str, dict[str, dict]]  # by captioner and measure, `Estimate.as_dict`


class _Measure(NamedTuple):
    """A value, and the same without a block of pictures, for differences."""

    estimate: Estimate
    without: Callable[..., float]


def audit(
    captions: Mapping[str, Sequence[str]],
    prompts: Sequence[str],
    tokenizer: Any,
    max_tokens: int = 77,
    labels: Sequence[Sequence[str]] | None = None,
) -> tuple[Audit, Audit]:
    """Measure captioners side by side, on the pictures that all of them describe.

    Bootstrapped captions repeat, which would make any of them less varied; so intervals
    of variety and distance leave blocks out, by the jackknife. Variety falls with the
    number of words, and so compares captioners of like length.

    Args:
        captions: n captions of the same pictures by each source, "" where it has none;
            the first source is the one that others are compared with.
        prompts: what people ask for; none leaves the distances out.
        tokenizer: of the text encoder, begin and end included.
        max_tokens: what that reads; CLIP's is 77.
        labels: names of the objects in each of the n pictures; None, or no label of any
            picture, leaves their recall out.

    Returns:
        (measured, differences): by source and measure; differences have every source
        but the first, as source minus first. Both are empty where fewer than two
        pictures have a caption by all.

    Raises:
        ShapeError: numbers of captions differ.
    """
    same_rows(*captions.values(), *([] if labels is None else [labels]))
    columns = [np.asarray(lines, object) for lines in captions.values()]
    is_said = np.logical_and.reduce([lines != "" for lines in columns])
    rows = np.flatnonzero(is_said)
    if len(rows) < 2:
        return {}, {}
    kept = None if labels is None else [labels[row] for row in rows.tolist()]
    found = {
        source: _measures(lines[rows].tolist(), prompts, tokenizer, max_tokens, kept)
        for source, lines in zip(captions, columns, strict=True)
    }
    first = next(iter(found.values()))
    measured = {
        source: {name: m.estimate.as_dict() for name, m in measures.items()}
        for source, measures in found.items()
    }
    differences = {
        source: {
            name: _difference(m, first[name], len(rows)).as_dict()
            for name, m in measures.items()
        }
        for source, measures in list(found.items())[1:]
    }
    return measured, differences


def claims(
    differences: Audit, names: Sequence[str], tokenizer: Any
) -> dict[str, dict[str, Any]]:
    """Return what docs/paper.yaml asks of captions: variety, and its control.

    Args:
        differences: of `audit`, with the source "human names".
        names: n human names, which halves of equal size are compared of.
        tokenizer: as for `audit`.
    """
    if not differences:
        return {}
    half = len(names) // 2
    halves = {"one": names[: 2 * half : 2], "other": names[1 : 2 * half : 2]}
    _, apart = audit(halves, [], tokenizer)
    found = {"variety": differences["human names"][VARIETY]}
    return found | ({"halves": apart["other"][VARIETY]} if apart else {})


def as_table(measured: Audit, differences: Audit) -> pd.DataFrame:
    """Return an audit as a table of text: a measure a row, a captioner a column.

    What follows are the differences from the first captioner.
    """
    if not measured:
        return pd.DataFrame(columns=["measure"])
    first = next(iter(measured))
    columns: dict[str, Mapping[str, dict]] = dict(measured)
    columns |= {f"{source} − {first}": rows for source, rows in differences.items()}
    texts = {
        name: {m: f"{Estimate.from_dict(e):.3g}" for m, e in rows.items()}
        for name, rows in columns.items()
    }
    return pd.DataFrame(texts).rename_axis("measure").reset_index()


def openings(captions: Mapping[str, Sequence[str]], num: int = 5) -> pd.DataFrame:
    """Return the most common openings by each source, with the share that they begin.

    Shares are of the captions that there are; of equal openings the alphabet decides.
    """
    rows = []
    for source, lines in captions.items():
        counts = Counter(_opening(line) for line in lines if line)
        ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:num]
        rows += [(source, text, count / counts.total()) for text, count in ranked]
    return pd.DataFrame(rows, columns=["captions", "opening", "share"])


def names_object(caption: str, label: str) -> bool:
    """Tell whether a caption names an object, whole words alone, singular or plural.

    Synonyms do not count: "man" is not found in "a person".
    """
    said = [_singular(word) for word in words(caption)]
    wanted = [_singular(word) for word in words(label)]
    places = range(len(said) - len(wanted) + 1)
    return bool(wanted) and any(
        said[place : place + len(wanted)] == wanted for place in places
    )


def read_labels(
    settings: Mapping[str, Any], keys: Sequence[str]
) -> list[list[str]] | None:
    """Read the labels of works, as imported captions are read; None for no settings.

    Args:
        settings: arguments of `ImportedCaptions`; `caption_column` holds the labels.

    Raises:
        ParameterError: see `ImportedCaptions`.
    """
    if not settings:
        return None
    reader = load_captioner({"captioner": "imported", **settings})
    found = reader.table([(key, b"") for key in keys]).to_pandas().dropna()
    listed = found.groupby("key")["caption_raw"].agg(list)
    return [listed.get(key, []) for key in keys]


def read_prompts(file: str, names: Sequence[str]) -> list[str]:
    """Read prompts, one a line or the first column of a .tsv; "" takes the names.

    Raises:
        ParameterError: there is no such file, or nothing in it.
    """
    if not file:
        return [name for name in names if name]
    try:
        lines = (paths.ROOT / file).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(
            f"the prompts {file!r} cannot be read ({type(error).__name__}); expected "
            "text in UTF-8, one a line; fetch it, or correct `prompt_file`."
        ) from None
    if Path(file).suffix == ".tsv":
        lines = [line.partition("\t")[0] for line in lines[1:]]
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise ParameterError(
            f"the prompts {file!r} are none; expected one a line; correct "
            "`prompt_file` in the profile."
        )
    return prompts


def _measures(
    captions: list[str],
    prompts: Sequence[str],
    tokenizer: Any,
    max_tokens: int,
    labels: Sequence[Sequence[str]] | None,
) -> dict[str, _Measure]:
    """Measure n captions, 2 or more, of one source."""
    said = [words(caption) for caption in captions]
    tokens = np.array([len(ids) for ids in tokenizer(captions)["input_ids"]])
    is_cut, repeats = tokens > max_tokens, [_repeats(line) for line in said]
    begun = [_opening(caption) for caption in captions]
    common, _ = min(Counter(begun).items(), key=lambda pair: (-pair[1], pair[0]))
    found = {
        "words": _mean([len(line) for line in said]),
        "tokens": _mean(tokens),
        f"cut at {max_tokens} tokens": _share(is_cut),
    }
    for n in (1, 2, 3):
        counts, _ = _counts(said, n)
        found[f"distinct {n}-grams, share"] = _jackknifed(counts, _distinct, said)
        if n == 3:
            found[VARIETY] = _variety(counts, len(said))
    asked = [words(prompt) for prompt in prompts]
    for n in (1, 2) if any(asked) else ():
        counts, place = _counts(said, n)
        wanted = np.zeros(len(place))
        others = 0
        for gram in _ngrams(asked, n):
            if gram in place:
                wanted[place[gram]] += 1
            else:
                others += 1  # of which captions have none: one place holds them all
        if total := wanted.sum() + others:
            far = _distance_to(wanted / total)
            found[f"distance to prompts, {n}-grams"] = _jackknifed(counts, far, said)
    found["begin with the most common opening"] = _share(
        [opening == common for opening in begun]
    )
    found[f"repeat {NUM_REPEATED} words"] = _share(repeats)
    if labels is not None and sum(map(bool, labels)) > 1:
        found["labelled objects named"] = _recall(captions, labels)
    return found


def _recall(captions: list[str], labels: Sequence[Sequence[str]]) -> _Measure:
    """Return the mean share of a picture's labels that its caption names."""
    shares = np.full(len(captions), np.nan)
    for row, (caption, names) in enumerate(zip(captions, labels, strict=True)):
        if names:
            shares[row] = np.mean([names_object(caption, name) for name in names])
    return _mean(shares)


def _mean(values: Any) -> _Measure:
    """Return the mean of one value a picture, NaN where it has none."""
    values = np.asarray(values, np.float64)
    has = ~np.isnan(values)
    block = block_of(len(values), NUM_BLOCKS)

    def without(_: int = 0, lost: int | None = None) -> float:
        kept = has if lost is None else has & (block != lost)
        return float(values[kept].mean()) if kept.any() else float(values[has].mean())

    return _Measure(mean_interval(values[has]), without)


def _share(is_so: Any) -> _Measure:
    """Return the share of pictures of which something is so."""
    is_so = np.asarray(is_so, bool)
    return _Measure(wilson(int(is_so.sum()), len(is_so)), _mean(is_so).without)


def _ngrams(said: Sequence[list[str]], n: int) -> list[tuple[str, ...]]:
    return [
        gram
        for line in said
        for gram in zip(*(line[i:] for i in range(n)), strict=False)
    ]


def _counts(
    said: Sequence[list[str]], n: int
) -> tuple[np.ndarray, dict[tuple[str, ...], int]]:
    """Count each run of n words by blocks of captions.

    Returns:
        (counts, place): (blocks, different runs) int64, and the place of each run.
    """
    place: dict[tuple[str, ...], int] = {}
    places = [
        [place.setdefault(gram, len(place)) for gram in _ngrams([line], n)]
        for line in said
    ]
    block = block_of(len(said), NUM_BLOCKS)
    counts = np.zeros((block.max() + 1, len(place)), np.int64)
    rows = np.repeat(block, [len(line) for line in places])
    np.add.at(counts, (rows, np.concatenate([*places, []]).astype(np.int64)), 1)
    return counts, place


def _jackknifed(
    counts: np.ndarray, statistic: Callable[[np.ndarray], float], said: Sequence
) -> _Measure:
    """Estimate a statistic, 0 to 1, of the (different runs,) counts of all captions."""
    total = counts.sum(0)

    def without(_: int = 0, lost: int | None = None) -> float:
        return statistic(total if lost is None else total - counts[lost])

    found = jackknife_of(without, [len(said)], NUM_BLOCKS)
    # A normal interval knows no ends.
    low, high = max(found.low, 0.0), min(found.high, 1.0)
    return _Measure(replace(found, low=low, high=high), without)


def _variety(counts: np.ndarray, num: int) -> _Measure:
    """Return how many different runs there are for each of `num` pictures."""
    total = counts.sum(0)
    sizes = np.bincount(block_of(num, NUM_BLOCKS))

    def without(_: int = 0, lost: int | None = None) -> float:
        if lost is None:
            return float((total > 0).sum() / num)
        return float((total - counts[lost] > 0).sum() / (num - sizes[lost]))

    return _Measure(jackknife_of(without, [num], NUM_BLOCKS), without)


def _distinct(counts: np.ndarray) -> float:
    """Return how many different runs there are for each run; 0 where there is none."""
    total = counts.sum()
    return float((counts > 0).sum() / total) if total else 0.0


def _distance_to(wanted: np.ndarray) -> Callable[[np.ndarray], float]:
    """Return the Jensen-Shannon distance of counts to a distribution, 0 to 1.

    `wanted` holds the shares of the runs that captions have; the rest is elsewhere.
    """
    rest = 1 - wanted.sum()

    def distance(counts: np.ndarray) -> float:
        total = counts.sum()
        shares = counts / total if total else np.zeros(len(counts))
        middle = (shares + wanted) / 2
        divergence = _relative(shares, middle) + _relative(wanted, middle)
        divergence += rest + (0 if total else 1)  # where only one side has anything
        return float(np.sqrt(min(1.0, max(0.0, divergence / 2))))

    return distance


def _relative(shares: np.ndarray, middle: np.ndarray) -> float:
    """Return the sum of p log2(p / m), over the places where p is not 0."""
    is_there = shares > 0
    there = shares[is_there]
    return float((there * np.log2(there / middle[is_there])).sum())


def _difference(measure: _Measure, first: _Measure, num_rows: int) -> Estimate:
    """Estimate measure - first, leaving the same pictures out of both."""

    def without(*lost: int) -> float:
        return measure.without(*lost) - first.without(*lost)

    return jackknife_of(without, [num_rows], NUM_BLOCKS)


def _opening(caption: str) -> str:
    return " ".join(words(caption)[:NUM_OPENING])


def _repeats(said: list[str]) -> bool:
    grams = _ngrams([said], NUM_REPEATED)
    return len(set(grams)) < len(grams)


def _singular(word: str) -> str:
    """Return an English word without the ending of its plural, roughly."""
    for ending, instead in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word.removesuffix(ending) + instead
    is_plural = word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if is_plural and len(word) > 3 else word
