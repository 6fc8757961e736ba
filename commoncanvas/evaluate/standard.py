"""The field's own values of FID, KID and CLIP score, from torchmetrics.

torchmetrics is given features that are already there, so that one pass through a
network serves all metrics; its own network would have to be fetched, and resizes in its
own way. It gives values; intervals are `analysis`'s.
Source: torchmetrics, image.fid, image.kid and multimodal.clip_score.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torchmetrics
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance
from torchmetrics.multimodal.clip_score import CLIPScore

SUBSETS = 20  # draws of a kernel distance, where not all rows are looked at at once
SUBSET_SIZE = 1000  # rows of one draw at most, as published. Source: kid
PROTOCOL = (
    f"torchmetrics {torchmetrics.__version__}; of a kernel distance {SUBSETS} draws of "
    f"at most {SUBSET_SIZE} rows a side, or all of equally many"
)


class Given(torch.nn.Module):
    """Stands for a network: hands on the (n, num_features) features that it gets."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features  # torchmetrics asks for it

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features as they are."""
        return features

    def get_image_features(self, images: torch.Tensor) -> torch.Tensor:
        """Map (n, 1, 1, width), rows that pass as images, to (n, width)."""
        return images.flatten(1)


class Frechet:
    """Frechet distances to one reference, whose sums are taken once.

    Args:
        real: (m, num_features) of the reference, two rows or more.
    """

    def __init__(self, real: np.ndarray) -> None:
        given = Given(real.shape[1])
        self.metric = FrechetInceptionDistance(given, reset_real_features=False)
        self.metric.set_dtype(torch.float64)
        self.metric.update(_double(real), real=True)

    def distance(self, features: np.ndarray) -> float:
        """Return the distance of (n, num_features) features, two rows or more.

        It is FID where the features are Inception's. 0 or more, in squared units of
        the features.
        """
        self.metric.reset()
        self.metric.update(_double(features), real=False)
        return max(float(self.metric.compute()), 0.0)  # by rounding it may be below


def kernel_protocol(n: int, m: int) -> tuple[int, int]:
    """Return (subsets, subset size) of the kernel distance of n rows from m.

    As many rows as there are on the smaller side, 1,000 at most, are drawn of both
    sides, `SUBSETS` times. One draw is all where both sides have equally many.
    """
    size = min(n, m, SUBSET_SIZE)
    return (1 if size == max(n, m) else SUBSETS), size


def kernel_distance(
    features: np.ndarray, real: np.ndarray, seed: int = 0
) -> tuple[float, float]:
    """Return the kernel distance and the standard error that its draws add.

    It is KID where the features are Inception's: the polynomial kernel, unbiased, the
    mean over the draws of `kernel_protocol`. torchmetrics draws from torch's global
    generator, which here is seeded for it and then put back.

    Args:
        features, real: (n, num_features) and (m, num_features), two rows or more.
        seed: of the draws; the same one gives the same value.
    """
    subsets, size = kernel_protocol(len(features), len(real))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # that it keeps all features; so do we
        torch.manual_seed(seed)
        metric = KernelInceptionDistance(
            Given(real.shape[1]), subsets=subsets, subset_size=size
        )
        metric.update(_double(real), real=True)
        metric.update(_double(features), real=False)
        mean, spread = (float(x) for x in metric.compute())
    return mean, spread / math.sqrt(subsets - 1) if subsets > 1 else 0.0


def clip_score(image_embeds: np.ndarray, text_embeds: np.ndarray) -> float:
    """Return the CLIP score of pictures and their own texts, (n, width) each.

    The mean of 100 times the cosine, or 0 where that is negative: torchmetrics takes
    the maximum after the mean, CLIPScore's authors before it, and times 2.5. The
    authors of CommonCanvas use torchmetrics. Source: clipscore, §3; mosaicml-diffusion.
    """
    width = image_embeds.shape[1]

    def processor(images: Sequence[torch.Tensor], **_: Any) -> dict[str, torch.Tensor]:
        return {"pixel_values": torch.stack(list(images))}

    metric = CLIPScore(lambda: (Given(width), processor)).set_dtype(torch.float64)
    # Embeddings of texts pass as images too: these are compared in the same way.
    metric.update(*(_double(x)[:, None, None] for x in (image_embeds, text_embeds)))
    return float(metric.compute())


def _double(rows: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(rows, np.float64))
