"""Copies: how many samples repeat a training picture, and how sure that is.

The threshold for a copy is set on real pictures alone: works that were changed on
purpose, against works of which no copy was trained on.
"""

import io
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter, ImageOps

from commoncanvas.analysis.estimates import Estimate, roc_area, wilson
from commoncanvas.core.picture_store import pictures_of
from commoncanvas.core.settings import call_named
from commoncanvas.evaluate import sscd
from commoncanvas.evaluate.nearest import CANDIDATES, TrainingWorks, nearest


def _crop(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    edge = rng.uniform(0.75, 0.95) * picture.width
    left, top = rng.uniform(0, picture.width - edge, 2)
    box = (left, top, left + edge, top + edge)
    return picture.resize(picture.size, Image.Resampling.BICUBIC, box)


def _flip(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageOps.mirror(picture)


def _colour(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    gain, offset = rng.uniform(0.6, 1.2, 3), rng.uniform(-40, 40, 3)
    return _from_floats((np.asarray(picture) - 128.0) * gain + 128 + offset)


def _jpeg(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=int(rng.integers(8, 20)))
    return Image.open(buffer)


def _blur(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    blurred = picture.filter(ImageFilter.GaussianBlur(picture.width / 50))
    return _from_floats(np.asarray(blurred) + rng.normal(0, 8, (*picture.size, 3)))


def _from_floats(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(pixels.round(), 0, 255).astype(np.uint8))


# What may be done to an RGB picture so that it is still a copy.
CHANGES: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "crop": _crop,
    "flip": _flip,
    "colour": _colour,
    "jpeg": _jpeg,
    "blur": _blur,
}


@dataclass(frozen=True)
class Detector:
    """By what pictures are compared with works.

    Attributes:
        search: finds each picture's closest works; arguments and results as `nearest`.
        published: similarity above which its authors say copy; None if nobody does.
        protocol: JSON-able.
    """

    search: Callable[..., tuple[np.ndarray, np.ndarray]]
    published: float | None
    protocol: dict[str, Any]


def detector_frequencies() -> Detector:
    """Return the open world's detector, which needs no network; see `nearest`."""
    return Detector(nearest, None, {"similarity": "low frequencies, aligned"})


def detector_sscd(weights: Path | str, sha256: str = sscd.SHA256) -> Detector:
    """Return the published copy detector; see `sscd.Sscd`."""
    network = sscd.Sscd(weights, sha256)
    return Detector(network.nearest, sscd.PUBLISHED, network.protocol)


DETECTORS: dict[str, Callable[..., Detector]] = {
    "frequencies": detector_frequencies,
    "sscd": detector_sscd,
}
OPEN = detector_frequencies()


def load_detector(settings: Mapping[str, Any]) -> Detector:
    """Load a detector, {"detector": a name of `DETECTORS`, and its arguments}.

    Raises:
        ParameterError: it or its arguments are unknown or missing.
        SourceError: weights are missing, or not the pinned ones.
    """
    words = {key: value for key, value in settings.items() if key != "detector"}
    return call_named(DETECTORS, "detector", settings.get("detector"), words)


@dataclass(frozen=True)
class Control:
    """Real pictures of which it is known whether they copy a work; see `control`.

    Attributes:
        copies: rows of kind, source (its key), is_named (whether the closest work is
            the source or a near copy of it) and similarity.
        others: rows of key, nearest (key of the closest work) and similarity.
    """

    copies: pd.DataFrame
    others: pd.DataFrame

    def area(self) -> Estimate:
        """Estimate the area under the ROC: how often a copy is closer than another."""
        copies = self.copies["similarity"].to_numpy()
        others = self.others["similarity"].to_numpy()
        return roc_area(copies, others)

    def threshold(self, false_positive_rate: float = 0.01) -> float:
        """Return the similarity above which at most that share of the others lies."""
        others = self.others["similarity"]
        return float(others.quantile(1 - false_positive_rate, interpolation="higher"))

    def roc(self) -> tuple[list[float], list[float]]:
        """Return (false positive rates, recalls) for every threshold, from 0 to 1."""
        copies, others = self.copies["similarity"], self.others["similarity"]
        cuts = np.unique(np.r_[1, copies, others])[::-1]
        recalls = [(copies > cut).mean() for cut in cuts]
        return [(others > cut).mean() for cut in cuts] + [1.0], [*recalls, 1.0]


def control(
    works: TrainingWorks,
    size: int,
    num_copies: int = 250,
    num_others: int = 500,
    seed: int = 0,
    detector: Detector = OPEN,
) -> Control:
    """Search the works for pictures of which it is known whether they are copies.

    Copies are works changed in one of the `CHANGES`, each in turn. The others are
    works of the same splits, trained on or not, and their own near copies are left out:
    the closest that remains may be the same subject by another artist. The same works
    and seed give the same control, whatever the works' order.

    Args:
        size: edge of the samples that will be compared [pixels].
        num_copies, num_others: pictures, fewer where there are not so many.
        seed: of the choice of pictures and of the changes.
    """
    known = _known(works, size, num_copies, num_others, seed)
    return known.control(works, *detector.search(known.pixels, works, 1, known.groups))


@dataclass(frozen=True)
class _Known:
    """The pictures of a `Control`, not yet searched for: copies, then others.

    A copy may find its source; another work may not find itself or its near copies,
    which are its group.
    """

    pixels: np.ndarray  # (n, size, size, 3) uint8
    groups: np.ndarray  # (n,) object, None for a copy
    kinds: list[str]  # of the copies
    sources: np.ndarray  # of the copies, places among the works
    others: pd.Index  # keys

    def control(
        self, works: TrainingWorks, places: np.ndarray, similarity: np.ndarray
    ) -> Control:
        """Return the control from what `nearest` found, (n, k) each."""
        best, closeness, num = places[:, 0], similarity[:, 0], len(self.kinds)
        copies = {
            "kind": self.kinds,
            "source": works.keys[self.sources],
            "is_named": works.groups[best[:num]] == works.groups[self.sources],
            "similarity": closeness[:num],
        }
        others = {
            "key": self.others,
            "nearest": works.keys[best[num:]],
            "similarity": closeness[num:],
        }
        return Control(pd.DataFrame(copies), pd.DataFrame(others))


def _known(
    works: TrainingWorks, size: int, num_copies: int, num_others: int, seed: int
) -> _Known:
    """Choose and change the pictures of a control; see `control`."""
    rng, pool = np.random.default_rng(seed), works.comparable()
    sources = rng.permutation(len(works))[:num_copies]
    kinds = sorted(itertools.islice(itertools.cycle(CHANGES), len(sources)))
    pool = pool.iloc[rng.permutation(len(pool))[:num_others]]
    originals = pictures_of(works.folder, works.keys[sources], size)
    changed = [
        np.asarray(CHANGES[kind](Image.fromarray(original), rng))
        for kind, original in zip(kinds, originals, strict=True)
    ]
    pixels = np.concatenate([changed, pictures_of(works.folder, pool.index, size)])
    groups = np.array([None] * len(kinds) + pool["near_group"].tolist(), object)
    return _Known(pixels, groups, kinds, sources, pool.index)


@dataclass(frozen=True)
class Study:
    """Samples beside the works that their model trained on; see `study`.

    Attributes:
        threshold: similarity above which a sample is a copy.
        places, similarity: (n, k) each sample's closest works, and how close.
        measured: from `measure`.
    """

    works: TrainingWorks
    control: Control
    threshold: float
    places: np.ndarray
    similarity: np.ndarray
    measured: dict[str, dict[str, Any]]

    def most_similar(self, num: int = 8) -> pd.DataFrame:
        """Return place, key (of its work), similarity and is_copy of the closest."""
        best, closeness = self.places[:, 0], self.similarity[:, 0]
        found = np.argsort(-closeness, kind="stable")[:num]
        rows = {"place": found, "key": self.works.keys[best[found]]}
        similarity = closeness[found]
        is_copy = similarity > self.threshold
        return pd.DataFrame(rows | {"similarity": similarity, "is_copy": is_copy})


def study(
    pixels: Sequence[np.ndarray] | np.ndarray,
    licenses_folder: Path,
    keys: Iterable[str],
    seed: int = 0,
    detector: Detector = OPEN,
) -> Study:
    """Search samples, (h, w, 3) uint8 each, for copies of the works trained on.

    The threshold depends on the works, `seed` and the detector alone. Where its authors
    publish one, `copy_rate_published` is the share above that, on other pictures.
    """
    works = TrainingWorks(licenses_folder, keys)
    known, num = _known(works, len(pixels[0]), 250, 500, seed), len(pixels)
    # The works are read once, for the control and the samples together.
    groups = np.concatenate([np.full(num, None), known.groups])
    pictures = itertools.chain(pixels, known.pixels)
    places, similarity = detector.search(pictures, works, CANDIDATES, groups)
    controls = known.control(works, places[num:], similarity[num:])
    places, similarity = places[:num], similarity[:num]
    threshold = controls.threshold()
    first = places[:, 0], similarity[:, 0]
    measured = measure(*first, works, controls, threshold)
    if detector.published is not None:
        above = int((first[1] > detector.published).sum())
        measured["copy_rate_published"] = wilson(above, num).as_dict()
    return Study(works, controls, threshold, places, similarity, measured)


def measure(
    places: np.ndarray,
    similarity: np.ndarray,
    works: TrainingWorks,
    controls: Control,
    threshold: float,
) -> dict[str, dict[str, Any]]:
    """Measure how many samples are copies, of which works, and how far to trust it.

    Args:
        places, similarity: (n,) of each sample's closest work, from `nearest`.

    Returns:
        {name: {"value", "interval", "n"}}: copy_rate of the samples; copied_unique and
        copied_duplicated, the share copied of works without and with a near copy among
        the works (the latter only where there are any), near copies being one work;
        roc_area, recall, named and false_positive_rate of the control.
    """
    is_copy = similarity > threshold
    # By works, not by samples: near copies are one group, and a group one work.
    sizes = pd.Series(works.groups).value_counts()
    is_copied = sizes.index.isin(works.groups[places[is_copy]])
    tallies = {
        "copy_rate": is_copy,
        "copied_unique": is_copied[sizes == 1],
        "copied_duplicated": is_copied[sizes > 1],
        "recall": controls.copies["similarity"] > threshold,
        "named": controls.copies["is_named"],
        "false_positive_rate": controls.others["similarity"] > threshold,
    }
    found = {n: wilson(int(np.sum(x)), len(x)) for n, x in tallies.items() if len(x)}
    found["roc_area"] = controls.area()
    return {name: estimate.as_dict() for name, estimate in found.items()}
