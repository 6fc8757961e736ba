"""Stage 00: the three parts examined on licensed pictures that they never saw.

The notebook and the tests call the same functions, so that the figures on the page can
be computed again from what lies in `pretrained/`.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from commoncanvas.analysis import estimates, matching
from commoncanvas.captions.text import exact_match, word_f1, words
from commoncanvas.core.images import images_to_pixels, pixels_to_images
from commoncanvas.models.captioner import OpenCaptioner
from commoncanvas.models.efficientnet import closest, image_features
from commoncanvas.models.encoders import load_vae
from commoncanvas.models.scorer import ImageScorer, load_scorer, sentence_embeds
from commoncanvas.models.unets import make_unet
from commoncanvas.pretrain.autoencoder import SIZE, linear_psnr, psnr, reconstruct
from commoncanvas.speed.clocks import rate_of

NUM_CHOICES = 100
# What the parts are asked for: (set, or "" for all together; figure; at least).
GOALS = [
    ("twemoji", "exact", 0.65),
    ("twemoji", "word_f1", 0.72),
    ("emojione", "exact", 0.55),
    ("openmoji", "exact, if seen", 0.35),
    ("", "psnr_db", 25.0),
    ("", "image_to_text", 10 / NUM_CHOICES),
    ("", "text_to_image", 10 / NUM_CHOICES),
]


@dataclass(frozen=True)
class Parts:
    """Captioner, VAE and scorer, loaded as later stages load them."""

    captioner: OpenCaptioner
    vae: object
    scorer: ImageScorer

    @classmethod
    def load(cls, folder):
        """Load the parts from a folder such as `pretrained/`."""
        folder = Path(folder)
        return cls(
            OpenCaptioner(folder / "captioner"),
            load_vae(str(folder / "vae")),
            load_scorer(folder / "scorer"),
        )


def at_vae_size(pixels):
    """Return (n, 64, 64, 3) uint8 pixels, resized as stage 03 resizes."""
    return images_to_pixels(pixels_to_images(pixels, SIZE))


def examine(parts, pixels, titles):
    """Caption, rebuild and embed licensed pictures.

    Args:
        parts: `Parts`.
        pixels: (n, h, w, 3) uint8.
        titles: their human names.

    Returns:
        (table, decoded, embeds): a DataFrame with title, caption, exact, word_f1 and
        psnr_db; (n, 64, 64, 3) uint8 reconstructions; the scorer's (n, 384) embeddings.
    """
    small = at_vae_size(pixels)
    decoded = reconstruct(parts.vae, small)
    said = parts.captioner.caption(pixels)
    pairs = list(zip(said, titles, strict=True))
    table = pd.DataFrame(
        {
            "title": list(titles),
            "caption": said,
            "exact": [exact_match(*pair) for pair in pairs],
            "word_f1": [word_f1(*pair) for pair in pairs],
            "psnr_db": psnr(decoded, small),
        }
    )
    return table, decoded, parts.scorer.image_embeds(small)


def figures_of(table, embeds, seed):
    """Return the figures of one set, each {"value", "interval", "n"}.

    Args:
        table, embeds: from `examine`.
        seed: of the names among which each picture must find its own.
    """
    texts = sentence_embeds(table["title"])
    choices = min(NUM_CHOICES, len(table))
    found = matching.retrieval(embeds, texts, choices, seed)
    figures = {
        "exact": estimates.wilson(int(table["exact"].sum()), len(table)),
        "word_f1": estimates.mean_interval(table["word_f1"]),
        "psnr_db": estimates.mean_interval(table["psnr_db"]),
        "image_to_text": found["image_to_text"],
        "text_to_image": found["text_to_image"],
    }
    return {name: estimate.as_dict() for name, estimate in figures.items()}


def share_exact(captions, titles):
    """Return the share of captions that are the name, word for word."""
    pairs = zip(captions, titles, strict=True)
    return float(np.mean([exact_match(*pair) for pair in pairs]))


def share_found(scorer, pixels, titles, names):
    """Return the share of pictures whose own name the scorer puts first of all names.

    Args:
        scorer: an `ImageScorer`.
        pixels: (n, h, w, 3) uint8.
        titles: the pictures' names.
        names: all names to choose from.
    """
    scores = scorer.image_embeds(pixels) @ sentence_embeds(names).T
    return float(np.mean([names[i] for i in scores.argmax(1)] == np.array(titles)))


def nearest_titles(pixels, known_pixels, known_titles):
    """Name each picture after the most similar known one in plain ImageNet features."""
    places, _ = closest(pixels, image_features(known_pixels))
    return [known_titles[i] for i in places]


def nearest_names(captioner, pixels, names):
    """Name each picture after the name closest to the captioner's own embedding."""
    embeds = np.concatenate(
        [captioner.embed(pixels[i : i + 64]) for i in range(0, len(pixels), 64)]
    )
    return [names[i] for i in (embeds @ sentence_embeds(names).T).argmax(1)]


