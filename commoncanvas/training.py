"""The training loop of stage 04: Stable Diffusion 2's recipe on precomputed latents.

Everything random is drawn from (seed, purpose, step), so a run that was killed and
resumed ends with the same bits as one that was not.
Source: mosaicml-diffusion, SD-2-base yamls.
"""

import math
import sys

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from tqdm import tqdm

from commoncanvas.checkpoints import work_folder, write_atomically
from commoncanvas.errors import ParameterError
from commoncanvas.seeds import make_generator


def make_noise_scheduler(prediction_type="epsilon"):
    """Return SD2's training noise schedule: 1,000 steps, `scaled_linear` betas."""
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        clip_sample=False,
    )


def make_unet(unet_config, latent_channels, sample_size, text_width, seed):
    """Build an untrained `UNet2DConditionModel`; the same seed, the same weights."""
    torch.manual_seed(seed)
    return UNet2DConditionModel(
        in_channels=latent_channels,
        out_channels=latent_channels,
        sample_size=sample_size,
        cross_attention_dim=text_width,
        **unet_config,
    )


def batch_places(num_works, batch_size, seed, step):
    """Return the places of one batch in the order of (seed, epoch, position).

    Every epoch is a fresh permutation; a batch may span two. The order depends on no
    worker, rank or earlier batch.

    Returns:
        (batch,) int64, 0 … num_works−1.
    """
    first = step * batch_size
    epochs = range(first // num_works, (first + batch_size - 1) // num_works + 1)
    orders = [
        torch.randperm(num_works, generator=make_generator(seed, "order", epoch))
        for epoch in epochs
    ]
    start = first - epochs[0] * num_works
    return torch.cat(orders)[start : start + batch_size]


def training_target(noise_scheduler, latents, noise, timesteps):
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


def diffusion_loss(
    unet,
    noise_scheduler,
    data,
    places,
    scaling_factor,
    drop_prob,
    generator,
    caption_generator=None,
):
    """Compute the denoising loss of one batch, in the paper's seven moves.

    Source: ddpm, Eq. 14; mosaicml-diffusion, StableDiffusion.forward.

    Args:
        unet: predicts from (latents, timesteps, prompt_embeds).
        noise_scheduler: from `make_noise_scheduler`.
        data: a `Latents`.
        places: (batch,) int64, which works.
        scaling_factor: multiplies raw latents to about unit variance.
        drop_prob: probability of the empty caption.
        generator: draws posterior sample, dropped captions, timesteps and noise.
        caption_generator: draws which of a work's captions is read, from a stream of
            its own: another mixture changes no noise. None takes the first.

    Returns:
        Scalar mean squared error.
    """
    mean, std = data.posterior(places)
    latents = (
        mean + std * torch.randn(mean.shape, generator=generator)
    ) * scaling_factor
    is_dropped = torch.rand(len(places), generator=generator) < drop_prob
    prompt_embeds = data.prompt_embeds(places, is_dropped, caption_generator)
    num_steps = noise_scheduler.config.num_train_timesteps
    timesteps = torch.randint(num_steps, (len(places),), generator=generator)
    noise = torch.randn(latents.shape, generator=generator)
    device = next(unet.parameters()).device
    latents, noise, timesteps, prompt_embeds = (
        t.to(device) for t in (latents, noise, timesteps, prompt_embeds)
    )
    noisy_latents = noise_scheduler.add_noise(latents, noise, timesteps)
    model_pred = unet(noisy_latents, timesteps, prompt_embeds).sample
    target = training_target(noise_scheduler, latents, noise, timesteps)
    return torch.nn.functional.mse_loss(model_pred.float(), target.float())


@torch.no_grad()
def validation_loss(unet, noise_scheduler, data, scaling_factor, seed, num_works=128):
    """Return the loss on held-out works; same works, noise, timesteps each time."""
    unet.eval()
    places = torch.arange(min(num_works, len(data)))
    generator = make_generator(seed, "validation")
    loss = diffusion_loss(
        unet, noise_scheduler, data, places, scaling_factor, 0.0, generator
    )
    unet.train()
    return loss.item()


def train(
    key,
    unet,
    data,
    held_out,
    *,
    seed,
    num_train_steps,
    train_batch_size,
    learning_rate,
    lr_warmup_steps,
    lr_schedule,
    weight_decay,
    caption_drop_prob,
    ema_fraction,
    ema_decay,
    prediction_type,
    scaling_factor,
    checkpoint_steps,
    mixed_precision="no",
    description="",
):
    """Train a UNet and return it with the averaged weights and its log.

    AdamW, warm-up, then `lr_schedule`; the moving average runs over the last
    `ema_fraction` of the steps only. Interrupted runs go on from the last checkpoint.
    Source: commoncanvas-cvpr, §5.1; mosaicml-diffusion, SD-2-base yamls.

    Args:
        key: names the work folder, from `key_of`.
        unet: an untrained UNet.
        data, held_out: `Latents` to train on and to measure on.
        num_train_steps, train_batch_size: optimiser steps, works a step.
        checkpoint_steps: steps between checkpoints and validations.

    Returns:
        (unet with averaged weights, log), log a list of dictionaries with step, loss
        (mean since the last entry), validation_loss, learning_rate and grad_norm.
    """
    accelerator = Accelerator(mixed_precision=mixed_precision)
    noise_scheduler = make_noise_scheduler(prediction_type)
    optimizer = torch.optim.AdamW(
        unet.parameters(), learning_rate, weight_decay=weight_decay
    )
    lr_scheduler = get_scheduler(
        lr_schedule,
        optimizer,
        num_warmup_steps=lr_warmup_steps,
        num_training_steps=num_train_steps,
    )
    unet, optimizer = accelerator.prepare(unet, optimizer)
    # 0.035 of 600 is 21.000000000000004 in floating point, and 21 steps are meant.
    ema_start = num_train_steps - math.ceil(round(ema_fraction * num_train_steps, 6))
    ema, log, first = None, [], 0
    path = work_folder(key) / "checkpoint.pt"
    if path.exists():
        state = torch.load(path, weights_only=True, map_location=accelerator.device)
        first, log = state["step"], state["log"]
        accelerator.unwrap_model(unet).load_state_dict(state["unet"])
        optimizer.load_state_dict(state["optimizer"])
        lr_scheduler.load_state_dict(state["lr_scheduler"])
        if state["ema"]:
            ema = EMAModel(unet.parameters(), decay=ema_decay)
            ema.load_state_dict(state["ema"])
    recent, norms = [], []
    bar = tqdm(
        total=num_train_steps * train_batch_size,
        initial=first * train_batch_size,
        desc=description,
        unit="img",
        file=sys.stderr,
    )
    unet.train()
    for step in range(first, num_train_steps):
        places = batch_places(len(data), train_batch_size, seed, step)
        generator = make_generator(seed, "train", step)
        loss = diffusion_loss(
            unet,
            noise_scheduler,
            data,
            places,
            scaling_factor,
            caption_drop_prob,
            generator,
            make_generator(seed, "captions", step),
        )
        if not torch.isfinite(loss):
            raise ParameterError(
                f"the loss is {loss.item()} at step {step}, works "
                f"{places[:4].tolist()}; expected a number; lower train.learning_rate."
            )
        optimizer.zero_grad()
        accelerator.backward(loss)
        norms.append(_grad_norm(unet))
        optimizer.step()
        lr_scheduler.step()
        if step >= ema_start:
            ema = ema or EMAModel(unet.parameters(), decay=ema_decay)
            ema.step(unet.parameters())
        recent.append(loss.item())
        bar.update(train_batch_size)
        done = step + 1
        if done % checkpoint_steps == 0 or done == num_train_steps:
            held = validation_loss(
                unet, noise_scheduler, held_out, scaling_factor, seed
            )
            log.append(
                {
                    "step": done,
                    "loss": float(np.mean(recent)),
                    "validation_loss": held,
                    "learning_rate": lr_scheduler.get_last_lr()[0],
                    "grad_norm": float(np.mean(norms)),
                }
            )
            bar.set_postfix(loss=f"{log[-1]['loss']:.4f}", held_out=f"{held:.4f}")
            recent, norms = [], []
            state = {
                "step": done,
                "log": log,
                "optimizer": optimizer.state_dict(),
                "unet": accelerator.unwrap_model(unet).state_dict(),
                "lr_scheduler": lr_scheduler.state_dict(),
                "ema": ema.state_dict() if ema else None,
            }
            write_atomically(path, lambda part, state=state: torch.save(state, part))
    bar.close()
    if ema:
        ema.copy_to(unet.parameters())
    return accelerator.unwrap_model(unet).eval(), log


def _grad_norm(model):
    """Return the gradient's norm, read but not clipped (the recipe clips nothing)."""
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    return torch.stack(norms).norm().item()
