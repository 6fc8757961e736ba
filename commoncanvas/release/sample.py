"""Sample: draw from a released model, in seconds on a CPU.

`commoncanvas sample "red apple"` writes a PNG that says what it is. The picture depends
on model, prompt, seed, guidance scale and step count alone, and it is the one that the
lines on the model's card draw with plain diffusers.
"""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from commoncanvas.core import paths
from commoncanvas.core.determinism import settle
from commoncanvas.core.errors import ManifestError, ParameterError, brief
from commoncanvas.core.files import shown
from commoncanvas.core.keys import key_of
from commoncanvas.core.manifest import compare, read_manifest
from commoncanvas.core.text import is_whole
from commoncanvas.evaluate.origin import write_png
from commoncanvas.release.drawing import Parts, draw
from commoncanvas.release.drawing import load_parts as load_pipeline

if TYPE_CHECKING:  # a second and more, which only credits need
    import pandas as pd

    from commoncanvas.evaluate.nearest import TrainingWorks

STAGE = "release"  # of the manifest that `release` writes
MODEL = paths.RESULTS / "model"
Pipeline = Parts  # what `draw` draws with


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


def sample(
    prompt: str,
    out: Path | str,
    seed: int = 0,
    num: int = 1,
    guidance_scale: float | None = None,
    num_inference_steps: int | None = None,
    folder: Path = MODEL,
    scale: str | None = None,
    strip: bool = False,
) -> "list[tuple[Path, pd.DataFrame | None]]":
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
        strip: one file instead, with the pictures side by side; each is the one that
            its seed draws alone.

    Returns:
        (path, credits) of each file; credits are from `credits_of`, or None.

    Raises:
        CommonCanvasError: no such model, stage or place, or a value out of range.
    """
    out = Path(out)
    _check(prompt, out, seed, num)
    apart = not (strip and scale)  # a file of several pictures has no closest works
    demand(apart, f"--scale is {scale!r} beside --strip", "one of the two")
    pipeline, manifest = load(folder)
    facts = manifest["facts"]
    guidance = facts["guidance_scale"] if guidance_scale is None else guidance_scale
    steps = num_inference_steps
    steps = facts["num_inference_steps"] if steps is None else steps
    check_settings(guidance, steps, pipeline.scheduler.config.num_train_timesteps)
    num_tokens = count_tokens(pipeline, prompt)
    if num_tokens > facts["max_tokens"]:
        read = f"of which {facts['max_tokens']} are read"
        print(f"the prompt has {num_tokens} tokens, {read}", file=sys.stderr)
    opened = works_of_model(scale, manifest) if scale else None
    comment = f"guidance_scale {guidance:g}, {steps} DDIM steps"
    about = model_of(manifest), comment
    drawn, tiles = [], []
    for number in range(seed, seed + num):
        pixels = draw(pipeline, prompt, number, guidance, steps)
        if strip:
            tiles.append(pixels)
            continue
        file = out.with_stem(f"{out.stem}-{number}") if num > 1 else out
        credits, thanks = None, facts["note"]
        if opened:
            credits, credited = _credits(pixels, *opened)
            thanks += f"\n\n{credited}"
        _write(file, pixels, prompt, thanks, str(number), *about)
        drawn.append((file, credits))
    if strip:
        seeds = f"{seed} to {seed + num - 1}" if num > 1 else str(seed)
        _write(out, np.concatenate(tiles, 1), prompt, facts["note"], seeds, *about)
        drawn.append((out, None))
    return drawn


def model_of(manifest: dict[str, Any]) -> str:
    """Return a model's name in a picture's metadata, e.g. "full cc_emoji"."""
    return f"{manifest['scale']} {manifest['variant']}"


def count_tokens(pipeline: Parts, prompt: str) -> int:
    """Count a prompt's tokens with its two ends."""
    return len(pipeline.tokenizer.tokenize(prompt)) + 2


def _write(
    file: Path,
    pixels: np.ndarray,
    prompt: str,
    thanks: str,
    seed: str,
    model: str,
    comment: str,
) -> None:
    """Write a picture with its origin; see `write_png`."""
    try:
        write_png(file, pixels, prompt, thanks, model, seed, comment)
    except OSError as error:
        raise ParameterError(
            f"{file} cannot be written ({error.strerror}); expected a place for a "
            "file; give another --out."
        ) from None


def _credits(
    pixels: np.ndarray, works: "TrainingWorks", threshold: float
) -> "tuple[pd.DataFrame, str]":
    """Return (closest works, their attribution) of a picture."""
    from commoncanvas.evaluate.credits import credits_of
    from commoncanvas.licenses.attribution import attribution_text

    found = credits_of(pixels, works, threshold)
    return found, attribution_text(found)


def report(prompt: str, out: Path, model: Path | None, **options: Any) -> None:
    """Draw as `sample` and print each file with the works that it is closest to."""
    settle()
    for path, credits in sample(prompt, out, folder=model or MODEL, **options):
        print(path)
        for work in credits.itertuples() if credits is not None else ():
            print(f"  {work.closeness}: {work.title!r} by {work.author!r}")


def works_of_model(
    scale: str, manifest: dict[str, Any]
) -> "tuple[TrainingWorks, float]":
    """Return what `open_works` opens, if it is what the model was trained on."""
    from commoncanvas.evaluate.credits import open_works

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
    demand(bool(prompt.strip()), "the prompt is empty", "words, e.g. 'red apple'")
    demand(is_whole(prompt), "the prompt is not UTF-8", "words, e.g. 'red apple'")
    demand(is_png, f"--out is {out}", "a file that ends in .png")
    demand(has_place, f"--out is {out}", "a file in a folder that exists")
    demand(num >= 1, f"--num is {num}", "1 or more")
    demand(0 <= seed <= 2**63 - num, f"--seed is {seed}", "0 or more, below 2^63")


def check_settings(guidance: float, steps: int, num_train_timesteps: int) -> None:
    """Refuse a guidance scale or a number of steps that is out of range."""
    found, most = f"--guidance is {guidance:g}", num_train_timesteps - 1
    demand(1 <= guidance < math.inf, found, "1 (no guidance) or more")
    demand(1 <= steps <= most, f"--steps is {steps}", f"1 to {most}")


def demand(holds: bool, found: str, expected: str) -> None:
    """Raise ParameterError in one line where a value is not as expected."""
    if not holds:
        raise ParameterError(f"{found}; expected {expected}; give another.")
