"""Stage 05: what one set of samples is worth, each value with count and interval.

Features and embeddings come from `extractors`, distances and intervals from `analysis`;
here they are put together under the names that every report uses.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from commoncanvas.analysis import distances, matching
from commoncanvas.analysis.estimates import jackknife, mean_interval
from commoncanvas.core.picture_store import stored_pictures
from commoncanvas.evaluate.extractors import FeatureExtractor, Scorer
from commoncanvas.latents.reader import Latents
from commoncanvas.models.efficientnet import closest, image_features

NUM_BLOCKS = 20  # of the jackknife


@dataclass(frozen=True)
class Measurement:
    """The metrics of one set of samples; see `measure`.

    Attributes:
        values: {metric: {"value", "interval", "n"}}; distances in squared feature
            units, scores 100 times the cosine, retrieval_top1 a share. likeness is each
            sample's score against the picture that its prompt names, likeness_gap that
            less its mean score against the other prompts' pictures.
        rows: what they were made of: (n, num_features) of each Frechet distance, (n,)
            of each score.
    """

    values: dict[str, dict[str, Any]]
    rows: dict[str, np.ndarray]


def measure(
    pixels: np.ndarray,
    text_embeds: np.ndarray,
    scorer: Scorer,
    extractors: Sequence[FeatureExtractor],
    real: Mapping[str, np.ndarray],
    trained: np.ndarray,
    num_choices: int,
    seed: int,
    own: np.ndarray | None = None,
) -> Measurement:
    """Measure samples against their prompts, the reference and the training works.

    Args:
        pixels: (n, h, w, 3) uint8 samples, one a prompt.
        text_embeds: (n, width), the scorer's embeddings of the prompts.
        real: {extractor's name: (m, num_features)} of the reference pictures.
        trained: (k, 1280) EfficientNet features of the works trained on.
        num_choices: names among which a picture must find its own.
        seed: of the choices in retrieval.
        own: (n, 1280) EfficientNet features of the pictures that the prompts name;
            None where they name none.
    """
    features = {extractor.name: extractor.features(pixels) for extractor in extractors}
    looks = features.get("efficientnet")
    if looks is None:
        looks = image_features(pixels)
    embeds = scorer.image_embeds(pixels)
    num_choices = min(num_choices, len(pixels))
    found = matching.retrieval(embeds, text_embeds, num_choices, seed)
    scores = {
        scorer.name: scorer.score(embeds, text_embeds),
        f"{scorer.name}_shuffled": matching.alignment_shuffled(embeds, text_embeds),
        f"{scorer.name}_gap": matching.alignment_gap(embeds, text_embeds),
        "nearest_train_cosine": closest(pixels, trained, looks)[1],
    }
    if own is not None:
        scores["likeness"] = matching.alignment(looks, own)
        scores["likeness_gap"] = matching.alignment_gap(looks, own)
    estimates = {
        name: jackknife(
            distance,
            features[extractor.name],
            real[extractor.name],
            num_blocks=NUM_BLOCKS,
        )
        for extractor in extractors
        for name, distance in (
            (extractor.frechet, distances.frechet_distance),
            (extractor.kernel, distances.kernel_distance),
        )
        if name
    }
    estimates |= {name: mean_interval(values) for name, values in scores.items()}
    estimates["retrieval_top1"] = found["image_to_text"]
    values = {name: estimate.as_dict() for name, estimate in estimates.items()}
    rows = {
        extractor.frechet: features[extractor.name] for extractor in extractors
    } | scores
    return Measurement(values, rows)


def reference(
    extractors: Sequence[FeatureExtractor],
    held: Latents,
    licenses_folder: Path,
    size: int,
) -> dict[str, np.ndarray]:
    """Return {extractor's name: (m, num_features) float64} of the reference pictures.

    EfficientNet's features come with the latents, from stage 03; the others are taken
    of the stored pictures at the samples' `size`.
    """
    return {
        extractor.name: held.features()
        if extractor.name == "efficientnet"
        else extractor.features(stored_pictures(licenses_folder, held.keys, size))
        for extractor in extractors
    }


def features_of(readers: Iterable[Latents], ids: Sequence[str]) -> np.ndarray | None:
    """Return (n, 1280) features of the works that prompts name, None if one names none.

    Args:
        readers: among whose works to look.
        ids: of the prompts; keys of works, or not.
    """
    found: dict[str, np.ndarray] = {}
    wanted = set(ids)
    for reader in readers:
        places = [i for i, key in enumerate(reader.keys) if key in wanted]
        rows = reader.features()[places]
        found |= dict(zip((reader.keys[i] for i in places), rows, strict=True))
    return np.stack([found[i] for i in ids]) if found.keys() >= wanted else None


def floors(real: np.ndarray, num_samples: int, seed: int) -> dict[str, Any]:
    """Return the Frechet distance of real pictures from other real pictures.

    The halves are as large as the samples where the reference allows, else as large as
    it allows; `n` says which.
    """
    n = min(num_samples, len(real) // 2)
    return distances.frechet_floor(real, n, seed).as_dict()
