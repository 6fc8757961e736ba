"""The training loop of stage 04: Stable Diffusion 2's recipe on precomputed latents.

Everything random is drawn from (seed, purpose, step), so a run that was killed and
resumed ends with the same bits as one that was not, and several processes see the works
in the order of one. Source: mosaicml-diffusion, SD-2-base yamls.
"""

import math
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from tqdm import tqdm

from commoncanvas.core.determinism import make_generator
from commoncanvas.core.errors import EngineError, ParameterError
from commoncanvas.core.keys import work_folder
from commoncanvas.models.pipelines import make_noise_scheduler
from commoncanvas.train.denoising import (
    Draws,
    denoising_losses,
    make_draws,
    validation_loss,
)
from commoncanvas.train.order import batch_places
from commoncanvas.train.recipe import TrainRecipe
from commoncanvas.train.snapshots import newest_snapshot
from commoncanvas.train.state import TrainState


def ema_start(num_train_steps: int, ema_fraction: float) -> int:
    """Return the first step whose weights are averaged."""
    # 0.035 of 600 is 21.000000000000004 in floating point, and 21 steps are meant.
    return num_train_steps - math.ceil(round(ema_fraction * num_train_steps, 6))


def check_finite(
    losses: torch.Tensor, places: torch.Tensor, data: Any, step: int
) -> None:
    """Stop if a loss is no number.

    Raises:
        ParameterError: names the step and the works.
    """
    if torch.isfinite(losses).all():
        return
    bad = (~torch.isfinite(losses)).nonzero()[:, 0].tolist()
    keys = [data.keys[places[i]] for i in bad]
    more = f" and {len(keys) - 4} more" if len(keys) > 4 else ""
    raise ParameterError(
        f"the loss is {losses[bad[0]].item()} at step {step} for "
        f"{', '.join(keys[:4])}{more}; expected a number; look at these latents, or "
        "lower train.learning_rate."
    )


def split(
    draws: Draws, process_index: int, num_processes: int, micro_batch_size: int
) -> list[Draws]:
    """Return the parts of a batch that one process does, one forward pass each."""
    rows = torch.arange(len(draws)).tensor_split(num_processes)[process_index]
    return [draws.part(part) for part in rows.split(micro_batch_size)]


def _accelerator(mixed_precision: str) -> Accelerator:
    """Return this process's accelerator, checked to count all processes."""
    # Without `cpu`, accelerate takes each process on a CPU for the only one.
    is_cpu = not torch.cuda.is_available()
    accelerator = Accelerator(cpu=is_cpu, mixed_precision=mixed_precision)
    if (num := int(os.environ.get("WORLD_SIZE", 1))) != accelerator.num_processes:
        raise EngineError(
            f"{num} processes were started, and accelerate counts "
            f"{accelerator.num_processes}; each would train alone. Start them by "
            "torchrun or `accelerate launch`, and with a device for each."
        )
    return accelerator


def train(
    key: str,
    unet: Any,
    data: Any,
    held_out: Any,
    recipe: TrainRecipe,
    description: str = "",
    watch: Callable[..., None] | None = None,
    is_sharded: bool = False,
) -> tuple[Any, list[dict[str, float]]]:
    """Train a UNet and return it with the averaged weights and its log.

    AdamW, warm-up, then `lr_schedule`; the moving average runs over the last
    `ema_fraction` of the steps only. Interrupted runs go on from the last whole
    snapshot; several processes (`launch`) share each batch as one would take it.
    Source: commoncanvas-cvpr, §5.1; mosaicml-diffusion, SD-2-base yamls.

    Args:
        key: names the work folder, from `key_of`.
        unet: an untrained UNet, or a warm start.
        data, held_out: `Latents` to train on and to measure on.
        watch: called with (log entry, UNet, whether this is the main process) on
            every process at each snapshot.
        is_sharded: whether processes share the UNet's weights too; the UNet that
            comes back is then in shards, and `launch` takes over its snapshot.

    Returns:
        (unet with averaged weights, log), log a list of dictionaries with step, loss
        (mean since the last entry), validation_loss, learning_rate, grad_norm,
        ema_decay (0 before it starts), latent_mean and latent_std (of the last batch,
        scaled).

    Raises:
        ParameterError: a loss is no number, or there are fewer works a step than
            processes.
        EngineError: accelerate does not count all processes.
    """
    accelerator = _accelerator(recipe.mixed_precision)
    noise_scheduler = make_noise_scheduler(recipe.prediction_type, *recipe.scheduler)
    num_timesteps = noise_scheduler.config.num_train_timesteps
    seed, num_train_steps = recipe.seed, recipe.num_train_steps
    batch_size, scale = recipe.train_batch_size, recipe.scaling_factor
    if batch_size < accelerator.num_processes:
        raise ParameterError(
            f"train_batch_size is {batch_size} for {accelerator.num_processes} "
            "processes; each needs a work a step. Raise it or start fewer."
        )
    averages_from = ema_start(num_train_steps, recipe.ema_fraction)
    state = TrainState(accelerator, unet, recipe, is_sharded)
    folder = work_folder(key)
    found, refused = newest_snapshot(folder)
    for line in refused if accelerator.is_main_process else []:
        print(line, file=sys.stderr)
    first, log = state.load(found) if found else (0, [])
    recent: list[float] = []
    norms: list[float] = []
    bar = tqdm(
        total=num_train_steps * batch_size,
        initial=first * batch_size,
        desc=description,
        unit="img",
        file=sys.stderr,
        disable=not accelerator.is_main_process,
    )
    newest: dict[str, torch.Tensor] = {}  # the latents of the last part done
    state.unet.train()
    for step in range(first, num_train_steps):
        draws = make_draws(
            data,
            batch_places(data.buckets, batch_size, seed, step),
            recipe.caption_drop_prob,
            make_generator(seed, "train", step),
            num_timesteps,
            make_generator(seed, "captions", step),
            recipe.weighting_scheme,
            recipe.logit_mean,
        )

        def losses_of(part: Draws, step: int = step) -> torch.Tensor:
            losses, newest["latents"] = denoising_losses(
                state.unet, noise_scheduler, data, part, scale
            )
            check_finite(losses, part.places, data, step)
            return losses

        parts = split(
            draws,
            accelerator.process_index,
            accelerator.num_processes,
            recipe.micro_batch_size,
        )
        is_averaged = step >= averages_from
        loss, grad_norm = state.update(losses_of, parts, len(draws), is_averaged)
        recent.append(loss)
        norms.append(grad_norm)
        bar.update(batch_size)
        done = step + 1
        if done % recipe.checkpoint_steps == 0 or done == num_train_steps:
            entry: dict[str, float] = {
                "step": done,
                "loss": float(np.mean(recent)),
                "validation_loss": validation_loss(
                    state.bare, noise_scheduler, held_out, scale, seed
                ),
                "learning_rate": float(state.lr_scheduler.get_last_lr()[0]),
                "grad_norm": float(np.mean(norms)),
                "ema_decay": (state.ema and state.ema.cur_decay_value) or 0.0,
                "latent_mean": newest["latents"].mean().item(),
                "latent_std": newest["latents"].std().item(),
            }
            log.append(entry)
            bar.set_postfix(
                loss=f"{entry['loss']:.4f}", held_out=f"{entry['validation_loss']:.4f}"
            )
            recent, norms = [], []
            state.save(folder, done, log)
            if watch:
                watch(entry, state.bare, accelerator.is_main_process)
            accelerator.wait_for_everyone()
    bar.close()
    if state.ema:
        state.ema.copy_to(state.bare.parameters())
    return state.bare.eval(), log
