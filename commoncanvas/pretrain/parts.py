"""Stage 00: the three parts, measured on licensed pictures they were not trained on.

The notebook and the tests call the same functions, so that the page's numbers can be
computed again from `pretrained/`.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
# The targets of the design: (set, or "" for all together; measure; at least).
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
    vae: Any
    scorer: ImageScorer

    @classmethod
    def load(cls, folder: Path) -> "Parts":
        """Load the parts from a folder such as `pretrained/`."""
        return cls(
            OpenCaptioner(folder / "captioner"),
            load_vae(folder / "vae"),
            load_scorer(folder / "scorer"),
        )


@dataclass(frozen=True)
class Examination:
    """What the parts made of n pictures."""

    table: pd.DataFrame  # title, caption, exact, word_f1 and psnr_db
    decoded: np.ndarray  # (n, 64, 64, 3) uint8 reconstructions
    embeds: np.ndarray  # (n, 384), the scorer's


def at_vae_size(pixels: np.ndarray) -> np.ndarray:
    """Return (n, 64, 64, 3) uint8 pixels, resized as stage 03 resizes."""
    return images_to_pixels(pixels_to_images(pixels, SIZE))


def examine(parts: Parts, pixels: np.ndarray, titles: Sequence[str]) -> Examination:
    """Caption, reconstruct and embed (n, h, w, 3) uint8 pixels of the given names."""
    small = at_vae_size(pixels)
    decoded = reconstruct(parts.vae, small)
    captions = parts.captioner.caption(pixels)
    pairs = list(zip(captions, titles, strict=True))
    table = pd.DataFrame(
        {
            "title": list(titles),
            "caption": captions,
            "exact": [exact_match(*pair) for pair in pairs],
            "word_f1": [word_f1(*pair) for pair in pairs],
            "psnr_db": psnr(decoded, small),
        }
    )
    return Examination(table, decoded, parts.scorer.image_embeds(small))


def measures_of(table: pd.DataFrame, embeds: np.ndarray, seed: int) -> dict[str, dict]:
    """Return the measures of one set, each {"value", "interval", "n"}.

    `seed` chooses the names among which each picture must find its own.
    """
    texts = sentence_embeds(table["title"].tolist())
    choices = min(NUM_CHOICES, len(table))
    found = matching.retrieval(embeds, texts, choices, seed)
    measures = {
        "exact": estimates.wilson(int(table["exact"].sum()), len(table)),
        "word_f1": estimates.mean_interval(table["word_f1"]),
        "psnr_db": estimates.mean_interval(table["psnr_db"]),
        "image_to_text": found["image_to_text"],
        "text_to_image": found["text_to_image"],
    }
    return {name: estimate.as_dict() for name, estimate in measures.items()}


def share_exact(captions: Iterable[str], titles: Iterable[str]) -> float:
    """Return the share of captions that are the name, word for word."""
    pairs = zip(captions, titles, strict=True)
    return float(np.mean([exact_match(*pair) for pair in pairs]))


def share_found(
    scorer: ImageScorer, pixels: np.ndarray, titles: Sequence[str], names: Sequence[str]
) -> float:
    """Return the share of pictures whose title the scorer ranks first among names."""
    scores = scorer.image_embeds(pixels) @ sentence_embeds(names).T
    found = np.array([names[i] for i in scores.argmax(1)])
    return float(np.mean(found == np.array(titles)))


def nearest_titles(
    pixels: np.ndarray, known_pixels: np.ndarray, known_titles: Sequence[str]
) -> list[str]:
    """Name each picture after the most similar known one in plain ImageNet features."""
    places, _ = closest(pixels, image_features(known_pixels))
    return [known_titles[i] for i in places]


def nearest_names(
    captioner: OpenCaptioner, pixels: np.ndarray, names: Sequence[str]
) -> list[str]:
    """Name each picture after the name closest to the captioner's own embedding."""
    embeds = np.concatenate(
        [captioner.embed(pixels[i : i + 64]) for i in range(0, len(pixels), 64)]
    )
    return [names[i] for i in (embeds @ sentence_embeds(names).T).argmax(1)]


