"""Pictures as arrays and tensors."""

import numpy as np
import torch

# Two are handed on from the module that does without torch.
from commoncanvas.core.pictures import decode_picture, largest_center_crop
from commoncanvas.core.pictures import encode_png as encode_png
from commoncanvas.core.pictures import flatten as flatten


def stored_pixels(data: bytes, width: int, height: int | None = None) -> np.ndarray:
    """Return the (height or width, width, 3) uint8 centre crop of a stored picture."""
    picture = decode_picture(data)
    return largest_center_crop(picture, width, height or width)


def pixels_to_images(pixels: np.ndarray, size: int | None = None) -> torch.Tensor:
    """Turn (batch, h, w, 3) uint8 into (batch, 3, h, w) float32 in [−1, 1].

    With a size, h and w become that, resized with antialiasing.
    """
    # (batch, h, w, channels) -> (batch, channels, h, w)
    images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float()
    if size and tuple(images.shape[-2:]) != (size, size):
        images = torch.nn.functional.interpolate(
            images, (size, size), mode="bilinear", antialias=True, align_corners=False
        )
    return images.div_(127.5).sub_(1.0)


def images_to_pixels(images: torch.Tensor) -> np.ndarray:
    """Turn (batch, 3, h, w) images in [−1, 1] into (batch, h, w, 3) uint8 pixels."""
    scaled = images.detach().float().clamp(-1, 1).add(1).mul(127.5).round()
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
