"""Diffusion on one work, for notebook 04: noised, predicted, drawn step by step.

Nothing here trains. What it computes is what `denoising` and the sampler compute, a
step at a time, so that a page can show it. Tensors named latents are scaled, as the
UNet sees them: (n, channels, h/8, w/8) float32.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from commoncanvas.analysis.estimates import Estimate, mean_interval
from commoncanvas.core.determinism import make_generator
from commoncanvas.core.draws import Draws
from commoncanvas.core.errors import ParameterError
from commoncanvas.latents.reader import Latents
from commoncanvas.licenses.credit import credit_line
from commoncanvas.models import guidance
from commoncanvas.models.encoders import decode_latents
from commoncanvas.models.unets import make_unet, start_unet
from commoncanvas.train.denoising import (
    Part,
    draw_timesteps,
    read_part,
    sample_latents,
    training_target,
)
from commoncanvas.train.recipe import TrainSpec

NUM_LOOKED_AT = 4096  # held-out works among which the example is looked for
BATCH_SIZE = 32  # works a forward pass


@dataclass(frozen=True)
class Example:
    """One held-out work with what training would read of it.

    part: of this work alone; its noise is drawn for row 0.
    """

    key: str
    caption: str
    credit: str  # title, author, licence
    part: Part


def choose_example(
    data: Latents, licenses_folder: Path, sources: Sequence[str] = ()
) -> Example:
    """Return the first work, in `data`'s random order, of its commonest shape.

    Args:
        data: the held-out works.
        licenses_folder: of stage 01, for the credit.
        sources: of these sets if there is one, so that it is of the kind that a
            variant was trained on; else of any.
    """
    places = max(data.buckets, key=len)[:NUM_LOOKED_AT]
    keys = data.keys_at(places.numpy())
    likely = [i for i, key in enumerate(keys) if key.partition("/")[0] in sources]
    first = likely[0] if likely else 0
    place = places[[first]]
    mean, std = data.posterior(place)
    states = data.prompt_embeds(place, torch.tensor([False]))
    (caption,) = data.texts(place.numpy())
    part = Part(place, torch.zeros(1, dtype=torch.int64), mean, std, states)
    credit = credit_line(licenses_folder, keys[first])
    return Example(keys[first], caption, credit, part)


def first_unet(spec: TrainSpec) -> Any:
    """Build the UNet with which a spec's training begins, as `launch.fit` does.

    Raises:
        ParameterError: the spec has no latent shape, or its warm start does not fit.
    """
    if spec.latent_shape is None:
        raise ParameterError(
            "a spec without latent_shape was given; expected one; notebook 04 sets it."
        )
    channels, side, _ = spec.latent_shape
    seed = spec.recipe.seed
    unet = make_unet(spec.unet_config, channels, side, spec.text_width, seed)
    if spec.init_from:
        start_unet(unet, spec.init_from)
    return unet.eval()


def levels(noise_scheduler: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return what is left of the signal, and the noise, at every timestep.

    Returns:
        The factors of the clean latents and of the noise, each (timesteps,) float64
        from 0 to 1; their squares add up to 1. Source: ddpm, Eq. 4.
    """
    kept = noise_scheduler.alphas_cumprod.double().numpy()
    return np.sqrt(kept), np.sqrt(1 - kept)


