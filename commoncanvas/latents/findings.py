"""Notebook 03's figures, each with a sentence made from its values.

Pictures are (n, h, w, 3) uint8; latents are scaled, as the UNet will see them, and
(n, channels, h/8, w/8) float32.
"""

import numpy as np
import pandas as pd
from torch import Tensor

from commoncanvas.analysis import figures, plots
from commoncanvas.analysis.figures import Finding
from commoncanvas.core.images import images_to_pixels

MOST_CHANNELS = 32  # that are shown of a latent
GREYS = 3.0  # standard deviations from black, and to white


def pictures_to_encode(kept: pd.DataFrame, num_texts: int) -> Finding:
    """Tabulate the works of a catalogue that get latents.

    Args:
        kept: split, is_holdout and size, as `count_works` gives them; the rejected are
            left out.
        num_texts: rows of the index of texts.
    """
    rows = kept[kept["split"] != "rejected"]
    held = int(rows["size"][rows["is_holdout"].astype(bool)].sum())
    return Finding(
        figures.table(rows, "Pictures to encode"),
        f"{int(rows['size'].sum()):,} pictures and {num_texts:,} texts are encoded; "
        f"{held:,} of the pictures are held out: no variant trains on them.",
    )


def channels(picture: np.ndarray, latent: Tensor, credit: str) -> Finding:
    """Show one picture beside the channels of its latent, each as a grey picture.

    Args:
        picture: (h, w, 3) uint8.
        latent: (channels, h/8, w/8).
        credit: of the work.
    """
    num, height, width = latent.shape
    levels = (latent[:MOST_CHANNELS, None] / GREYS).expand(-1, 3, -1, -1)
    small = images_to_pixels(levels)
    # Each number becomes a square as large as what it stands for.
    tall, wide = picture.shape[0] // height, picture.shape[1] // width
    tiles = [picture, *small.repeat(tall, 1).repeat(wide, 2)]
    figure = figures.sheet(
        np.stack([tile[: height * tall, : width * wide] for tile in tiles]),
        ["the work", *(str(i + 1) for i in range(len(small)))],
        columns=11,
        tile_px=72,
        alt=f"A work and the channels of its latent: {credit}",
        caption=f"{credit}; and {len(small)} of its latent's {num} channels, black "
        f"below −{GREYS:g}, white above {GREYS:g}",
    )
    before, after = picture.size, latent.numel()
    return Finding(
        figure,
        f"The picture, {picture.shape[0]} × {picture.shape[1]} pixels of 3 colours, is "
        f"{before:,} numbers, its latent of {num} × {height} × {width} is {after:,}: "
        f"one for {before / after:.3g}.",
    )


def psnr(originals: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """Return (n,) float64 how close pictures are to their originals [dB]."""
    error = (decoded.astype(float) - originals) ** 2
    mean = error.mean(axis=(1, 2, 3))
    return 10 * np.log10(255**2 / np.maximum(mean, 1e-4))


def reconstructions(originals: np.ndarray, decoded: np.ndarray) -> Finding:
    """Show each picture beside what the VAE makes of its latent."""
    found = psnr(originals, decoded)
    # (n, 2, h, w, 3) to one after the other, so that pairs stay together in any width
    pairs = np.stack([originals, decoded], 1).reshape(-1, *originals.shape[1:])
    figure = figures.sheet(
        pairs,
        [text for value in found for text in ("original", f"{value:.1f} dB")],
        columns=min(len(pairs), 8),
        alt=f"{len(found)} pictures beside their reconstructions",
    )
    return Finding(
        figure,
        f"Of these {len(found)} pictures the VAE gives back the worst at "
        f"{found.min():.1f} dB and the best at {found.max():.1f} dB; the median is "
        f"{np.median(found):.1f} dB, where pixels are off by about "
        f"{255 / 10 ** (np.median(found) / 20):.0f} of 255.",
    )


def spreads(latents: Tensor) -> Finding:
    """Compare the numbers of many latents with the noise that will be added."""
    values = latents.numpy().ravel()
    edges = np.linspace(-4, 4, 65)
    counts, _ = np.histogram(values, edges)
    middles = (edges[1:] + edges[:-1]) / 2
    density = counts / len(values) / (edges[1] - edges[0])
    normal = np.exp(-(middles**2) / 2) / np.sqrt(2 * np.pi)
    figure = plots.curves(
        {
            "latents": (middles.tolist(), density.tolist()),
            "noise": (middles.tolist(), normal.tolist()),
        },
        alt="Distribution of scaled latents beside the standard normal distribution",
        x_label="value",
        y_label="density",
        caption=f"{len(latents):,} works",
    )
    by_channel = latents.std(dim=(0, 2, 3))
    return Finding(
        figure,
        f"Scaled, the numbers of all channels have a standard deviation of "
        f"{values.std(dtype=np.float64):.2f}, and single channels from "
        f"{by_channel.min().item():.2f} to {by_channel.max().item():.2f}; noise has 1.",
    )
