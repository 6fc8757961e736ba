"""The measured ablation of stage 07: what each speed-up gains on the present hardware.

All rows share one loss, one UNet and one order of batches, and take turns within each
repeat, so that a machine that slows down slows all of them. On a GPU every row computes
in bfloat16 (autocast), as the authors' baseline did in half precision, and that gain is
not counted. Source: commoncanvas-cvpr, §5.1, Fig. 6.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel

from commoncanvas.analysis.estimates import Estimate, mean_interval
from commoncanvas.claims.scorecard import Measured
from commoncanvas.core.draws import Draws
from commoncanvas.core.images import pixels_to_images, stored_pixels
from commoncanvas.latents.buckets import bucket_of
from commoncanvas.models.encoders import text_states
from commoncanvas.models.pipelines import make_noise_scheduler
from commoncanvas.speed.clocks import DEVICE, rate_of
from commoncanvas.train.denoising import diffusion_loss
from commoncanvas.train.order import batch_places
from commoncanvas.train.state import lower_norms

CAPTION_DROP = 0.1


@dataclass(frozen=True)
class Recipe:
    """One row: which of the speed-ups are on."""

    name: str
    fast_attention: bool = False
    is_precomputed: bool = False
    low_norms: bool = False  # norms in half precision, where there is any
    ema_every_step: bool = True
    is_fused: bool = False  # AdamW as one kernel over all weights
    is_compiled: bool = False  # and channels-last
    is_example: bool = False  # the loop of diffusers' train_text_to_image.py
    needs_gpu: bool = False


PLAIN = Recipe("plain loop")
ATTENTION = replace(PLAIN, name="+ fast attention", fast_attention=True)
LATENTS = replace(ATTENTION, name="+ precomputed latents", is_precomputed=True)
NORMS = replace(LATENTS, name="+ low-precision norms", low_norms=True, needs_gpu=True)
LATE_EMA = replace(NORMS, name="+ late EMA", ema_every_step=False, needs_gpu=False)
FUSED = replace(LATE_EMA, name="+ fused AdamW", is_fused=True)
COMPILED = replace(
    FUSED, name="+ compile, channels-last", is_compiled=True, needs_gpu=True
)
EXAMPLE = replace(ATTENTION, name="diffusers example", is_example=True)
# All but the last add up.
RECIPES = (PLAIN, ATTENTION, LATENTS, NORMS, LATE_EMA, FUSED, COMPILED, EXAMPLE)


class OnlineLatents:
    """Reads like `Latents`, but decodes and encodes every batch again.

    It has the works and captions of `data`, a `Latents`; `pngs` holds bytes by key.
    Resolution and buckets are stage 03's. The models are moved to the device.
    """

    def __init__(
        self,
        data: Any,
        pngs: pd.Series,
        resolution_px: int,
        vae: Any,
        tokenizer: Callable[..., Any],
        text_encoder: torch.nn.Module,
        buckets: Sequence[Sequence[int]] = (),
    ) -> None:
        self.pngs, self.texts = pngs.loc[data.keys].tolist(), data.texts()
        self.buckets = buckets or [(resolution_px, resolution_px)]
        self.vae, self.shape_of = vae.to(DEVICE), data.shape_of
        self.tokenizer, self.text_encoder = tokenizer, text_encoder.to(DEVICE)

    @torch.no_grad()
    def posterior(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (mean, std) as `Latents.posterior` does, from the pixels."""
        pngs = [self.pngs[place] for place in places.tolist()]
        bucket = self.buckets[bucket_of(pngs[0], self.buckets)]
        pixels = [stored_pixels(png, *bucket) for png in pngs]
        images = pixels_to_images(np.stack(pixels)).to(DEVICE)
        posterior = self.vae.encode(images).latent_dist
        return posterior.mean.float().cpu(), posterior.std.float().cpu()

    @torch.no_grad()
    def prompt_embeds(
        self, places: torch.Tensor, is_dropped: torch.Tensor, draws: object = None
    ) -> torch.Tensor:
        """Return text states as `Latents.prompt_embeds` does, from the words."""
        pairs = zip(places.tolist(), is_dropped.tolist(), strict=True)
        texts = ["" if dropped else self.texts[place] for place, dropped in pairs]
        return text_states(self.tokenizer, self.text_encoder, texts)


