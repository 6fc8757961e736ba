"""The measured ablation of stage 07: what each speed-up gains on the present hardware.

All rows share one loss, one UNet and one order of batches, and take turns within each
repeat, so that a machine that slows down slows all of them. On a GPU every row computes
in bfloat16 (autocast), as the authors' baseline did in half precision, and that gain is
not counted; there, rows that need another UNet or optimiser follow one another, since
several do not fit. Source: commoncanvas-cvpr, §5.1, Fig. 6; mlperf-sd2 (the last rows).
"""

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel

from commoncanvas.analysis.estimates import Estimate, mean_interval
from commoncanvas.analysis.tables import digits
from commoncanvas.captions.blip2 import MODEL
from commoncanvas.claims.outcomes import Effect
from commoncanvas.core.draws import Draws
from commoncanvas.core.errors import brief
from commoncanvas.core.images import pixels_to_images, stored_pixels
from commoncanvas.latents.buckets import bucket_of
from commoncanvas.models.attention import has_flash_attn, set_attention
from commoncanvas.models.encoders import text_states
from commoncanvas.models.pipelines import make_noise_scheduler
from commoncanvas.speed.clocks import DEVICE, rate_of
from commoncanvas.train.denoising import diffusion_loss
from commoncanvas.train.order import batch_places
from commoncanvas.train.state import lower_norms

CAPTION_DROP = 0.1
NUM_BATCHES = 16  # different ones, so that pictures of these alone are in memory
NUM_CC = 99.2e6  # photographs of YFCC100M; the paper gives hours, and no number


@dataclass(frozen=True)
class Recipe:
    """One row: which of the speed-ups are on."""

    name: str
    attention: str = "plain"  # see `set_attention`
    has_latents: bool = False  # precomputed, as the text states
    has_texts: bool = False
    low_norms: bool = False  # norms in half precision, where there is any
    ema_every_step: bool = True
    is_fused: bool = False  # AdamW as one kernel over all weights
    channels_last: bool = False
    compiled: str = ""  # a mode of `torch.compile`
    is_example: bool = False  # the loop of diffusers' train_text_to_image.py
    needs_gpu: bool = False
    needs_flash: bool = False  # the package flash-attn

    @property
    def kind(self) -> tuple[bool, bool, bool, str, bool]:
        """What rows must share to train one UNet with one optimiser in turns."""
        is_low = self.low_norms and DEVICE.type == "cuda"
        is_flash = self.attention == "flash"  # whose failure must stop no other row
        return is_low, self.is_fused, self.channels_last, self.compiled, is_flash

    def lacking(self) -> str:
        """Say why this machine cannot run it, or nothing."""
        if self.needs_gpu and DEVICE.type != "cuda":
            return "needs a GPU"
        if self.needs_flash and not has_flash_attn():
            return "needs the package flash-attn"
        return ""


PLAIN = Recipe("plain loop")
ATTENTION = replace(PLAIN, name="+ fast attention", attention="sdpa")
LATENTS = replace(ATTENTION, name="+ precomputed latents", has_latents=True)
TEXTS = replace(LATENTS, name="+ precomputed text", has_texts=True)
NORMS = replace(TEXTS, name="+ low-precision norms", low_norms=True, needs_gpu=True)
LATE_EMA = replace(NORMS, name="+ late EMA", ema_every_step=False, needs_gpu=False)
FUSED = replace(LATE_EMA, name="+ fused AdamW", is_fused=True)
CHANNELS = replace(FUSED, name="+ channels-last", channels_last=True, needs_gpu=True)
COMPILED = replace(CHANNELS, name="+ compile", compiled="default")
GRAPHS = replace(COMPILED, name="+ CUDA graphs", compiled="reduce-overhead")
# These are other loops on the same work: they stand beside the ladder.
FLASH = replace(
    CHANNELS, name="flash-attn, not compiled", attention="flash", needs_flash=True
)
EXAMPLE = replace(ATTENTION, name="diffusers example", is_example=True)
AGAIN = replace(PLAIN, name="plain loop, again")  # how far timings of one loop differ
LADDER = (
    *(PLAIN, ATTENTION, LATENTS, TEXTS, NORMS, LATE_EMA, FUSED),
    *(CHANNELS, COMPILED, GRAPHS),
)
RECIPES = (*LADDER, FLASH, EXAMPLE, AGAIN)


