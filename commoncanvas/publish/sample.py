"""Sample: draw from a released model, in seconds on a CPU.

`python -m commoncanvas sample "red apple"` writes a PNG that says what it is.
The
picture hangs on model, prompt, seed, guidance and steps alone, and it is the one that
the lines on the model's card draw with plain diffusers.
"""

import math
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from commoncanvas.core import paths
from commoncanvas.core.errors import ManifestError, ParameterError
from commoncanvas.core.files import sha256_of, shown
from commoncanvas.core.keys import key_of
from commoncanvas.core.manifest import read_manifest
from commoncanvas.evaluate.credits import credits_of, open_works, write_texts
from commoncanvas.licenses import attribution
from commoncanvas.models.encoders import load_text_encoder
from commoncanvas.models.weights import OPEN_TEXT_ENCODER

STAGE = "release"  # of the manifest that `release` writes
MODEL = paths.RESULTS / "model"


def load_pipeline(folder, max_tokens):
    """Load a released model's parts onto the CPU, with the text encoder beside them.

    Args:
        folder: of a release, with its manifest or before it is written.
        max_tokens: of a prompt.

    Returns:
        A float32 `StableDiffusionPipeline`, whatever the weights are stored in.
    """
    _, text_encoder = load_text_encoder(OPEN_TEXT_ENCODER, max_tokens)
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, text_encoder=text_encoder, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cpu")


def load(folder):
    """Load a released model.

    Args:
        folder: from `release.release`.

    Returns:
        (pipeline, manifest): from `load_pipeline` and `read_manifest`.

    Raises:
        ParameterError: the folder holds no whole released model.
        SourceError: the text encoder's package is missing or not the pinned one.
    """
    try:
        manifest = read_manifest(folder)
        if manifest["stage"] != STAGE:
            raise ManifestError(f"it is of {manifest['stage']}")
        # A tokenizer without its files would load all the same, and read nothing.
        for name, file in manifest["files"].items():
            if "/" in name and sha256_of(Path(folder, name)) != file["sha256"]:
                raise ManifestError(f"{name} is another file")
        return load_pipeline(folder, manifest["facts"]["max_tokens"]), manifest
    except (ManifestError, OSError, ValueError, KeyError) as error:
        found = " ".join(str(error).split()).partition("; ")[0][:160]
        raise ParameterError(
            f"{shown(folder)} is no whole released model ({found}); expected what "
            "`python -m commoncanvas release` writes; make one, or name "
            "another."
        ) from None


def draw(pipeline, prompt, seed, guidance_scale, num_inference_steps):
    """Draw one picture by itself, so that no other prompt or number changes a bit.

    Args:
        pipeline: from `load`.
        prompt: a text.
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
    prompt,
    out,
    seed=0,
    num=1,
    guidance_scale=None,
    num_inference_steps=None,
    folder=MODEL,
    scale=None,
):
    """Draw a prompt into PNG files, which say in their metadata what they are.

    Title is the prompt, Seed the seed, Source the model, Comment the other settings;
    Copyright says whom the model learnt from and, with a scale, whom the picture
    resembles: the names that `credits.write_png` gives them.

    Args:
        prompt: a text.
        out: the PNG file; of several pictures each file's name ends in its seed.
        seed: of the first picture; the next has the next.
        num: pictures.
        guidance_scale, num_inference_steps: None takes what the model was measured at.
        folder: a released model.
        scale: its scale, whose stages 01 to 05 are at hand, to give credits.

    Returns:
        List of (path, credits); credits are from `credits_of`, or None.

    Raises:
        CommonCanvasError: no such model, stage or place, or a value out of range.
    """
    out = Path(out)
    _check(prompt, out, seed, num)
    pipeline, manifest = load(folder)
    facts, variant = manifest["facts"], manifest["variant"]
    guidance = facts["guidance_scale"] if guidance_scale is None else guidance_scale
    steps = num_inference_steps
    steps = facts["num_inference_steps"] if steps is None else steps
    _check_settings(guidance, steps, pipeline.scheduler.config.num_train_timesteps)
    num_tokens = len(pipeline.tokenizer.tokenize(prompt)) + 2  # with its two ends
    if num_tokens > facts["max_tokens"]:
        told = f"the prompt has {num_tokens} tokens, of which {facts['max_tokens']} are"
        print(f"{told} read", file=sys.stderr)
    works, threshold = _works(scale, manifest) if scale else (None, None)
    drawn = []
    for number in range(seed, seed + num):
        file = out.with_stem(f"{out.stem}-{number}") if num > 1 else out
        pixels, credits = draw(pipeline, prompt, number, guidance, steps), None
        thanks = facts["note"]
        if works:
            credits = credits_of(pixels, works, threshold)
            thanks += f"\n\n{attribution.attribution_text(credits)}"
        texts = {
            "Title": prompt,
            "Copyright": thanks,
            "Source": f"{manifest['scale']} {variant}",
            "Seed": str(number),
            "Comment": f"guidance_scale {guidance:g}, {steps} DDIM steps",
        }
        try:
            write_texts(file, pixels, texts)
        except OSError as error:
            raise ParameterError(
                f"{file} cannot be written ({error.strerror}); expected a place for a "
                "file; give another --out."
            ) from None
        drawn.append((file, credits))
    return drawn


def _works(scale, manifest):
    """Return what `open_works` opens, if it is what the model learnt from."""
    own, variant = manifest["scale"], manifest["variant"]
    if scale != own:
        raise ParameterError(
            f"--scale is {scale!r}, but the model learnt from the works of {own!r}; "
            "credits need the same; leave it out or give that."
        )
    works, threshold = open_works(scale, variant)
    if key_of(keys=sorted(works.keys)) != manifest["facts"]["works_key"]:
        raise ManifestError(
            f"04_train of {scale} {variant} is another training than the model's; "
            "credits need the works that it learnt from; release it anew."
        )
    return works, threshold


def _check(prompt, out, seed, num):
    for is_wrong, found, expected in (
        (not prompt.strip(), "the prompt is empty", "words, e.g. 'red apple'"),
        (out.suffix.lower() != ".png", f"--out is {out}", "a file that ends in .png"),
        (not out.parent.is_dir(), f"--out is {out}", "a file in a folder that exists"),
        (num < 1, f"--num is {num}", "1 or more"),
        (not 0 <= seed <= 2**63 - num, f"--seed is {seed}", "0 or more, below 2^63"),
    ):
        _refuse(is_wrong, found, expected)


def _check_settings(guidance, steps, num_train_timesteps):
    found = f"--guidance is {guidance:g}"
    _refuse(not 1 <= guidance < math.inf, found, "1 (no guidance) or more")
    most = num_train_timesteps - 1
    _refuse(not 1 <= steps <= most, f"--steps is {steps}", f"1 to {most}")


def _refuse(is_wrong, found, expected):
    if is_wrong:
        raise ParameterError(f"{found}; expected {expected}; give another.")
