"""Sample: draw from a released model, in seconds on a CPU.

`commoncanvas sample "red apple"` writes a PNG that says what it is. The picture depends
on model, prompt, seed, guidance scale and step count alone, and it is the one that the
lines on the model's card draw with plain diffusers.
"""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from diffusers import StableDiffusionPipeline

from commoncanvas.core import paths
from commoncanvas.core.determinism import settle
from commoncanvas.core.errors import ManifestError, ParameterError, brief
from commoncanvas.core.files import shown
from commoncanvas.core.keys import key_of
from commoncanvas.core.manifest import compare, read_manifest
from commoncanvas.core.text import is_whole
from commoncanvas.evaluate.credits import credits_of, open_works, write_png
from commoncanvas.evaluate.nearest import TrainingWorks
from commoncanvas.licenses import attribution
from commoncanvas.models.encoders import load_text_encoder
from commoncanvas.models.weights import OPEN_TEXT_ENCODER

STAGE = "release"  # of the manifest that `release` writes
MODEL = paths.RESULTS / "model"
Pipeline = Any  # a StableDiffusionPipeline, whose own types say too little


def load_pipeline(folder: Path, max_tokens: int) -> Pipeline:
    """Load a release's parts as float32, onto the CPU.

    A text encoder that is not in the folder is the open world's, of its package.
    """
    parts = {}
    if not (folder / "text_encoder").is_dir():
        _, parts["text_encoder"] = load_text_encoder(OPEN_TEXT_ENCODER, max_tokens)
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, local_files_only=True, dtype=torch.float32, **parts
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cpu")


def load(folder: Path) -> tuple[Pipeline, dict[str, Any]]:
    """Load a released model, and its manifest.

    Raises:
        ParameterError: the folder holds no whole released model.
        SourceError: the text encoder's package is missing or not the pinned one.
    """
    try:
        manifest = read_manifest(folder, verify=False)
        if manifest["stage"] != STAGE:
            raise ManifestError(f"it is of {manifest['stage']}")
        # A tokenizer without its files would load all the same, and read nothing.
        parts = {name: file for name, file in manifest["files"].items() if "/" in name}
        compare(folder, parts, {name: folder / name for name in parts})
        return load_pipeline(folder, manifest["facts"]["max_tokens"]), manifest
    except (ManifestError, OSError, ValueError, KeyError) as error:
        found = brief(error).partition("; ")[0]
        raise ParameterError(
            f"{shown(folder)} is no whole released model ({found}); expected what "
            "`commoncanvas release` writes; make one, or name another."
        ) from None


def draw(
    pipeline: Pipeline,
    prompt: str,
    seed: int,
    guidance_scale: float,
    num_inference_steps: int,
) -> np.ndarray:
    """Draw one picture by itself, so that no other prompt or number changes a bit.

    Args:
        seed: of the starting noise, 0 or more.
        guidance_scale: 1 means no guidance. Source: imagen, Eq. 2.
        num_inference_steps: DDIM steps.

    Returns:
        (h, w, 3) uint8 pixels.
    """
    picture = pipeline(
        prompt,
        guidance_scale=guidance_scale,
        num_inference_steps=num_inference_steps,
        generator=torch.Generator().manual_seed(seed),
    ).images[0]
    return np.asarray(picture)


