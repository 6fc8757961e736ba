"""One denoising step in the paper's seven moves, for a batch or any part of one.

Everything random of a batch is drawn for the whole of it before it is split, so the
same numbers go to the same works however many processes and passes share the batch.
Source: ddpm, Eq. 14; mosaicml-diffusion, StableDiffusion.forward; sd3, §3.1.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from diffusers.training_utils import compute_density_for_timestep_sampling
from torch import Generator, Tensor
from torch.nn import Module
from torch.nn.functional import mse_loss

from commoncanvas.core.determinism import make_generator
from commoncanvas.core.errors import ParameterError


@dataclass(frozen=True)
class Draws:
    """All that is random of one batch; each field has one entry a work."""

    places: Tensor  # (batch,) int64, which works
    eps: Tensor  # (batch, channels, h, w), the posterior sample's
    is_dropped: Tensor  # (batch,) bool
    timesteps: Tensor  # (batch,) int64
    noise: Tensor  # as eps
    choices: Tensor | None = None  # (batch,) float64 in [0, 1): which caption

    def __len__(self) -> int:
        return len(self.places)

    def part(self, rows: slice | Tensor) -> "Draws":
        """Return the draws of some rows, a slice or (n,) places in the batch."""
        whole = {field.name: getattr(self, field.name) for field in fields(self)}
        part: dict[str, Any] = {
            name: None if tensor is None else tensor[rows]
            for name, tensor in whole.items()
        }
        return Draws(**part)


def make_draws(
    data: Any,
    places: Tensor,
    drop_prob: float,
    generator: Generator,
    num_timesteps: int = 1000,
    choices: Generator | None = None,
    weighting_scheme: str = "none",
    logit_mean: float = 0.0,
) -> Draws:
    """Draw posterior samples, dropped captions, timesteps and noise for a batch.

    Args:
        data: a `Latents`; only the shape of a latent is asked for.
        places: (batch,) int64, which works, all of one bucket.
        drop_prob: probability of the empty caption.
        generator: source of all but `choices`, in this order.
        num_timesteps: timesteps are 0 to this number less one.
        choices: a generator of its own for the caption of each work, so that another
            mixture of captions changes no noise; None reads the first.
        weighting_scheme: "none" draws every timestep as often, "logit_normal" those
            around the logistic of `logit_mean`: above 0 the noisier ones, at which a
            prompt decides most.
        logit_mean: of logit_normal, whose deviation is 1.
    """
    shape = (len(places), *data.shape_of(places))  # (batch, channels, h, w)
    eps = torch.randn(shape, generator=generator)
    is_dropped = torch.rand(len(places), generator=generator) < drop_prob
    timesteps = draw_timesteps(
        len(places), num_timesteps, generator, weighting_scheme, logit_mean
    )
    noise = torch.randn(shape, generator=generator)
    chosen = None
    if choices is not None:
        chosen = torch.rand(len(places), dtype=torch.float64, generator=choices)
    return Draws(places, eps, is_dropped, timesteps, noise, chosen)


def draw_timesteps(
    num: int,
    num_timesteps: int,
    generator: Generator,
    weighting_scheme: str,
    logit_mean: float,
) -> Tensor:
    """Draw (num,) int64 timesteps; see `make_draws`.

    Raises:
        ParameterError: the scheme is unknown.
    """
    if weighting_scheme == "none":
        return torch.randint(num_timesteps, (num,), generator=generator)
    if weighting_scheme == "logit_normal":
        share = compute_density_for_timestep_sampling(
            weighting_scheme, num, logit_mean, logit_std=1.0, generator=generator
        )
        return (share * num_timesteps).long().clamp(max=num_timesteps - 1)
    raise ParameterError(
        f"weighting_scheme is {weighting_scheme!r}; expected none or logit_normal; "
        "edit the train section of the profile."
    )


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


def sample_latents(data: Any, draws: Draws, scaling_factor: float) -> Tensor:
    """Return scaled samples of the works' posteriors, (n, channels, h, w) float32."""
    mean, std = data.posterior(draws.places)
    return (mean + std * draws.eps) * scaling_factor


def denoising_losses(
    unet: Module, noise_scheduler: Any, data: Any, draws: Draws, scaling_factor: float
) -> tuple[Tensor, Tensor]:
    """Compute every work's denoising loss.

    Args:
        unet: predicts from (latents, timesteps, prompt_embeds).
        data: a `Latents`.
        draws: of a batch, or of a part of it.
        scaling_factor: multiplies raw latents to about unit variance.

    Returns:
        (losses, latents): (n,) float32 mean squared errors, and the clean latents.
    """
    clean = sample_latents(data, draws, scaling_factor)  # (n, channels, h, w)
    states = data.prompt_embeds(draws.places, draws.is_dropped, draws.choices)
    device = next(unet.parameters()).device
    latents, noise, timesteps, prompt_embeds = (
        t.to(device, non_blocking=True)
        for t in (clean, draws.noise, draws.timesteps, states)
    )
    noisy_latents = noise_scheduler.add_noise(latents, noise, timesteps)
    # The UNet knows how noisy its input is, and what it shows: (n, tokens, width).
    model_pred = unet(noisy_latents, timesteps, prompt_embeds).sample
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
    generator: Generator,
) -> Tensor:
    """Draw one batch and return its mean denoising loss, a scalar."""
    num_timesteps = noise_scheduler.config.num_train_timesteps
    draws = make_draws(data, places, drop_prob, generator, num_timesteps)
    losses, _ = denoising_losses(unet, noise_scheduler, data, draws, scaling_factor)
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
    generator = make_generator(seed, "validation")
    batches = [places[places < num_works] for places in data.buckets]
    total = 0.0
    for places in filter(len, batches):
        loss = diffusion_loss(
            unet, noise_scheduler, data, places, scaling_factor, 0.0, generator
        )
        total += loss.item() * len(places)
    unet.train()
    return total / min(num_works, len(data))
