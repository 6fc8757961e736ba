"""The measured ablation of stage 07: what each speed-up brings, on the machine at hand.

All rows share one loss, one UNet and one order of batches, and take turns within each
repeat, so that a machine that slows down slows all of them. Timings are the one output
of this package that two runs do not repeat. Source: commoncanvas-cvpr, §5.1, Fig. 6.
"""

import platform
import re
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch.utils.flop_counter import FlopCounterMode

from commoncanvas.denoising import diffusion_loss, make_noise_scheduler
from commoncanvas.encoders import text_states
from commoncanvas.images import pixels_to_images, stored_pixels
from commoncanvas.metrics import mean_interval
from commoncanvas.seeds import make_generator
from commoncanvas.train_state import lower_norms
from commoncanvas.training import batch_places

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CAPTION_DROP = 0.1
# Dense bf16 products, by the makers' data sheets [FLOP/s].
PEAKS = {"A100": 312e12, "H100": 989e12, "H200": 989e12}


@dataclass(frozen=True)
class Recipe:
    """One row: which of the speed-ups are on."""

    name: str
    fast_attention: bool = True
    is_precomputed: bool = False
    ema_every_step: bool = True
    is_tuned: bool = False  # low-precision norms, channels-last, compile, fused AdamW
    is_example: bool = False  # the loop of diffusers' train_text_to_image.py


PLAIN = Recipe("plain loop", fast_attention=False)
ATTENTION = Recipe("+ fast attention")
LATENTS = Recipe("+ precomputed latents", is_precomputed=True)
LATE_EMA = Recipe("+ late EMA", is_precomputed=True, ema_every_step=False)
TUNED = Recipe("+ low-precision norms, compile", True, True, False, is_tuned=True)
EXAMPLE = Recipe("diffusers example", is_example=True)
RECIPES = (PLAIN, ATTENTION, LATENTS, LATE_EMA, TUNED, EXAMPLE)  # all but the last add


class OnlineLatents:
    """Reads like `Latents`, but decodes and encodes every batch anew.

    It follows the works and captions of a `Latents`; `pngs` is a Series key -> bytes.
    VAE and text encoder are moved to the device.
    """

    def __init__(self, data, pngs, resolution_px, vae, tokenizer, text_encoder):
        self.pngs, self.texts = pngs.loc[data.keys].tolist(), data.texts()
        self.size, self.vae = resolution_px, vae.to(DEVICE)
        self.latent_shape = data.latent_shape
        self.tokenizer, self.text_encoder = tokenizer, text_encoder.to(DEVICE)

    @torch.no_grad()
    def posterior(self, places):
        """Return (mean, std) as `Latents.posterior` does, from the pixels."""
        pixels = [stored_pixels(self.pngs[p], self.size) for p in places.tolist()]
        images = pixels_to_images(np.stack(pixels)).to(DEVICE)
        posterior = self.vae.encode(images).latent_dist
        return posterior.mean.float().cpu(), posterior.std.float().cpu()

    @torch.no_grad()
    def prompt_embeds(self, places, is_dropped, draws=None):
        """Return text states as `Latents.prompt_embeds` does, from the words."""
        pairs = zip(places.tolist(), is_dropped.tolist(), strict=True)
        texts = ["" if dropped else self.texts[place] for place, dropped in pairs]
        return text_states(self.tokenizer, self.text_encoder, texts)


