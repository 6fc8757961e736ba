"""Which works a variant trains on, found in the index of stage 03 without tensors."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.dataset import dataset

from commoncanvas.core.errors import ParameterError
from commoncanvas.latents.mirror import Listing, local_files, read_listing
from commoncanvas.latents.mixing import caption_choices, has_captions, mixture_of
from commoncanvas.licenses.policies import trainable_slugs

IN_BATCHES = {"batch_size": 2**16, "batch_readahead": 1, "fragment_readahead": 1}


@dataclass(frozen=True)
class Works:
    """Chosen works, in the order in which every training numbers them.

    rows: (works,) int64, their rows of the whole index.
    text_rows, text_shares: (works, captions); see `caption_choices`.
    """

    rows: np.ndarray
    key_column: (
        pa.ChunkedArray
    )  # of keys: Python's own texts would take four times as much
    text_rows: np.ndarray
    text_shares: np.ndarray

    @property
    def keys(self) -> list[str]:
        return self.key_column.to_pylist()

    def texts(self, table: Path, places: np.ndarray | None = None) -> list[str]:
        """Return the first caption of the works at (n,) places, None for all.

        `table` is texts.parquet, which is read in batches: what is not asked for takes
        no memory.
        """
        rows = self.text_rows[:, 0] if places is None else self.text_rows[places, 0]
        batches = dataset(table).scanner(columns=["text"], **IN_BATCHES)
        return batches.take(pa.array(rows))["text"].to_pylist()


def choose_works(
    index: pa.Table,
    licenses: Sequence[str],
    caption_source: str | Mapping[str, float],
    fraction: float = 1.0,
    holdout: bool = False,
    sources: Sequence[str] | None = None,
    num: int = 0,
    shuffle_seed: int | None = None,
) -> Works:
    """Choose the works of a variant.

    Args:
        index: of stage 03; see `make_index`.
        licenses: policies or licence slugs, e.g. ["c"] or ["cc0", "by"].
        caption_source: "human", "alt_text" or a captioner's name; or {source: weight}
            to mix several. A work without captions of one source draws from the
            others; one without any is left out.
        fraction: share of the works to keep, the same works for every larger share.
        holdout: True chooses the held-out works instead of the training works.
        sources: the sets to keep, None for all.
        num: works to keep after all this, the first of the order; 0 for all.
        shuffle_seed: exchanges the works' captions at random; see `shuffled`. None
            leaves each work its own.

    Raises:
        ParameterError: no work is left, fewer than `num`, or a source has none.
    """
    chosen = _is_in(index["license_slug"], trainable_slugs(licenses))
    chosen &= index["is_holdout"].to_numpy() == holdout
    chosen &= has_captions(index, caption_source)
    absent = sorted(set(sources or ()) - set(index["source"].unique().to_pylist()))
    if sources is not None:
        chosen &= _is_in(index["source"], sources)
    found = np.flatnonzero(chosen)
    order = np.argsort(index["order"].to_numpy()[found], kind="stable")
    found = found[order][: round(len(found) * fraction)]
    if not len(found) or absent:
        raise ParameterError(
            f"no work is left for licenses {list(licenses)}, {caption_source} "
            f"captions, fraction {fraction} and {absent or 'these'} sources; "
            "expected one or more of each; edit the profile."
        )
    if len(found) < num:
        raise ParameterError(
            f"num_works is {num:,}, and {len(found):,} works are chosen by licenses "
            f"{list(licenses)}, {caption_source} captions, fraction {fraction} and "
            f"{'these' if sources else 'all'} sources; expected as many or more; lower "
            "num_works, or choose more works."
        )
    found = found[: num or None]
    names = [f"text_{source}" for source in mixture_of(index, caption_source)]
    chosen_works = index.select(["key", *names]).take(pa.array(found))
    rows, shares = caption_choices(chosen_works, caption_source)
    if shuffle_seed is not None:
        others = shuffled(rows, shuffle_seed)
        rows, shares = rows[others], shares[others]
    return Works(found, chosen_works["key"], rows, shares)


def shuffled(text_rows: np.ndarray, seed: int) -> np.ndarray:
    """Return whose captions each work is given: (works,) places, a permutation.

    It is drawn at random. Works that drew the very captions that they had then exchange
    theirs with a random other, so that none keeps its own where that is possible, which
    is where no captions are those of more than half of the works.

    Args:
        text_rows: (works, captions), see `Works`; equal rows are equal captions.
        seed: the permutation depends on it and on the rows alone.
    """
    rng = np.random.default_rng([seed, 0x5417])  # a stream of its own
    others = rng.permutation(len(text_rows))
    said = np.unique(text_rows, axis=0, return_inverse=True)[1].reshape(-1)
    for place in np.flatnonzero(said[others] == said):
        own = said[place]
        if said[others[place]] != own:  # an exchange before this one has done it
            continue
        partners = np.flatnonzero((said != own) & (said[others] != own))
        if len(partners):
            other = rng.choice(partners)
            others[[place, other]] = others[[other, place]]
    return others


def _is_in(column: pa.ChunkedArray, values: Iterable[str]) -> np.ndarray:
    """Return (n,) bool: which of a column's texts are among some values."""
    wanted = pa.array(sorted(values), pa.string())
    return pc.is_in(column, wanted).to_numpy()


def read_index(
    folder: Path | str,
    caption_source: str | Mapping[str, float],
    cache: Path | None = None,
    listing: Listing | None = None,
) -> pa.Table:
    """Read what `choose_works` needs of the index of a stage 03 folder.

    Memory takes about 80 bytes a work, half of them its key, while works are chosen.

    Args:
        caption_source: as for `choose_works`; texts of other sources are not read.
        folder, cache, listing: as for `local_files`.
    """
    (file,) = local_files(folder, "index.parquet", cache, listing)
    stored = pq.ParquetFile(file)
    names = stored.schema_arrow.names
    mixture = mixture_of(stored.schema_arrow.empty_table(), caption_source)
    texts = {f"text_{source}" for source in mixture}
    wanted = [n for n in names if n in texts or not n.startswith("text_")]
    return stored.read([n for n in wanted if n != "split"])


def read_works(
    folder: Path | str,
    licenses: Sequence[str],
    caption_source: str | Mapping[str, float],
    **more: Any,
) -> pd.DataFrame:
    """Read the key and the text (first caption) of chosen works; see `choose_works`."""
    listing = read_listing(folder)
    index = read_index(folder, caption_source, listing=listing)
    works = choose_works(index, licenses, caption_source, **more)
    (texts,) = local_files(folder, "texts.parquet", listing=listing)
    return pd.DataFrame({"key": works.keys, "text": works.texts(texts)})
