"""Caption mixing: every picture's captions by source, and the odds of each being read.

Stage 03 lays captions out once; training draws one of them a step, so that alt text,
synthetic and imported captions, several of a kind too, are mixed by weight and none is
fixed in the data.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from commoncanvas.core.errors import ParameterError
from commoncanvas.core.picture_store import captions_file
from commoncanvas.core.works import works_by_file

OWN_TEXTS = {"human": "title", "alt_text": "alt_text"}  # columns of the catalogue
_KEPT = pa.schema(
    [
        ("key", pa.large_string()),  # tens of millions take more than 2 GB
        *((name, pa.string()) for name in ("source", "split", "license_slug")),
        ("is_holdout", pa.bool_()),
        ("order", pa.float64()),
    ]
)


def read_pieces(
    licenses_folder: Path,
    captions_folder: Path,
    captioners: Sequence[str],
    text_sources: Sequence[str],
) -> Iterator[tuple[pa.Table, list[str]]]:
    """Yield what `make_index` makes of each file of pictures and its captions.

    Args:
        captioners: all sources of captions, from the manifest of stage 02.
        text_sources: see `make_index`.

    Raises:
        ParameterError: a text source is unknown.
        ManifestError: see `works_by_file`.
    """
    if unknown := sorted(set(text_sources) - OWN_TEXTS.keys()):
        raise ParameterError(
            f"text_sources has {', '.join(unknown)}; expected some of "
            f"{', '.join(OWN_TEXTS)}; captioners need not be named; edit the profile."
        )
    columns = [*OWN_TEXTS.values(), *_KEPT.names[1:]]
    for file, works in works_by_file(licenses_folder, columns):
        captions = pd.read_parquet(captions_file(captions_folder, file))
        yield make_index(works, captions, captioners, text_sources)


def make_index(
    catalog: pd.DataFrame,
    captions: pd.DataFrame,
    captioners: Sequence[str] | None = None,
    text_sources: Sequence[str] = tuple(OWN_TEXTS),
) -> tuple[pa.Table, list[str]]:
    """Give every picture its place and every distinct text a row.

    Args:
        catalog: kept rows of stage 01 with key, title, alt_text, split, license_slug,
            is_holdout and order.
        captions: rows of stage 02 with key, source and caption; several a picture and
            source, or none.
        captioners: the sources in `captions`, also where these rows have none of one.
        text_sources: which of `OWN_TEXTS` training reads. Of others only what is read
            without training is there: names of held-out works and of the web's.

    Returns:
        (index, texts): a table in the order of `catalog` whose text_human,
        text_alt_text and text_<source> are lists of rows of `texts`, empty where there
        is no caption; texts[0] is "", and the others are sorted.
    """
    index = catalog.reset_index(drop=True)
    sources = captions["source"].unique() if captioners is None else captioners
    is_read = (index["is_holdout"] | (index["split"] == "web")).to_numpy()
    parts = {source: captions[captions["source"] == source] for source in sources}
    for source, column in OWN_TEXTS.items():
        own = index[["key"]].assign(caption=index[column])
        if source not in text_sources:
            own = own[is_read & (source == "human")]
        parts[source] = own
    parts = {
        source: part[part["caption"].fillna("") != ""] for source, part in parts.items()
    }
    every = pd.concat([part["caption"] for part in parts.values()])
    texts = pd.Index(["", *sorted(every.unique())])
    # The captioned web has licences too, and no Creative Commons variant may see it.
    slugs = index["license_slug"].where(index["split"] != "web", "web")
    found = pa.Table.from_pandas(
        index.assign(license_slug=slugs), _KEPT, preserve_index=False
    ).replace_schema_metadata()
    places = pd.Index(index["key"])
    for source in [*OWN_TEXTS, *sources]:
        place = places.get_indexer(parts[source]["key"])
        order = np.argsort(place, kind="stable")
        order = order[np.searchsorted(place[order], 0) :]  # without unknown works
        rows = texts.get_indexer(parts[source]["caption"])[order]
        ends = np.cumsum(np.bincount(place[order], minlength=len(index)))
        offsets = np.concatenate([[0], ends]).astype(np.int32)
        lists = pa.ListArray.from_arrays(offsets, rows.astype(np.int64))
        found = found.append_column(f"text_{source}", lists)
    return found, texts.tolist()


def has_captions(
    index: pa.Table, caption_source: str | Mapping[str, float]
) -> np.ndarray:
    """Return (works,) bool: whether a work has a caption of one of the sources.

    Raises: ParameterError, as `caption_choices`.
    """
    counts = [_lists(index, source)[0] for source in mixture_of(index, caption_source)]
    return np.sum(counts, axis=0) > 0


def caption_choices(
    index: pa.Table, caption_source: str | Mapping[str, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Lay out the captions among which training draws.

    Args:
        index: from `make_index`.
        caption_source: as for `choose_works`.

    Returns:
        (rows, shares), each (works, captions): int64 rows of the texts, and the
        cumulative probability of being drawn, 1 at last; 0 where a work has none. A
        source's weight is shared evenly among a work's captions from it.

    Raises:
        ParameterError: an unknown source, or a weight that is not above 0.
    """
    mixture = mixture_of(index, caption_source)
    lists = [_lists(index, source) for source in mixture]
    totals = np.sum([counts for counts, _ in lists], axis=0)
    shape = len(index), max(1, int(totals.max(initial=0)))
    rows, odds = np.zeros(shape, np.int64), np.zeros(shape)
    filled = np.zeros(len(index), np.int64)
    for (counts, values), weight in zip(lists, mixture.values(), strict=True):
        work = np.repeat(np.arange(len(index)), counts)
        # Which of its work's captions each value is, after those of earlier sources.
        first = np.cumsum(counts) - counts
        column = np.arange(len(values)) - first[work] + filled[work]
        rows[work, column] = values
        odds[work, column] = weight / counts[work]
        filled += counts
    shares = np.cumsum(odds, 1, out=odds)
    shares /= np.where(totals > 0, shares[:, -1], 1)[:, None]
    # 1 exactly at the last caption and after it, whatever the rounding.
    is_last = np.arange(shape[1]) >= totals[:, None] - 1
    shares[is_last & (totals > 0)[:, None]] = 1.0
    return rows, shares


def mixture_of(
    index: pa.Table, caption_source: str | Mapping[str, float]
) -> Mapping[str, float]:
    """Return {source: weight}, all of which the index has.

    Raises:
        ParameterError: an unknown source, or a weight that is not above 0.
    """
    mixture = caption_source
    if isinstance(mixture, str):
        mixture = {mixture: 1.0}
    names = index.column_names
    known = [c.removeprefix("text_") for c in names if c.startswith("text_")]
    weights = list(mixture.values())
    if not mixture.keys() <= set(known) or not weights or min(weights) <= 0:
        raise ParameterError(
            f"caption_source is {mixture!r}; expected one of "
            f"{', '.join(known)}, or weights above 0 of some of them; edit the profile."
        )
    return mixture


def _lists(index: pa.Table, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the (works,) number of captions of a source, and all of them in order."""
    lists = index[f"text_{source}"].combine_chunks()
    return np.diff(lists.offsets.to_numpy()), lists.flatten().to_numpy()