class Trainee:
    """A UNet, its optimiser and its moving average, shared by rows that take turns."""

    def __init__(self, unet, is_tuned=False):
        self.unet = unet.to(DEVICE).train()
        if is_tuned:
            lower_norms(self.unet.to(memory_format=torch.channels_last))
        parameters = list(self.unet.parameters())
        self.optimizer = torch.optim.AdamW(parameters, 1e-5, fused=is_tuned or None)
        self.ema = EMAModel(parameters, decay=0.9999)
        self.forward = torch.compile(self.unet) if is_tuned else self.unet
        self.accelerator = Accelerator()
        schedule = get_scheduler("constant", self.optimizer)
        self.prepared = self.accelerator.prepare(self.unet, self.optimizer, schedule)

    def step(self, recipe, loss_of):
        """Do one optimiser step as the row does it; `loss_of(unet)` is its loss."""
        is_gpu = DEVICE.type == "cuda"
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=is_gpu):
            loss = loss_of(self.forward)
        if recipe.is_example:
            unet, optimizer, schedule = self.prepared
            with self.accelerator.accumulate(unet):
                self.accelerator.gather(loss.detach()[None]).mean().item()
                self.accelerator.backward(loss)
                self.accelerator.clip_grad_norm_(unet.parameters(), 1.0)
                for part in (optimizer, schedule):
                    part.step()
                optimizer.zero_grad()
        else:
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        if recipe.ema_every_step:
            self.ema.step(self.unet.parameters())


def measure_training(
    make, data, online, *, seed, num_repeats, steps_per_repeat, batch_size,
    scaling_factor, recipes=None,
):  # fmt: skip
    """Time every row, in turns, on the same batches with the same noise.

    Args:
        make: returns a fresh UNet with the same weights each time.
        data, online: `Latents` and `OnlineLatents` of the same works.
        recipes: rows to time; None for all that this device can run.

    Returns: name -> (num_repeats,) rates [images/s]; one step of warm-up is not timed.
    """
    is_gpu, schedule = DEVICE.type == "cuda", make_noise_scheduler()
    recipes = recipes or [r for r in RECIPES if is_gpu or not r.is_tuned]
    trainees = {t: Trainee(make(), t) for t in {r.is_tuned for r in recipes}}

    def step(recipe, trainee, reader, number):
        places = batch_places(len(data), batch_size, seed, number)
        lots = make_generator(seed, "speed", number)
        options = (reader, places, scaling_factor, CAPTION_DROP, lots)
        trainee.step(recipe, lambda unet: diffusion_loss(unet, schedule, *options))

    rates = {recipe.name: [] for recipe in recipes}
    for turn in range(num_repeats + 1):  # turn 0 is one step, for warmth
        last = turn * steps_per_repeat
        steps = range(max(0, last - steps_per_repeat), max(1, last))
        for place in range(len(recipes)):
            recipe = recipes[(turn + place) % len(recipes)]
            trainee = trainees[recipe.is_tuned]
            reader = data if recipe.is_precomputed else online
            if not recipe.is_tuned:
                kind = AttnProcessor2_0 if recipe.fast_attention else AttnProcessor
                trainee.unet.set_attn_processor(kind())
            todo = partial(step, recipe, trainee, reader)
            rates[recipe.name].append(rate_of(todo, steps, batch_size))
    return {name: np.array(values[1:]) for name, values in rates.items()}


def rate_of(call, items, size=1):
    """Call with each item and return size · items a second, to the end of GPU work."""
    wait = torch.cuda.synchronize if DEVICE.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    for item in items:
        call(item)
    wait()
    return size * len(items) / (time.perf_counter() - start)


def flops_per_image(unet, text_shape):
    """Count the products of one forward and backward pass [FLOP/image].

    VAE and text encoder are not counted: they train nothing. The UNet, on the CPU, is
    left with eager attention, which hides no product. `text_shape`: (tokens, width).
    """
    unet.set_attn_processor(AttnProcessor())
    side, channels = unet.config.sample_size, unet.config.in_channels
    latents, states = torch.zeros(1, channels, side, side), torch.zeros(1, *text_shape)
    with FlopCounterMode(display=False) as counter:
        unet(latents, torch.zeros(1).long(), states).sample.sum().backward()
    return counter.get_total_flops()


def peak_flops():
    """Return the device's peak [FLOP/s] and, in words, where the number comes from."""
    is_gpu = DEVICE.type == "cuda"
    name = torch.cuda.get_device_name() if is_gpu else ""
    for model in (m for m in PEAKS if m in name):
        return PEAKS[model], f"data sheet of the {model}, bfloat16"
    size, dtype = (8192, torch.bfloat16) if is_gpu else (1024, torch.float32)
    a = torch.ones(size, size, dtype=dtype, device=DEVICE)
    best = max(rate_of(lambda _: a @ a, [0]) for _ in range(10))
    kind = str(dtype).removeprefix("torch.")
    return 2 * size**3 * best, f"best {kind} product of {size} × {size} in this run"


