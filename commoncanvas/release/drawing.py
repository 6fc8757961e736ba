"""Drawing with a released model: its parts, and the steps of diffusers' pipeline.

The steps are those of `StableDiffusionPipeline` without what a released model has no
use for; the same parts, seed and settings give the same bytes. Importing the pipeline
itself takes longer than drawing ten pictures.
"""

import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from commoncanvas.models import guidance
from commoncanvas.models.weights import OPEN_TEXT_ENCODER, only_errors, weights_path

WEIGHTS = "diffusion_pytorch_model.safetensors"
LIBRARIES = ("diffusers", "transformers")


@dataclass(frozen=True)
class Parts:
    """The parts of a latent diffusion model, on the CPU in float32, as loaded."""

    unet: Any
    vae: Any
    scheduler: Any
    tokenizer: Any
    text_encoder: Any


def load_parts(folder: Path, max_tokens: int) -> Parts:
    """Load the parts of a pipeline's folder as float32, onto the CPU.

    A text encoder that is not in the folder is the open world's, of its package.

    Args:
        max_tokens: of a prompt; a longer one is cut.

    Raises:
        OSError, ValueError, KeyError: the folder is not a whole pipeline.
        SourceError: the text encoder's package is missing or not the pinned one.
    """
    index = _read(folder / "model_index.json")
    kinds = {name: _class(*index[name]) for name in Parts.__dataclass_fields__}
    scheduler = kinds["scheduler"].from_config(
        _read(folder / "scheduler" / "scheduler_config.json")
    )
    tokenizer = kinds["tokenizer"].from_pretrained(
        folder / "tokenizer", model_max_length=max_tokens, local_files_only=True
    )
    text_encoder = _text_encoder(folder / "text_encoder", kinds["text_encoder"])
    unet, vae = (_network(folder / part, kinds[part]) for part in ("unet", "vae"))
    return Parts(unet, vae, scheduler, tokenizer, text_encoder.eval())


def _text_encoder(folder: Path, kind: Any) -> Any:
    if folder.is_dir():
        with only_errors():
            return kind.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True
            )
    # `from_pretrained` would import sympy, which takes as long as the drawing.
    weights = weights_path(OPEN_TEXT_ENCODER)
    config = kind.config_class.from_pretrained(weights.parent, local_files_only=True)
    config.use_attention_mask = True  # as in training
    encoder = kind(config, add_pooling_layer=False)  # nothing uses that layer
    known = encoder.state_dict().keys()
    found = {n: w for n, w in load_file(weights).items() if n in known}
    encoder.load_state_dict(found)
    return encoder


def _network(folder: Path, kind: Any) -> Any:
    network = kind.from_config(_read(folder / "config.json"))
    network.load_state_dict(load_file(folder / WEIGHTS))  # halves become float32
    return network.eval()


def _class(library: str, name: str) -> Any:
    if library not in LIBRARIES:
        raise ValueError(f"a part is of {library!r}")
    return getattr(importlib.import_module(library), name)


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def draw(
    parts: Any,
    prompt: str,
    seed: int,
    guidance_scale: float,
    num_inference_steps: int,
) -> np.ndarray:
    """Draw one picture by itself, so that no other prompt or number changes a bit.

    Args:
        parts: `Parts`, or a `StableDiffusionPipeline` in float32; on a GPU the last
            bits differ.
        seed: of the starting noise, 0 or more.
        guidance_scale: 1 means no guidance. Source: imagen, Eq. 2.
        num_inference_steps: DDIM steps.

    Returns:
        (h, w, 3) uint8 pixels.
    """
    told = (parts, prompt, seed, guidance_scale, num_inference_steps)
    *_, latents = denoise(*told)
    return decode(parts.vae, latents)


@torch.no_grad()
def denoise(
    parts: Any,
    prompt: str,
    seed: int,
    guidance_scale: float,
    num_inference_steps: int,
) -> Iterator[torch.Tensor]:
    """Yield the latents after each step, (1, channels, h/8, w/8); see `draw`.

    The steps of `StableDiffusionPipeline.__call__` in diffusers.
    """
    generator = torch.Generator().manual_seed(seed)
    # (1 or 2, tokens, width), the empty caption's first
    texts = ["", prompt] if guidance_scale > 1 else [prompt]
    prompt_embeds = torch.cat([_encode(parts, text) for text in texts])
    edge, channels = parts.unet.config.sample_size, parts.unet.config.in_channels
    noise = torch.randn((1, channels, edge, edge), generator=generator)
    noise = noise.to(parts.unet.device)  # drawn on the CPU, whatever draws the picture
    how = noise, guidance_scale, num_inference_steps
    for _, step in guidance.denoise(parts.unet, parts.scheduler, prompt_embeds, *how):
        yield step.prev_sample


@torch.no_grad()
def decode(vae: Any, latents: torch.Tensor) -> np.ndarray:
    """Decode the latents of one picture to (h, w, 3) uint8 pixels."""
    images = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
    images = (images * 0.5 + 0.5).clamp(0, 1)
    return (images[0].permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)


def _encode(parts: Any, text: str) -> torch.Tensor:
    """Return the (1, tokens, width) states of one text, padded to the tokenizer's."""
    tokenizer, encoder = parts.tokenizer, parts.text_encoder
    read = tokenizer(
        text,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).to(encoder.device)
    is_masked = getattr(encoder.config, "use_attention_mask", False)
    mask = read.attention_mask if is_masked else None
    return encoder(read.input_ids, attention_mask=mask)[0]