class Trainee:
    """A UNet, its optimisers and its moving average, shared by rows that take turns."""

    def __init__(
        self,
        unet: Any,
        low_norms: bool = False,
        is_compiled: bool = False,
    ) -> None:
        self.unet = unet.to(DEVICE).train()
        if low_norms:
            lower_norms(self.unet)
        if is_compiled:
            self.unet.to(memory_format=torch.channels_last)
        self.forward = torch.compile(self.unet) if is_compiled else self.unet
        parameters = list(self.unet.parameters())
        self.optimizers = {
            is_fused: torch.optim.AdamW(parameters, 1e-5, fused=is_fused)
            for is_fused in (False, True)
        }
        self.ema = EMAModel(parameters, decay=0.9999)
        self.accelerator = Accelerator()
        schedule = get_scheduler("constant", self.optimizers[False])
        self.prepared = self.accelerator.prepare(
            self.unet, self.optimizers[False], schedule
        )

    def step(self, recipe: Recipe, loss_of: Callable[[Any], torch.Tensor]) -> None:
        """Do one optimiser step as the row does it."""
        is_gpu = DEVICE.type == "cuda"
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=is_gpu):
            loss = loss_of(self.forward)
        if recipe.is_example:
            unet, optimizer, schedule = self.prepared
            with self.accelerator.accumulate(unet):
                self.accelerator.gather(loss.detach()[None]).mean().item()
                self.accelerator.backward(loss)
                self.accelerator.clip_grad_norm_(unet.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
        else:
            loss.backward()
            self.optimizers[recipe.is_fused].step()
            self.optimizers[recipe.is_fused].zero_grad()
        if recipe.ema_every_step:
            self.ema.step(self.unet.parameters())


def measure_training(
    make: Callable[[], Any],
    data: Any,
    online: Any,
    *,
    seed: int,
    num_repeats: int,
    steps_per_repeat: int,
    batch_size: int,
    scaling_factor: float,
    recipes: Sequence[Recipe] | None = None,
) -> dict[str, np.ndarray]:
    """Time every row, in turns, on the same batches with the same noise.

    Args:
        make: returns a fresh UNet with the same weights each time.
        data, online: `Latents` and `OnlineLatents` of the same works.
        recipes: None for all that this device can run.

    Returns: name -> (num_repeats,) rates [images/s]; one step of warm-up is not timed.
    """
    is_gpu, schedule = DEVICE.type == "cuda", make_noise_scheduler()
    recipes = recipes or [r for r in RECIPES if is_gpu or not r.needs_gpu]
    kinds = {r.name: (is_gpu and r.low_norms, r.is_compiled) for r in recipes}
    trainees = {kind: Trainee(make(), *kind) for kind in set(kinds.values())}

    def step(recipe: Recipe, trainee: Trainee, reader: Any, number: int) -> None:
        places = batch_places(data.buckets, batch_size, seed, number)
        draws = Draws(seed, "speed", number)

        def loss_of(unet: Any) -> torch.Tensor:
            return diffusion_loss(
                unet, schedule, reader, places, scaling_factor, CAPTION_DROP, draws
            )

        trainee.step(recipe, loss_of)

    rates: dict[str, list[float]] = {recipe.name: [] for recipe in recipes}
    for turn in range(num_repeats + 1):  # turn 0 is one step of warm-up
        last = turn * steps_per_repeat
        steps = range(max(0, last - steps_per_repeat), max(1, last))
        for place in range(len(recipes)):
            recipe = recipes[(turn + place) % len(recipes)]
            trainee = trainees[kinds[recipe.name]]
            reader = data if recipe.is_precomputed else online
            if not recipe.is_compiled:  # a compiled UNet keeps its fast attention
                kind = AttnProcessor2_0 if recipe.fast_attention else AttnProcessor
                trainee.unet.set_attn_processor(kind())
            todo = partial(step, recipe, trainee, reader)
            rates[recipe.name].append(rate_of(todo, steps, batch_size))
    return {name: np.array(values[1:]) for name, values in rates.items()}


def ratio(
    rates: Mapping[str, np.ndarray], recipe: Recipe, base: Recipe = PLAIN
) -> Estimate:
    """Estimate how many times faster one row is than another, repeat by repeat."""
    return mean_interval(rates[recipe.name] / rates[base.name])


def summarise(
    rates: Mapping[str, np.ndarray], flops: float, peak: float
) -> list[dict[str, Any]]:
    """Turn rates [images/s] into the rows of `RECIPES`, intervals over the repeats.

    A row has an `Estimate`'s dict as images_per_second and as ratio, and mfu, which is
    flops · rate / peak; None and a note where it was not run.
    """
    rows = []
    for recipe in RECIPES:
        row: dict[str, Any] = {"row": recipe.name, "images_per_second": None}
        row |= {"ratio": None, "mfu": None, "note": "needs a GPU"}
        if recipe.name in rates:
            rate = mean_interval(rates[recipe.name])
            row |= {"images_per_second": rate.as_dict(), "note": ""}
            row |= {"ratio": ratio(rates, recipe).as_dict()}
            row["mfu"] = flops * rate.value / peak
        rows.append(row)
    return rows


def measure_claims(
    rates: Mapping[str, np.ndarray], captions_per_second: float
) -> dict[str, Measured]:
    """Return what `scorecard.make_scorecard` needs for the claims of this stage."""
    last = COMPILED if COMPILED.name in rates else FUSED
    why = "This page times the small captioner, whose rate does not stand for BLIP-2's."
    ours = f"{captions_per_second:.3g} pictures/s with the small captioner"
    return {
        "caption_cost": Measured(ours=ours, why_not=why),
        "speedup_total": Measured(ratio(rates, last)),
        "speedup_latents": Measured(ratio(rates, LATENTS, ATTENTION)),
    }