def ratio(rates, recipe, base=PLAIN):
    """Estimate how many times faster one row is than another, repeat by repeat."""
    return mean_interval(rates[recipe.name] / rates[base.name])


def summarise(rates, flops, peak):
    """Turn rates [images/s] into the rows of `RECIPES`, intervals over the repeats.

    A row has an `Estimate`'s dict as images_per_second and as ratio, and mfu, which is
    flops · rate / peak; None and a note where it was not run.
    """
    rows = []
    for recipe in RECIPES:
        row = dict.fromkeys(("row", "images_per_second", "ratio", "mfu"))
        row |= {"row": recipe.name, "note": "needs a GPU"}
        if recipe.name in rates:
            rate = mean_interval(rates[recipe.name])
            row |= {"images_per_second": rate.as_dict(), "note": ""}
            row |= {"ratio": ratio(rates, recipe).as_dict()}
            row["mfu"] = flops * rate.value / peak
        rows.append(row)
    return rows


def measure_claims(rates, captions_per_second):
    """Return what `claims.scorecard` needs for the three claims of this stage."""
    last = TUNED if TUNED.name in rates else LATE_EMA
    why = "BLIP-2 was not run here, and a small captioner's rate does not stand for it."
    said = f"{captions_per_second:.3g} pictures/s with the small captioner"
    return {
        "caption_cost": {"ours": said, "why_not": why},
        "speedup_total": {"estimate": ratio(rates, last)},
        "speedup_latents": {"estimate": ratio(rates, LATENTS, ATTENTION)},
    }


def measure_captioner(captioner, pixels, num_repeats):
    """Time an `OpenCaptioner` on (batch, h, w, 3) pixels, in one batch and singly.

    Returns: (rates "batched" and "one by one" [pictures/s]; number of pictures whose
        greedy tokens are the same both ways).
    """
    singles = np.split(pixels, len(pixels))
    pairs = zip(_tokens(captioner, pixels), singles, strict=True)
    same = sum(tokens == _tokens(captioner, single)[0] for tokens, single in pairs)
    ways, rates = {"batched": [pixels], "one by one": singles}, {}
    for _ in range(num_repeats):
        for name, batches in ways.items():
            rate = rate_of(captioner.caption, batches, len(pixels) // len(batches))
            rates.setdefault(name, []).append(rate)
    return {name: np.array(values) for name, values in rates.items()}, same


def _tokens(captioner, pixels):
    """Return the greedy tokens of each picture, up to the end token."""
    bos, eos = captioner.tokenizer.bos_token_id, captioner.tokenizer.eos_token_id
    images = pixels_to_images(pixels, captioner.size)
    rows = captioner.model.generate(images, bos, eos).tolist()
    return [row[: row.index(eos)] if eos in row else row for row in rows]


def measure_reader(data, batch_size, num_batches, num_repeats, seed):
    """Time the latent reader without a model: (num_repeats,) rates [works/s]."""

    def read(number):
        places = batch_places(len(data), batch_size, seed, number)
        data.posterior(places)
        data.prompt_embeds(places, torch.zeros(batch_size, dtype=torch.bool))

    turns = [range(turn * num_batches, (turn + 1) * num_batches) for turn in range(99)]
    return np.array([rate_of(read, turn, batch_size) for turn in turns[:num_repeats]])


def hardware():
    """Name the machine: device, threads, torch; for metrics.json only."""
    cpuinfo = Path("/proc/cpuinfo")
    found = cpuinfo.exists() and re.search(r"model name\s*: (.+)", cpuinfo.read_text())
    name = found[1] if found else platform.machine()
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else name
    threads = torch.get_num_threads()
    return {"device": name, "threads": threads, "torch": torch.__version__}
