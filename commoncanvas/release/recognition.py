"""Recognition: is a sample matched to the right name among a hundred?

`commoncanvas recognise --scale full --variant cc_emoji` asks a trained model for
held-out names, and two judges for what came out: the scorer, which reads the names, and
the nearest real picture of these names from sets that it was not trained on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from commoncanvas.analysis.estimates import Estimate, wilson
from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.files import read_json, shown, write_json
from commoncanvas.core.keys import finish
from commoncanvas.core.manifest import read_manifest
from commoncanvas.core.picture_store import pictures_of
from commoncanvas.evaluate.extractors import Scorer, scorer_open
from commoncanvas.evaluate.prompts import human_names
from commoncanvas.evaluate.samples import draw_requests
from commoncanvas.latents.reader import Latents
from commoncanvas.latents.selection import read_works
from commoncanvas.models.efficientnet import closest


@dataclass(frozen=True)
class Finished:
    """What stages 03 to 05 left of a variant.

    `latents`, `trained` and `evaluated` are their folders, `keys` those of the works
    trained on, `metrics` what stage 05 measured.
    """

    latents: Path
    trained: Path
    evaluated: Path
    keys: pd.Series
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """Held-out names, and real pictures of them from the captioned web.

    `held` has the columns prompt (the name), id (a held-out picture of it) and is_new
    (no drawing of that name, of any set, was trained on); `gallery` the column name, a
    row a picture; `features` are the pictures' (m, 1280).
    """

    held: pd.DataFrame
    gallery: pd.DataFrame
    features: np.ndarray


def choose_names(
    folder: Path, trained: Iterable[str], sources: list[str], num: int, seed: int
) -> Choice:
    """Choose names of held-out pictures that other sets have drawn too.

    Args:
        folder: of stage 03.
        trained: keys of the works trained on.
        sources: sets whose held-out pictures may name.
        num: of names, drawn at random by `seed`.

    Raises:
        ParameterError: there are too few names or no sets, or the model was trained on
            the web.
    """
    if not sources:
        raise ParameterError(
            "it is not known which sets the model was trained on; expected a model "
            "that was trained here; name another variant."
        )
    try:
        web = Latents(folder, ["web"], "human")
    except ParameterError:
        raise ParameterError(
            "this scale has no captioned web pictures, which are the gallery; expected "
            "`web_sources` in the profile; use a scale that has them."
        ) from None
    if set(web.keys) & set(trained):
        raise ParameterError(
            "the model was trained on the captioned web, whose pictures are the "
            "gallery; expected a model of licensed works; name another variant."
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
    return Choice(held, gallery[is_shown], web.features()[is_shown])


def recognise(
    pixels: np.ndarray,
    names: Sequence[str],
    gallery: pd.DataFrame,
    features: np.ndarray,
    scorer: Scorer,
) -> dict[str, np.ndarray]:
    """Match samples to names, twice.

    Args:
        pixels: (n, h, w, 3) uint8, sample i of names[i % len(names)].
        names: distinct texts, the choices.
        gallery, features: as in a `Choice`.

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


def read_finished(scale: str, variant: str) -> Finished:
    """Read what a variant was trained on, and what stage 05 measured of it.

    Raises:
        ManifestError: one of the stages has not run.
    """
    latents = paths.stage_dir(scale, "03_latents")
    trained = paths.stage_dir(scale, "04_train", variant)
    evaluated = paths.stage_dir(scale, "05_evaluate", variant)
    for folder in (latents, trained, evaluated):
        read_manifest(folder)
    file = trained / "works.parquet"  # a published model has none
    keys = pd.read_parquet(file)["key"] if file.exists() else pd.Series([], dtype=str)
    metrics = read_json(evaluated / "metrics.json")
    return Finished(latents, trained, evaluated, keys, metrics)


