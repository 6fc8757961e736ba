"""An audit of any source: what its licences, credits, captions and copies amount to.

It reads batch by batch by those rules of stage 01 that no setting changes, and keeps
counts, a few keys for each, some bytes a row and, of pictures, their keys and
thumbnails, which lie in a file. It writes nothing else. Strangers' texts are cut, so
that none fills a page.
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

from commoncanvas.catalog.catalog import assign_splits, choose
from commoncanvas.catalog.columns import AUTHOR
from commoncanvas.catalog.drawing import BLOCKS, Picture, draw_picture
from commoncanvas.catalog.duplicates import near_leaders
from commoncanvas.catalog.entries import NOT_FETCHED, batches
from commoncanvas.catalog.kinds import named
from commoncanvas.catalog.originals import sort_by_place, with_originals
from commoncanvas.core.bounded import Bounded
from commoncanvas.core.errors import PictureError, SourceError
from commoncanvas.core.text import cut
from commoncanvas.licenses.license import SLUGS
from commoncanvas.licenses.policies import verdict

SIZE_PX = 96  # edge at which pictures are compared, as stage 01 does at `mini`
NUM_SHOWN = 18  # works whose picture and credit the page shows
NUM_NAMED = 3  # rows that are named for each reason, and copies
SPLITS = ("c", "nc", "nd", "rejected")
TRAINED = ("c", "nc")
# What is said of a licence's version.
STATED, DECLARED = "stated with the work", "declared by the source for all its works"
NONE_NEEDED = "a statement that has no version"
READ_AS = "not stated, read as {}"  # the licence that stage 01 takes it for
LACKING, UNREAD = "a licence is named, its version is not", "no licence can be read"
SUFFICIENT, NOT_ASKED = "sufficient", "not asked for by the licence"
NOT_JUDGED = "not judged: rejected before"
NOBODY = "nobody's: no caption"
REPEATED = "its key is that of another row"
OWES = "its licence asks for its "  # a field, in stage 01's words
WORDS = {"source_url": "page", "license_url": "licence's address"}  # and in HOWTO's


@dataclass
class Shown:
    """A kept work as the page shows it."""

    picture: bytes
    credit: str
    license: str


@dataclass
class Copies:
    """What looking at the pictures gave; all 0 where none was asked for or lies here.

    Of some copies the keys are kept, with those of the pictures that they copy.
    """

    num_looked: int = 0  # pictures that were tried
    num_opened: int = 0  # those of them that could be opened, and were compared
    exact: int = 0  # those with the pixels of an earlier one
    near: int = 0  # others that nearly copy an earlier one
    exact_keys: list[tuple[str, str]] = field(default_factory=list)
    near_keys: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Audit:
    """Numbers of rows, each row once in every counter but `reasons` and `whose`."""

    source: str
    is_looked_at: bool = True  # pictures were asked for
    rows: int = 0
    allowed: int = 0  # rows that could be trained on if their pictures were here
    splits: Counter[str] = field(default_factory=Counter)
    licenses: Counter[tuple[str, str]] = field(default_factory=Counter)  # title, split
    versions: Counter[str] = field(default_factory=Counter)
    credits: Counter[str] = field(default_factory=Counter)
    whose: Counter[str] = field(default_factory=Counter)  # author, captioners, nobody
    reasons: Counter[str] = field(default_factory=Counter)  # of rejected rows
    keys: dict[str, list[str]] = field(default_factory=dict)  # of a reason's first rows
    copies: Copies = field(default_factory=Copies)
    shown: list[Shown] = field(default_factory=list)


def audit(source: str, limit: int | None = None, look: bool = True) -> Audit:
    """Audit an entry of a profile's sources.

    Args:
        source: e.g. `gpic:shards/gpic_train_00000.tar`; see `entries.parse`.
        limit: the first rows alone; None for all.
        look: whether pictures are drawn and compared; a row whose picture is not here
            or cannot be opened is then rejected, as stage 01 does it.

    Raises:
        SourceError: it cannot be read, or holds nothing.
        ParameterError: its kind, or an option that it has, is not known.
    """
    named(source)
    found, seen = Audit(source, look), list[np.ndarray]()
    with TemporaryFile() as thumbnails, Bounded() as pool:
        digests: dict[bytes, int] = {}  # of pixels -> the first picture of them
        keys: list[str] = []  # of the pictures that were opened
        exact: dict[int, int] = {}  # a copy -> the first picture of its pixels
        for frame in _limited(batches(source, need_pictures=False), limit):
            judged = _judged(frame, seen)
            _count_stated(found, judged)
            if look:
                for row, picture in _opened(found, judged, pool, thumbnails):
                    place = len(keys)
                    first = digests.setdefault(_digest(picture), place)
                    if first != place:
                        exact[place] = first
                    keys.append(cut(row["told_key"]))
            _count_splits(found, judged)
        if not found.rows:
            raise SourceError(
                f"source {source!r} holds no work; expected one or more; correct its "
                "path."
            )
        if keys:
            shape = (len(keys), BLOCKS, BLOCKS, 3)
            views = np.memmap(thumbnails, np.uint8, "r", shape=shape)
            leaders = near_leaders(views)
            is_near = leaders != np.arange(len(leaders))
            is_near[list(exact)] = False
            near = {int(place): int(leaders[place]) for place in np.nonzero(is_near)[0]}
            found.copies.exact, found.copies.near = len(exact), len(near)
            found.copies.exact_keys = _some(exact, keys)
            found.copies.near_keys = _some(near, keys)
    return found


def _some(copies: dict[int, int], keys: list[str]) -> list[tuple[str, str]]:
    some = itertools.islice(copies.items(), NUM_NAMED)
    return [(keys[copy], keys[first]) for copy, first in some]


def _limited(
    frames: Iterator[pd.DataFrame], limit: int | None
) -> Iterator[pd.DataFrame]:
    left = limit
    for frame in frames:
        yield frame if left is None else frame.iloc[:left]
        left = None if left is None else left - len(frame)
        if left is not None and left <= 0:
            return


def _judged(frame: pd.DataFrame, seen: list[np.ndarray]) -> pd.DataFrame:
    """Judge a batch by stage 01's rules; no limit of a scale is among them.

    Of usable rows that share a key the first one read stays. Stage 01, which holds all
    of them, takes the first by file and place.

    Args:
        seen: hashes of the keys of earlier batches; this batch's are added.
    """
    told = frame["key"].astype(str)
    hashes = pd.util.hash_pandas_object(told, index=False).to_numpy()
    is_usable = (frame["reason"] == "").to_numpy()
    is_again = np.zeros(len(frame), bool)
    is_again[is_usable] = _are_known(hashes[is_usable], seen)
    alone = frame.assign(
        key=[f"{n:06d}" for n in range(len(frame))],  # in the order of the source
        told_key=told,
        reason=frame["reason"].mask(is_again, REPEATED),
    )
    judged = assign_splits(alone, (), seed=0)
    judged = choose(judged, 0, keep_skin_tones=True, holdout_share=0.0)
    return judged.assign(version=_versions(judged))


def _are_known(hashes: np.ndarray, seen: list[np.ndarray]) -> np.ndarray:
    """Tell which hashes stand there before, here or in `seen`, to which they are added.

    `seen` holds sorted arrays, each at least twice as long as the next.
    """
    _, firsts = np.unique(hashes, return_index=True)
    is_known = np.ones(len(hashes), bool)
    is_known[firsts] = False
    for some in seen:
        places = np.searchsorted(some, hashes).clip(max=len(some) - 1)
        is_known |= some[places] == hashes
    if len(hashes):
        seen.append(np.unique(hashes))
    while len(seen) > 1 and len(seen[-2]) < 2 * len(seen[-1]):
        seen.append(np.union1d(seen.pop(), seen.pop()))
    return is_known


def _versions(frame: pd.DataFrame) -> list[str]:
    said = frame.get("license_note", pd.Series("", frame.index))
    names = ["license_text", "license_url", "license_slug", "license_version"]
    columns = [frame[name].fillna("") for name in [*names, "license_title"]]
    rows = zip(*columns, said.fillna(""), strict=True)
    known: dict[tuple[str, ...], str] = {}
    found = []
    for row in rows:
        if row not in known:
            known[row] = _version_of(*row)
        found.append(known[row])
    return found


def _version_of(
    text: str, url: str, slug: str, version: str, title: str, note: str
) -> str:
    if slug != "unread":
        if note:
            return DECLARED
        if not version:
            return NONE_NEEDED
        return STATED if version in f"{text} {url}" else READ_AS.format(title)
    with_one = verdict(f"{text} 4.0", "")["license_slug"] if text and not url else ""
    return LACKING if with_one in SLUGS else UNREAD


def _count_stated(found: Audit, frame: pd.DataFrame) -> None:
    """Count what rows state, whether their pictures are here or not."""
    found.rows += len(frame)
    found.allowed += int(frame["split"].isin(TRAINED).sum())
    found.versions.update(frame["version"].tolist())
    for slug, reason in zip(frame["license_slug"], frame["reason"], strict=True):
        if reason.startswith(OWES):
            found.credits[f"lacks {_in_words(reason).removeprefix(OWES)}"] += 1
        elif reason:
            found.credits[NOT_JUDGED] += 1
        else:
            found.credits[SUFFICIENT if slug in SLUGS else NOT_ASKED] += 1
    for alt_text, captioner in zip(frame["alt_text"], frame["captioner"], strict=True):
        found.whose.update(filter(None, (AUTHOR if alt_text else "", cut(captioner))))
        found.whose.update([] if alt_text or captioner else [NOBODY])


def _count_splits(found: Audit, frame: pd.DataFrame) -> None:
    """Count what rows may be used for, and name some of those that are rejected."""
    found.splits.update(frame["split"].tolist())
    # A work may be rejected for another reason than its licence.
    open_to = frame["license_title"].where(frame["license_slug"] != "unread", "unread")
    found.licenses.update(zip(open_to, frame["split"], strict=True))
    out = frame[frame["split"] == "rejected"]
    for reason, key in zip(out["reason"], out["told_key"], strict=True):
        reason = cut(_in_words(reason))
        found.reasons[reason] += 1
        if found.reasons[reason] <= NUM_NAMED:
            found.keys.setdefault(reason, []).append(cut(key))


def _in_words(reason: str) -> str:
    """Name the fields that a credit lacks as docs/HOWTO.md does."""
    if reason.startswith(OWES):
        for name, word in WORDS.items():
            reason = reason.replace(name, word)
    return reason


def _opened(
    found: Audit, frame: pd.DataFrame, pool: Bounded, thumbnails: IO[bytes]
) -> Iterator[tuple[dict[str, Any], Picture]]:
    """Yield kept rows with their pictures, drawn; write their thumbnails.

    Rows of `frame` whose picture is not here or cannot be opened are rejected in it.
    """
    is_here = frame["path"] != ""
    if "svg" in frame:
        is_here |= frame["svg"].map(lambda svg: isinstance(svg, str) and svg != "")
    is_kept = frame["split"] != "rejected"
    lost = dict.fromkeys(frame.index[is_kept & ~is_here], NOT_FETCHED)
    here = sort_by_place(frame[is_kept & is_here])
    rows: list[Any] = here.to_dict("records")
    drawn = pool.map(partial(draw_picture, size=SIZE_PX), with_originals(rows))
    for place, row, picture in zip(here.index, rows, drawn, strict=True):
        found.copies.num_looked += 1
        if isinstance(picture, PictureError):
            lost[place] = str(picture)
            continue
        found.copies.num_opened += 1
        if len(found.shown) < NUM_SHOWN:
            credit = row["author"] or row["title"] or row["told_key"]
            one = Shown(picture.picture, cut(credit), row["license_title"])
            found.shown.append(one)
        thumbnails.write(picture.thumbnail)
        yield row, picture
    thumbnails.flush()
    frame.loc[list(lost), "split"] = "rejected"
    frame.loc[list(lost), "reason"] = list(lost.values())


def _digest(picture: Picture) -> bytes:
    return bytes.fromhex(picture.sha256)[:16]


def shares(counts: Counter[str], most: int = 12) -> list[tuple[str, int]]:
    """Return the commonest values with their counts, the others together last."""
    listed = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    others = sum(number for _, number in listed[most:])
    rest = [(f"{len(listed) - most:,} others", others)] if others else []
    return [*itertools.islice(listed, most), *rest]
