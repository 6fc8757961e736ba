"""VAE and text encoder: pictures and captions to tensors, a shard at a time.

Stage 03 calls both once a picture and a text; later stages load them to decode and to
export. Both come from a folder or the Hub. Source: ldm; sd2.
"""

import functools

import numpy as np
import pyarrow as pa
import torch
from diffusers import AutoencoderKL
from transformers import AutoModel, AutoTokenizer

from commoncanvas.errors import PictureError
from commoncanvas.features import image_features
from commoncanvas.images import pixels_to_images, stored_pixels
from commoncanvas.sources import weights_path

PIXELS_PER_LATENT = 8


@functools.cache
def load_vae(folder):
    """Load a frozen `AutoencoderKL` from a folder or the Hub."""
    return AutoencoderKL.from_pretrained(folder).eval().requires_grad_(False)


@functools.cache
def load_text_encoder(max_length):
    """Return (tokenizer, text_encoder) of all-MiniLM-L6-v2 as a pipeline wants them.

    `use_attention_mask` tells diffusers' pipelines to mask padding, as we do here.

    Args:
        max_length: tokens of every caption, padded or cut [tokens].
    """
    folder = weights_path("all-MiniLM-L6-v2").parent
    tokenizer = AutoTokenizer.from_pretrained(folder, model_max_length=max_length)
    text_encoder = AutoModel.from_pretrained(folder, add_pooling_layer=False)
    text_encoder.config.use_attention_mask = True
    return tokenizer, text_encoder.eval().requires_grad_(False)


@torch.no_grad()
def encode_texts(texts, max_length):
    """Return (n, tokens, width) float32 text states of padded captions."""
    tokenizer, text_encoder = load_text_encoder(max_length)
    batch = tokenizer(
        list(texts),
        padding="max_length",
        truncation=True,
        max_length=max_length,
        return_tensors="pt",
    )
    return text_encoder(batch.input_ids, attention_mask=batch.attention_mask)[0]


@torch.no_grad()
def encode_images(vae, pixels, keys):
    """Encode pixels to the VAE's posterior.

    Args:
        vae: an `AutoencoderKL`.
        pixels: (batch, h, w, 3) uint8.
        keys: the pictures' names, for the error.

    Returns:
        (mean, logvar), each (batch, channels, h/8, w/8) float32, not scaled.

    Raises:
        PictureError: a latent is not finite; the message names the picture.
    """
    posterior = vae.encode(pixels_to_images(pixels).to(vae.dtype)).latent_dist
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    # They are stored as float16, where 65,520 is infinite already.
    both = torch.cat([mean, logvar], 1).half()
    finite = torch.isfinite(both).flatten(1).all(1)
    if not finite.all():
        bad = keys[int((~finite).nonzero()[0])]
        raise PictureError(
            f"the latent of {bad} is not finite; expected numbers; use a float32 VAE "
            "(latents.dtype) or reject the picture."
        )
    return mean, logvar


def latent_table(vae_folder, size, rows):
    """Encode rows of (key, png) to a table of raw float16 bytes, for `run_shards`."""
    vae = load_vae(vae_folder)
    pixels = np.stack([stored_pixels(png, size) for _, png in rows])
    keys = [key for key, _ in rows]
    mean, logvar = (t.half().numpy() for t in encode_images(vae, pixels, keys))
    return pa.table(
        {
            "key": keys,
            "mean": [m.tobytes() for m in mean],
            "logvar": [v.tobytes() for v in logvar],
            "features": [f.tobytes() for f in image_features(pixels).astype("float32")],
        }
    )


def text_table(max_length, texts):
    """Encode texts to a table of raw float16 bytes, for `run_shards`."""
    states = encode_texts(texts, max_length).half().numpy()
    return pa.table({"text": list(texts), "states": [s.tobytes() for s in states]})
