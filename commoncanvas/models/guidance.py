"""Denoising with classifier-free guidance, a step at a time.

The steps are those of diffusers' `StableDiffusionPipeline`; who draws whole pictures
for measurement calls `pipelines.draw_samples`.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def denoise(
    unet: Any,
    scheduler: Any,
    prompt_embeds: Tensor,
    noise: Tensor,
    guidance_scale: float,
    num_inference_steps: int,
) -> Iterator[tuple[Tensor, Any]]:
    """Yield (timestep, what the scheduler returns) of each step of one picture.

    The scheduler's `prev_sample` holds the latents after the step, and of DDIM its
    `pred_original_sample` the clean latents that the UNet expects.
    Source: ddim, Eq. 12; imagen, Eq. 2.

    Args:
        prompt_embeds: (1, tokens, width), of the prompt; or (2, tokens, width), the
            empty caption's before it, which guidance needs.
        noise: (1, channels, h/8, w/8), standard normal, on the UNet's device.
        guidance_scale: counts where there are two texts.
    """
    scheduler.set_timesteps(num_inference_steps, device=noise.device)
    latents = noise * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        noisy = torch.cat([latents] * len(prompt_embeds))
        noisy = scheduler.scale_model_input(noisy, timestep)
        pred = unet(noisy, timestep, encoder_hidden_states=prompt_embeds).sample
        if len(prompt_embeds) == 2:
            without, with_prompt = pred.chunk(2)
            # Further along the way from no prompt to this prompt.
            pred = without + guidance_scale * (with_prompt - without)
        step = scheduler.step(pred, timestep, latents)
        latents = step.prev_sample
        yield timestep, step
