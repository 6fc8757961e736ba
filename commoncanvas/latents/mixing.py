"""Caption mixing: every picture's captions by source, and the odds of each being read.

Stage 03 lays captions out once; training draws one of them a step, so that alt text,
synthetic and imported captions, several of a kind too, are mixed by weight and none is
fixed in the data.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from commoncanvas.core.errors import ParameterError


def make_index(
    catalog: pd.DataFrame, captions: pd.DataFrame
) -> tuple[pd.DataFrame, list[str]]:
    """Give every picture its place and every distinct text a row.

    Args:
        catalog: kept rows of stage 01 with key, title, alt_text, split, license_slug,
            is_holdout and order.
        captions: rows of stage 02 with key, source and caption; several a picture and
            source, or none.

    Returns:
        (index, texts): a DataFrame sorted by key whose text_human, text_alt_text and
        text_<source> are lists of rows of `texts`, empty where there is no caption;
        texts[0] is "".
    """
    index = catalog.sort_values("key", ignore_index=True)
    parts = [
        index.assign(source="human", caption=index["title"]),
        index.assign(source="alt_text", caption=index["alt_text"]),
        captions,
    ]
    every = pd.concat([part[["key", "source", "caption"]] for part in parts])
    every = every[every["caption"].fillna("") != ""]
    texts = ["", *sorted(set(every["caption"]))]
    row_of = {text: row for row, text in enumerate(texts)}
    every = every.assign(row=every["caption"].map(row_of))
    # The captioned web has licences too, and no Creative Commons variant may see it.
    slugs = index["license_slug"].where(index["split"] != "web", "web")
    index = index.assign(license_slug=slugs)
    index = index[["key", "source", "split", "license_slug", "is_holdout", "order"]]
    for source in ["human", "alt_text", *captions["source"].unique()]:
        rows = every[every["source"] == source].groupby("key")["row"].agg(list)
        rows = rows.reindex(index["key"])
        index[f"text_{source}"] = [r if isinstance(r, list) else [] for r in rows]
    return index, texts


def caption_choices(
    index: pd.DataFrame, caption_source: str | Mapping[str, float]
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
    mixture = caption_source
    if isinstance(mixture, str):
        mixture = {mixture: 1.0}
    known = [c.removeprefix("text_") for c in index if c.startswith("text_")]
    weights = list(mixture.values())
    if not mixture.keys() <= set(known) or not weights or min(weights) <= 0:
        raise ParameterError(
            f"caption_source is {mixture!r}; expected one of "
            f"{', '.join(known)}, or weights above 0 of some of them; edit the profile."
        )
    columns = [index[f"text_{source}"] for source in mixture]
    width = max(1, sum(column.map(len).max() for column in columns))
    rows = np.zeros((len(index), width), np.int64)
    shares = np.zeros((len(index), width))
    for place, lists in enumerate(zip(*columns, strict=True)):
        found: list[int] = []
        odds: list[float] = []
        for texts, weight in zip(lists, weights, strict=True):
            for row in texts:
                found.append(row)
                odds.append(weight / len(texts))
        if found:
            rows[place, : len(found)] = found
            # 1 exactly at the last caption and after it, whatever the rounding.
            shares[place] = 1.0
            shares[place, : len(found) - 1] = (np.cumsum(odds) / sum(odds))[:-1]
    return rows, shares
