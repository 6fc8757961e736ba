"""The training loop of stage 04: Stable Diffusion 2's recipe on precomputed latents.

Everything random is drawn from (seed, purpose, step), so a run that was killed and
resumed ends with the same bits as one that was not, and several processes see the works
in the order of one. Source: mosaicml-diffusion, SD-2-base yamls.
"""

import math
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    InitProcessGroupKwargs,
    broadcast_object_list,
    gather_object,
)
from torch import Tensor
from tqdm import tqdm

from commoncanvas.core.draws import Draws
from commoncanvas.core.errors import EngineError, ParameterError
from commoncanvas.core.keys import work_folder
from commoncanvas.models.pipelines import make_noise_scheduler
from commoncanvas.train.denoising import (
    Part,
    denoising_losses,
    read_part,
    validation_loss,
)
from commoncanvas.train.order import batch_places
from commoncanvas.train.recipe import TrainRecipe
from commoncanvas.train.snapshots import newest_snapshot
from commoncanvas.train.state import TrainState

# How long processes wait for one that hashes a snapshot or draws previews.
PATIENCE = timedelta(hours=2)
AHEAD = 8  # parts read while a GPU computes


def ema_start(num_train_steps: int, ema_fraction: float) -> int:
    """Return the first step whose weights are averaged."""
    # 0.035 of 600 is 21.000000000000004 in floating point, and 21 steps are meant.
    return num_train_steps - math.ceil(round(ema_fraction * num_train_steps, 6))


def check_finite(
    loss: float, done: list[tuple[Tensor, Tensor]], data: Any, step: int
) -> None:
    """Stop, on every process, if the loss of a step is no number.

    Args:
        loss: of the whole batch, over all processes.
        done: (places, losses) of each part that this process did, (n,) both.

    Raises:
        ParameterError: names the step and the works.
    """
    if math.isfinite(loss):
        return
    bad = [
        (data.keys[place], value)
        for places, losses in done
        for place, value in zip(places.tolist(), losses.tolist(), strict=True)
        if not math.isfinite(value)
    ]
    bad = gather_object(bad)  # whichever process had them, all stop with their names
    keys = [key for key, _ in bad] or ["the batch"]
    more = f" and {len(keys) - 4} more" if len(keys) > 4 else ""
    raise ParameterError(
        f"the loss is {bad[0][1] if bad else loss} at step {step} for "
        f"{', '.join(keys[:4])}{more}; expected a number; look at these latents, or "
        "lower train.learning_rate."
    )


def split(
    batch_size: int, process_index: int, num_processes: int, micro_batch_size: int
) -> list[Tensor]:
    """Return the rows of a batch that one process does, one forward pass each."""
    rows = torch.arange(batch_size).tensor_split(num_processes)[process_index]
    return list(rows.split(micro_batch_size))


Job = TypeVar("Job")
Found = TypeVar("Found")


def read_ahead(
    jobs: Iterable[Job], read: Callable[[Job], Found], num: int
) -> Iterator[Found]:
    """Yield what is read for every job, in order.

    A thread reads up to `num` jobs ahead of what is asked for; of 0, there is none.
    """
    if not num:
        yield from map(read, jobs)
        return
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[Future[Found]] = deque()
        for job in jobs:
            waiting.append(pool.submit(read, job))
            if len(waiting) > num:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def count_on(bar: Any, num: int) -> None:
    """Advance a progress bar that is drawn the more rarely the longer it runs.

    A notebook keeps every drawing until it has run: about a thousand in ten days.
    """
    bar.mininterval = max(0.1, bar.format_dict["elapsed"] / 100)
    bar.update(num)


