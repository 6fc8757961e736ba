"""Random views of drawn pictures, so that the pretrained parts see many styles.

Used by stage 00 only. Every draw comes from the generator that the caller passes.
"""

import math

import torch

LUMA = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
SOBEL = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).div(4)


def _pick(batch, probability, generator):
    """Return a (batch, 1, 1, 1) mask that is true with the given probability."""
    return torch.rand(batch, 1, 1, 1, generator=generator) < probability


def _uniform(batch, low, high, generator):
    """Return (batch, 1, 1, 1) float32 drawn evenly from low … high."""
    return low + (high - low) * torch.rand(batch, 1, 1, 1, generator=generator)


def random_views(rgba, size, generator, scale=(0.75, 1.1), degrees=15.0, may_flip=None):
    """Place drawn pictures at random on random backgrounds.

    Args:
        rgba: (batch, h, w, 4) uint8 tensor.
        size: edge of the result [pixels].
        generator: one draw of each kind a picture.
        scale: range of the picture's size relative to the square.
        degrees: largest turn either way.
        may_flip: (batch,) bool, which pictures a mirror leaves as they are; half of
            them are flipped. None flips none.

    Returns:
        (batch, 3, size, size) float32 in [0, 1]; two thirds lie on white.
    """
    batch = len(rgba)
    planes = _premultiplied(rgba)
    turn = _uniform(batch, -1, 1, generator).view(-1) * math.radians(degrees)
    zoom = 1 / _uniform(batch, *scale, generator).view(-1)
    shift = (torch.rand(batch, 2, generator=generator) - 0.5) * 0.2
    cos, sin = turn.cos() * zoom, turn.sin() * zoom
    mirror = torch.ones(batch)
    if may_flip is not None:
        is_flipped = may_flip & (torch.rand(batch, generator=generator) < 0.5)
        mirror = torch.where(is_flipped, -1.0, 1.0)
    theta = torch.stack(
        [
            torch.stack([cos * mirror, -sin * mirror, shift[:, 0]], 1),
            torch.stack([sin, cos, shift[:, 1]], 1),
        ],
        1,
    )
    places = torch.nn.functional.affine_grid(
        theta, (batch, 4, size, size), align_corners=False
    )
    moved = torch.nn.functional.grid_sample(planes, places, align_corners=False)
    return _on_backgrounds(moved, generator)


def sharp_views(rgba, size, generator):
    """Draw pictures at their true sharpness: flipped, shifted, on random backgrounds.

    No turn and no zoom, which would blur lines that a VAE must learn to keep.

    Args:
        rgba: (batch, h, w, 4) uint8 tensor.
        size: edge of the result [pixels].
        generator: one flip, one shift and one order of colours for the whole batch, a
            background for each picture.

    Returns:
        (batch, 3, size, size) float32 in [0, 1]; two thirds lie on white.
    """
    planes = _premultiplied(rgba)
    planes = torch.nn.functional.interpolate(
        planes, (size, size), mode="bilinear", antialias=True, align_corners=False
    )
    if torch.rand(1, generator=generator) < 0.5:
        planes = planes.flip(-1)
    reach = size // 10
    dy, dx = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
    views = _on_backgrounds(torch.roll(planes, (dy, dx), (2, 3)), generator)
    if torch.rand(1, generator=generator) < 0.3:
        views = views[:, torch.randperm(3, generator=generator)]
    return views


def _premultiplied(rgba):
    """Turn (batch, h, w, 4) uint8 into (batch, 4, h, w) planes, colours times alpha."""
    planes = rgba.permute(0, 3, 1, 2).float() / 255
    return torch.cat([planes[:, :3] * planes[:, 3:], planes[:, 3:]], 1)


def _on_backgrounds(planes, generator):
    """Lay (batch, 4, h, w) premultiplied planes on white or, by lot, on a colour."""
    batch = len(planes)
    colour = torch.rand(batch, 3, 1, 1, generator=generator)
    colour = torch.where(_pick(batch, 0.33, generator), colour, torch.ones(3, 1, 1))
    return (planes[:, :3] + (1 - planes[:, 3:]) * colour).clamp(0, 1)


def change_style(images, generator):
    """Change colours, line weight and filling, as another designer might.

    Args:
        images: (batch, 3, h, w) float32 in [0, 1].
        generator: one draw of each kind a picture.

    Returns:
        The same shape and range.
    """
    batch = len(images)
    gain = _uniform(batch, 0.75, 1.25, generator)
    lift = _uniform(batch, -0.12, 0.12, generator)
    tint = 1 + 0.25 * (torch.rand(batch, 3, 1, 1, generator=generator) - 0.5)
    images = ((images - 0.5) * gain + 0.5 + lift).mul(tint).clamp(0, 1)
    thick = -torch.nn.functional.max_pool2d(-images, 3, 1, 1)
    images = torch.where(_pick(batch, 0.15, generator), thick, images)
    grey = (images * LUMA).sum(1, keepdim=True)
    lines = _lines(images)
    flat = torch.minimum(images * 0.5 + 0.5, lines)
    choice = torch.rand(batch, 1, 1, 1, generator=generator)
    images = torch.where(choice < 0.10, grey.expand_as(images), images)
    images = torch.where(
        (choice >= 0.10) & (choice < 0.22), lines.expand_as(images), images
    )
    images = torch.where(
        (choice >= 0.22) & (choice < 0.36), torch.minimum(images, lines), images
    )
    images = torch.where((choice >= 0.36) & (choice < 0.44), flat, images)
    return torch.where((choice >= 0.44) & (choice < 0.48), 1 - images, images)


def soften(images, generator, share=0.4):
    """Blur a share of the pictures, as those of a young diffusion model are blurred.

    Args:
        images: (batch, 3, h, w); h and w multiples of 8.
        generator: one draw a picture: none, or means over 2, 4 or 8 pixels.
        share: of the pictures that are blurred.

    Returns:
        The same shape and range.
    """
    choice = torch.rand(len(images), 1, 1, 1, generator=generator) * 3 / share
    softened = images
    for place, factor in enumerate((2, 4, 8)):
        blurred = torch.nn.functional.interpolate(
            torch.nn.functional.avg_pool2d(images, factor),
            images.shape[-2:],
            mode="bilinear",
            align_corners=False,
        )
        is_chosen = (choice >= place) & (choice < place + 1)
        softened = torch.where(is_chosen, blurred, softened)
    return softened


def _lines(images):
    """Return (batch, 1, h, w): dark lines on white where any channel has an edge."""
    batch, channels, h, w = images.shape
    kernels = torch.stack([SOBEL, SOBEL.T])[:, None]
    padded = torch.nn.functional.pad(
        images.reshape(-1, 1, h, w), (1, 1, 1, 1), "replicate"
    )
    edges = torch.nn.functional.conv2d(padded, kernels)
    strength = edges.square().sum(1).sqrt().view(batch, channels, h, w)
    return 1 - strength.amax(1, keepdim=True).mul(3).clamp(0, 1)
