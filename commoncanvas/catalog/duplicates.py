"""Copies: exact by content, near block by block, marked and never dropped.

A 64-bit difference hash was tried first: of 24 of its groups on Open Clip Art, chosen
at random, five were near copies and nine were different works (two flags, two playing
cards).
"""

from collections.abc import Collection

import numpy as np
import pandas as pd

TOLERANCE = 1 / 7  # of a picture's own contrast, so that faint drawings differ too
COARSE = 8 * 8 * 3  # sums of 3 x 3 blocks in three channels
FEW = 64  # pictures that are compared without further sorting
PAIRS = 2**16  # of pictures that are compared together


def mark_duplicates(frame: pd.DataFrame, thumbnails: np.ndarray) -> pd.DataFrame:
    """Mark exact and near copies with the key of their group's first member.

    The rows of `frame` have a sha256 and their `thumbnails`, (n, 24, 24, 3) uint8, in
    the same order, and get exact_group and near_group (see `near_leaders`). A picture
    alone in its group names itself.
    """
    return frame.assign(
        exact_group=frame.groupby("sha256")["key"].transform("first"),
        near_group=frame["key"].to_numpy()[near_leaders(thumbnails)],
    )


def hold_out_together(
    frame: pd.DataFrame, referee_sources: Collection[str] = ()
) -> pd.DataFrame:
    """Hold works out as the first of their near copies is, whatever set they are of.

    So no held-out picture is trained on in another's name, by any variant, be it a
    Creative Commons or a web one.

    Args:
        frame: with key, spec, near_group and is_holdout.
        referee_sources: see `catalog.choose`; a group with a work of theirs is held out
            whole, whichever of its works comes first.
    """
    groups, is_first_held = frame["near_group"], frame.set_index("key")["is_holdout"]
    is_refereed = groups.isin(groups[frame["spec"].isin(referee_sources)])
    return frame.assign(is_holdout=groups.map(is_first_held) | is_refereed)


def count_held_out(
    frame: pd.DataFrame, referee_sources: Collection[str]
) -> dict[str, int]:
    """Count the works held out by why, the web's of them, and what was missed.

    Args:
        frame, referee_sources: see `hold_out_together`.
    """
    groups, is_held = frame["near_group"], frame["is_holdout"]
    is_referee = frame["spec"].isin(referee_sources)
    is_copy = groups.isin(groups[is_referee]) & ~is_referee
    kinds = {
        "referees": is_held & is_referee,
        "near_copies_of_referees": is_held & is_copy,
        "others": is_held & ~is_referee & ~is_copy,
        "web": is_held & (frame["split"] == "web"),
        "missed": ~is_held & (is_referee | is_copy),
    }
    return {name: int(mask.sum()) for name, mask in kinds.items()}


def near_leaders(thumbnails: np.ndarray) -> np.ndarray:
    """Find near copies: pictures whose thumbnails agree in every block.

    A mirrored picture is a copy, as it is for `copies.control`: a wheelchair that faces
    right is one that faces left.

    Pictures are sorted into halves by the brightness of one of their parts, again and
    again; a picture is compared where a copy of it may be, which is in one half or in
    both. So no copy is lost, and the time grows little faster than the number of
    pictures. Memory: about 220 bytes a picture, beside the thumbnails, which may lie
    in a file (`np.memmap`).

    Args:
        thumbnails: (n, 24, 24, 3) uint8, see `drawing.thumbnail`.

    Returns:
        (n,) int: for each the place of the earliest that it nearly copies, which copies
        none itself, or its own place.
    """
    leaders = np.arange(len(thumbnails))
    _Search(thumbnails).lead(leaders, leaders.copy())
    return leaders


