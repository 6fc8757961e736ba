"""Stage 05: the figures of one set of samples, each with count and interval.

Features and embeddings come from `judges`, distances and intervals from `metrics`; here
they are put together under the names that every report uses.
"""

import json

import numpy as np
import pandas as pd

from commoncanvas import metrics
from commoncanvas.errors import ManifestError
from commoncanvas.features import image_features
from commoncanvas.images import stored_pixels
from commoncanvas.paths import stage_dir

NUM_BLOCKS = 20  # of the jackknife
# Of a run's figures, what a table that compares variants leaves out.
ASIDE = (
    "by_prompt",
    "nearest_train_cosine",
    "alignment_shuffled",
    "clip_score_shuffled",
)


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
    found = metrics.retrieval(embeds, text_embeds, num_choices, seed)
    scores = {
        scorer.name: scorer.score(embeds, text_embeds),
        f"{scorer.name}_shuffled": metrics.alignment_shuffled(embeds, text_embeds),
        f"{scorer.name}_gap": metrics.alignment_gap(embeds, text_embeds),
        "nearest_train_cosine": closest(pixels, trained, looks)[1],
    }
    if own is not None:
        scores["likeness"] = metrics.alignment(looks, own)
        scores["likeness_gap"] = metrics.alignment_gap(looks, own)
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


def as_table(measured, head="guidance_scale"):
    """Return measured figures as a table of text, one row a guidance scale."""
    rows = [
        {head: name, **{metric: _text(m) for metric, m in figures.items()}}
        for name, figures in measured.items()
    ]
    return pd.DataFrame(rows)


def curve(run, name):
    """Return (guidance scales, values, lows, highs) of one metric of a variant.

    Args:
        run: metrics.json of stage 05.
        name: of the metric.
    """
    found = [figures[name] for figures in run["guidance"].values()]
    return (
        [float(scale) for scale in run["guidance"]],
        [estimate["value"] for estimate in found],
        *(list(ends) for ends in zip(*(e["interval"] for e in found), strict=True)),
    )


def headline(run):
    """Return the names of a run's first distance and of its score's gap."""
    distance = next(iter(run["reference"]["real_vs_real"]))
    figures = next(iter(run["guidance"].values()))
    gaps = (name for name in figures if name.endswith("_gap"))
    return distance, next(name for name in gaps if name != "likeness_gap")


def by_size(runs, read):
    """Return (training works, values, lows, highs) of one estimate, for a plot.

    Args:
        runs: list of metrics.json of stage 05.
        read: function of one of them to {"value", "interval", "n"}.
    """
    found = [read(run) for run in runs]
    return (
        [run["num_train_pictures"] for run in runs],
        [estimate["value"] for estimate in found],
        *(list(ends) for ends in zip(*(e["interval"] for e in found), strict=True)),
    )


def best_guidance(run, name):
    """Return the guidance scale, as text, with a variant's lowest distance.

    It is chosen by the figure that it is then judged by, so it flatters: compare
    variants at a common scale too.
    """
    return min(run["guidance"], key=lambda scale: run["guidance"][scale][name]["value"])


def as_columns(measured):
    """Return measured figures as a table of text, one column a guidance scale."""
    table = as_table(measured, "metric").set_index("metric").T.fillna("–")
    return table.rename_axis("metric").reset_index()


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


def evaluated_variants(scale):
    """Return the names of the variants whose stage 05 has run, sorted.

    Raises:
        ManifestError: there is none.
    """
    found = stage_dir(scale, "05_evaluate").glob("*/manifest.json")
    variants = sorted(file.parent.name for file in found)
    if not variants:
        raise ManifestError(
            f"no variant of {scale} was evaluated; expected one or more; run "
            "`dvc repro` at that scale."
        )
    return variants


def write_samples(folder, samples, prompts):
    """Write samples as `samples.npz` (one array a guidance scale) and their prompts."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {f"guidance_{scale:g}": pixels for scale, pixels in samples.items()}
    np.savez_compressed(folder / "samples.npz", **arrays)
    text = json.dumps({"prompts": list(prompts)}, ensure_ascii=False, indent=1)
    (folder / "prompts.json").write_text(text + "\n", encoding="utf-8")


def write_rows(folder, rows):
    """Write {prompt set: {metric: array}} as `rows.npz`, in float32.

    The set "reference" holds the reference's features, under each distance's name.
    """
    arrays = {
        f"{prompts}.{name}": np.asarray(values, np.float32)
        for prompts, found in rows.items()
        for name, values in found.items()
    }
    np.savez_compressed(folder / "rows.npz", **arrays)


def read_rows(folder):
    """Return what `write_rows` wrote, as float64, the leading prompt set first."""
    rows = {}
    with np.load(folder / "rows.npz") as arrays:
        for key in arrays:
            prompts, _, name = key.partition(".")
            rows.setdefault(prompts, {})[name] = arrays[key].astype(np.float64)
    return rows


def read_samples(folder, guidance_scale):
    """Return (pixels, prompts) that stage 05 wrote for one guidance scale."""
    with np.load(folder / "samples.npz") as arrays:
        pixels = arrays[f"guidance_{guidance_scale:g}"]
    return pixels, json.loads((folder / "prompts.json").read_text())["prompts"]