def measure(
    scale: str, variant: str, num_names: int = 100, num_seeds: int = 4, seed: int = 17
) -> dict[str, Any]:
    """Measure a variant of a finished run, at the guidance scale of its samples.

    Args:
        scale, variant: whose stages 01 to 05 are done.
        num_names: choices; chance is one in so many.
        num_seeds: samples a name.
        seed: of the choice of names and of the starting noise.

    Returns:
        JSON-able dict: for each judge the share of right matches with its interval, as
        `share`, the same for real held-out pictures of the same names, which says what
        the judge can do, and for names that were never trained on.

    Raises:
        CommonCanvasError: a stage has not run, or as `choose_names`.
    """
    run = read_finished(scale, variant)
    protocol, guidance = run.metrics["protocol"], run.metrics["guidance_scale"]
    own = {key.split("/")[0] for key in run.keys}
    # Referees alone may name prompts: then a model's own sets name them here.
    sources = sorted(own & set(protocol["sources"])) or sorted(own)
    chosen = choose_names(run.latents, run.keys, sources, num_names, seed)
    names = chosen.held["prompt"].tolist()
    size = read_manifest(run.latents, verify=False)["facts"]["resolution_px"]
    key, drawn = draw_requests(
        run.trained / "pipeline",
        read_manifest(run.trained)["files"],
        {("names", guidance): names * num_seeds},
        protocol["num_inference_steps"],
        seed,
        50,
        size,
        protocol.get("dtype", "float32"),
    )
    pixels = drawn["names", guidance][:]
    licensed = paths.stage_dir(scale, "01_licenses")
    real = pictures_of(licensed, chosen.held["id"], size)
    scorer, gallery, features = scorer_open(), chosen.gallery, chosen.features
    found = recognise(pixels, names, gallery, features, scorer)
    found_real = recognise(real, names, gallery, features, scorer)
    by_name = {judge: hits.reshape(num_seeds, -1) for judge, hits in found.items()}
    is_new = chosen.held["is_new"].to_numpy()
    of_new = {judge: hits[:, is_new] for judge, hits in by_name.items()}
    of_real = {judge: hits[None] for judge, hits in found_real.items()}
    finish(key)
    return {
        "variant": variant,
        "choices": num_names,
        "samples_a_name": num_seeds,
        "guidance_scale": guidance,
        "sources": sources,
        "gallery": len(gallery),
        "all": _shares(by_name),
        "names_never_trained_on": _shares(of_new),
        "real_held_out_pictures": _shares(of_real),
        "names": names,
    }


def share(hits: np.ndarray) -> Estimate:
    """Estimate the share of hits over names, each asked for as often.

    Samples of one name are hit or missed together: some names are easy. So the interval
    is Wilson's of as many independent samples as would vary as the names' shares do,
    and of no more than there are samples.

    Args:
        hits: (samples a name, names) bool.

    Returns: n counts the names. Source: wilson; the design effect is Kish's.
    """
    num, (by_name, value) = hits.shape[1], (hits.mean(0), float(hits.mean()))
    variance = by_name.var(ddof=1) / num if num > 1 else 0.0
    alike = value * (1 - value) / variance if variance else num
    counted = max(1, min(int(alike), hits.size))
    found = wilson(value * counted, counted)
    return Estimate(value, found.low, found.high, num)


def _shares(found: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return each judge's share of hits, as JSON; None where there are no names."""
    return {
        judge: share(hits).as_dict() if hits.size else None
        for judge, hits in found.items()
    }


def report(scale: str, variant: str) -> None:
    """Measure whether a variant's samples are recognised; keep and print the shares."""
    found = measure(scale, variant)
    file = paths.RESULTS / scale / variant / "recognition.json"
    write_json(file, found)
    for judge, told in found["all"].items():
        print(f"{judge}: {Estimate.from_dict(told):.1%}, {told['n']} names")
    print(f"wrote {shown(file)}; chance is {1 / found['choices']:.1%}")
