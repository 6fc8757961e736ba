"""Pictures as arrays and tensors."""

import io
from typing import Any

import numpy as np
import torch
from PIL import Image

from commoncanvas.core.pictures import decode_picture, largest_center_crop


def flatten(pixels: np.ndarray, background: Any = 255) -> np.ndarray:
    """Lay (..., h, w, 4) uint8 pixels on a background; return (..., h, w, 3) uint8.

    The background is a grey level 0 … 255, or an array that broadcasts to (..., 3).
    """
    alpha = pixels[..., 3:].astype(np.float32) / 255
    mixed = pixels[..., :3] * alpha + np.asarray(background, np.float32) * (1 - alpha)
    return np.rint(mixed).astype(np.uint8)


def stored_pixels(data: bytes, width: int, height: int | None = None) -> np.ndarray:
    """Return the (height or width, width, 3) uint8 centre crop of a stored picture."""
    picture = decode_picture(data)
    return largest_center_crop(picture, width, height or width)


def encode_png(pixels: np.ndarray) -> bytes:
    """Return PNG bytes of (h, w, 3) uint8 pixels; the same pixels, the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


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