def score_spread(
    embeds: np.ndarray, titles: Sequence[str], seed: int
) -> dict[str, np.ndarray]:
    """Return the scores of n pictures with right, nearly right and random names.

    A near miss is the closest name in sentence space that is not the same words.

    Returns:
        {"right name", "near miss", "random name"} -> (n,) alignment, −100 … 100.
    """
    texts = sentence_embeds(titles)
    plain = np.array([" ".join(words(title)) for title in titles])
    is_same = plain[:, None] == plain[None]
    near = np.where(is_same, -np.inf, texts @ texts.T).argmax(1)
    order = np.random.default_rng(seed).permutation(len(texts))
    other = np.empty_like(order)
    other[order] = np.roll(order, -1)  # one cycle through all, so never itself
    return {
        "right name": matching.alignment(embeds, texts),
        "near miss": matching.alignment(embeds, texts[near]),
        "random name": matching.alignment(embeds, texts[other]),
    }


def content_hashes(rows: Iterable[dict[str, Any]]) -> set[str]:
    """Return the SHA-256 of each row's drawing instructions."""
    return {hashlib.sha256(row["svg"].encode()).hexdigest() for row in rows}


def rate_table(
    train: np.ndarray,
    test: np.ndarray,
    grids: Iterable[Sequence[int]],
    unet_config: dict[str, Any],
    batch_size: int = 32,
) -> pd.DataFrame:
    """Measure what each grid of latents can keep, and what it costs the UNet.

    Args:
        train, test: (n, 64, 64, 3) uint8 pixels to fit the linear code on and to
            measure it on.
        grids: (factor, channels) pairs.

    Returns:
        DataFrame with grid, numbers a picture, decibels of the best linear code, and
        pictures a second of the UNet's forward and backward pass on random latents.
    """
    rows = []
    for factor, channels in grids:
        side = SIZE // factor
        row: dict[str, Any] = {"grid": f"{side} x {side} x {channels}"}
        row["numbers"] = side * side * channels
        row["best linear code [dB]"] = linear_psnr(train, test, factor, channels).mean()
        row["UNet [images/s]"] = _unet_rate(unet_config, channels, side, batch_size)
        rows.append(row)
    return pd.DataFrame(rows)


def _unet_rate(
    unet_config: dict[str, Any], channels: int, side: int, batch_size: int
) -> float:
    """Return the pictures a second of a UNet's forward and backward pass."""
    unet: Any = make_unet(unet_config, channels, side, 384, 0)
    latents = torch.randn(batch_size, channels, side, side)
    states = torch.randn(batch_size, 12, 384)
    timesteps = torch.zeros(batch_size, dtype=torch.int64)

    def step(_: int) -> None:
        unet(latents, timesteps, states).sample.square().mean().backward()

    step(0)  # the first is slower
    return rate_of(step, range(4), batch_size)


def against_goals(
    table: pd.DataFrame, measured: Mapping[str, dict[str, dict]]
) -> pd.DataFrame:
    """Compare {source: `measures_of`} with the design's targets.

    The table is that of `Examination`, with source and "name was seen" added.

    Returns:
        DataFrame with set, measure, target, found, from, to (95 % interval), n and
        reached; the sets that were not measured have no row.
    """
    seen = table[table["name was seen"]]
    seen = seen.groupby("source")["exact"].agg(["sum", "size"])
    rows = []
    for source, measure, goal in GOALS:
        if source and source not in measured:
            continue
        if measure == "exact, if seen":
            found = estimates.wilson(*map(int, seen.loc[source])).as_dict()
        elif source:
            found = measured[source][measure]
        elif measure == "psnr_db":
            found = estimates.mean_interval(table[measure]).as_dict()
        else:
            hits = sum(m[measure]["value"] * m[measure]["n"] for m in measured.values())
            found = estimates.wilson(round(hits), len(table)).as_dict()
        value, (low, high) = found["value"], found["interval"]
        place = source or "all sets"
        rows.append([place, measure, goal, value, low, high, found["n"], value >= goal])
    names = ["set", "measure", "target", "found", "from", "to", "n", "reached"]
    return pd.DataFrame(rows, columns=names)
