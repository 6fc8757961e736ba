"""What a training leaves: a pipeline in plain diffusers form, with its model card."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import ModelCard, ModelCardData

from commoncanvas.core.errors import LicenseError
from commoncanvas.core.files import write_json, writing
from commoncanvas.licenses.license import License
from commoncanvas.licenses.policies import combined_license

TEMPLATE = Path(__file__).with_name("card.md.jinja")


def card_facts(
    variant: str,
    works: pd.DataFrame,
    caption_source: str | Mapping[str, float],
    num_parameters: int,
    recipe: Mapping[str, Any],
    text_encoder: str,
) -> dict[str, Any]:
    """Gather what the card of a trained variant tells, as JSON.

    Args:
        variant: the row of the experiment.
        works: of `licenses_of`, every work trained on.
        caption_source: where the captions came from, or {source: weight}.
        num_parameters: of the UNet.
        recipe: the fields of a `TrainRecipe`.
        text_encoder: name of the frozen text encoder.

    Returns:
        These, with works as counts by source and licence, and `license`: the one that
        the works' licences allow, share-alike and non-commercial terms kept.
    """
    columns = ["license_slug", "license_version", "license_port"]
    found = works[columns].drop_duplicates().itertuples(index=False)
    try:
        every = [License.from_columns(*row) for row in found]
        spdx = combined_license(every).spdx.lower() or "other"
    except LicenseError:  # the captioned web is under software licences
        spdx = "other"
    captions = caption_source
    if not isinstance(captions, str):
        captions = " and ".join(f"{s} ({w:g})" for s, w in captions.items())
    counts = works.groupby(["source", "license"], as_index=False).size()
    return {
        "variant": variant,
        "num_parameters": num_parameters,
        "num_works": len(works),  # as many are credited
        "captions": captions,
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


def save_pipeline(pipeline: Any, facts: Mapping[str, Any], folder: Path) -> None:
    """Save a pipeline for plain diffusers, with card.json and its card, README.md."""
    with writing(folder):
        pipeline.save_pretrained(folder, safe_serialization=True)
        write_json(folder / "card.json", facts)
        model_card(facts).save(folder / "README.md")
