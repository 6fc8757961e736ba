"""What only a GPU can decide, in at most 12 minutes of one.

    python -m benchmarks.gpu_check --json results/gpu_check.json
    python -m benchmarks.gpu_check --tiny      # the same code with toys, on a CPU

Each part runs in a process of its own, which is ended at its time limit, and what it
had measured by then is kept. Weights, pictures and words are random, since speed and
rounding do not depend on them, so a bare machine without network can run this.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

# A look through NVML leaves the driver alone, so that a forked process can use the GPU.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

import torch
from diffusers.utils import logging
from torch.nn.utils import get_total_norm
from transformers import Blip2Config, Blip2ForConditionalGeneration

from benchmarks.training import SEED, MadeUpLatents, bench, make_encoders
from benchmarks.training import as_lines as lines_of_rows
from commoncanvas.core import paths
from commoncanvas.core.draws import Draws
from commoncanvas.core.errors import brief
from commoncanvas.core.files import write_json
from commoncanvas.core.keys import work_folder
from commoncanvas.core.settings import load_yaml
from commoncanvas.models.pipelines import make_noise_scheduler, make_pipeline
from commoncanvas.models.unets import SD2_TEXT_ENCODER, SD2_VAE, make_unet
from commoncanvas.speed import ablation, clocks
from commoncanvas.train.denoising import diffusion_loss
from commoncanvas.train.loop import train
from commoncanvas.train.recipe import TrainRecipe

Found = dict[str, Any]
Save = Callable[[Found], object]
# What the figures are to reach on a Hopper GPU, and the published ones beside them.
TARGETS = {
    "mfu_256": 0.45,
    "images_per_second_512": 127,  # mlperf-sd2, of an H100
    "ratio_256": 2.71,  # commoncanvas-cvpr, §5.1
}


@dataclass(frozen=True)
class Sizes:
    """How large everything is."""

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    text: Mapping[str, Any]
    blip2: Mapping[str, Any]
    num_tokens: int
    resolutions: tuple[int, int]
    batch_sizes: tuple[int, int]  # of the ablation, by resolution
    num_repeats: int
    steps_per_repeat: int
    captions: tuple[int, int]  # pictures a batch, tokens a caption
    num_samples: tuple[int, int]  # by resolution
    num_inference_steps: int
    train: Mapping[str, Any]  # of the short training; the rest as `paper` says


def paper_sizes() -> Sizes:
    """Return Stable Diffusion 2's and BLIP-2's sizes."""
    profile = load_yaml(paths.PROFILES / "paper.yaml")
    # Source: the configs of Salesforce/blip2-opt-2.7b.
    blip2 = {
        "vision_config": {},  # its defaults are this model's: ViT-g, 224 px
        "qformer_config": {},
        "text_config": {
            "model_type": "opt",
            "vocab_size": 50304,
            "hidden_size": 2560,
            "ffn_dim": 10240,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "word_embed_proj_dim": 2560,
        },
        "num_query_tokens": 32,
        "image_token_index": 50265,
    }
    return Sizes(
        unet=profile["unets"]["small"],
        vae=SD2_VAE,
        text=SD2_TEXT_ENCODER,
        blip2=blip2,
        num_tokens=77,
        resolutions=(256, 512),
        batch_sizes=(64, 16),
        num_repeats=3,
        steps_per_repeat=4,
        captions=(32, 12),
        num_samples=(32, 8),
        num_inference_steps=50,
        train={"num_train_steps": 20, "train_batch_size": 256, "micro_batch_size": 32},
    )


def tiny_sizes() -> Sizes:
    """Return sizes of toys."""
    small = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16}
    wide = small | {"intermediate_size": 16}
    text = small | {"model_type": "opt", "vocab_size": 60, "ffn_dim": 16}
    blip2 = {
        "vision_config": wide | {"image_size": 16, "patch_size": 8},
        "qformer_config": wide | {"encoder_hidden_size": 16, "vocab_size": 60},
        "text_config": text
        | {"word_embed_proj_dim": 16, "max_position_embeddings": 64},
        "num_query_tokens": 4,
        "image_token_index": 59,
    }
    unet = {
        "down_block_types": ["CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D"],
        "block_out_channels": [8],
        "layers_per_block": 1,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    vae = {"block_out_channels": [8] * 4, "layers_per_block": 1, "norm_num_groups": 4}
    return Sizes(
        unet=unet,
        vae={**SD2_VAE, **vae},
        text={**SD2_TEXT_ENCODER, **wide, "vocab_size": 60},
        blip2=blip2,
        num_tokens=6,
        resolutions=(16, 32),
        batch_sizes=(4, 2),
        num_repeats=2,
        steps_per_repeat=1,
        captions=(2, 3),
        num_samples=(2, 1),
        num_inference_steps=2,
        train={"num_train_steps": 4, "train_batch_size": 4, "micro_batch_size": 2},
    )


def check_ablation(sizes: Sizes, save: Save, place: int) -> None:
    """Time the speed-ups of training at one resolution."""
    half = (ablation.PLAIN, ablation.FUSED, ablation.CHANNELS, ablation.COMPILED)
    bench(
        sizes.unet,
        sizes.resolutions[place],
        sizes.num_tokens,
        recipes=half if place else ablation.RECIPES,
        encoders=make_encoders(sizes.vae, sizes.text),
        save=save,
        num_repeats=sizes.num_repeats,
        steps_per_repeat=sizes.steps_per_repeat,
        batch_size=sizes.batch_sizes[place],
    )


def check_captions(sizes: Sizes, save: Save) -> None:
    """Time BLIP-2 on prepared pictures, decoding as the paper does, and greedily."""
    is_gpu, (batch_size, num_tokens) = clocks.DEVICE.type == "cuda", sizes.captions
    config = Blip2Config(**sizes.blip2)
    torch.set_default_dtype(torch.float16 if is_gpu else torch.float32)
    with torch.device(clocks.DEVICE):  # made where it computes: the CPU takes minutes
        model = Blip2ForConditionalGeneration(config).eval()
    torch.set_default_dtype(torch.float32)
    side = config.vision_config.image_size
    pixels = torch.randn(batch_size, 3, side, side).to(clocks.DEVICE, model.dtype)
    found: Found = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "batch_size": batch_size,
        "tokens": num_tokens,
        "dtype": str(model.dtype),
    }
    for name, beams in (("beam search, 5", 5), ("greedy", 1)):

        def caption(_: int, beams: int = beams) -> None:
            # Random weights end no caption, so its length is fixed: a usual one.
            model.generate(
                pixel_values=pixels,
                num_beams=beams,
                do_sample=False,
                max_new_tokens=num_tokens,
                min_new_tokens=num_tokens,
            )

        with torch.no_grad():
            caption(0)
            rate = clocks.rate_of(caption, range(sizes.num_repeats), batch_size)
        save(found := found | {f"pictures_per_second, {name}": rate})


def check_numbers(sizes: Sizes, save: Save) -> None:
    """Compare half precision with float32: loss and gradients of the same batch."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device, resolution_px = clocks.DEVICE, sizes.resolutions[0]
    encoders = make_encoders(sizes.vae, sizes.text)
    data = MadeUpLatents(*encoders, resolution_px, sizes.num_tokens, False)
    channels, side, _ = data.latent_shape
    width = encoders[1].config.hidden_size
    unet = make_unet(sizes.unet, channels, side, width, SEED).to(device)
    schedule, places = make_noise_scheduler(), torch.arange(sizes.batch_sizes[1])
    found: Found = {"batch_size": len(places)}
    kinds = {"float32": None, "bfloat16": torch.bfloat16}
    if device.type == "cuda":  # there is no float16 on a CPU to speak of
        kinds["float16"] = torch.float16
    whole: dict[str, torch.Tensor] = {}
    for name, dtype in kinds.items():
        # As in training, gradients of float16 are scaled against underflow.
        scale = 2.0**16 if dtype == torch.float16 else 1.0
        unet.zero_grad()
        with torch.autocast(device.type, dtype or torch.bfloat16, enabled=bool(dtype)):
            draws = Draws(SEED, "numbers")
            loss = diffusion_loss(unet, schedule, data, places, 1.0, 0.1, draws)
        (loss * scale).backward()
        grads = {
            n: p.grad / scale for n, p in unet.named_parameters() if p.grad is not None
        }
        whole = whole or {n: g.clone() for n, g in grads.items()}
        gaps = [grads[n] - whole[n] for n in whole]
        found[name] = {
            "loss": loss.item(),
            "gradient_norm": get_total_norm(list(grads.values())).item(),
            "gradient_off_by": (
                get_total_norm(gaps) / get_total_norm(list(whole.values()))
            ).item(),
            "finite": all(bool(torch.isfinite(g).all()) for g in grads.values()),
        }
        save(found)


