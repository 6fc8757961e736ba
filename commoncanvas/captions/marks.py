"""A captioner that learns the names of half of the marks, and what it then writes.

The captioners of the open world never learnt these names, so that it is no wonder if
they lose them. The retrieval captioner learns a name from a single drawing; then it is
asked for another drawing of the same mark. Source: commoncanvas-cvpr, Fig. 3.
"""

import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from commoncanvas.analysis.estimates import Estimate, wilson
from commoncanvas.captions.text import distinctive_words, leaks
from commoncanvas.core.picture_store import pictures_of
from commoncanvas.models.efficientnet import FEATURE_SIZE, image_features
from commoncanvas.models.retrieval import RetrievalCaptioner

NUM_ORDINARY = 500  # pictures of ordinary things, at most
IN_WORDS = {
    "marks_repeated": "marks, the drawing that it learnt",
    "marks_named": "marks that it learnt, another drawing",
    "marks_unlearnt": "marks that it did not learn",
    "ordinary_named": "ordinary things that it learnt from one drawing",
}


class TaughtCaptioner(RetrievalCaptioner):
    """The retrieval captioner, with further pictures whose names it also knows.

    Args:
        pixels: (n, h, w, 3) uint8 pictures of one size.
        names: of each.
        folder: of the captioner that is taught; None takes the open world's.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        names: Sequence[str],
        folder: Path | str | None = None,
    ) -> None:
        super().__init__(folder)
        self.pixels, self.names = pixels, list(names)

    @functools.cached_property
    def _known(self) -> dict[str, np.ndarray]:
        known = super()._known
        learnt = (image_features(self.pixels) - known["mean"]) @ known["axes"]
        return known | {"features": np.concatenate([known["features"], learnt])}

    @functools.cached_property
    def _names(self) -> list[str]:
        return [*super()._names, *self.names]

    def times_learnt(self, names: Sequence[str]) -> np.ndarray:
        """Return from how many drawings it learnt each of (n,) names."""
        return np.array([self._counts[name] for name in names], np.int64)

    @functools.cached_property
    def _counts(self) -> Counter[str]:
        return Counter(self._names)


def pairs_of_drawings(names: Sequence[str]) -> np.ndarray:
    """Return the (marks, 2) places of the first two drawings of marks that have two.

    Drawings are of one mark if their names have the same distinctive words ("airbnb"
    and "airbnb icon").
    """
    words = pd.Series([tuple(sorted(distinctive_words([name]))) for name in names])
    groups = words[words.map(len) > 0].groupby(words).groups.values()
    pairs = [places[:2] for places in groups if len(places) > 1]
    return np.array(pairs, np.int64).reshape(-1, 2)


def teach_half(
    licenses_folder: Path, sample: pd.DataFrame, is_mark: np.ndarray, seed: int
) -> dict[str, dict]:
    """Teach the names of half of the marks, and count how often each kind is written.

    A caption names a picture if it has a distinctive word of the picture's own name.

    Args:
        licenses_folder: of stage 01, which has the pictures.
        sample: works with key and title, in random order.
        is_mark: (works,) bool.
        seed: of the choice of marks that are learnt.

    Returns:
        {} without marks of two drawings, or shares as `Estimate.as_dict`:
        "marks_learnt", by which captions name new drawings of learnt marks less often
        than their names do, which always do; "marks_named", how often captions do;
        "marks_repeated", the same of the drawings that were learnt; "marks_unlearnt",
        of the other half's; "ordinary_named", of other pictures whose names it learnt
        from one drawing, too; "marks_lost_more", by which these are named more often
        than marks.
    """
    titles = sample["title"].fillna("").astype(str).to_numpy()
    marks = np.flatnonzero(is_mark)
    pairs = marks[pairs_of_drawings(titles[marks])]  # (marks, 2): places in the sample
    pairs = np.random.default_rng(seed).permutation(pairs)
    if not (half := len(pairs) // 2):
        return {}

    def pixels(places: np.ndarray) -> np.ndarray:
        keys = sample["key"].iloc[places].tolist()
        return pictures_of(licenses_folder, keys, FEATURE_SIZE)

    learnt, new = pairs[:half].T
    captioner = TaughtCaptioner(pixels(learnt), titles[learnt])
    is_like = ~is_mark & (captioner.times_learnt(titles) == 1)
    asked = {
        "marks_named": new,
        "marks_repeated": learnt,
        "marks_unlearnt": pairs[half:, 1],
        "ordinary_named": np.flatnonzero(is_like)[:NUM_ORDINARY],
    }
    named, found = {}, {}
    for name, places in asked.items():
        if len(places):
            said = captioner.caption(pixels(places))
            named[name] = sum(map(leaks, said, titles[places].tolist()))
            found[name] = wilson(named[name], len(places))
    found["marks_learnt"] = wilson(half - named["marks_named"], half)
    if "ordinary_named" in found:
        found["marks_lost_more"] = _difference(
            found["ordinary_named"], found["marks_named"]
        )
    return {name: estimate.as_dict() for name, estimate in found.items()}


def _difference(one: Estimate, other: Estimate) -> Estimate:
    """Return one share less another, of other pictures; n of the fewer.

    The interval is Newcombe's (1998, method 10), made of Wilson's for each share.
    """
    value = one.value - other.value
    below = np.hypot(one.value - one.low, other.high - other.value)
    above = np.hypot(one.high - one.value, other.value - other.low)
    return Estimate(value, value - below, value + above, min(one.n, other.n))


def as_rows(found: dict[str, dict]) -> list[tuple[str, float, list[float]]]:
    """Return what `teach_half` found as rows of a plot: label, value, interval."""
    return [
        (f"{label}, n = {m['n']}", m["value"], m["interval"])
        for label, m in ((IN_WORDS[k], found[k]) for k in IN_WORDS if k in found)
    ]
