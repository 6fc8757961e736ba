"""The diffusers pipeline: its noise schedule, its assembly, and drawing with it.

Training takes its schedule from here, so that sampling has the same.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from tqdm import tqdm

from commoncanvas.core.determinism import make_generator
from commoncanvas.models.weights import find_part, only_errors

with only_errors():  # it warns that torchvision, which nothing needs, is missing
    from diffusers import StableDiffusionPipeline

# The noise schedule of stabilityai/stable-diffusion-2-base.
SD2 = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
}


def make_noise_scheduler(
    prediction_type: str = "epsilon", folder: str = "", revision: str = ""
) -> DDPMScheduler:
    """Return the noise schedule of training.

    Args:
        prediction_type: what the UNet predicts.
        folder: pipeline whose schedule is taken, a folder or a Hub id; "" takes `SD2`.
        revision: its commit on the Hub.

    Raises:
        ParameterError: the folder holds no schedule, or a Hub id has no revision.
    """
    if not folder:
        return DDPMScheduler(prediction_type=prediction_type, **SD2)
    name, words = find_part(folder, revision, "scheduler")
    return DDPMScheduler.from_pretrained(name, prediction_type=prediction_type, **words)


def make_sampler(noise_scheduler: Any) -> DDIMScheduler:
    """Return the DDIM sampler of a noise schedule. Source: ddim."""
    return DDIMScheduler.from_config(
        noise_scheduler.config,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def make_pipeline(
    unet: torch.nn.Module,
    vae: torch.nn.Module,
    tokenizer: Any,
    text_encoder: torch.nn.Module,
    noise_scheduler: DDPMScheduler,
) -> StableDiffusionPipeline:
    """Put the parts together as a pipeline that samples with DDIM."""
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


def draw_samples(
    pipeline: Any,
    prompts: Sequence[str],
    guidance_scale: float,
    num_inference_steps: int,
    seed: int,
    batch_size: int,
    description: str = "samples",
) -> np.ndarray:
    """Draw (n, h, w, 3) uint8 pixels; sample i depends on `seed`, i and its prompt.

    Args:
        pipeline: a `StableDiffusionPipeline`.
        guidance_scale: 1 means no guidance. Source: imagen, Eq. 2.
        batch_size: prompts a call; changes rounding at most.
        description: of the progress bar.
    """
    pixels = []
    for first in tqdm(range(0, len(prompts), batch_size), description, file=sys.stderr):
        batch = prompts[first : first + batch_size]
        pixels.append(
            draw_batch(
                pipeline, batch, first, guidance_scale, num_inference_steps, seed
            )
        )
    return np.concatenate(pixels)


def draw_batch(
    pipeline: Any,
    prompts: Sequence[str],
    first: int,
    guidance_scale: float,
    num_inference_steps: int,
    seed: int,
) -> np.ndarray:
    """Draw the samples `first`, `first` + 1, … in one call; see `draw_samples`."""
    pipeline.set_progress_bar_config(disable=True)
    places = range(first, first + len(prompts))
    with torch.no_grad():
        images = pipeline(
            list(prompts),
            guidance_scale=guidance_scale,
            generator=[make_generator(seed, "sample", i) for i in places],
            num_inference_steps=num_inference_steps,
            output_type="np",
        ).images
    return np.rint(images * 255).astype(np.uint8)
