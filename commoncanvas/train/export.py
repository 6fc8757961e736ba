"""What a training leaves: a pipeline in plain diffusers form, with its model card."""

from huggingface_hub import ModelCard, ModelCardData

from commoncanvas.core.errors import LicenseError
from commoncanvas.licenses.license import read_license
from commoncanvas.licenses.policies import combined_license


def model_card(variant, works, caption_source, num_parameters, recipe, text_encoder):
    """Write the card of a trained variant: data, licence, inherited parts, recipe.

    Args:
        variant: the row of the experiment.
        works: DataFrame with license, license_url, split and source of every work.
        caption_source: where the captions came from, or {source: weight}.
        num_parameters: of the UNet.
        recipe: training arguments.
        text_encoder: name of the frozen text encoder.

    Returns:
        A `huggingface_hub.ModelCard`; its licence is the one that the works' licences
        leave room for, share-alike and non-commercial terms carried through.
    """
    licenses = works[["license", "license_url"]].drop_duplicates()
    try:
        read = [read_license(*pair) for pair in licenses.itertuples(index=False)]
        spdx = combined_license(read).spdx.lower() or "other"
    except LicenseError:  # the captioned web is under software licences
        spdx = "other"
    if not isinstance(caption_source, str):
        weights = [f"{source} ({w:g})" for source, w in caption_source.items()]
        caption_source = " and ".join(weights)
    counts = works.groupby(["source", "license"], as_index=False).size()
    data = "\n".join(
        f"| {row.source} | {row.license} | {row.size_} |"
        for row in counts.rename(columns={"size": "size_"}).itertuples(index=False)
    )
    settings = "\n".join(f"| {name} | {value} |" for name, value in recipe.items())
    head = ModelCardData(
        license=spdx,
        library_name="diffusers",
        pipeline_tag="text-to-image",
        tags=["commoncanvas", "openly-licensed"],
    )
    return ModelCard(
        f"---\n{head.to_yaml()}\n---\n\n# CommonCanvas, replicated: {variant}\n\n"
        f"A UNet of {num_parameters:,} parameters trained from noise on {len(works):,} "
        f"works with {caption_source} captions.\n\n"
        "## Data\n\n| source | licence | works |\n|---|---|---|\n"
        f"{data}\n\n"
        "## What the licence does not cover\n\n"
        f"The text encoder ({text_encoder}), the VAE "
        "and the captioner were trained on other data, not on these works.\n\n"
        f"## Recipe\n\n| setting | value |\n|---|---|\n{settings}\n"
    )


def save_pipeline(pipeline, card, folder):
    """Save a pipeline that plain diffusers loads, with its card as README.md."""
    pipeline.save_pretrained(folder, safe_serialization=True)
    card.save(folder / "README.md")
