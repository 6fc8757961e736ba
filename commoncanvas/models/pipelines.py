"""The diffusers pipeline: its noise schedule, its assembly, and drawing with it.

Training takes its schedule from here, so that sampling has the same.
"""

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from tqdm import tqdm

from commoncanvas.core.determinism import make_generator
from commoncanvas.core.errors import ParameterError, PictureError
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


def load_pipeline(folder: Path | str, dtype: str = "float32") -> Any:
    """Load an exported pipeline to draw with, once a process, on a GPU if there is one.

    There its convolutions run with the channels last, and its VAE decodes one picture
    at a time: 64 of 512 pixels together take 17 GB a layer.

    Args:
        dtype: "float32", or "float16" for half the time and memory of a GPU.

    Raises:
        ParameterError: an unknown dtype, or float16 without a GPU.
    """
    return _load_pipeline(str(folder), dtype)


@functools.cache
def _load_pipeline(folder: str, dtype: str) -> Any:
    has_gpu = torch.cuda.is_available()
    known = ("float32", "float16") if has_gpu else ("float32",)
    if dtype not in known:
        raise ParameterError(
            f"sample_dtype is {dtype!r}; expected {' or '.join(known)} "
            f"{'with' if has_gpu else 'without'} a GPU; edit the profile."
        )
    pipeline: Any = StableDiffusionPipeline.from_pretrained(
        folder, dtype=getattr(torch, dtype)
    )
    if has_gpu:
        pipeline.to("cuda")
        pipeline.unet.to(memory_format=torch.channels_last)
        pipeline.vae.enable_slicing()
    return pipeline


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
    """Draw the samples `first`, `first` + 1, … in one call; see `draw_samples`.

    The noise is drawn on the CPU in float32, whatever draws the pictures.

    Raises:
        PictureError: a picture is not finite, as half precision may leave it.
    """
    pipeline.set_progress_bar_config(disable=True)
    places = range(first, first + len(prompts))
    generators = [make_generator(seed, "sample", i) for i in places]
    noise = {}
    if getattr(pipeline, "dtype", torch.float32) != torch.float32:
        edge = pipeline.unet.config.sample_size
        shape = (1, pipeline.unet.config.in_channels, edge, edge)
        drawn = [torch.randn(shape, generator=one) for one in generators]
        noise["latents"] = torch.cat(drawn).to(pipeline.dtype)
    with torch.no_grad():
        images = pipeline(
            list(prompts),
            guidance_scale=guidance_scale,
            generator=generators,
            num_inference_steps=num_inference_steps,
            output_type="np",
            **noise,
        ).images
    if not np.isfinite(images).all():
        raise PictureError(
            f"a sample of {prompts[0]!r} or the {len(prompts) - 1} prompts after it is "
            "not finite; expected numbers; set `sample_dtype: float32` in the profile."
        )
    return np.rint(images * 255).astype(np.uint8)
