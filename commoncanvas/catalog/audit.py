"""An audit of any source: what its licences, credits, captions and copies amount to.

It reads batch by batch by the rules of stage 01, and keeps counts, a few bytes a row
and a thumbnail a picture, which lies in a file. It writes nothing else. Strangers'
texts are cut, so that none fills a page.
"""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
import pandas as pd

from commoncanvas.catalog.catalog import assign_splits
from commoncanvas.catalog.columns import AUTHOR, NOWHERE
from commoncanvas.catalog.drawing import BLOCKS, Picture, draw_picture
from commoncanvas.catalog.duplicates import near_leaders
from commoncanvas.catalog.entries import batches, nothing_in
from commoncanvas.catalog.originals import sort_by_place, with_originals
from commoncanvas.core.bounded import Bounded
from commoncanvas.core.errors import PictureError
from commoncanvas.core.text import cut
from commoncanvas.licenses.license import SLUGS
from commoncanvas.licenses.policies import verdict

SIZE_PX = 96  # edge at which pictures are compared, as stage 01 does at `mini`
NUM_SHOWN = 18  # works whose picture and credit the page shows
SPLITS = ("c", "nc", "nd", "rejected")
# What is said of a licence's version.
STATED, DECLARED = "stated with the work", "declared by the source for all its works"
NONE_NEEDED = "a statement that has no version"
LACKING, UNREAD = "a licence is named, its version is not", "no licence can be read"
SUFFICIENT, NOT_ASKED = "sufficient", "not asked for by the licence"
NOT_JUDGED = "not judged: rejected before"
NOBODY = "nobody's: no caption"


@dataclass
class Shown:
    """A kept work as the page shows it."""

    picture: bytes
    credit: str
    license: str


@dataclass
class Copies:
    """What comparing the pictures gave; num_compared is 0 where there are none here."""

    num_compared: int = 0
    exact: int = 0  # pictures with the pixels of an earlier one
    near: int = 0  # those too, and pictures that nearly copy an earlier one
    unreadable: Counter[str] = field(default_factory=Counter)  # by reason


@dataclass
class Audit:
    """Numbers of rows, each row once in every counter but `reasons` and `whose`."""

    source: str
    rows: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    licenses: Counter[tuple[str, str]] = field(default_factory=Counter)  # title, split
    versions: Counter[str] = field(default_factory=Counter)
    credits: Counter[str] = field(default_factory=Counter)
    whose: Counter[str] = field(default_factory=Counter)  # author, captioners, nobody
    reasons: Counter[str] = field(default_factory=Counter)  # of rejected rows
    repeated: int = 0  # rows with the key of an earlier one
    copies: Copies = field(default_factory=Copies)
    shown: list[Shown] = field(default_factory=list)


def audit(source: str, limit: int | None = None, look: bool = True) -> Audit:
    """Audit an entry of a profile's sources.

    Args:
        source: e.g. `gpic:shards/gpic_train_00000.tar`; see `entries.parse`.
        limit: the first rows alone; None for all.
        look: whether pictures that lie here are drawn and compared.

    Raises:
        SourceError: it cannot be read, or holds nothing.
        ParameterError: it has an option that its kind does not know.
    """
    found, keys = Audit(source), []
    with TemporaryFile() as thumbnails, Bounded() as pool:
        digests: list[bytes] = []
        for frame in _limited(batches(source, need_pictures=False), limit):
            judged = _judged(frame)
            _count(found, judged)
            keys.append(pd.util.hash_pandas_object(frame["key"], index=False))
            if look:
                _compare(found, judged, pool, thumbnails, digests)
        if not found.rows:
            raise nothing_in(source)
        found.repeated = found.rows - len(np.unique(np.concatenate(keys)))
        if found.copies.num_compared:
            shape = (found.copies.num_compared, BLOCKS, BLOCKS, 3)
            views = np.memmap(thumbnails, np.uint8, "r", shape=shape)
            leaders = near_leaders(views)
            found.copies.near = int((leaders != np.arange(len(leaders))).sum())
            found.copies.exact = len(digests) - len(set(digests))
    return found


def _limited(
    frames: Iterator[pd.DataFrame], limit: int | None
) -> Iterator[pd.DataFrame]:
    left = limit
    for frame in frames:
        yield frame if left is None else frame.iloc[:left]
        left = None if left is None else left - len(frame)
        if left is not None and left <= 0:
            return


