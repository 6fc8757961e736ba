"""The catalogue: every picture of the sources with its licence, split and reason.

Stage 01 builds it: `read_sources` reads what the sources state, `assign_splits` splits
by licence, `choose` selects what the scale asks for, `drawing` draws. A row is never
lost: it is used, or it carries the reason why not.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from commoncanvas.catalog import entries
from commoncanvas.catalog.columns import NOWHERE
from commoncanvas.core.errors import ParameterError, SourceError
from commoncanvas.core.settings import names_of
from commoncanvas.licenses import attribution
from commoncanvas.licenses.policies import verdict

Row = dict[str, Any]


def read_frame(*groups: Sequence[str]) -> pd.DataFrame:
    """Read all the sources of a profile's lists, e.g. of cc_sources and web_sources.

    A row has the columns that `read_source` gives it; millions of them, as
    CommonCatalog has, are never dictionaries.

    Raises:
        ParameterError: an entry is not text, or stands in the lists twice.
        SourceError: see `read_source`.
    """
    parts = [entries.read_all(name) for name in _once(groups)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def read_sources(*groups: Sequence[str]) -> list[Row]:
    """Read what `read_frame` reads into rows with columns of their own source alone."""
    return [row for name in _once(groups) for row in read_source(name)]


def _once(groups: Sequence[Sequence[str]]) -> list[str]:
    names = [name for group in groups for name in group]
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise ParameterError(
            f"sources list {wrong[0]!r:.80}; expected text like twemoji or "
            "folder:photos/works.csv, without a space behind the colon; correct it."
        )
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise ParameterError(
            f"sources list {twice[0]!r} more than once; expected each in one place of "
            "cc_sources and web_sources; take the others out of the profile."
        )
    return names


def read_source(name: str) -> list[Row]:
    """Read one source into rows with `columns.STATED`, spec and, of files, `LOCATED`.

    A source is an Iconify set pinned in `package-lock.json`, `openclipart`, or of a
    kind of `entries.KINDS`: `folder:TABLE.csv`, `webdataset:SHARDS*.tar`,
    `gpic:split=nano:SHARDS*.tar`, `commoncatalog:RANGES:ROOT` (for RANGES, `*` or
    nothing means all sizes), and so on. The column spec holds this name, which tells
    the sources of a profile apart; source, the name to show, may be anyone's.

    Raises:
        SourceError: the source is not there, is empty, or not what it should be.
        ParameterError: it has an option that its kind does not know.
    """
    rows: list[Any] = entries.read_all(name).to_dict("records")
    return rows


def assign_splits(
    rows: Sequence[Row] | pd.DataFrame, web_sources: Collection[str], seed: int
) -> pd.DataFrame:
    """Add licence, split, rejection reason and a random order key to every row.

    A work is rejected if its licence asks for a field that it lacks, or if its key is
    another's; it then gets a key of its own, so that no two rows share one.

    Args:
        rows: with the columns of `columns.STATED` and spec, from `read_frame`.
        web_sources: sets, by spec, that stand for captioned web pictures; their split
            is "web" whatever their licence, and no Creative Commons variant trains on
            them.
        seed: of the column `order`, a hash of seed and key in [0, 1).

    Returns:
        The rows, sorted by key, with the columns of `LOCATED`, `policies.VERDICT` and
        order.

    Raises:
        SourceError: there are no rows.
    """
    if not len(rows):
        raise SourceError(
            "there are no works; expected a source or more; name some in cc_sources "
            "or web_sources of the profile."
        )
    frame = pd.DataFrame(rows)
    for column in ("is_hidden", "is_skin_tone"):  # only Iconify sets have them
        frame[column] = frame[column].eq(True) if column in frame else False
    for column, nowhere in NOWHERE.items():  # a drawing lies in its row
        found = frame[column].fillna(nowhere) if column in frame else nowhere
        frame[column] = pd.Series(found, frame.index).astype(type(nowhere))
    frame = _with_own_keys(frame)
    is_web = frame["spec"].isin(web_sources) & (frame["reason"] == "")
    # Thousands of rows share a statement, so each statement is read once.
    columns = ["license_text", "license_url", "reason"]
    number = frame.groupby(columns, sort=False, dropna=False).ngroup()
    stated = frame[columns].drop_duplicates().itertuples(index=False, name=None)
    judged = pd.DataFrame([verdict(*statement) for statement in stated])
    frame[judged.columns] = judged.take(number.to_numpy()).set_axis(frame.index)
    frame.loc[is_web, ["split", "reason"]] = ["web", ""]
    # The ledger's columns that are known before a picture is drawn.
    known = [name for name in attribution.COLUMNS if name in frame]
    fields = frame[known].rename(columns=attribution.COLUMNS)
    always = [name for name in attribution.PROVEN if name in fields]
    owed = attribution.lacking(fields, always)
    owed = owed[(owed != "") & frame["split"].isin(["c", "nc", "nd"])]
    frame.loc[owed.index, "reason"] = "its licence asks for its " + owed
    frame.loc[owed.index, "split"] = "rejected"
    frame["order"] = _random_shares(seed, frame["key"])
    return frame


def _with_own_keys(frame: pd.DataFrame) -> pd.DataFrame:
    """Sort by key; of rows that share one, reject all but the first that is usable."""
    if frame["key"].is_unique:
        return frame.sort_values("key", ignore_index=True)
    order = ["key", "reason", "path", "start"]
    frame = frame.sort_values(order, kind="stable", ignore_index=True)
    repeated = frame["key"].duplicated()
    taken = {*frame.loc[frame["key"].str.contains("#"), "key"]}
    numbers = dict.fromkeys(frame.loc[repeated, "key"], 2)
    for place, key in frame.loc[repeated, "key"].items():
        while (own := f"{key}#{numbers[key]}") in taken:
            numbers[key] += 1
        taken.add(own)
        frame.loc[place, "key"] = own
    lost = repeated & (frame["reason"] == "")
    frame.loc[lost, "reason"] = "its key is that of another row"
    return frame.sort_values("key", ignore_index=True)


def expect_works(kept: pd.DataFrame, rejected: pd.DataFrame) -> None:
    """Raise SourceError, with the commonest reason, if no work is kept."""
    if kept.empty:
        raise SourceError(
            f"all {len(rejected)} works are rejected, most of them because: "
            f"{rejected['reason'].mode()[0]}; expected one or more; mend that, or "
            "choose other sources or limits in the profile."
        )


def count_reasons(rejected: pd.DataFrame, most: int = 100) -> dict[str, int]:
    """Count rejected rows by reason; beyond the commonest, the others together."""
    counts = rejected["reason"].value_counts()
    found = {str(reason): int(num) for reason, num in counts.head(most).items()}
    others = int(counts.iloc[most:].sum())
    return found | ({"other reasons": others} if others else {})


def _random_shares(seed: int | str, keys: pd.Series) -> np.ndarray:
    """Return the `_random_share` of each key, (n,) float64."""
    return np.fromiter((_random_share(seed, key) for key in keys), float, len(keys))


def _random_share(seed: int | str, key: str) -> float:
    """Return a number in [0, 1) that depends on seed and key alone."""
    return int(hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()[:12], 16) / 16**12


def choose(
    frame: pd.DataFrame,
    max_per_source: int,
    keep_skin_tones: bool,
    holdout_share: float,
    max_per_series: int = 0,
    referee_sources: Collection[str] = (),
) -> pd.DataFrame:
    """Reject withdrawn works and works beyond this scale's limits; mark held-out ones.

    Args:
        frame: from `assign_splits`; a copy is returned, with a column is_holdout.
        max_per_source: pictures of each set to keep, at random; 0 keeps all.
        keep_skin_tones: whether the skin-tone variants of emoji stay.
        holdout_share: of the licensed works, at random, alike in every split.
        max_per_series: pictures to keep, at random, whose keys differ in their numbers
            alone, as those of 1,375 stars by one author do; 0 keeps all.
        referee_sources: sets, by spec, of which every licensed work is held out, so
            that they judge all models alike.

    Raises:
        ParameterError: a referee is no set with licensed works.
    """
    frame = frame.copy()
    licensed = frame["split"].isin(["c", "nc", "nd"])
    if unknown := set(referee_sources) - {*frame.loc[licensed, "spec"]}:
        raise ParameterError(
            f"referee_sources has {names_of(unknown)}, which cc_sources has not, or "
            "without a licensed work; expected some of cc_sources; correct the profile."
        )

    def reject(mask: pd.Series, reason: str) -> None:
        mask &= frame["split"] != "rejected"
        frame.loc[mask, ["split", "reason"]] = ["rejected", reason]

    def thin(name: str, most: int, groups: pd.Series) -> None:
        # By rank of `order`, a larger scale keeps all that a smaller one keeps.
        kept = frame["split"] != "rejected"
        rank = frame.loc[kept, "order"].groupby(groups[kept]).rank()
        reject(rank.reindex(frame.index) > most, f"beyond {name} of this scale")

    reject(frame["is_hidden"], "withdrawn by its set")
    if not keep_skin_tones:
        reject(frame["is_skin_tone"], "skin-tone variant of another picture")
    if max_per_series:
        series = frame["key"].str.replace(r"\d+", "#", regex=True)
        thin("max_per_series", max_per_series, series)
    if max_per_source:
        thin("max_per_source", max_per_source, frame["spec"])
    licensed = frame["split"].isin(["c", "nc", "nd"])
    # Not `order` again: it already decided which pictures are in.
    frame["is_holdout"] = licensed & (
        frame["spec"].isin(referee_sources)
        | (_random_shares("holdout", frame["key"]) < holdout_share)
    )
    return frame
