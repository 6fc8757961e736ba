"""Which works a variant trains on, found in the index of stage 03 without tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from commoncanvas.core.errors import ParameterError
from commoncanvas.latents.mirror import Listing, local_files, read_listing
from commoncanvas.latents.mixing import caption_choices
from commoncanvas.licenses.policies import trainable_slugs


@dataclass(frozen=True)
class Works:
    """Chosen works, in the order in which every training numbers them.

    index: their rows of `make_index`; its labels are rows of the whole table.
    text_rows, text_shares: (works, captions); see `caption_choices`.
    """

    index: pd.DataFrame
    text_rows: np.ndarray
    text_shares: np.ndarray

    @property
    def keys(self) -> list[str]:
        return self.index["key"].tolist()

    def texts(self, table: Path) -> list[str]:
        """Return each work's first caption, of the table texts.parquet."""
        texts = pd.read_parquet(table)["text"]
        return texts.iloc[self.text_rows[:, 0]].tolist()


def choose_works(
    index: pd.DataFrame,
    licenses: Sequence[str],
    caption_source: str | Mapping[str, float],
    fraction: float = 1.0,
    holdout: bool = False,
    sources: Sequence[str] | None = None,
) -> Works:
    """Choose the works of a variant.

    Args:
        index: of stage 03, numbered from 0; see `make_index`.
        licenses: policies or licence slugs, e.g. ["c"] or ["cc0", "by"].
        caption_source: "human", "alt_text" or a captioner's name; or {source: weight}
            to mix several. A work without captions of one source draws from the
            others; one without any is left out.
        fraction: share of the works to keep, the same works for every larger share.
        holdout: True chooses the held-out works instead of the training works.
        sources: the sets to keep, None for all.

    Raises:
        ParameterError: no work is left, or a source has none.
    """
    chosen = index["license_slug"].isin(trainable_slugs(licenses))
    chosen &= index["is_holdout"] == holdout
    rows, shares = caption_choices(index, caption_source)
    chosen &= shares[:, -1] > 0
    absent = sorted(set(sources or ()) - set(index["source"]))
    if sources is not None:
        chosen &= index["source"].isin(sources)
    found = index[chosen]
    found = found.sort_values("order").head(round(len(found) * fraction))
    if found.empty or absent:
        raise ParameterError(
            f"no work is left for licenses {list(licenses)}, {caption_source} "
            f"captions, fraction {fraction} and {absent or 'these'} sources; "
            "expected one or more of each; edit the profile."
        )
    return Works(found, rows[found.index], shares[found.index])


def read_index(
    folder: Path | str, cache: Path | None = None, listing: Listing | None = None
) -> pd.DataFrame:
    """Read the index of a stage 03 folder; all arguments are as for `local_files`."""
    (file,) = local_files(folder, "index.parquet", cache, listing)
    # Rows of the tensors are places in the table, whatever its index says.
    return pd.read_parquet(file).reset_index(drop=True)


def read_works(
    folder: Path | str,
    licenses: Sequence[str],
    caption_source: str | Mapping[str, float],
    **more: Any,
) -> pd.DataFrame:
    """Read the key and the text (first caption) of chosen works; see `choose_works`."""
    listing = read_listing(folder)
    index = read_index(folder, listing=listing)
    works = choose_works(index, licenses, caption_source, **more)
    (texts,) = local_files(folder, "texts.parquet", listing=listing)
    return pd.DataFrame({"key": works.keys, "text": works.texts(texts)})
