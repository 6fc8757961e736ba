"""One denoising step in the paper's seven moves, for a batch or any part of one.

Everything random of a work is drawn by its place in the batch (`core.draws`), so the
same numbers go to the same works however many processes and passes share the batch.
Source: ddpm, Eq. 14; mosaicml-diffusion, StableDiffusion.forward; sd3, §3.1.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import mse_loss

from commoncanvas.core.draws import Draws
from commoncanvas.core.errors import ParameterError


@dataclass(frozen=True)
class Part:
    """Some works of a batch, as read: all that a forward pass takes but its noise."""

    places: Tensor  # (n,) int64, which works
    rows: Tensor  # (n,) int64, their places in the batch
    mean: Tensor  # (n, channels, h, w) float32, the posterior's
    std: Tensor  # as mean
    prompt_embeds: Tensor  # (n, tokens, width) float32

    def moved(self, move: Callable[[Tensor], Tensor]) -> "Part":
        """Return it with each tensor moved, say to a device."""
        return Part(**{f.name: move(getattr(self, f.name)) for f in fields(self)})


def read_part(
    data: Any, places: Tensor, rows: Tensor, drop_prob: float, draws: Draws
) -> Part:
    """Read some works of a batch, with captions dropped and chosen as drawn.

    Args:
        data: a `Latents`.
        places: (n,) int64, which works, all of one bucket.
        rows: (n,) int64, their places in the batch.
        drop_prob: probability of the empty caption.
        draws: of the batch; the caption of each work is another draw, so that another
            mixture of captions changes no noise.
    """
    is_dropped = draws.uniform("dropped", rows) < drop_prob
    choices = draws.uniform("captions", rows)
    states = data.prompt_embeds(places, is_dropped, choices)
    mean, std = data.posterior(places)
    return Part(places, rows, mean, std, states)


def draw_timesteps(
    rows: Tensor,
    num_timesteps: int,
    draws: Draws,
    weighting_scheme: str = "none",
    logit_mean: float = 0.0,
) -> Tensor:
    """Draw a timestep for each work, (n,) int64 from 0 to `num_timesteps` less one.

    Args:
        rows: (n,) int64, the works' places in the batch.
        draws: of the batch.
        weighting_scheme: "none" draws every timestep as often, "logit_normal" those
            around the logistic of `logit_mean`: above 0 the noisier ones, at which a
            prompt decides most.
        logit_mean: of logit_normal, whose deviation is 1.

    Raises:
        ParameterError: the scheme is unknown.
    """
    if weighting_scheme == "none":
        share = draws.uniform("timesteps", rows)
    elif weighting_scheme == "logit_normal":
        share = torch.sigmoid(draws.normal("timesteps", rows, ()) + logit_mean)
    else:
        raise ParameterError(
            f"weighting_scheme is {weighting_scheme!r}; expected none or logit_normal; "
            "edit the train section of the profile."
        )
    return (share * num_timesteps).long().clamp(max=num_timesteps - 1)


def training_target(
    noise_scheduler: Any, latents: Tensor, noise: Tensor, timesteps: Tensor
) -> Tensor:
    """Return what the UNet must predict for the scheduler's `prediction_type`."""
    kind = noise_scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        return noise_scheduler.get_velocity(latents, noise, timesteps)
    if kind == "sample":
        return latents
    raise ParameterError(
        f"prediction_type is {kind!r}; expected epsilon, v_prediction or sample; edit "
        "the train section of the profile."
    )


def sample_latents(part: Part, draws: Draws, scaling_factor: float) -> Tensor:
    """Return scaled samples of the works' posteriors, (n, channels, h, w) float32."""
    eps = draws.normal("posterior", part.rows, part.mean.shape[1:])
    return (part.mean + part.std * eps) * scaling_factor


def denoising_losses(
    unet: Module,
    noise_scheduler: Any,
    part: Part,
    draws: Draws,
    scaling_factor: float,
    weighting_scheme: str = "none",
    logit_mean: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Compute every work's denoising loss, on the UNet's device, without a wait for it.

    Args:
        unet: predicts from (latents, timesteps, prompt_embeds).
        part: a batch, or a part of it.
        draws: of the batch.
        scaling_factor: multiplies raw latents to about unit variance.
        weighting_scheme, logit_mean: see `draw_timesteps`.

    Returns:
        (losses, latents): (n,) float32 mean squared errors, and the clean latents.
    """
    device = next(unet.parameters()).device
    part = part.moved(lambda tensor: tensor.to(device, non_blocking=True))
    latents = sample_latents(part, draws, scaling_factor)  # (n, channels, h, w)
    num_timesteps = noise_scheduler.config.num_train_timesteps
    timesteps = draw_timesteps(
        part.rows, num_timesteps, draws, weighting_scheme, logit_mean
    )
    noise = draws.normal("noise", part.rows, latents.shape[1:])
    noisy_latents = noise_scheduler.add_noise(latents, noise, timesteps)
    # The UNet knows how noisy its input is, and what it shows: (n, tokens, width).
    model_pred = unet(noisy_latents, timesteps, part.prompt_embeds).sample
    target = training_target(noise_scheduler, latents, noise, timesteps)
    # In float32, since squares of small errors vanish in half precision.
    error = mse_loss(model_pred.float(), target.float(), reduction="none")
    # One mean a work, so that works of any number of parts add up to their batch's.
    return error.flatten(1).mean(1), latents  # (n, channels · h · w) to (n,)


def diffusion_loss(
    unet: Module,
    noise_scheduler: Any,
    data: Any,
    places: Tensor,
    scaling_factor: float,
    drop_prob: float,
    draws: Draws,
) -> Tensor:
    """Read one batch and return its mean denoising loss, a scalar."""
    part = read_part(data, places, torch.arange(len(places)), drop_prob, draws)
    losses, _ = denoising_losses(unet, noise_scheduler, part, draws, scaling_factor)
    return losses.mean()


@torch.no_grad()
def validation_loss(
    unet: Module,
    noise_scheduler: Any,
    data: Any,
    scaling_factor: float,
    seed: int,
    num_works: int = 128,
) -> float:
    """Return the loss on held-out works; same works, noise, timesteps each time.

    It is the mean over the first `num_works`, whatever their buckets.
    """
    unet.eval()
    batches = [places[places < num_works] for places in data.buckets]
    total = 0.0
    for number, places in enumerate(batches):
        if len(places):
            draws = Draws(seed, "validation", number)
            loss = diffusion_loss(
                unet, noise_scheduler, data, places, scaling_factor, 0.0, draws
            )
            total += loss.item() * len(places)
    unet.train()
    return total / min(num_works, len(data))
