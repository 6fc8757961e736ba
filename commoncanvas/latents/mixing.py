"""Caption mixing: every picture's captions by source, and the odds of each being read.

Stage 03 lays captions out once; training draws one of them a step, so that alt text,
synthetic and imported captions, several of a kind too, are mixed by weight and none is
frozen into the data.
"""

import numpy as np
import pandas as pd

from commoncanvas.core.errors import ParameterError


def make_index(catalog, captions):
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
    told = [
        index.assign(source="human", caption=index["title"]),
        index.assign(source="alt_text", caption=index["alt_text"]),
        captions,
    ]
    told = pd.concat([part[["key", "source", "caption"]] for part in told])
    told = told[told["caption"].fillna("") != ""]
    texts = ["", *sorted(set(told["caption"]))]
    told = told.assign(row=told["caption"].map({t: row for row, t in enumerate(texts)}))
    # The captioned web has licences too, and no Creative Commons variant may see it.
    slugs = index["license_slug"].where(index["split"] != "web", "web")
    index = index.assign(license_slug=slugs)
    index = index[["key", "source", "split", "license_slug", "is_holdout", "order"]]
    for source in ["human", "alt_text", *captions["source"].unique()]:
        rows = told[told["source"] == source].groupby("key")["row"].agg(list)
        rows = rows.reindex(index["key"])
        index[f"text_{source}"] = [r if isinstance(r, list) else [] for r in rows]
    return index, texts


def caption_choices(index, caption_source):
    """Lay out the captions among which training draws.

    Args:
        index: from `make_index`.
        caption_source: as for `Latents`.

    Returns:
        (rows, shares), each (works, captions): int64 rows of the texts, and the
        cumulative probability of being drawn, 1 at last; 0 where a work has none. A
        source's weight is shared evenly among a work's captions from it.

    Raises:
        ParameterError: an unknown source, or a weight that is not above 0.
    """
    if isinstance(caption_source, str):
        caption_source = {caption_source: 1.0}
    known = [c.removeprefix("text_") for c in index if c.startswith("text_")]
    weights = list(caption_source.values())
    if not caption_source.keys() <= set(known) or not weights or min(weights) <= 0:
        raise ParameterError(
            f"caption_source is {caption_source!r}; expected one of "
            f"{', '.join(known)}, or weights above 0 of some of them; edit the profile."
        )
    columns = [index[f"text_{source}"] for source in caption_source]
    width = max(1, sum(column.map(len).max() for column in columns))
    rows = np.zeros((len(index), width), np.int64)
    shares = np.zeros((len(index), width))
    for place, lists in enumerate(zip(*columns, strict=True)):
        pairs = [
            (row, weight / len(texts))
            for texts, weight in zip(lists, weights, strict=True)
            for row in texts
        ]
        if pairs:
            found, odds = zip(*pairs, strict=True)
            rows[place, : len(found)] = found
            odds = np.cumsum(odds) / sum(odds)
            shares[place] = 1.0
            shares[place, : len(found) - 1] = odds[:-1]
    return rows, shares
