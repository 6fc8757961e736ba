"""Stage 05: the figures of one set of samples, each with count and interval.

Features and embeddings come from `judges`, distances and intervals from `metrics`; here
they are put together under the names that every report uses.
"""

import json

import numpy as np
import pandas as pd

from commoncanvas import metrics
from commoncanvas.features import image_features
from commoncanvas.images import stored_pixels

NUM_BLOCKS = 20  # of the jackknife


def measure(pixels, text_embeds, scorer, judges, real, trained, num_choices, seed):
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

    Returns:
        {metric: {"value", "interval", "n"}}; distances in squared feature units,
        scores 100 times the cosine, retrieval_top1 a share.
    """
    rows = {judge.name: judge.features(pixels) for judge in judges}
    embeds = scorer.image_embeds(pixels)
    num_choices = min(num_choices, len(pixels))
    found = metrics.retrieval(embeds, text_embeds, num_choices, seed)
    scores = {
        scorer.name: scorer.score(embeds, text_embeds),
        f"{scorer.name}_shuffled": metrics.alignment_shuffled(embeds, text_embeds),
        f"{scorer.name}_gap": metrics.alignment_gap(embeds, text_embeds),
        "nearest_train_cosine": closest(pixels, trained, rows.get("efficientnet"))[1],
    }
    estimates = {
        name: metrics.jackknife(
            distance, rows[judge.name], real[judge.name], num_blocks=NUM_BLOCKS
        )
        for judge in judges
        for name, distance in (
            (judge.frechet, metrics.frechet_distance),
            (judge.kernel, metrics.kernel_distance),
        )
        if name
    }
    estimates |= {
        name: metrics.mean_interval(values) for name, values in scores.items()
    }
    estimates["retrieval_top1"] = found["image_to_text"]
    return {name: estimate.as_dict() for name, estimate in estimates.items()}


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


def as_table(measured):
    """Return measured figures as a table of text, one row a guidance scale."""
    rows = [
        {"guidance_scale": guidance, **{name: _text(m) for name, m in figures.items()}}
        for guidance, figures in measured.items()
    ]
    return pd.DataFrame(rows)


def _text(estimate):
    """Write an estimate as "value [low, high]"."""
    low, high = estimate["interval"]
    return f"{estimate['value']:.4g} [{low:.4g}, {high:.4g}]"


def floors(real, num_samples, seed):
    """Return the Frechet distance of real pictures from other real pictures.

    The halves are as large as the samples where the reference allows, else as large as
    it allows; `n` says which.
    """
    n = min(num_samples, len(real) // 2)
    return metrics.frechet_floor(real, n, seed).as_dict()


def closest(pixels, trained, features=None):
    """Find each sample's most similar training work.

    Args:
        pixels: (n, h, w, 3) uint8.
        trained: (k, 1280) features of the training works.
        features: the samples' features, where already known.

    Returns:
        (places, cosines): (n,) int64 and (n,) float64.
    """
    features = image_features(pixels) if features is None else features
    cosines = _unit(features) @ _unit(trained).T
    places = cosines.argmax(1)
    return places, cosines[np.arange(len(places)), places]


def _unit(rows):
    """Scale rows to length one."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def stored_pictures(licenses_folder, keys, size):
    """Yield (size, size, 3) uint8 pictures of catalogue keys, one at a time."""
    file = licenses_folder / "pictures.parquet"
    # Row by row from the file: memory holds the pictures asked for, not all there are.
    stored = pd.read_parquet(file, filters=[("key", "in", list(keys))])
    stored = stored.set_index("key")["png"]
    for key in keys:
        yield stored_pixels(stored[key], size)


def pictures_of(licenses_folder, keys, size):
    """Return (n, size, size, 3) uint8 pictures of catalogue keys."""
    return np.stack(list(stored_pictures(licenses_folder, keys, size)))


def write_samples(folder, samples, prompts):
    """Write samples as `samples.npz` (one array a guidance scale) and their prompts."""
    arrays = {f"guidance_{scale:g}": pixels for scale, pixels in samples.items()}
    np.savez_compressed(folder / "samples.npz", **arrays)
    text = json.dumps({"prompts": list(prompts)}, ensure_ascii=False, indent=1)
    (folder / "prompts.json").write_text(text + "\n", encoding="utf-8")


def read_samples(folder, guidance_scale):
    """Return (pixels, prompts) that stage 05 wrote for one guidance scale."""
    with np.load(folder / "samples.npz") as arrays:
        pixels = arrays[f"guidance_{guidance_scale:g}"]
    return pixels, json.loads((folder / "prompts.json").read_text())["prompts"]
