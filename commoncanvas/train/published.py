"""Published pipelines: rows of the experiment that are measured and not trained.

Stable Diffusion 2's own weights and the authors' released ones take the place of a
training: the same folder, but for the list of works, so that stages 05 and 06
need no second path.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from commoncanvas.core.errors import ParameterError, brief
from commoncanvas.core.files import write_json, writing
from commoncanvas.core.manifest import new_folder, read_manifest, write_manifest
from commoncanvas.core.paths import stage_dir
from commoncanvas.models.pipelines import StableDiffusionPipeline, make_sampler
from commoncanvas.models.weights import find_part, pinned

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


def take_pipeline(pipeline: Sequence[str], values: Mapping[str, Any]) -> str:
    """Write a published pipeline as stage 04 writes a trained one.

    Its sampler becomes DDIM of its own noise schedule, as every row's; its weights are
    copied as they are, in float32. There is no works.parquet, since its works are not
    known, and log.csv has no step. The works in the manifest's facts are those of the
    base training, with which stage 05 compares samples.

    Args:
        pipeline: (folder or Hub id, revision), from `parameters.published`.
        values: the parameters of stage 04's base training.

    Returns:
        What was taken, in Markdown, for the stage's page.

    Raises:
        ParameterError: there is no such pipeline, or no revision of a Hub id.
        ManifestError: stage 03 has not run, or a part's file is not its manifest's.
    """
    name, revision = pinned(*pipeline)
    for part in PARTS:  # a tokenizer without its files would load, and read nothing
        find_part(name, revision, part)
    try:
        loaded: Any = StableDiffusionPipeline.from_pretrained(
            name, revision=revision, safety_checker=None, requires_safety_checker=False
        )
    except (OSError, ValueError) as error:
        raise ParameterError(
            f"{pipeline[0]!r} is no whole StableDiffusionPipeline ({brief(error)}); "
            f"expected {', '.join(PARTS)}; name another in the variant."
        ) from None
    loaded.scheduler = make_sampler(loaded.scheduler)
    scale, variant = values["scale"], values["variant"]
    upstream = read_manifest(stage_dir(scale, "03_latents"), verify=False)
    folder = new_folder(scale, "04_train", variant)
    num_parameters = sum(weight.numel() for weight in loaded.unet.parameters())
    source = {"pipeline": pipeline[0], "revision": revision or ""}
    with writing(folder):
        loaded.save_pretrained(folder / "pipeline", safe_serialization=True)
        card = {"variant": variant, **source, "license": ""}  # its authors' to state
        write_json(folder / "pipeline" / "card.json", card)
        log = pd.DataFrame(columns=["step", "loss", "validation_loss"])
        for file in (folder / "log.csv", folder.with_suffix(".csv")):
            log.to_csv(file, index=False)
    metrics = {name: values[name] for name in ("variant", "of", "seed")}
    metrics |= {"num_train_pictures": None, "parameters": num_parameters}
    write_json(folder / "metrics.json", metrics)
    facts = {
        "licenses": values["licenses"],
        "caption_source": values["caption_weights"] or values["caption_source"],
        "fraction": values["data_fraction"],
        "sources": values["train_sources"] or None,
        "num": values["num_works"],
        "shuffle_seed": None,
        "parameters": num_parameters,
        "published": source,
    }
    num = upstream["counts"]["out"]
    rejected = {"not in this variant": num}
    write_manifest(folder, "04_train", scale, variant, num, 0, rejected, facts)
    at = f", revision `{revision}`" if revision else ", a local folder"
    return (
        f"# 04 · Train\n\n`{variant}` was not trained here: it is the published "
        f"pipeline `{pipeline[0]}`{at}, with a UNet of {num_parameters:,} parameters. "
        "Its works and its licence are its authors' to state. It is measured as every "
        "row of the experiment is."
    )


def refuse_published(manifest: Mapping[str, Any]) -> None:
    """Stop where only a model that was trained here will do.

    Args:
        manifest: of stage 04.

    Raises:
        ParameterError: it is of a published pipeline.
    """
    if source := manifest["facts"].get("published"):
        raise ParameterError(
            f"{manifest['variant']} is the published {source['pipeline']}; expected a "
            "model that was trained here; name another variant."
        )
