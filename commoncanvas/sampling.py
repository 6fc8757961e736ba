"""Pictures from a trained UNet: the exported pipeline, its card, its samples."""

import sys

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from huggingface_hub import ModelCard, ModelCardData
from tqdm import tqdm

from commoncanvas.errors import LicenseError
from commoncanvas.licenses import read_license
from commoncanvas.policies import combined_license
from commoncanvas.schedules import make_sampler
from commoncanvas.seeds import make_generator


def make_pipeline(unet, vae, tokenizer, text_encoder, noise_scheduler):
    """Put the parts together as a `StableDiffusionPipeline` that samples with DDIM."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=make_sampler(noise_scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


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


def draw_samples(
    pipeline,
    prompts,
    guidance_scale,
    num_inference_steps,
    seed,
    batch_size,
    description="samples",
):
    """Draw one picture a prompt; sample i depends on `seed` and i alone.

    Args:
        pipeline: a `StableDiffusionPipeline`.
        prompts: texts.
        guidance_scale: 1 means no guidance. Source: imagen, Eq. 2.
        num_inference_steps: DDIM steps.
        seed: of the starting noise, one generator a sample.
        batch_size: prompts a call; changes rounding at most.

    Returns:
        (n, h, w, 3) uint8 pixels.
    """
    pipeline.set_progress_bar_config(disable=True)
    pixels = []
    for i in tqdm(range(0, len(prompts), batch_size), description, file=sys.stderr):
        batch = list(prompts[i : i + batch_size])
        generators = [make_generator(seed, "sample", i + j) for j in range(len(batch))]
        with torch.no_grad():
            images = pipeline(
                batch,
                guidance_scale=guidance_scale,
                generator=generators,
                num_inference_steps=num_inference_steps,
                output_type="np",
            ).images
        pixels.append(np.rint(images * 255).astype(np.uint8))
    return np.concatenate(pixels)
