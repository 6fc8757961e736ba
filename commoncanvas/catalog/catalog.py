"""The catalogue: every picture of the sources with its licence, split and reason.

Stage 01 builds it: `read_source` reads what the sources state, `assign_splits` splits
by licence, `choose` selects what the scale asks for, `drawing` draws. A row is never
lost: it is used, or it carries the reason why not.
"""

import hashlib
from collections.abc import Collection, Sequence
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from commoncanvas.catalog import splits
from commoncanvas.catalog.columns import STATED
from commoncanvas.catalog.sources import iconify, openclipart, webdataset, yfcc
from commoncanvas.catalog.sources.folder import read_folder
from commoncanvas.licenses import attribution
from commoncanvas.licenses.policies import verdict

Row = dict[str, Any]


def read_source(name: str) -> list[Row]:
    """Read one source into rows with the columns of `stated.STATED`.

    A source is an Iconify set pinned in `package-lock.json`, `openclipart`,
    `folder:TABLE.csv`, `webdataset:SHARDS*.tar`, or `commoncatalog:RANGES:ROOT` (see
    `yfcc.read_commoncatalog`), e.g. commoncatalog:256-512:photos/cc-by.

    Raises:
        SourceError: the source is not there, or not what it should be.
    """
    kind, _, path = name.partition(":")
    if kind == "folder":
        folder = Path(path).parent
        rows = read_folder(folder, path)
        return [row | {"path": str(folder / row["path"])} for row in rows]
    if kind == "webdataset":
        return list(webdataset.read_webdataset(sorted(glob(path))))
    if kind == "commoncatalog":
        ranges, _, root = path.partition(":")
        columns, connection = [*STATED, "jpg"], splits.connect()
        found = yfcc.read_commoncatalog(connection, root, ranges.split(","), columns)
        names = [*STATED, "picture"]
        cells = found.order("key").fetchall()
        return [dict(zip(names, row, strict=True)) for row in cells]
    return openclipart.read() if name == "openclipart" else iconify.read_set(name)


def assign_splits(
    rows: Sequence[Row], web_sources: Collection[str], seed: int
) -> pd.DataFrame:
    """Add licence, split, rejection reason and a random order key to every row.

    Args:
        rows: with the columns of `stated.STATED`.
        web_sources: sets that stand for captioned web pictures; their split is "web"
            whatever their licence, and no Creative Commons variant trains on them.
        seed: of the column `order`, a hash of seed and key in [0, 1).

    Returns:
        The rows, sorted by key, with the columns of `policies.VERDICT` and order.
    """
    frame = pd.DataFrame(rows).sort_values("key", ignore_index=True)
    for column in ("is_hidden", "is_skin_tone"):  # only Iconify sets have them
        frame[column] = frame[column].eq(True) if column in frame else False
    is_web = frame["source"].isin(web_sources) & (frame["reason"] == "")
    # Thousands of rows share a statement, so each statement is read once.
    columns = frame[["license_text", "license_url", "reason"]]
    stated = list(columns.itertuples(index=False, name=None))
    verdicts = {statement: verdict(*statement) for statement in set(stated)}
    judged = pd.DataFrame([verdicts[statement] for statement in stated], frame.index)
    frame[judged.columns] = judged
    frame.loc[is_web, ["split", "reason"]] = ["web", ""]
    owed = attribution.lacking(frame.rename(columns=attribution.COLUMNS), always=())
    owed = owed[(owed != "") & frame["split"].isin(["c", "nc", "nd"])]
    frame.loc[owed.index, "reason"] = "its licence asks for its " + owed
    frame.loc[owed.index, "split"] = "rejected"
    frame["order"] = [_random_share(seed, key) for key in frame["key"]]
    return frame


def _random_share(seed: int | str, key: str) -> float:
    """Return a number in [0, 1) that depends on seed and key alone."""
    return int(hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()[:12], 16) / 16**12


def choose(
    frame: pd.DataFrame,
    max_per_source: int,
    keep_skin_tones: bool,
    holdout_share: float,
    max_per_series: int = 0,
) -> pd.DataFrame:
    """Reject withdrawn works and works beyond this scale's limits; mark held-out ones.

    Args:
        frame: from `assign_splits`; a copy is returned, with a column is_holdout.
        max_per_source: pictures of each set to keep, at random; 0 keeps all.
        keep_skin_tones: whether the skin-tone variants of emoji stay.
        holdout_share: of the licensed works, at random, alike in every split.
        max_per_series: pictures to keep, at random, whose keys differ in their numbers
            alone, as those of 1,375 stars by one author do; 0 keeps all.
    """
    frame = frame.copy()

    def reject(mask: pd.Series, reason: str) -> None:
        mask &= frame["split"] != "rejected"
        frame.loc[mask, ["split", "reason"]] = ["rejected", reason]

    reject(frame["is_hidden"], "withdrawn by its set")
    if not keep_skin_tones:
        reject(frame["is_skin_tone"], "skin-tone variant of another picture")
    series = frame["key"].str.replace(r"\d+", "#", regex=True)
    for name, most, groups in (
        ("max_per_series", max_per_series, series),
        ("max_per_source", max_per_source, frame["source"]),
    ):
        if most:
            # By rank of `order`, a larger scale keeps all that a smaller one keeps.
            kept = frame["split"] != "rejected"
            rank = frame.loc[kept, "order"].groupby(groups[kept]).rank()
            reject(rank.reindex(frame.index) > most, f"beyond {name} of this scale")
    licensed = frame["split"].isin(["c", "nc", "nd"])
    # Not `order` again: it already decided which pictures are in.
    draws = np.array([_random_share("holdout", key) for key in frame["key"]])
    frame["is_holdout"] = licensed & (draws < holdout_share)
    return frame
