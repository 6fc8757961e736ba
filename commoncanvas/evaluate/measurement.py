"""Stage 05: what one set of samples is worth, each value with count and interval.

Features and embeddings come from `extractors`, distances and intervals from `analysis`;
here they are put together under the names that every report uses.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from commoncanvas.analysis import distances, matching
from commoncanvas.analysis.estimates import REPLICATES, Estimate, mean_interval
from commoncanvas.evaluate.extractors import FeatureExtractor, Scorer
from commoncanvas.evaluate.judges import Judge, moved
from commoncanvas.evaluate.references import Reference
from commoncanvas.evaluate.samples import Request, Samples
from commoncanvas.latents.reader import Latents
from commoncanvas.models.efficientnet import closest, image_features


@dataclass(frozen=True)
class Measurement:
    """The metrics of one set of samples; see `measure`.

    Attributes:
        values: {metric: {"value", "interval", "n"}}; distances in squared feature
            units, scores 100 times the cosine, retrieval_top1 a share. likeness is each
            sample's score against the picture that its prompt names, likeness_gap that
            less its mean score against the other prompts' pictures.
        rows: what they were made of: (n,) values of each score, and after
            `REPLICATES` a distance's, as `Replicates.as_array` writes them.
    """

    values: dict[str, dict[str, Any]]
    rows: dict[str, np.ndarray]


def measure_all(
    drawn: Mapping[Request, Samples],
    prompts: Mapping[str, pd.DataFrame],
    prompt_sets: Mapping[str, Mapping[str, Any]],
    scorer: Scorer,
    extractors: Sequence[FeatureExtractor],
    reference: Reference,
    readers: Sequence[Latents],
    trained: Latents,
    num_choices: int,
    seed: int,
) -> tuple[dict[Request, Measurement], dict[str, np.ndarray]]:
    """Measure every request of a run; see `measure`.

    Args:
        prompts: of each set, from `read_prompts`.
        prompt_sets: of the profile, each set's kind and settings.
        readers: among whose works are those that prompts name.
        trained: the works trained on.

    Returns:
        ({request: its `Measurement`}, {extractor's name: features of the reference}).
    """
    size = next(iter(drawn.values())).size
    real = reference.features(extractors, size)
    texts = {
        n: scorer.text_embeds(rows["prompt"].tolist()) for n, rows in prompts.items()
    }
    own = {name: features_of(readers, rows["id"]) for name, rows in prompts.items()}
    judges = [Judge(e, real[e.name], seed) for e in extractors]
    found = {}
    for (name, guidance), pixels in drawn.items():
        found[name, guidance] = measure(
            pixels,
            texts[name],
            scorer,
            judges,
            trained.feature_blocks,
            num_choices,
            seed,
            own[name],
            reference.suffix(**prompt_sets[name]),
        )
    return found, real


def measure(
    pixels: Sequence[np.ndarray] | np.ndarray,
    text_embeds: np.ndarray,
    scorer: Scorer,
    judges: Sequence[Judge],
    trained: Callable[[], Iterable[np.ndarray]],
    num_choices: int,
    seed: int,
    own: np.ndarray | None = None,
    suffix: str = "",
) -> Measurement:
    """Measure samples against their prompts, the reference and the training works.

    Args:
        pixels: n samples, (h, w, 3) uint8 each, one a prompt; read batch by batch.
        text_embeds: (n, width), the scorer's embeddings of the prompts.
        judges: networks with their features of the reference pictures.
        trained: returns the EfficientNet features of the works trained on, in blocks
            of (rows, 1280).
        num_choices: names among which a picture must find its own.
        seed: of the choices in retrieval.
        own: (n, 1280) EfficientNet features of the pictures that the prompts name;
            None where they name none.
        suffix: of the distances' names; see `Reference.suffix`.
    """
    features = {j.extractor.name: j.extractor.features(pixels) for j in judges}
    looks = features.get("efficientnet")
    if looks is None:
        looks = image_features(pixels)
    embeds = scorer.image_embeds(pixels)
    num_choices = min(num_choices, len(pixels))
    ranked = matching.retrieval(embeds, text_embeds, num_choices, seed)
    scores = {
        scorer.name: scorer.score(embeds, text_embeds),
        f"{scorer.name}_shuffled": matching.alignment_shuffled(embeds, text_embeds),
        f"{scorer.name}_gap": matching.alignment_gap(embeds, text_embeds),
        "nearest_train_cosine": closest(pixels, trained(), looks)[1],
    }
    if own is not None:
        scores["likeness"] = matching.alignment(looks, own)
        scores["likeness_gap"] = matching.alignment_gap(looks, own)
    estimates, rows = dict[str, Estimate](), dict[str, np.ndarray]()
    for judge in judges:
        own_features = features[judge.extractor.name]
        measured, taken = judge.estimates(own_features, suffix)
        estimates |= measured
        rows |= {REPLICATES + name: found.as_array() for name, found in taken.items()}
    estimates |= {name: mean_interval(values) for name, values in scores.items()}
    if scorer.standard:
        value = scorer.standard(embeds, text_embeds)
        estimates[scorer.name] = moved(estimates[scorer.name], value)
    estimates["retrieval_top1"] = ranked["image_to_text"]
    values = {name: estimate.as_dict() for name, estimate in estimates.items()}
    return Measurement(values, rows | scores)


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
        rows = reader.features(np.array(places, int))
        found |= dict(zip((reader.keys[i] for i in places), rows, strict=True))
    return np.stack([found[i] for i in ids]) if found.keys() >= wanted else None


def floors(real: np.ndarray, num_samples: int, seed: int) -> dict[str, Any]:
    """Return the Frechet distance of real pictures from other real pictures.

    As many as there are samples are measured against the rest of the reference, or half
    of it where that is fewer; `n` says how many.
    """
    n = min(num_samples, len(real) // 2)
    return distances.frechet_floor(real, n, seed).as_dict()