def score_spread(embeds, titles, seed):
    """Return the scores of right, nearly right and random names.

    A near miss is the closest name in sentence space that is not the same words.

    Args:
        embeds: (n, 384) of the pictures.
        titles: their names.
        seed: of the shuffle.

    Returns:
        {"right name", "near miss", "random name"} -> (n,) alignment, −100 … 100.
    """
    texts = sentence_embeds(titles)
    alike = texts @ texts.T
    told = [" ".join(words(title)) for title in titles]
    same = np.array(told)[:, None] == np.array(told)[None]
    near = np.where(same, -np.inf, alike).argmax(1)
    order = np.random.default_rng(seed).permutation(len(texts))
    other = np.empty_like(order)
    other[order] = np.roll(order, -1)  # on one cycle through all, never itself
    return {
        "right name": matching.alignment(embeds, texts),
        "near miss": matching.alignment(embeds, texts[near]),
        "random name": matching.alignment(embeds, texts[other]),
    }


def content_hashes(rows):
    """Return the SHA-256 of each row's drawing instructions, as a set."""
    return {hashlib.sha256(row["svg"].encode()).hexdigest() for row in rows}


def rate_table(train, test, grids, unet_config, batch_size=32):
    """Measure what each grid of latents can keep, and what it costs the UNet.

    Args:
        train, test: (n, 64, 64, 3) uint8 pixels; the linear code is fitted on the
            first and measured on the second.
        grids: (factor, channels) pairs.
        unet_config: arguments of the UNet that is timed.
        batch_size: pictures a step of the UNet.

    Returns:
        DataFrame with grid, numbers a picture, decibels of the best linear code, and
        pictures a second of the UNet's forward and backward pass on random latents.
    """
    rows = []
    for factor, channels in grids:
        side = SIZE // factor
        unet = make_unet(unet_config, channels, side, 384, 0)
        latents = torch.randn(batch_size, channels, side, side)
        states = torch.randn(batch_size, 12, 384)
        timesteps = torch.zeros(batch_size, dtype=torch.int64)

        def step(_, given=(unet, latents, timesteps, states)):
            given[0](*given[1:]).sample.square().mean().backward()

        step(0)  # the first is slower
        rows.append(
            {
                "grid": f"{side} x {side} x {channels}",
                "numbers": side * side * channels,
                "best linear code [dB]": linear_psnr(
                    train, test, factor, channels
                ).mean(),
                "UNet [images/s]": rate_of(step, range(4), batch_size),
            }
        )
    return pd.DataFrame(rows)


def against_goals(table, measured):
    """Set the figures beside those that were asked for.

    Args:
        table: from `examine`, of all sets, with source and "name was seen" added.
        measured: {source: `figures_of`}.

    Returns:
        DataFrame with set, figure, asked for, found, from, to (95 % interval), n and
        reached; the sets that were not measured have no row.
    """
    seen = table[table["name was seen"]]
    seen = seen.groupby("source")["exact"].agg(["sum", "size"])
    rows = []
    for source, figure, goal in GOALS:
        if source and source not in measured:
            continue
        if figure == "exact, if seen":
            found = estimates.wilson(*map(int, seen.loc[source])).as_dict()
        elif source:
            found = measured[source][figure]
        elif figure == "psnr_db":
            found = estimates.mean_interval(table[figure]).as_dict()
        else:
            hits = sum(m[figure]["value"] * m[figure]["n"] for m in measured.values())
            found = estimates.wilson(round(hits), len(table)).as_dict()
        rows.append([source or "all sets", figure, goal, found["value"]])
        rows[-1] += [*found["interval"], found["n"], found["value"] >= goal]
    names = ["set", "figure", "asked for", "found", "from", "to", "n", "reached"]
    return pd.DataFrame(rows, columns=names)
