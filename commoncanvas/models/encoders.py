"""VAE and text encoder: pictures and captions to tensors, and latents to pictures.

Stage 03 encodes each picture and text once; later stages load both to decode and to
export. Each comes from a local folder or from the Hub, pinned by its commit, as a part
of a whole diffusers pipeline or as a bare model. Source: ldm; sd2.
"""

import contextlib
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from transformers import AutoConfig, AutoModel, AutoTokenizer

from commoncanvas.core.errors import ParameterError, PictureError, brief
from commoncanvas.core.images import images_to_pixels, pixels_to_images
from commoncanvas.models.weights import OPEN_TEXT_ENCODER, find_part, only_errors

# Pictures or texts a forward pass. Source: mosaicml-diffusion, precompute_latents.py.
BATCH_SIZE = 64
DTYPES = {"float32": torch.float32, "float16": torch.float16}


def usual_dtype() -> str:
    """Return "float16" where there is a GPU, as the authors encode, else "float32"."""
    return "float16" if torch.cuda.is_available() else "float32"


def load_vae(
    folder: Path | str, revision: str | None = None, dtype: str = "float32"
) -> Any:
    """Load a frozen `AutoencoderKL`, once a process, on the GPU if there is one.

    Args:
        folder: a path, absolute or from the project's root, or a Hub id; a whole
            diffusers pipeline or a bare model.
        revision: the Hub commit; None or "" for a folder.
        dtype: "float32", which later stages need beside a float32 UNet, or "float16".

    Raises:
        ParameterError: a Hub id without a revision, a folder without a VAE, or an
            unknown dtype.
    """
    return _load_vae(str(folder), revision or None, dtype)


@functools.cache
def _load_vae(folder: str, revision: str | None, dtype: str) -> Any:
    """Load a VAE once a process."""
    name, words = find_part(folder, revision, "vae")
    vae: Any = AutoencoderKL.from_pretrained(
        name, torch_dtype=_torch_dtype(dtype), use_safetensors=True, **words
    )
    # An exported config names the VAE as the caller did, without this machine's path.
    vae.register_to_config(_name_or_path=folder)
    return frozen(vae)


def load_text_encoder(
    folder: Path | str,
    max_length: int,
    revision: str | None = None,
    dtype: str = "float32",
) -> tuple[Any, Any]:
    """Return (tokenizer, text_encoder), frozen, once a process, on the GPU if any.

    `config.use_attention_mask` decides whether `text_states` and diffusers' pipelines
    mask padding: BERT's is masked, CLIP's is not, as in SD2 and the authors' code.
    Source: mosaicml-diffusion, stable_diffusion_2.

    Args:
        folder: as for `load_vae`, or "all-MiniLM-L6-v2" for the open world's encoder.
        max_length: tokens of every caption, padded or cut [tokens].
        revision, dtype: as for `load_vae`.

    Raises:
        ParameterError: as for `load_vae`; or it is neither CLIP's nor BERT, or has
            fewer positions than `max_length`.
        SourceError: all-MiniLM-L6-v2 is missing or not the pinned one.
    """
    return _load_text_encoder(str(folder), max_length, revision or None, dtype)


@functools.cache
def _load_text_encoder(
    folder: str, max_length: int, revision: str | None, dtype: str
) -> tuple[Any, Any]:
    """Load a tokenizer and a text encoder once a process."""
    config, name, words = _text_config(folder, revision)
    is_clip = config.model_type == "clip_text_model"
    if max_length > config.max_position_embeddings:
        raise ParameterError(
            f"captions have {max_length} tokens, but {folder!r} reads at most "
            f"{config.max_position_embeddings}; lower latents.max_tokens."
        )
    # Nothing here uses BERT's pooling layer. Where its weights are known to be in the
    # file, the report that they are left over is kept back.
    options = {} if is_clip else {"add_pooling_layer": False}
    is_open = folder == OPEN_TEXT_ENCODER
    with only_errors() if is_open else contextlib.nullcontext():
        text_encoder: Any = AutoModel.from_pretrained(
            name,
            dtype=_torch_dtype(dtype),
            use_safetensors=True,
            trust_remote_code=False,
            **options,
            **words,
        )
    if not hasattr(config, "use_attention_mask"):
        text_encoder.config.use_attention_mask = not is_clip
    name, words = find_part(folder, revision, "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(
        name, model_max_length=max_length, trust_remote_code=False, **words
    )
    return tokenizer, frozen(text_encoder)


