"""Clocks, counted arithmetic and the hardware: what stage 07 measures speed with.

Timings are the one output of this package that two runs do not repeat.
"""

import platform
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor
from torch.utils.flop_counter import FlopCounterMode

from commoncanvas.core import paths
from commoncanvas.core.settings import load_yaml
from commoncanvas.train.order import batch_places

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def rate_of(call: Callable[[Any], object], items: Sequence, size: int = 1) -> float:
    """Call with each item and return size · items a second, to the end of GPU work."""
    _wait_for_gpu()
    start = time.perf_counter()
    for item in items:
        call(item)
    _wait_for_gpu()
    return size * len(items) / (time.perf_counter() - start)


def _wait_for_gpu() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def flops_per_image(unet: Any, text_shape: Sequence[int]) -> int:
    """Count the products of one forward and backward pass [FLOP/image].

    VAE and text encoder are not trained and not counted. The UNet, on the CPU, is
    left with eager attention, which hides no product. `text_shape`: (tokens, width).
    """
    unet.set_attn_processor(AttnProcessor())
    side, channels = unet.config.sample_size, unet.config.in_channels
    latents, states = torch.zeros(1, channels, side, side), torch.zeros(1, *text_shape)
    with FlopCounterMode(display=False) as counter:
        unet(latents, torch.zeros(1).long(), states).sample.sum().backward()
    return counter.get_total_flops()


def peaks() -> dict[str, float]:
    """Return {part of a GPU's name: its data sheet's peak [FLOP/s]}, dense bfloat16."""
    rates = load_yaml(paths.RESULTS / "rates.json")["rates"]
    found = {n.removeprefix("peak_"): n for n in rates if n.startswith("peak_")}
    return {model.upper(): rates[n]["value"] * 1e12 for model, n in found.items()}


def peak_flops() -> tuple[float, str]:
    """Return the device's peak [FLOP/s] and, in words, where the number comes from."""
    is_gpu = DEVICE.type == "cuda"
    name = torch.cuda.get_device_name() if is_gpu else ""
    for model, peak in peaks().items():
        if model in name:
            return peak, f"data sheet of the {model}, bfloat16"
    size, dtype = (8192, torch.bfloat16) if is_gpu else (1024, torch.float32)
    a = torch.ones(size, size, dtype=dtype, device=DEVICE)
    best = max(rate_of(lambda _: a @ a, [0]) for _ in range(10))
    kind = str(dtype).removeprefix("torch.")
    return 2 * size**3 * best, f"best {kind} product of {size} × {size} in this run"


def measure_captioner(
    captioner: Any, works: Sequence[tuple[str, bytes]], num_repeats: int
) -> tuple[dict[str, np.ndarray], int]:
    """Time a captioner of stage 02, decoding included, in one go and one by one.

    Args:
        captioner: its `table` takes rows of (key, picture bytes).

    Returns: (rates "batched" and "one by one" [pictures/s]; number of pictures whose
        captions are the same both ways).
    """
    singles = [[work] for work in works]
    pairs = zip(_captions(captioner, works), singles, strict=True)
    same = sum([caption] == _captions(captioner, single) for caption, single in pairs)
    ways: dict[str, list] = {"batched": [works], "one by one": singles}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(num_repeats):
        for name, batches in ways.items():
            rate = rate_of(captioner.table, batches, len(works) // len(batches))
            rates[name].append(rate)
    return {name: np.array(values) for name, values in rates.items()}, same


def _captions(captioner: Any, works: Sequence[tuple[str, bytes]]) -> list[str]:
    return captioner.table(works)["caption_raw"].to_pylist()


def measure_reader(
    data: Any, batch_size: int, num_batches: int, num_repeats: int, seed: int
) -> np.ndarray:
    """Time the latent reader without a model: (num_repeats,) rates [works/s]."""

    def read(number: int) -> None:
        places = batch_places(data.buckets, batch_size, seed, number)
        data.posterior(places)
        data.prompt_embeds(places, torch.zeros(batch_size, dtype=torch.bool))

    starts = range(0, num_repeats * num_batches, num_batches)
    turns = [range(start, start + num_batches) for start in starts]
    return np.array([rate_of(read, turn, batch_size) for turn in turns])


def hardware() -> dict[str, Any]:
    """Return the device's name, threads and torch's version, for metrics.json only."""
    cpuinfo = Path("/proc/cpuinfo")
    found = cpuinfo.exists() and re.search(r"model name\s*: (.+)", cpuinfo.read_text())
    name = found[1] if found else platform.machine()
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else name
    threads = torch.get_num_threads()
    return {"device": name, "threads": threads, "torch": torch.__version__}
