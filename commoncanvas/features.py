"""EfficientNet-Lite0: the open world's image features and the encoders' trunk.

`fd_efficientnet`, `kd_efficientnet` and the nearest-picture search use the frozen
ImageNet features; captioner and scorer start from the same trunk and tune it.
"""

import functools

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet

from commoncanvas.images import pixels_to_images
from commoncanvas.sources import weights_path

NUM_FEATURES = 1280
FEATURE_SIZE = 96  # edge at which the metrics look at pictures [pixels]


class Trunk(torch.nn.Module):
    """EfficientNet-Lite0 without its classifier, starting from ImageNet weights."""

    def __init__(self, pretrained=True):
        super().__init__()
        self.net = EfficientNet.from_name("efficientnet-lite0")
        if pretrained:
            path = weights_path("EfficientNet-Lite0")
            self.net.load_state_dict(torch.load(path, weights_only=True))
        del self.net._fc
        # oneDNN runs this network's depthwise convolutions twice as fast this way.
        self.to(memory_format=torch.channels_last)

    def forward(self, images):
        """Map (batch, 3, h, w) images in [−1, 1] to (batch, 1280, h/32, w/32)."""
        images = images.contiguous(memory_format=torch.channels_last)
        return self.net.extract_features(images)


@functools.cache
def _frozen_trunk():
    return Trunk().eval().requires_grad_(False)


@torch.no_grad()
def image_features(pixels, batch_size=64):
    """Return pooled ImageNet features, the same for any batch size up to rounding.

    Args:
        pixels: (n, h, w, 3) uint8; resized to 96 px, bilinear with antialiasing.
        batch_size: pictures a forward pass.

    Returns:
        (n, 1280) float64.
    """
    trunk = _frozen_trunk()
    batches = [
        trunk(pixels_to_images(pixels[i : i + batch_size], FEATURE_SIZE)).mean((2, 3))
        for i in range(0, len(pixels), batch_size)
    ]
    return (
        torch.cat(batches).double().numpy() if batches else np.zeros((0, NUM_FEATURES))
    )
