"""Recognition: is a sample matched to the right name among a hundred?

`python -m commoncanvas recognise --scale full --variant cc_emoji` asks a
trained
model for held-out names, and two judges for what came out: the scorer, which reads the
names, and the nearest real picture of these names from sets it never trained on.
"""

import json

import numpy as np
import pandas as pd
from diffusers import StableDiffusionPipeline

from commoncanvas.analysis.estimates import wilson
from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.files import shown
from commoncanvas.core.images import pictures_of
from commoncanvas.core.manifest import read_manifest
from commoncanvas.evaluate.judges import scorer_open
from commoncanvas.evaluate.prompts import human_names
from commoncanvas.latents.reader import Latents
from commoncanvas.latents.selection import read_works
from commoncanvas.models.efficientnet import closest
from commoncanvas.models.pipelines import draw_samples


def choose_names(folder, trained, sources, num, seed):
    """Choose names of held-out pictures that other sets have drawn too.

    Args:
        folder: of stage 03.
        trained: keys of the works trained on.
        sources: sets whose held-out pictures may name.
        num: of names, drawn by lot.
        seed: of the lot.

    Returns:
        (held, gallery, features): DataFrame of prompt, the name, with id, a held-out
        picture of it, and is_new, whether no drawing of the name, of any set, was
        trained on; DataFrame of name, every real picture of these names among the
        captioned web's; and their (m, 1280) features.

    Raises:
        ParameterError: there are too few names or no sets, or the model trained on the
            web.
    """
    if not sources:
        raise ParameterError(
            "none of the sets that the model learnt from names prompts; expected one "
            "or more in `prompt_sources` of the profile; name another variant."
        )
    web = Latents(folder, ["web"], "human")
    if set(web.keys) & set(trained):
        raise ParameterError(
            "the model trained on the captioned web, whose pictures are the gallery; "
            "expected a model of licensed works; name another variant."
        )
    gallery = pd.DataFrame({"name": web.texts()})
    held = human_names(folder, sources).drop_duplicates("prompt")
    shared = sorted(set(held["prompt"]) & set(gallery["name"]))
    if len(shared) < num:
        raise ParameterError(
            f"{len(shared)} held-out names have a picture in another set; expected "
            f"{num} or more; ask for fewer names, or of more sets."
        )
    names = np.random.default_rng(seed).permutation(shared)[:num]
    texts = read_works(folder, ["c", "nc"], "human").set_index("key")["text"]
    held = held.set_index("prompt").loc[names].reset_index()
    held["is_new"] = ~held["prompt"].isin(texts[texts.index.isin(trained)])
    is_shown = gallery["name"].isin(names)
    return held, gallery[is_shown], web.features()[is_shown]


def recognise(pixels, names, gallery, features, scorer):
    """Match samples to names, twice.

    Args:
        pixels: (n, h, w, 3) uint8, sample i of names[i % len(names)].
        names: distinct texts, the choices.
        gallery, features: from `choose_names`.
        scorer: a `Scorer`.

    Returns:
        {"scorer", "neighbour"}: (n,) bool each, whether the first choice was right: the
        name that scores highest, the name of the real picture with the largest cosine.
    """
    wanted = np.arange(len(pixels)) % len(names)
    texts = scorer.text_embeds(names)
    by_text, _ = closest(pixels, texts, scorer.image_embeds(pixels))
    near, _ = closest(pixels, features)
    found = gallery["name"].to_numpy()[near]
    return {"scorer": by_text == wanted, "neighbour": found == np.array(names)[wanted]}


def read_finished(scale, variant):
    """Read what a variant learnt from, and what stage 05 measured of it.

    Returns:
        ((folders of stages 03, 04 and 05), keys of the works trained on, metrics.json).

    Raises:
        ManifestError: one of the stages has not run.
    """
    slugs = ("03_latents", None), ("04_train", variant), ("05_evaluate", variant)
    folders = [paths.stage_dir(scale, *place) for place in slugs]
    for folder in folders:
        read_manifest(folder)
    told = json.loads((folders[2] / "metrics.json").read_text(encoding="utf-8"))
    return folders, pd.read_parquet(folders[1] / "works.parquet")["key"], told


def measure(scale, variant, num_names=100, num_seeds=4, seed=17):
    """Measure a variant of a finished run, at its common guidance scale.

    Args:
        scale, variant: whose stages 01 to 05 are done.
        num_names: choices; chance is one in so many.
        num_seeds: samples a name.
        seed: of the lot and of the starting noise.

    Returns:
        JSON-able dict: for each judge the share of right matches with its Wilson
        interval, the same for real held-out pictures of the same names, which says what
        the judge can do, and for names that were never trained on.

    Raises:
        CommonCanvasError: a stage has not run, or as `choose_names`.
    """
    (above, trained, _), keys, told = read_finished(scale, variant)
    protocol, guidance = told["protocol"], told["common_guidance"]
    own = {key.split("/")[0] for key in keys}
    sources = sorted(own & set(protocol["sources"] or own))  # none stands for all
    held, *gallery = choose_names(above, keys, sources, num_names, seed)
    names = held["prompt"].tolist()
    pipeline = StableDiffusionPipeline.from_pretrained(trained / "pipeline")
    steps = protocol["num_inference_steps"]
    pixels = draw_samples(pipeline, names * num_seeds, guidance, steps, seed, 50)
    judges = *gallery, scorer_open()
    found = recognise(pixels, names, *judges)
    owned = paths.stage_dir(scale, "01_licenses")
    real = pictures_of(owned, held["id"], pixels.shape[1])
    news = np.tile(held["is_new"], num_seeds)
    return {
        "variant": variant,
        "choices": num_names,
        "samples_a_name": num_seeds,
        "guidance_scale": guidance,
        "sources": sources,
        "gallery": len(gallery[0]),
        "all": {judge: _share(hits) for judge, hits in found.items()},
        "names_never_trained_on": {
            judge: _share(hits[news]) for judge, hits in found.items()
        },
        "real_held_out_pictures": {
            judge: _share(hits)
            for judge, hits in recognise(real, names, *judges).items()
        },
        "names": names,
    }


def _share(hits):
    return wilson(int(hits.sum()), len(hits)).as_dict() if len(hits) else None


def report(scale, variant):
    """Measure whether a variant's samples are recognised; keep and print the shares."""
    found = measure(scale, variant)
    file = paths.RESULTS / scale / variant / "recognition.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for judge, share in found["all"].items():
        low, high = share["interval"]
        print(f"{judge}: {share['value']:.1%} [{low:.1%}, {high:.1%}] of {share['n']}")
    print(f"wrote {shown(file)}; chance is {1 / found['choices']:.1%}")