def check_sampling(sizes: Sizes, save: Save) -> None:
    """Time drawing with guidance, in half precision on a GPU."""
    is_gpu = clocks.DEVICE.type == "cuda"
    dtype = torch.float16 if is_gpu else torch.float32
    vae, text_encoder = make_encoders(sizes.vae, sizes.text)
    no_encoder: Any = None  # text states come made up
    width, channels = text_encoder.config.hidden_size, vae.config.latent_channels
    found: Found = {
        "num_inference_steps": sizes.num_inference_steps,
        "dtype": str(dtype),
    }
    for resolution_px, num in zip(sizes.resolutions, sizes.num_samples, strict=True):
        unet = make_unet(sizes.unet, channels, resolution_px // 8, width, SEED)
        pipeline = make_pipeline(unet, vae, None, no_encoder, make_noise_scheduler())
        pipeline.to(clocks.DEVICE, dtype)
        pipeline.set_progress_bar_config(disable=True)
        states = torch.randn(num, sizes.num_tokens, width).to(clocks.DEVICE, dtype)

        def draw(
            num_steps: int, pipeline: Any = pipeline, states: Any = states
        ) -> None:
            pipeline(
                prompt_embeds=states,
                negative_prompt_embeds=states,
                guidance_scale=3.0,
                num_inference_steps=num_steps,
                output_type="np",
            )

        draw(2)  # warm-up
        rate = clocks.rate_of(draw, [sizes.num_inference_steps], num)
        save(found := found | {f"images_per_second_{resolution_px}": rate})


KEY = "gpu-check-"  # begins the names of the work folders of the short training


class _Killed(Exception):
    """Stands for a kill in the middle of a training."""


def _watch(times: list[float], to_kill: Path | None, *_: Any) -> None:
    """Note the time of a snapshot; stop the training once the first of it is whole."""
    times.append(time.perf_counter())
    if to_kill and len(times) == 1:
        while not any(to_kill.glob("step-" + "[0-9]" * 8)):  # it may be written beside
            time.sleep(0.1)
        raise _Killed


def check_training(sizes: Sizes, save: Save) -> None:
    """Train with stage 04's loop, whole and stopped half-way; compare the weights."""
    profile = load_yaml(paths.PROFILES / "paper.yaml")
    encoders = make_encoders(sizes.vae, sizes.text)
    data = MadeUpLatents(*encoders, sizes.resolutions[0], sizes.num_tokens, False)
    channels, side, _ = data.latent_shape
    width, num_steps = encoders[1].config.hidden_size, sizes.train["num_train_steps"]
    is_gpu = clocks.DEVICE.type == "cuda"
    # As in training, but shorter, and averaged over the last half.
    values = {**profile["train"], "seed": SEED, "scaling_factor": 1.0, **sizes.train}
    values |= {"scheduler": ["", ""], "checkpoint_steps": num_steps // 2}
    values |= {"lr_warmup_steps": 2, "ema_fraction": 0.5}
    values |= {} if is_gpu else {"mixed_precision": "no", "compile": False}
    recipe = TrainRecipe(**{f.name: values[f.name] for f in fields(TrainRecipe)})
    ends: list[torch.Tensor] = []
    found: Found = {"steps": num_steps, "batch_size": recipe.train_batch_size}
    for is_killed in (False, True):
        times: list[float] = []

        key = f"{KEY}{is_killed}"
        shutil.rmtree(work_folder(key), ignore_errors=True)
        watch = partial(_watch, times, work_folder(key) if is_killed else None)
        for _ in range(1 + is_killed):
            unet = make_unet(sizes.unet, channels, side, width, SEED)
            try:
                trained, log = train(key, unet, data, data, recipe, watch=watch)
            except _Killed:
                continue
            weights = [p.detach().float().cpu().flatten() for p in trained.parameters()]
            ends.append(torch.cat(weights))
        if not is_killed:
            seen = recipe.train_batch_size * (num_steps - num_steps // 2)
            found |= {"images_per_second": seen / (times[-1] - times[0])}
            found |= {"includes": "one snapshot and one validation"}
            found |= {"losses": [entry["loss"] for entry in log]}
        save(found)
    gap = (ends[0] - ends[1]).abs().max().item()
    # From the snapshot, one more entry follows the one before the kill; anew, two.
    found["went_on_from_snapshot"] = len(times) == 2
    save(found | {"resumed_weights_off_by_at_most": gap, "same_bits": gap == 0})


# Name -> (what it does, seconds at most); together 12 minutes.
PARTS: dict[str, tuple[Callable[[Sizes, Save], None], int]] = {
    "ablation_256": (partial(check_ablation, place=0), 240),
    "ablation_512": (partial(check_ablation, place=1), 120),
    "captions": (check_captions, 80),
    "numbers": (check_numbers, 40),
    "sampling": (check_sampling, 50),
    "training": (check_training, 190),
}


def run_part(name: str, sizes: Sizes, limit_s: float | None = None) -> Found:
    """Run a part in a process of its own; return what it measured, and how it ended.

    The dictionary has what the part saved, and `ended`: "whole", "at its limit of …" or
    the error's line.
    """
    check, usual = PARTS[name]
    limit_s = usual if limit_s is None else limit_s
    with tempfile.TemporaryDirectory() as folder:
        file, start = Path(folder, "found.json"), time.perf_counter()
        process = multiprocessing.get_context("fork").Process(
            target=_in_process, args=(check, sizes, file)
        )
        process.start()
        process.join(limit_s)
        is_late = process.is_alive()
        if is_late:
            process.kill()
            process.join()
        for left in work_folder(KEY).parent.glob(f"{KEY}*"):  # snapshots of 14 GB
            shutil.rmtree(left, ignore_errors=True)
        found = json.loads(file.read_text()) if file.is_file() else {}
    if is_late:
        found["ended"] = f"at its limit of {limit_s:g} s"
    elif process.exitcode:
        found.setdefault("ended", f"by signal or exit {process.exitcode}")
    return {"seconds": round(time.perf_counter() - start, 1), **found}


def _in_process(check: Callable[[Sizes, Save], None], sizes: Sizes, file: Path) -> None:
    found: Found = {}

    def save(more: Found) -> None:
        found.update(more)
        write_json(file, found)

    logging.set_verbosity_error()
    try:
        check(sizes, save)
        save({"ended": "whole"})
    except Exception as error:  # one part's failure is a result, and ends no other
        save({"ended": brief(error, 300)})
        sys.exit(1)


def hardware_of(parts: Mapping[str, Found]) -> Found:
    """Return the hardware that the parts named: the GPU is not touched here."""
    return next((p["hardware"] for p in parts.values() if "hardware" in p), {})


def judged(parts: Mapping[str, Found]) -> Found:
    """Set what was measured beside `TARGETS`; None where it was not."""

    def best(part: str, name: str, of: str = "") -> float | None:
        rows = [row for row in parts.get(part, {}).get("rows", []) if row[name]]
        values = [row[name][of] if of else row[name] for row in rows]
        return max(values, default=None)

    found = {
        "mfu_256": best("ablation_256", "mfu"),
        "images_per_second_512": best("ablation_512", "images_per_second", "value"),
        "ratio_256": best("ablation_256", "ratio", "value"),
    }
    return {
        name: {
            "found": value,
            "target": TARGETS[name],
            "holds": None if value is None else value >= TARGETS[name],
        }
        for name, value in found.items()
    }


def as_lines(found: Found) -> Iterator[str]:
    """Write the report as lines of text, for a terminal."""
    for name, part in found["parts"].items():
        yield f"{name}: {part['seconds']:g} s, ended: {part['ended']}"
        if "rows" in part:
            yield from (f"  {line}" for line in lines_of_rows(part))
        for key, value in part.items():
            if isinstance(value, int | float | str) and key not in ("seconds", "ended"):
                shown = f"{value:.4g}" if isinstance(value, float) else value
                yield f"  {key}: {shown}"
            elif isinstance(value, dict) and "gradient_norm" in value:
                yield f"  {key}: {json.dumps(value)}"
    for name, one in found["targets"].items():
        word = {True: "reached", False: "missed", None: "not measured"}[one["holds"]]
        yield f"{name}: {one['found']}, target {one['target']}: {word}"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what only a GPU can decide, in at most 12 minutes."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check", description=main.__doc__
    )
    parser.add_argument("--tiny", action="store_true", help="toys, on any machine")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of them: a,b")
    parser.add_argument("--json", type=Path, help="file to write the values to")
    options = parser.parse_args(argv)
    names = options.parts.split(",")
    if unknown := set(names) - set(PARTS):
        sys.exit(f"no part {', '.join(unknown)}; expected some of {', '.join(PARTS)}.")
    if not (options.tiny or torch.cuda.is_available()):
        sys.exit("no GPU is here; run this on one, or try it with --tiny.")
    sizes = tiny_sizes() if options.tiny else paper_sizes()
    parts: dict[str, Found] = {}
    for name in names:
        parts[name] = run_part(name, sizes)
        found = {"is_tiny": options.tiny, "hardware": hardware_of(parts)}
        found |= {"parts": parts, "targets": judged({} if options.tiny else parts)}
        if options.json:  # after every part, in case this process is ended
            write_json(options.json, found)
    print(*as_lines(found), sep="\n")
    if any(part["ended"] != "whole" for part in parts.values()):
        sys.exit("not every part ended whole; see `ended` above.")


if __name__ == "__main__":
    main()
