"""The captions that stage 02 hands on: a file for each file of pictures."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from commoncanvas.captions.text import tidy
from commoncanvas.core.errors import ManifestError
from commoncanvas.core.files import writing
from commoncanvas.core.picture_store import captions_file, picture_file, read_splits
from commoncanvas.core.works import LICENSED


def write_captions(
    folder: Path, pictures: Iterable[Path], written: Mapping[str, Sequence[Path]]
) -> pd.DataFrame:
    """Write what captioners wrote, cleaned or with a reason, a file for each input.

    Memory holds one file. Each has the columns of `text.tidy`; see `captions_file`.

    Args:
        folder: of stage 02.
        pictures: files of stage 01.
        written: {source: their files from `telephone`}.

    Returns:
        DataFrame of source, reason ("" where there is a caption) and pictures, where a
        picture of several captions counts as its first.

    Raises:
        ManifestError: a source has captions of other pictures than a file holds.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for place, file in enumerate(pictures):
        keys = [key for key, split in read_splits(file) if split in LICENSED]
        tables = {
            source: pq.read_table(files[place]) for source, files in written.items()
        }
        rows = tidy(tables)
        firsts = rows.drop_duplicates(["source", "key"])
        for source in written:
            if firsts["key"][firsts["source"] == source].tolist() != keys:
                raise ManifestError(
                    f"{source} has captions of other works than {file.name} holds; "
                    "expected each licensed one; delete .checkpoints/ and run again."
                )
        counts.update(zip(firsts["source"], firsts["reason"], strict=True))
        target = captions_file(folder, file)
        with writing(target):
            target.parent.mkdir(exist_ok=True)
            columns = {name: pa.array(rows[name], pa.string()) for name in rows}
            pq.write_table(pa.table(columns), target)
    rows = [(*names, num) for names, num in sorted(counts.items())]
    return pd.DataFrame(rows, columns=["source", "reason", "pictures"])


def first_captions(folder: Path, works: pd.DataFrame, source: str) -> np.ndarray:
    """Return the first caption by one source of each work, "" where there is none.

    Args:
        folder: of stage 02.
        works: (n,) with key and file, from `sample_works`.
    """
    found: dict[str, str] = {}
    for number in sorted(works["file"].unique()):
        table = pq.read_table(captions_file(folder, picture_file(folder, number)))
        rows = table.filter(pc.field("source") == source).to_pandas()
        rows = rows[rows["key"].isin(works["key"])].drop_duplicates("key")
        found |= dict(zip(rows["key"], rows["caption"], strict=True))
    return works["key"].map(found).to_numpy(object)