def noised(
    part: Part,
    noise_scheduler: Any,
    timesteps: Sequence[int],
    draws: Draws,
    scaling_factor: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Noise one work at several timesteps, each time with the same noise.

    Args:
        part: of one work.
        draws: the latents and the noise are those that `denoising_losses` would draw.

    Returns:
        (noisy latents, clean latents, noise), each (timesteps, channels, h/8, w/8).
    """
    num = len(timesteps)
    latents = sample_latents(part, draws, scaling_factor).expand(num, -1, -1, -1)
    noise = draws.normal("noise", part.rows, part.mean.shape[1:]).expand_as(latents)
    at = torch.tensor(timesteps)
    return noise_scheduler.add_noise(latents, noise, at), latents, noise


def clean_from(
    noise_scheduler: Any, model_pred: Tensor, noisy_latents: Tensor, timesteps: Tensor
) -> Tensor:
    """Turn what a UNet predicts, whatever its `prediction_type`, into clean latents.

    Source: ddim, Eq. 9; for v_prediction its definition in diffusers.

    Args:
        model_pred, noisy_latents: (n, channels, h/8, w/8), of (n,) timesteps.
    """
    kept = noise_scheduler.alphas_cumprod.to(model_pred.device)[timesteps]
    kept = kept.view(-1, 1, 1, 1)
    signal, noise = kept.sqrt(), (1 - kept).sqrt()
    kind = noise_scheduler.config.prediction_type
    if kind == "epsilon":
        return (noisy_latents - noise * model_pred) / signal
    if kind == "v_prediction":
        return signal * noisy_latents - noise * model_pred
    return model_pred


@torch.no_grad()
def predict(
    unet: Any,
    noise_scheduler: Any,
    part: Part,
    timesteps: Sequence[int],
    draws: Draws,
    scaling_factor: float,
) -> tuple[Tensor, list[float]]:
    """Let a UNet predict one work from its noised versions; see `noised`.

    It computes where the UNet is.

    Returns:
        (predicted clean latents, losses), of each timestep: (timesteps, channels, h/8,
        w/8) on the CPU, and the mean squared errors that training would have.
    """
    noisy, latents, noise = noised(
        part, noise_scheduler, timesteps, draws, scaling_factor
    )
    device, at = next(unet.parameters()).device, torch.tensor(timesteps)
    states = part.prompt_embeds.expand(len(timesteps), -1, -1).to(device)
    pred = unet(noisy.to(device), at.to(device), states).sample.float().cpu()
    target = training_target(noise_scheduler, latents, noise, at)
    losses = (pred - target).square().flatten(1).mean(1).tolist()
    return clean_from(noise_scheduler, pred, noisy, at), losses


@torch.no_grad()
def losses_by_timestep(
    unet: Any,
    noise_scheduler: Any,
    data: Any,
    timesteps: Sequence[int],
    draws: Draws,
    scaling_factor: float,
    num_works: int = 64,
) -> list[Estimate]:
    """Return the loss at each timestep, the mean over some works with its interval.

    Args:
        data: the held-out `Latents`; the first works of their commonest shape are
            taken, with the same noise at every timestep and for every UNet.
        num_works: at most; fewer than two have no interval, and give nothing.
    """
    places = max(data.buckets, key=len)[:num_works]
    if len(places) < 2:
        return []
    part = read_part(data, places, torch.arange(len(places)), 0.0, draws)
    latents = sample_latents(part, draws, scaling_factor)
    noise = draws.normal("noise", part.rows, latents.shape[1:])
    device = next(unet.parameters()).device
    found = []
    for timestep in timesteps:
        at = torch.full((len(places),), timestep)
        noisy = noise_scheduler.add_noise(latents, noise, at)
        pred = [
            unet(*(t[some].to(device) for t in (noisy, at, part.prompt_embeds))).sample
            for some in torch.arange(len(places)).split(BATCH_SIZE)
        ]
        target = training_target(noise_scheduler, latents, noise, at)
        error = (torch.cat(pred).float().cpu() - target).square()
        found.append(mean_interval(error.flatten(1).mean(1).numpy()))
    return found


def drawn_timesteps(
    num_timesteps: int, weighting_scheme: str, logit_mean: float, seed: int
) -> np.ndarray:
    """Draw timesteps as training does, (65536,) int64: enough to see how often."""
    draws = Draws(seed, "lesson")
    rows = torch.arange(2**16)
    return draw_timesteps(
        rows, num_timesteps, draws, weighting_scheme, logit_mean
    ).numpy()


@torch.no_grad()
def denoise(
    pipeline: Any,
    prompt: str,
    guidance_scale: float,
    num_inference_steps: int,
    seed: int,
) -> tuple[list[int], np.ndarray]:
    """Draw one prompt, and return at every step the picture that the UNet expects.

    The last is the sample that `draw_samples` gives for this prompt at place 0.
    Source: ddim, Eq. 12 (its "predicted x0"); imagen, Eq. 2.

    Returns:
        (timesteps, pictures): those of the steps, falling, and (steps, h, w, 3) uint8.
    """
    unet, device = pipeline.unet, pipeline.device
    edge, channels = unet.config.sample_size, unet.config.in_channels
    generator = make_generator(seed, "sample", 0)
    noise = torch.randn((1, channels, edge, edge), generator=generator).to(device)
    with_prompt, without = pipeline.encode_prompt(prompt, device, 1, True)
    states = torch.cat([without, with_prompt])
    how = states, noise, guidance_scale, num_inference_steps
    timesteps, steps = zip(
        *guidance.denoise(unet, pipeline.scheduler, *how), strict=True
    )
    expected = [step.pred_original_sample for step in steps]
    expected[-1] = steps[-1].prev_sample  # decoded, less than one step of noise away
    scale = pipeline.vae.config.scaling_factor
    pictures = decode_latents(pipeline.vae, torch.cat(expected) / scale)
    return [int(timestep) for timestep in timesteps], pictures


def spread(num: int, most: int) -> list[int]:
    """Return at most `most` of the places 0 to `num` − 1, evenly, with both ends."""
    return (
        np.unique(np.linspace(0, num - 1, min(num, most)).round()).astype(int).tolist()
    )


def unet_levels(config: Mapping[str, Any]) -> pd.DataFrame:
    """Return the UNet's blocks from its input to its output, a row each.

    Args:
        config: of a `UNet2DConditionModel`.

    Returns:
        columns: block, resolution (its edge in the latent), channels, layers, and
        whether it attends to the caption (cross-attention).
    """
    widths, down = config["block_out_channels"], config["down_block_types"]
    up, layers = config["up_block_types"], config["layers_per_block"]
    each = [layers] * len(down) if isinstance(layers, int) else list(layers)
    edge = config["sample_size"]
    edges = [-(-edge // 2**level) for level in range(len(down))]
    rows: list[tuple[Any, ...]] = [
        (f"down {i + 1}", edges[i], widths[i], each[i], "CrossAttn" in kind)
        for i, kind in enumerate(down)
    ]
    if middle := config["mid_block_type"]:
        rows.append(("middle", edges[-1], widths[-1], 2, "CrossAttn" in middle))
    for i, kind in enumerate(up):
        level = len(down) - 1 - i
        attends = "CrossAttn" in kind
        rows.append(
            (f"up {i + 1}", edges[level], widths[level], each[level] + 1, attends)
        )
    table = pd.DataFrame(
        rows, columns=["block", "resolution", "channels", "layers", "cross-attention"]
    )
    table["resolution"] = [f"{edge} × {edge}" for edge in table["resolution"]]
    is_there = table["cross-attention"].map({True: "yes", False: "no"})
    return table.assign(**{"cross-attention": is_there})
