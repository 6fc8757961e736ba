"""SSCD: descriptors by which copies are found, and the works closest by them.

The published network is a TorchScript file, which runs as code: only the file with the
pinned hash is opened. Its weights are for non-commercial use (CC BY-NC 4.0).
Source: sscd, §5 and its code's README (small_288, `sscd_disc_mixup`).
"""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from commoncanvas.core.pictures import decode_picture, largest_center_square
from commoncanvas.evaluate.nearest import CANDIDATES, TrainingWorks
from commoncanvas.models.dinov2 import imagenet_images
from commoncanvas.models.efficientnet import in_batches
from commoncanvas.models.weights import verified_file

SIZE = 288  # edge at which it looks at pictures [pixels]
RESIZE = f"centre square, bilinear (Pillow) to {SIZE} px"
FILE = "sscd_disc_mixup.torchscript.pt"
# Of the published file.
SHA256 = "9f26bd4c848cc19b73d2ae92eea6e04886f61a7b764ceb7a13aeee62e6a6db56"
# Cosine above which nine of ten pairs of its own test set are copies.
PUBLISHED = 0.75


class Sscd:
    """The frozen network, on the GPU if there is one.

    Args:
        weights: the TorchScript file, a path absolute or from the project's root.
        sha256: what it must hash to.

    Raises:
        SourceError: the file is missing, or not the pinned one.
    """

    def __init__(self, weights: Path | str, sha256: str = SHA256) -> None:
        path = verified_file("SSCD", weights, sha256, FILE)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        with warnings.catch_warnings():
            # torch prefers another format, in which SSCD is not published.
            warnings.simplefilter("ignore", DeprecationWarning)
            network: Any = torch.jit.load(path, map_location=self.device)
        self.network = network.eval()
        self.protocol = {"weights": sha256, "resize": RESIZE}

    def embed_pictures(self, pictures: list[np.ndarray]) -> torch.Tensor:
        """Map (h, w, 3) uint8 squares to (n, 512) descriptors of length one."""
        images = imagenet_images(pictures, SIZE, Image.Resampling.BILINEAR)
        with torch.no_grad():
            return torch.nn.functional.normalize(self.network(images.to(self.device)))

    def descriptors(self, pictures: Iterable[np.ndarray]) -> np.ndarray:
        """Return (n, width) float64 of one picture or more, (h, w, 3) uint8 squares."""
        return np.concatenate(list(in_batches(self.embed_pictures, pictures)))

    def nearest(
        self,
        pixels: Iterable[np.ndarray],
        works: TrainingWorks,
        k: int = CANDIDATES,
        groups: Sequence | np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the works that each picture is closest to, as `nearest.nearest` does.

        Similarity is the cosine of descriptors. Every work is read and embedded once;
        memory grows with n and the works' chunk, not with their number.
        """
        wanted = self.descriptors(pixels)
        named = np.array([None] * len(wanted) if groups is None else groups, object)
        has_group = np.array([group is not None for group in named], bool)
        scores = np.empty((len(wanted), 0))
        places = np.empty((len(wanted), 0), np.int64)
        for first, stored in works.stored():
            squares = [_centre_square(data) for data in stored]
            new = (wanted @ self.descriptors(squares).T).round(4)
            here = np.arange(first, first + len(squares))
            own = works.groups[here] == named[:, None]
            new[own & has_group[:, None]] = -1
            scores = np.concatenate([scores, new], 1)
            places = np.concatenate([places, np.tile(here, (len(wanted), 1))], 1)
            order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            scores = np.take_along_axis(scores, order, 1)
            places = np.take_along_axis(places, order, 1)
        return places, scores


def _centre_square(data: bytes) -> np.ndarray:
    """Return a stored picture's centre square at its own size."""
    picture = decode_picture(data)
    return largest_center_square(picture, min(picture.size))