def sample(
    prompt: str,
    out: Path | str,
    seed: int = 0,
    num: int = 1,
    guidance_scale: float | None = None,
    num_inference_steps: int | None = None,
    folder: Path = MODEL,
    scale: str | None = None,
) -> list[tuple[Path, pd.DataFrame | None]]:
    """Draw a prompt into PNG files, which say in their metadata what they are.

    Title is the prompt, Seed the seed, Source the model, Comment the other settings;
    Copyright credits the training works and, with a scale, those that the picture is
    closest to.

    Args:
        out: the PNG file; of several pictures each file's name ends in its seed.
        seed: of the first picture; the next has the next.
        guidance_scale, num_inference_steps: None takes what the model was measured at.
        folder: a released model.
        scale: the model's, whose stages 01 to 05 have run here; None gives no credits.

    Returns:
        (path, credits) of each picture; credits are from `credits_of`, or None.

    Raises:
        CommonCanvasError: no such model, stage or place, or a value out of range.
    """
    out = Path(out)
    _check(prompt, out, seed, num)
    pipeline, manifest = load(folder)
    facts = manifest["facts"]
    guidance = facts["guidance_scale"] if guidance_scale is None else guidance_scale
    steps = num_inference_steps
    steps = facts["num_inference_steps"] if steps is None else steps
    _check_settings(guidance, steps, pipeline.scheduler.config.num_train_timesteps)
    num_tokens = len(pipeline.tokenizer.tokenize(prompt)) + 2  # with its two ends
    if num_tokens > facts["max_tokens"]:
        read = f"of which {facts['max_tokens']} are read"
        print(f"the prompt has {num_tokens} tokens, {read}", file=sys.stderr)
    opened = _works(scale, manifest) if scale else None
    model = f"{manifest['scale']} {manifest['variant']}"
    comment = f"guidance_scale {guidance:g}, {steps} DDIM steps"
    drawn = []
    for number in range(seed, seed + num):
        file = out.with_stem(f"{out.stem}-{number}") if num > 1 else out
        pixels = draw(pipeline, prompt, number, guidance, steps)
        credits, thanks = None, facts["note"]
        if opened:
            works, threshold = opened
            credits = credits_of(pixels, works, threshold)
            thanks += f"\n\n{attribution.attribution_text(credits)}"
        try:
            write_png(file, pixels, prompt, thanks, model, number, comment)
        except OSError as error:
            raise ParameterError(
                f"{file} cannot be written ({error.strerror}); expected a place for a "
                "file; give another --out."
            ) from None
        drawn.append((file, credits))
    return drawn


def report(prompt: str, out: Path, model: Path | None, **options: Any) -> None:
    """Draw as `sample` and print each file with the works that it is closest to."""
    settle()
    for path, credits in sample(prompt, out, folder=model or MODEL, **options):
        print(path)
        for work in credits.itertuples() if credits is not None else ():
            copy = " (a copy)" if work.is_copy else ""
            print(f"  {work.similarity:.4f}{copy}: {work.title!r} by {work.author!r}")


def _works(scale: str, manifest: dict[str, Any]) -> tuple[TrainingWorks, float]:
    """Return what `open_works` opens, if it is what the model was trained on."""
    own, variant = manifest["scale"], manifest["variant"]
    if scale != own:
        raise ParameterError(
            f"--scale is {scale!r}, but the model was trained on works of {own!r}; "
            "credits need the same; leave it out or give that."
        )
    works, threshold = open_works(scale, variant)
    if key_of(keys=sorted(works.keys)) != manifest["facts"]["works_key"]:
        raise ManifestError(
            f"04_train of {scale} {variant} is another training than the model's; "
            "credits need the works that it was trained on; release it anew."
        )
    return works, threshold


def _check(prompt: str, out: Path, seed: int, num: int) -> None:
    is_png, has_place = out.suffix.lower() == ".png", out.parent.is_dir()
    _demand(bool(prompt.strip()), "the prompt is empty", "words, e.g. 'red apple'")
    _demand(is_whole(prompt), "the prompt is not UTF-8", "words, e.g. 'red apple'")
    _demand(is_png, f"--out is {out}", "a file that ends in .png")
    _demand(has_place, f"--out is {out}", "a file in a folder that exists")
    _demand(num >= 1, f"--num is {num}", "1 or more")
    _demand(0 <= seed <= 2**63 - num, f"--seed is {seed}", "0 or more, below 2^63")


def _check_settings(guidance: float, steps: int, num_train_timesteps: int) -> None:
    found, most = f"--guidance is {guidance:g}", num_train_timesteps - 1
    _demand(1 <= guidance < math.inf, found, "1 (no guidance) or more")
    _demand(1 <= steps <= most, f"--steps is {steps}", f"1 to {most}")


def _demand(holds: bool, found: str, expected: str) -> None:
    if not holds:
        raise ParameterError(f"{found}; expected {expected}; give another.")
