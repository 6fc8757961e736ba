"""DINOv2 through transformers: pictures to features that no labels were needed for.

Pictures are resized to a square and not cropped, as FD-DINOv2's authors do; the feature
is the class token after the last norm. transformers interpolates the position
embeddings to the grid's size, DINOv2's own code by a factor 0.1 patches off it.
Source: dinov2; dgm-eval, §3 and its code, models/dinov2.py.
"""

from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import Dinov2Model

from commoncanvas.models.loading import load_network
from commoncanvas.models.weights import identity_of

SIZE = 224  # edge at which it looks at pictures [pixels]
RESIZE = f"bicubic (Pillow) to {SIZE} px, square"
# Of ImageNet's red, green and blue, of 0 to 1.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Dinov2:
    """A frozen `Dinov2Model` in float32; FD-DINOv2's is ViT-L/14, 1,024 features.

    Args:
        model: a Hub id, or a folder absolute or from the project's root.
        revision: the Hub commit; a folder needs none.

    Raises:
        ParameterError: a Hub id without a revision, or no whole DINOv2.
    """

    def __init__(self, model: str, revision: str | None = None) -> None:
        self.model: Any = load_network(Dinov2Model, "dinov2", model, revision)[0]
        self.num_features = int(self.model.config.hidden_size)
        self.identity = identity_of("dinov2", model, revision)

    @property
    def architecture(self) -> str:
        """The network's size in words, which its published name does not say."""
        config = self.model.config
        return (
            f"ViT of {config.num_hidden_layers} layers, {config.hidden_size} wide, "
            f"patches of {config.patch_size} px"
        )

    def embed_pictures(self, pictures: list[np.ndarray]) -> torch.Tensor:
        """Map a list of (h, w, 3) uint8 pictures, of any sizes, to (n, width) rows."""
        images = imagenet_images(pictures, SIZE, Image.Resampling.BICUBIC)
        images = images.to(self.model.device)
        return self.model(images).pooler_output


def imagenet_images(
    pictures: list[np.ndarray], size: int, how: Image.Resampling
) -> torch.Tensor:
    """Map (h, w, 3) uint8 pictures to (n, 3, size, size), by ImageNet's mean and std.

    Pillow resizes them, with antialiasing and rounding to whole values, as the
    published protocols do (torchvision's `Resize` of a Pillow picture).
    """
    resized = [
        Image.fromarray(np.asarray(p)).resize((size, size), how) for p in pictures
    ]
    pixels = torch.from_numpy(np.stack([np.asarray(p) for p in resized]))
    images = pixels.permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    return (images - mean) / std
