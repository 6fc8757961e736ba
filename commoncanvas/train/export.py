"""What a training leaves: a pipeline in plain diffusers form, with its model card."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import ModelCard, ModelCardData

from commoncanvas.core.errors import LicenseError
from commoncanvas.core.files import write_json, writing
from commoncanvas.licenses.ancestry import LICENSE, ancestors
from commoncanvas.licenses.license import License, read_license
from commoncanvas.licenses.policies import combined_license
from commoncanvas.models import encoders, pipelines

TEMPLATE = Path(__file__).with_name("card.md.jinja")


def card_facts(
    variant: str,
    works: pd.DataFrame,
    caption_source: str | Mapping[str, float],
    num_parameters: int,
    recipe: Mapping[str, Any],
    text_encoder: str,
    ancestor: Mapping[str, Any] | None = None,
    is_shuffled: bool = False,
) -> dict[str, Any]:
    """Gather what the card of a trained variant tells, as JSON.

    Args:
        variant: the row of the experiment.
        works: of `learnt_from`, every work that the model learnt from.
        caption_source: where the captions came from, or {source: weight}.
        num_parameters: of the UNet.
        recipe: the fields of a `TrainRecipe`.
        text_encoder: name of the frozen text encoder.
        ancestor: of `read_ancestor`, the model that it started from.
        is_shuffled: whether each work had the captions of another.

    Returns:
        These, with works as counts by source and licence, its ancestors, and `license`:
        the one that the licences of all works and of ancestors of unknown works allow,
        share-alike and non-commercial terms kept.
    """
    found = works[LICENSE].drop_duplicates().itertuples(index=False)
    started = list(ancestors({"ancestor": ancestor}))
    try:
        every = [License.from_columns(*row) for row in found]
        every += [read_license(a["license"], "") for a in started if a["license"]]
        spdx = combined_license(every).spdx.lower() or "other"
    except LicenseError:  # the captioned web is under software licences
        spdx = "other"
    captions = caption_source
    if not isinstance(captions, str):
        captions = " and ".join(f"{s} ({w:g})" for s, w in captions.items())
    counts = works.groupby(["source", "license"], as_index=False).size()
    # The first row is the model's own.
    inherited = int((works["model"] != works["model"].iloc[0]).sum()) if started else 0
    return {
        "variant": variant,
        "num_parameters": num_parameters,
        "num_works": len(works),  # as many are credited
        "num_own_works": len(works) - inherited,
        "ancestors": [
            {name: one[name] for name in ("model", "num_works", "license")}
            for one in started
        ],
        "captions": captions,
        "shuffled": is_shuffled,
        "works": counts.rename(columns={"size": "works"}).to_dict("records"),
        "license": spdx,
        "text_encoder": text_encoder,
        "inherited": ["text encoder", "VAE", "captioner"],  # not trained on the works
        "recipe": dict(recipe),
    }


def model_card(facts: Mapping[str, Any]) -> ModelCard:
    """Write the card of `card_facts`: data, licence, inherited parts, recipe."""
    head = ModelCardData(
        license=facts["license"],
        library_name="diffusers",
        pipeline_tag="text-to-image",
        tags=["commoncanvas", "openly-licensed"],
    )
    return ModelCard.from_template(head, template_path=str(TEMPLATE), **facts)


def make_pipeline(
    unet: Any, vae: Any, facts: Mapping[str, Any], noise_scheduler: Any
) -> Any:
    """Put a UNet together with the parts that stage 03 encoded with.

    Args:
        facts: of stage 03's manifest, which names the text encoder.
    """
    name, revision = facts["text_encoder"]
    reader = encoders.load_text_encoder(name, facts["text"][0], revision)
    return pipelines.make_pipeline(unet, vae, *reader, noise_scheduler)


def write(
    folder: Path,
    pipeline: Any,
    facts: Mapping[str, Any],
    works: pd.DataFrame,
    curve: pd.DataFrame,
) -> None:
    """Write a trained variant: `pipeline`, `works.parquet` and `log.csv`.

    Args:
        facts: of `card_facts`.
        works: every work that it learnt from, as for `card_facts`.
        curve: its log, a row an entry.
    """
    save_pipeline(pipeline, facts, folder / "pipeline")
    curve.to_csv(folder / "log.csv", index=False, float_format="%.8g")
    works.to_parquet(folder / "works.parquet", index=False)


def save_pipeline(pipeline: Any, facts: Mapping[str, Any], folder: Path) -> None:
    """Save a pipeline for plain diffusers, with card.json and its card, README.md."""
    with writing(folder):
        pipeline.save_pretrained(folder, safe_serialization=True)
        write_json(folder / "card.json", facts)
        model_card(facts).save(folder / "README.md")