def _judged(frame: pd.DataFrame) -> pd.DataFrame:
    """Judge a batch by stage 01's rules; keys that repeat are counted over all."""
    told = frame["key"].astype(str)
    alone = frame.assign(key=[f"{n}" for n in range(len(frame))], told_key=told)
    judged = assign_splits(alone, (), seed=0)
    return judged.assign(version=_versions(judged))


def _versions(frame: pd.DataFrame) -> list[str]:
    said = frame.get("license_note", pd.Series("", frame.index))
    columns = [frame[n] for n in ("license_text", "license_url", "license_slug")]
    rows = zip(*columns, frame["license_version"], said.fillna(""), strict=True)
    known: dict[tuple[str, ...], str] = {}
    found = []
    for row in rows:
        if row not in known:
            known[row] = _version_of(*row)
        found.append(known[row])
    return found


def _version_of(text: str, url: str, slug: str, version: str, note: str) -> str:
    if slug != "unread":
        if note:
            return DECLARED
        return STATED if version else NONE_NEEDED
    with_one = verdict(f"{text} 4.0", "")["license_slug"] if text and not url else ""
    return LACKING if with_one in SLUGS else UNREAD


def _count(found: Audit, frame: pd.DataFrame) -> None:
    found.rows += len(frame)
    for counter, column in ((found.splits, "split"), (found.versions, "version")):
        counter.update(frame[column].tolist())
    is_out = frame["split"] == "rejected"
    # A work may be rejected for another reason than its licence.
    open_to = frame["license_title"].where(frame["license_slug"] != "unread", "unread")
    found.licenses.update(zip(open_to, frame["split"], strict=True))
    found.reasons.update(map(cut, frame.loc[is_out, "reason"]))
    asks = "its licence asks for its "
    for slug, reason in zip(frame["license_slug"], frame["reason"], strict=True):
        if reason.startswith(asks):
            lacks = reason.removeprefix(asks).replace("source_url", "page")
            found.credits[f"lacks {lacks}"] += 1
        elif reason:
            found.credits[NOT_JUDGED] += 1
        else:
            found.credits[SUFFICIENT if slug in SLUGS else NOT_ASKED] += 1
    for alt_text, captioner in zip(frame["alt_text"], frame["captioner"], strict=True):
        found.whose.update(filter(None, (AUTHOR if alt_text else "", cut(captioner))))
        found.whose.update([] if alt_text or captioner else [NOBODY])


def _compare(
    found: Audit,
    frame: pd.DataFrame,
    pool: Bounded,
    thumbnails: IO[bytes],
    digests: list[bytes],
) -> None:
    """Draw the pictures of kept rows that lie here; write their thumbnails."""
    lies = {name: frame.get(name, nowhere) for name, nowhere in NOWHERE.items()}
    frame = frame.assign(**lies)
    is_here = frame["path"].fillna("") != ""
    if "svg" in frame:
        is_here |= frame["svg"].map(lambda svg: isinstance(svg, str) and svg != "")
    frame = sort_by_place(frame[is_here & (frame["split"] != "rejected")])
    rows: list[Any] = frame.to_dict("records")
    drawn = pool.map(partial(draw_picture, size=SIZE_PX), with_originals(rows))
    for row, picture in zip(rows, drawn, strict=True):
        if isinstance(picture, PictureError):
            found.copies.unreadable[cut(str(picture))] += 1
            continue
        _note(found, row, picture)
        thumbnails.write(picture.thumbnail)
        digests.append(bytes.fromhex(picture.sha256)[:16])
        found.copies.num_compared += 1
    thumbnails.flush()


def _note(found: Audit, row: dict[str, Any], picture: Picture) -> None:
    if len(found.shown) < NUM_SHOWN:
        credit = row["author"] or row["title"] or row["told_key"]
        found.shown.append(Shown(picture.picture, cut(credit), row["license_title"]))


def shares(counts: Counter[str], most: int = 12) -> list[tuple[str, int]]:
    """Return the commonest values with their counts, the others together last."""
    listed = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    others = sum(number for _, number in listed[most:])
    rest = [(f"{len(listed) - most:,} others", others)] if others else []
    return [*itertools.islice(listed, most), *rest]