class OnlineLatents:
    """Reads like `Latents`, but decodes and encodes every batch again.

    It reads works of `data`, a `Latents`, at some places, e.g. `places_seen`; their
    pictures are files' bytes. Resolution and buckets are stage 03's, and the models are
    moved to the device.
    """

    def __init__(
        self,
        data: Any,
        places: np.ndarray,
        pictures: Sequence[bytes],
        resolution_px: int,
        vae: Any,
        tokenizer: Callable[..., Any],
        text_encoder: torch.nn.Module,
        buckets: Sequence[Sequence[int]] | None = None,
    ) -> None:
        numbers, texts = places.tolist(), data.texts(places)
        self.pictures = dict(zip(numbers, pictures, strict=True))
        self.texts = dict(zip(numbers, texts, strict=True))
        self.buckets = buckets or [(resolution_px, resolution_px)]
        self.vae, self.shape_of = vae.to(DEVICE), data.shape_of
        self.tokenizer, self.text_encoder = tokenizer, text_encoder.to(DEVICE)

    @torch.no_grad()
    def posterior(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (mean, std) as `Latents.posterior` does, from the pixels."""
        files = [self.pictures[place] for place in places.tolist()]
        bucket = self.buckets[bucket_of(files[0], self.buckets)]
        pixels = [stored_pixels(file, *bucket) for file in files]
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


def batch_of(data: Any, batch_size: int, seed: int, step: int) -> torch.Tensor:
    """Return the places of a step's batch; after `NUM_BATCHES` they come again."""
    return batch_places(data.buckets, batch_size, seed, step % NUM_BATCHES)


def places_seen(data: Any, batch_size: int, seed: int) -> np.ndarray:
    """Return the places of the works in all batches, however many works there are."""
    batches = [batch_of(data, batch_size, seed, n) for n in range(NUM_BATCHES)]
    return torch.cat(batches).unique().numpy()


class MixedLatents:
    """Reads pictures from one reader and text from another."""

    def __init__(self, pictures: Any, texts: Any) -> None:
        self.posterior, self.shape_of = pictures.posterior, pictures.shape_of
        self.prompt_embeds = texts.prompt_embeds


class Trainee:
    """A UNet, its optimiser and its moving average, shared by rows of one kind."""

    def __init__(self, unet: Any, recipe: Recipe) -> None:
        self.unet, self.attention = unet.to(DEVICE).train(), ""
        if recipe.kind[0]:
            lower_norms(self.unet)
        if recipe.channels_last:
            self.unet.to(memory_format=torch.channels_last)
        self.forward = self.unet
        if recipe.compiled:
            self.forward = torch.compile(self.unet, mode=recipe.compiled)
        parameters = list(self.unet.parameters())
        self.optimizer = torch.optim.AdamW(parameters, 1e-5, fused=recipe.is_fused)
        self.ema: EMAModel | None = None  # for the rows that have one
        self.accelerator = Accelerator()
        schedule = get_scheduler("constant", self.optimizer)
        self.prepared = self.accelerator.prepare(self.unet, self.optimizer, schedule)

    def attend(self, kind: str) -> None:
        """Choose the kernel of attention; what is compiled is not disturbed again."""
        if kind != self.attention:
            set_attention(self.unet, kind)
            self.attention = kind

    def step(self, recipe: Recipe, loss_of: Callable[[Any], torch.Tensor]) -> None:
        """Do one optimiser step as the row does it."""
        is_gpu = DEVICE.type == "cuda"
        if recipe.compiled == GRAPHS.compiled and is_gpu:
            torch.compiler.cudagraph_mark_step_begin()
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
            self.optimizer.step()
            self.optimizer.zero_grad()
        if recipe.ema_every_step:
            self.ema = self.ema or EMAModel(self.unet.parameters(), decay=0.9999)
            self.ema.step(self.unet.parameters())


def in_groups(recipes: Sequence[Recipe]) -> list[list[Recipe]]:
    """Return the rows whose UNets are in memory together: on a GPU those of one kind.

    A UNet of Stable Diffusion 2's size takes 17 GB with gradients, AdamW's moments and
    a moving average, so that those of all kinds would fill a card of 80 GB.
    """
    if DEVICE.type != "cuda":
        return [list(recipes)]
    kinds = dict.fromkeys(recipe.kind for recipe in recipes)
    return [[r for r in recipes if r.kind == kind] for kind in kinds]


@dataclass(frozen=True)
class Timing:
    """What is timed of every row: steps of a batch size, several times over."""

    seed: int  # of batches and noise
    num_repeats: int
    steps_per_repeat: int
    batch_size: int
    scaling_factor: float  # of the latents


def measure_training(
    make: Callable[[], Any],
    data: Any,
    online: Any,
    timing: Timing,
    recipes: Sequence[Recipe] | None = None,
    failures: dict[str, str] | None = None,
) -> dict[str, np.ndarray]:
    """Time every row, in turns, on the same batches with the same noise.

    Args:
        make: returns a fresh UNet with the same weights each time.
        data, online: `Latents` and `OnlineLatents` of the same works.
        recipes: None for all that this device can run.
        failures: takes the first line of what stopped a group of rows, by row, and the
            others go on; without it, the error is raised.

    Returns: name -> (num_repeats,) rates [images/s]; one step of warm-up is not timed.
    """
    rates: dict[str, np.ndarray] = {}
    for group in in_groups(recipes or [r for r in RECIPES if not r.lacking()]):
        try:
            rates |= _measure_group(group, make, data, online, timing)
        except RuntimeError as error:  # of a kernel, a compiler or the GPU's memory
            if failures is None:
                raise
            failures |= {r.name: f"failed: {brief(error)}" for r in group}
        if DEVICE.type == "cuda":
            torch.compiler.reset()
            gc.collect()
            torch.cuda.empty_cache()
    return rates


def _measure_group(
    recipes: Sequence[Recipe],
    make: Callable[[], Any],
    data: Any,
    online: Any,
    timing: Timing,
) -> dict[str, np.ndarray]:
    """Time rows whose UNets are in memory together; see `measure_training`."""
    schedule, size = make_noise_scheduler(), timing.batch_size
    trainees = {recipe.kind: Trainee(make(), recipe) for recipe in recipes[::-1]}
    readers = {(True, True): data, (False, False): online}
    readers[True, False] = MixedLatents(data, online)

    def step(recipe: Recipe, trainee: Trainee, reader: Any, number: int) -> None:
        places = batch_of(data, size, timing.seed, number)
        draws, factor = Draws(timing.seed, "speed", number), timing.scaling_factor

        def loss_of(unet: Any) -> torch.Tensor:
            return diffusion_loss(
                unet, schedule, reader, places, factor, CAPTION_DROP, draws
            )

        trainee.step(recipe, loss_of)

    rates: dict[str, list[float]] = {recipe.name: [] for recipe in recipes}
    for turn in range(timing.num_repeats + 1):  # turn 0 is one step of warm-up
        last = turn * timing.steps_per_repeat
        steps = range(max(0, last - timing.steps_per_repeat), max(1, last))
        for place in range(len(recipes)):
            recipe = recipes[(turn + place) % len(recipes)]
            trainee = trainees[recipe.kind]
            trainee.attend(recipe.attention)
            reader = readers[recipe.has_latents, recipe.has_texts]
            todo = partial(step, recipe, trainee, reader)
            rates[recipe.name].append(rate_of(todo, steps, size))
    return {name: np.array(values[1:]) for name, values in rates.items()}


def ratio(
    rates: Mapping[str, np.ndarray], recipe: Recipe, base: Recipe = PLAIN
) -> Estimate:
    """Estimate how many times faster one row is than another, repeat by repeat."""
    return mean_interval(rates[recipe.name] / rates[base.name])


def summarise(
    rates: Mapping[str, np.ndarray],
    flops: float,
    peak: float,
    failures: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Turn rates [images/s] into the rows of `RECIPES`, intervals over the repeats.

    A row has an `Estimate`'s dict as images_per_second and as ratio, and mfu, which is
    flops · rate / peak; None and a note where it was not run.
    """
    rows = []
    for recipe in RECIPES:
        note = (failures or {}).get(recipe.name) or recipe.lacking() or "not timed"
        row: dict[str, Any] = {"row": recipe.name, "images_per_second": None}
        row |= {"ratio": None, "mfu": None, "note": note}
        if recipe.name in rates:
            rate = mean_interval(rates[recipe.name])
            row |= {"images_per_second": rate.as_dict(), "note": ""}
            row["mfu"] = flops * rate.value / peak
            if PLAIN.name in rates:
                row["ratio"] = ratio(rates, recipe).as_dict()
        rows.append(row)
    return rows


def measure_claims(
    rates: Mapping[str, np.ndarray], captions: Mapping[str, Any]
) -> dict[str, Effect | str]:
    """Return what `scorecard.make_scorecard` needs for the claims of this stage.

    Args:
        rates: of `measure_training`.
        captions: model, device and rate, (repeats,) [pictures/s], of the captioner
            that made this run's captions; rate is None where they were imported.
    """
    last = next(recipe for recipe in LADDER[::-1] if recipe.name in rates)
    model, device = captions["model"], captions["device"]
    cost: Effect | str = f"The captions were imported ({model}), none was made."
    if captions["rate"] is not None:
        hours = mean_interval(NUM_CC / captions["rate"] / 3600)
        ours = f"{digits(hours.value)} hours of one {device} by {model}"
        is_same = model.startswith(f"blip2:{MODEL}@") and "A100" in device
        cost = f"The claim is of an A100 and BLIP-2 (OPT-2.7B); timed here: {ours}."
        if is_same:
            cost = Effect(hours, "timings", text=ours)
    return {
        "speed.caption_hours": cost,
        "speed.total": Effect(ratio(rates, last), "timings"),
        "speed.latents": Effect(ratio(rates, TEXTS, ATTENTION), "timings"),
        "speed.same": Effect(ratio(rates, AGAIN), "timings"),
    }
