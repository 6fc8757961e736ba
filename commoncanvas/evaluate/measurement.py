"""Stage 05: the figures of one set of samples, each with count and interval.

Features and embeddings come from `judges`, distances and intervals from `analysis`;
here
they are put together under the names that every report uses.
"""

import numpy as np

from commoncanvas.analysis import distances, matching
from commoncanvas.analysis.estimates import jackknife, mean_interval
from commoncanvas.core.images import stored_pictures
from commoncanvas.models.efficientnet import closest, image_features

NUM_BLOCKS = 20  # of the jackknife


def measure(
    pixels, text_embeds, scorer, judges, real, trained, num_choices, seed, own=None
):
    """Measure samples against their prompts, the reference and the training works.

    Args:
        pixels: (n, h, w, 3) uint8 samples, one a prompt.
        text_embeds: (n, width) rows that the scorer makes of the prompts.
        scorer: a `Scorer`.
        judges: list of `Judge`.
        real: {judge's name: (m, num_features)} of the reference pictures.
        trained: (k, 1280) EfficientNet features of the works trained on.
        num_choices: names among which a picture must find its own.
        seed: of the choices in retrieval.
        own: (n, 1280) EfficientNet features of the pictures that the prompts name, from
            `features_of`; None where they name none.

    Returns:
        (figures, rows). figures: {metric: {"value", "interval", "n"}}; distances in
        squared feature units, scores 100 times the cosine, retrieval_top1 a share.
        likeness is each sample's score against its own picture, likeness_gap that less
        what it has in common with the other prompts' pictures. rows: what they were
        made of, for `write_rows`: (n, num_features) of each distance, (n,) of each
        score.
    """
    rows = {judge.name: judge.features(pixels) for judge in judges}
    looks = rows.get("efficientnet")
    looks = image_features(pixels) if looks is None else looks
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
            distance, rows[judge.name], real[judge.name], num_blocks=NUM_BLOCKS
        )
        for judge in judges
        for name, distance in (
            (judge.frechet, distances.frechet_distance),
            (judge.kernel, distances.kernel_distance),
        )
        if name
    }
    estimates |= {name: mean_interval(values) for name, values in scores.items()}
    estimates["retrieval_top1"] = found["image_to_text"]
    figures = {name: estimate.as_dict() for name, estimate in estimates.items()}
    return figures, {judge.frechet: rows[judge.name] for judge in judges} | scores


def reference(judges, held, licenses_folder, size):
    """Return {judge's name: (m, num_features) float64} of the reference pictures.

    EfficientNet's come with the latents, from stage 03; the others look at the stored
    pictures at the samples' `size`.
    """
    return {
        judge.name: held.features()
        if judge.name == "efficientnet"
        else judge.features(stored_pictures(licenses_folder, held.keys, size))
        for judge in judges
    }


def features_of(readers, ids):
    """Return (n, 1280) stored features of the works that prompts name.

    Args:
        readers: `Latents` among whose works to look.
        ids: of the prompts; keys of works, or not.

    Returns:
        The features, or None where an id is no work of theirs.
    """
    found = {}
    for reader in readers:
        wanted = set(ids)
        places = [i for i, key in enumerate(reader.keys) if key in wanted]
        rows = reader.features()[places]
        found |= dict(zip((reader.keys[i] for i in places), rows, strict=True))
    return np.stack([found[i] for i in ids]) if found.keys() >= set(ids) else None


def floors(real, num_samples, seed):
    """Return the Frechet distance of real pictures from other real pictures.

    The halves are as large as the samples where the reference allows, else as large as
    it allows; `n` says which.
    """
    n = min(num_samples, len(real) // 2)
    return distances.frechet_floor(real, n, seed).as_dict()
