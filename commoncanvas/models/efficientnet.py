"""EfficientNet-Lite0: the trunk of captioner and scorer, and a source of features.

Captioner and scorer start from its ImageNet weights and are trained further.
`fd_efficientnet`, `kd_efficientnet` and the search for the closest training work use
the features of the weights as they are.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet

from commoncanvas.core.images import pixels_to_images
from commoncanvas.models.weights import weights_path

NUM_FEATURES = 1280
FEATURE_SIZE = 96  # edge at which the metrics look at pictures [pixels]
BATCH_SIZE = 16  # pictures or texts in every forward pass
NUM_COMPARED = 8192  # works at a time that samples are compared with


class Trunk(torch.nn.Module):
    """EfficientNet-Lite0 without its classifier, starting from ImageNet weights."""

    def __init__(self, pretrained: bool = True) -> None:
        super().__init__()
        self.net = EfficientNet.from_name("efficientnet-lite0")
        if pretrained:
            path = weights_path("EfficientNet-Lite0")
            self.net.load_state_dict(torch.load(path, weights_only=True))
        del self.net._fc
        # oneDNN runs this network's depthwise convolutions twice as fast this way; the
        # argument is documented, but missing from torch's overloads.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (batch, 3, h, w) images in [−1, 1] to (batch, 1280, h/32, w/32)."""
        images = images.contiguous(memory_format=torch.channels_last)
        return self.net.extract_features(images)


@functools.cache
def _frozen_trunk() -> torch.nn.Module:
    """Return the trunk with its ImageNet weights, loaded once a process, on the GPU."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Trunk().eval().requires_grad_(False).to(device)


def in_batches(
    embed: Callable[[list], torch.Tensor], items: Iterable[Any]
) -> Iterator[np.ndarray]:
    """Embed pictures or texts as a stream, in batches of one size.

    Sums are rounded differently in batches of another size, so the last one is filled
    up and cut again: a row's bits never depend on how its items were handed over.

    Args:
        embed: function of a list of `BATCH_SIZE` items to a tensor (BATCH_SIZE, width).
        items: read once and a batch at a time.

    Yields:
        (rows, width) float64 arrays of at most `BATCH_SIZE` rows.
    """
    items = iter(items)
    while batch := list(itertools.islice(items, BATCH_SIZE)):
        filled = batch + batch[-1:] * (BATCH_SIZE - len(batch))
        # cuDNN's defaults keep three digits and may pick another algorithm each time.
        with torch.backends.cudnn.flags(True, deterministic=True, allow_tf32=False):
            rows = embed(filled)
        yield rows[: len(batch)].double().cpu().numpy()


def pooled_features(pictures: list[np.ndarray]) -> torch.Tensor:
    """Map (h, w, 3) uint8 pictures of one size to (batch, 1280) ImageNet features.

    They are resized to 96 px, bilinear with antialiasing, and computed on the GPU if
    there is one.
    """
    trunk = _frozen_trunk()
    device = next(trunk.parameters()).device
    images = pixels_to_images(np.stack(pictures), FEATURE_SIZE).to(device)
    return trunk(images).mean((2, 3))


def image_features(pictures: Iterable[np.ndarray]) -> np.ndarray:
    """Return the (n, 1280) float64 `pooled_features` of pictures of one size."""
    rows = in_batches(pooled_features, pictures)
    return np.concatenate([np.zeros((0, NUM_FEATURES)), *rows])


@torch.no_grad()
def closest(
    pixels: Iterable[np.ndarray],
    trained: np.ndarray | Iterable[np.ndarray],
    features: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Find each sample's most similar training work by the cosine of their features.

    Cosines are float32 and are compared block by block, so that memory does not grow
    with the works. Of equals the first is taken.

    Args:
        pixels: (h, w, 3) uint8 each, n of them.
        trained: (k, width) features of the training works, whole or as blocks of rows.
        features: the samples' (n, width) features; None computes `image_features`.

    Returns:
        (places, cosines): (n,) int64 and (n,) float64.
    """
    features = image_features(pixels) if features is None else features
    wanted = _unit(features)
    best = torch.full((len(wanted),), -torch.inf, device=wanted.device)
    places, first = torch.zeros_like(best, dtype=torch.int64), 0
    for block in [trained] if isinstance(trained, np.ndarray) else trained:
        for rows in _unit(block).split(NUM_COMPARED):
            scores, found = (wanted @ rows.T).max(1)
            is_closer = scores > best
            best = torch.where(is_closer, scores, best)
            places = torch.where(is_closer, found + first, places)
            first += len(rows)
    return places.cpu().numpy(), best.double().cpu().numpy()


def _unit(rows: np.ndarray) -> torch.Tensor:
    """Scale rows to length one, in float32, on the GPU if there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = torch.from_numpy(np.ascontiguousarray(rows)).to(device).float()
    return found / found.norm(dim=1, keepdim=True)