class _Search:
    """The thumbnails, with what is compared before them: sums of 3 x 3 blocks."""

    def __init__(self, thumbnails: np.ndarray) -> None:
        self.fine = thumbnails
        num = len(thumbnails)
        self.coarse = np.empty((num, COARSE), np.uint8)
        self.limits = np.empty(num, np.int16)  # of the difference of two blocks
        for start in range(0, num, 4096):
            part = np.asarray(thumbnails[start : start + 4096])
            end = start + len(part)
            self.coarse[start:end] = _coarse(part)
            contrast = np.ptp(part.reshape(len(part), -1), axis=1).astype(np.float32)
            self.limits[start:end] = contrast * TOLERANCE  # blocks are whole numbers

    def lead(self, leaders: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Enter the leaders of ascending places; return those that copy none.

        None of the places copies one before them.
        """
        if len(places) <= FEW:
            return self._lead_few(leaders, places)
        first, rest = np.array_split(places, 2)
        heads = self.lead(leaders, first)
        found = self._copied(heads, rest)
        is_copy = found >= 0
        leaders[rest[is_copy]] = found[is_copy]
        return np.concatenate([heads, self.lead(leaders, rest[~is_copy])])

    def _lead_few(self, leaders: np.ndarray, places: np.ndarray) -> np.ndarray:
        is_near = np.zeros((len(places), len(places)), bool)
        for mirrored in (False, True):
            is_near[self._near(places, places, mirrored)] = True
        heads: list[int] = []
        for i, place in enumerate(places):
            copied = [head for head in heads if is_near[head, i]]
            if copied:
                leaders[place] = places[copied[0]]
            else:
                heads.append(i)
        return places[heads]

    def _copied(self, heads: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return the first of some heads that each place copies, or -1."""
        none = len(self.fine)
        found = np.full(len(places), none)
        for mirrored in (False, True):
            views = np.arange(len(places))
            stack = [(heads, views)]
            while stack:
                some, views = stack.pop()
                if not len(views):
                    continue
                halves = self._halved(some, views, places, mirrored)
                if halves:
                    stack += halves
                    continue
                step = max(1, PAIRS // len(some))
                for start in range(0, len(views), step):
                    part = views[start : start + step]
                    head, view = self._near(some, places[part], mirrored)
                    np.minimum.at(found, part[view], some[head])
        return np.where(found == none, -1, found)

    def _halved(
        self, heads: np.ndarray, views: np.ndarray, places: np.ndarray, mirrored: bool
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Part heads at the mean of the part in which they differ most.

        Returns two pairs of heads and of the views that may copy one of them, or
        nothing where that would not part them.
        """
        if len(heads) <= FEW or len(heads) * len(views) <= PAIRS // 4:
            return []
        sample = self.coarse[heads[:: 1 + len(heads) // 1024]].astype(np.float32)
        part = int(sample.var(0).argmax())
        middle = int(sample[:, part].mean())
        values = self.coarse[heads, part]
        is_low = values <= middle
        if is_low.all() or not is_low.any():
            return []
        limits = self.limits[places[views]] + 1
        seen = _mirror(part) if mirrored else part
        shown = self.coarse[places[views], seen].astype(np.int16)
        low, high = views[shown - limits <= middle], views[shown + limits > middle]
        return [(heads[is_low], low), (heads[~is_low], high)]

    def _near(
        self, heads: np.ndarray, places: np.ndarray, mirrored: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the pairs (i, j) of which place j nearly copies head i."""
        limits = self.limits[places] + 1
        ours = self.coarse[heads].astype(np.int16)
        theirs = self.coarse[places].astype(np.int16)
        if mirrored:
            theirs = theirs.reshape(-1, 8, 8, 3)[:, :, ::-1].reshape(-1, COARSE)
        # The means of 3 x 3 blocks, rounded down, differ by no more than the worst
        # block and one, so this loses no copy; the first parts leave few pairs.
        is_near = np.ones((len(heads), len(places)), bool)
        for part in _SPREAD[:8]:
            is_near &= np.abs(ours[:, part, None] - theirs[None, :, part]) <= limits
        head, view = np.nonzero(is_near)
        for parts in (_SPREAD[8:40], _SPREAD[40:]):
            far = np.abs(ours[head][:, parts] - theirs[view][:, parts]).max(
                1, initial=0
            )
            kept = far <= limits[view]
            head, view = head[kept], view[kept]
        kept = np.zeros(len(head), bool)
        for start in range(0, len(head), 1024):
            some = slice(start, start + 1024)
            fine = self.fine[heads[head[some]]].astype(np.int16)
            copy = self.fine[places[view[some]]].astype(np.int16)
            if mirrored:
                copy = copy[:, :, ::-1]
            far = np.abs(fine - copy).max((1, 2, 3))
            kept[some] = far <= self.limits[places[view[some]]]
        return head[kept], view[kept]


# All parts, those that stand next to each other far apart.
_SPREAD = (np.arange(COARSE) * 101) % COARSE


def _coarse(views: np.ndarray) -> np.ndarray:
    """Return the means of 3 x 3 blocks, rounded down: (n, 24, 24, 3) to (n, 192)."""
    sums = views.reshape(-1, 8, 3, 8, 3, 3).sum((2, 4), dtype=np.uint16)
    return (sums // 9).astype(np.uint8).reshape(-1, COARSE)


def _mirror(part: int) -> int:
    """Return the part of a picture that lies where `part` does in its mirror."""
    row, column, channel = np.unravel_index(part, (8, 8, 3))
    return int(np.ravel_multi_index((row, 7 - column, channel), (8, 8, 3)))