def _accelerator(mixed_precision: str) -> Accelerator:
    """Return this process's accelerator, checked to count all processes."""
    # Without `cpu`, accelerate takes each process on a CPU for the only one.
    is_cpu = not torch.cuda.is_available()
    if is_cpu and mixed_precision == "fp16":
        raise ParameterError(
            "mixed_precision is fp16, and there is no GPU; expected no or bf16 on a "
            "CPU; edit the train section of the profile."
        )
    kinds = [
        DistributedDataParallelKwargs(gradient_as_bucket_view=True),
        InitProcessGroupKwargs(timeout=PATIENCE),
    ]
    accelerator = Accelerator(
        cpu=is_cpu, mixed_precision=mixed_precision, kwargs_handlers=kinds
    )
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
) -> tuple[Any, list[dict[str, Any]]]:
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
            every process at each snapshot; the others do not wait for one.
        is_sharded: whether processes share the UNet's weights too; the UNet that
            comes back is then in shards, and `launch` takes over its snapshot.

    Returns:
        (unet with averaged weights, log), log a list of dictionaries with step, loss
        (mean since the last entry), validation_loss, learning_rate, grad_norm,
        ema_decay (of the last step: that of the recipe, but 0 where no average runs and
        in its first step, whose weights it takes), latent_mean and latent_std (of the
        last batch, scaled), and attention, the name of its kernel.

    Raises:
        ParameterError: a loss is no number, there are fewer works a step than
            processes, or the device has no kernel of the attention asked for.
        EngineError: accelerate does not count all processes.
    """
    accelerator = _accelerator(recipe.mixed_precision)
    noise_scheduler = make_noise_scheduler(recipe.prediction_type, *recipe.scheduler)
    seed, num_train_steps = recipe.seed, recipe.num_train_steps
    batch_size, scale = recipe.train_batch_size, recipe.scaling_factor
    if batch_size < accelerator.num_processes:
        raise ParameterError(
            f"train_batch_size is {batch_size} for {accelerator.num_processes} "
            "processes; each needs a work a step. Raise it or start fewer."
        )
    averages_from = ema_start(num_train_steps, recipe.ema_fraction)
    state = TrainState(accelerator, unet, recipe, is_sharded)
    folder, is_main = work_folder(key), accelerator.is_main_process
    is_gpu = accelerator.device.type == "cuda"
    # It hashes a whole snapshot, so one process does it for all.
    found, refused = newest_snapshot(folder) if is_main else (None, [])
    for line in [*state.notes, *refused] if is_main else []:
        print(line, file=sys.stderr)
    found = broadcast_object_list([found])[0]
    first, log = state.load(found) if found else (0, [])
    shares = split(
        batch_size,
        accelerator.process_index,
        accelerator.num_processes,
        recipe.micro_batch_size,
    )

    def jobs() -> Iterator[tuple[int, Tensor, Tensor]]:
        for step in range(first, num_train_steps):
            places = batch_places(data.buckets, batch_size, seed, step)
            yield from ((step, places[rows], rows) for rows in shares)

    def read(job: tuple[int, Tensor, Tensor]) -> Part:
        step, places, rows = job
        draws = Draws(seed, "train", step)
        part = read_part(data, places, rows, recipe.caption_drop_prob, draws)
        # From pinned memory a GPU copies while it computes.
        return part.moved(Tensor.pin_memory) if is_gpu else part

    parts = read_ahead(jobs(), read, AHEAD if is_gpu else 0)
    newest: dict[str, Tensor] = {}  # the latents of the last part done
    recent: list[float] = []
    norms: list[float] = []
    bar = tqdm(
        total=num_train_steps * batch_size,
        initial=first * batch_size,
        desc=description,
        unit="img",
        file=sys.stderr,
        miniters=1,  # see `count_on`
        disable=not is_main,
    )
    state.unet.train()
    for step in range(first, num_train_steps):
        done: list[tuple[Tensor, Tensor]] = []
        draws = Draws(seed, "train", step)

        def next_losses(
            done: list[tuple[Tensor, Tensor]] = done, draws: Draws = draws
        ) -> Tensor:
            part = next(parts)
            losses, newest["latents"] = denoising_losses(
                state.unet,
                noise_scheduler,
                part,
                draws,
                scale,
                recipe.weighting_scheme,
                recipe.logit_mean,
            )
            done.append((part.places, losses.detach()))
            return losses

        is_averaged = step >= averages_from
        loss, grad_norm = state.update(
            next_losses, len(shares), batch_size, is_averaged
        )
        check_finite(loss, done, data, step)
        recent.append(loss)
        norms.append(grad_norm)
        count_on(bar, batch_size)
        num_done = step + 1
        if num_done % recipe.checkpoint_steps == 0 or num_done == num_train_steps:
            with state.eager():
                held_out_loss = validation_loss(
                    state.bare, noise_scheduler, held_out, scale, seed
                )
            entry: dict[str, Any] = {
                "step": num_done,
                "loss": float(np.mean(recent)),
                "validation_loss": held_out_loss,
                "learning_rate": float(state.lr_scheduler.get_last_lr()[0]),
                "grad_norm": float(np.mean(norms)),
                "ema_decay": (state.ema and state.ema.cur_decay_value) or 0.0,
                "latent_mean": newest["latents"].mean().item(),
                "latent_std": newest["latents"].std().item(),
                "attention": state.attention,
            }
            log.append(entry)
            bar.set_postfix(
                loss=f"{entry['loss']:.4f}",
                held_out=f"{held_out_loss:.4f}",
                refresh=False,
            )
            recent, norms = [], []
            state.save(folder, num_done, log)
            if watch:
                with state.eager():
                    watch(entry, state.bare, is_main)
    bar.close()
    return state.finish(), log