def text_shape(
    max_length: int, folder: str = OPEN_TEXT_ENCODER, revision: str | None = None
) -> tuple[int, int]:
    """Return (tokens, width) of a text's states, without loading the weights."""
    config, _, _ = _text_config(str(folder), revision or None)
    return max_length, config.hidden_size


def text_states(
    tokenizer: Any, text_encoder: Any, texts: Sequence[str]
) -> torch.Tensor:
    """Return (n, tokens, width) float32 last hidden states of padded captions.

    They are on the device of `text_encoder`. All are padded to the tokenizer's
    `model_max_length`, so that they depend on other captions by rounding only.
    """
    rows = []
    for i in range(0, len(texts), BATCH_SIZE):
        batch = tokenizer(
            list(texts[i : i + BATCH_SIZE]),
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        ).to(text_encoder.device)
        is_masked = text_encoder.config.use_attention_mask
        mask = batch.attention_mask if is_masked else None
        rows.append(text_encoder(batch.input_ids, attention_mask=mask)[0].float())
    return torch.cat(rows)


@torch.no_grad()
def encode_images(
    vae: Any, pixels: np.ndarray, keys: Sequence[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Encode pixels to the VAE's posterior, on the VAE's device and in its dtype.

    Args:
        pixels: (batch, h, w, 3) uint8.
        keys: the pictures' names, for the error.

    Returns:
        (mean, logvar), each (batch, channels, h/8, w/8) float32 on the CPU, not scaled.

    Raises:
        PictureError: a latent is not finite; the message names the picture.
    """
    images = pixels_to_images(pixels).to(vae.device, vae.dtype)
    posterior = vae.encode(images).latent_dist
    mean, logvar = posterior.mean.float().cpu(), posterior.logvar.float().cpu()
    # They are stored as float16, where 65,520 is infinite already.
    both = torch.cat([mean, logvar], 1).half()
    finite = torch.isfinite(both).flatten(1).all(1)
    if not finite.all():
        bad = keys[int((~finite).nonzero()[0])]
        is_half = vae.dtype == torch.float16
        raise PictureError(
            f"the latent of {bad} is not finite; expected numbers that float16 holds; "
            + ("set latents.encoder_dtype to float32 or " if is_half else "")
            + "reject the picture."
        )
    return mean, logvar


@torch.no_grad()
def decode_latents(vae: Any, raw_latents: torch.Tensor) -> np.ndarray:
    """Decode (batch, channels, h/8, w/8) unscaled latents to (batch, h, w, 3) uint8."""
    batches = raw_latents.to(vae.device, vae.dtype).split(BATCH_SIZE)
    return np.concatenate([images_to_pixels(vae.decode(b).sample) for b in batches])


def _text_config(folder: str, revision: str | None) -> tuple[Any, str, dict[str, str]]:
    """Return a text encoder's config, and (name, words) as from `find_part`."""
    name, words = find_part(folder, revision, "text_encoder")
    try:  # without a word, transformers asks whether to run a stranger's code
        config = AutoConfig.from_pretrained(name, trust_remote_code=False, **words)
    except (ValueError, RecursionError) as error:
        raise ParameterError(
            f"the text encoder {folder!r} has no configuration that transformers "
            f"reads ({brief(error)}); expected one; name another in the profile."
        ) from None
    if config.model_type not in ("bert", "clip_text_model"):
        raise ParameterError(
            f"the text encoder {folder!r} is a {config.model_type!r}; expected SD2's "
            "clip_text_model, or bert; name another in the profile."
        )
    return config, name, words


def _torch_dtype(dtype: str) -> torch.dtype:
    """Return torch's dtype of the name in the profile."""
    if dtype not in DTYPES:
        raise ParameterError(
            f"the encoders' dtype is {dtype!r}; expected one of {', '.join(DTYPES)}; "
            "edit latents.encoder_dtype."
        )
    return DTYPES[dtype]


def frozen(model: Any) -> Any:
    """Return the model in evaluation, without gradients, on the GPU if there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device).eval().requires_grad_(False)
