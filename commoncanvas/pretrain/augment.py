"""Augmentation of drawings, so that the parts of stage 00 are trained on many styles.

All random numbers come from the generator that the caller passes.
"""

import math

import torch

LUMA = torch.tensor([0.299, 0.587, 0.114]).view(
    1, 3, 1, 1
)  # weights of red, green, blue
SOBEL = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).div(4)


def _uniform(
    batch: int, low: float, high: float, generator: torch.Generator
) -> torch.Tensor:
    """Return (batch, 1, 1, 1) float32, uniform in low … high."""
    return low + (high - low) * torch.rand(batch, 1, 1, 1, generator=generator)


def random_views(
    rgba: torch.Tensor,
    size: int,
    generator: torch.Generator,
    scale: tuple[float, float] = (0.75, 1.1),
    degrees: float = 15.0,
    may_flip: torch.Tensor | None = None,
) -> torch.Tensor:
    """Turn, scale, shift and flip drawings at random, on random backgrounds.

    Args:
        rgba: (batch, h, w, 4) uint8.
        size: edge of the result [pixels].
        scale: range of the picture's size relative to the square.
        degrees: largest turn either way.
        may_flip: (batch,) bool, pictures whose name a mirror leaves true; half of them
            are flipped. None flips none.

    Returns:
        (batch, 3, size, size) float32 in [0, 1]; two thirds have a white background.
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
    first = torch.stack([cos * mirror, -sin * mirror, shift[:, 0]], 1)
    second = torch.stack([sin, cos, shift[:, 1]], 1)
    theta = torch.stack([first, second], 1)  # (batch, 2, 3), an affine map a picture
    places = torch.nn.functional.affine_grid(
        theta, [batch, 4, size, size], align_corners=False
    )
    moved = torch.nn.functional.grid_sample(planes, places, align_corners=False)
    return _on_backgrounds(moved, generator)


def sharp_views(
    rgba: torch.Tensor, size: int, generator: torch.Generator
) -> torch.Tensor:
    """Flip and shift drawings at random, on random backgrounds, as `random_views`.

    No turn and no zoom, which would blur lines that a VAE must learn to keep. Flip,
    shift and order of colours are drawn once a batch, the background once a picture.
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


def _premultiplied(rgba: torch.Tensor) -> torch.Tensor:
    """Turn (batch, h, w, 4) uint8 into (batch, 4, h, w) planes, colours times alpha."""
    planes = rgba.permute(0, 3, 1, 2).float() / 255
    return torch.cat([planes[:, :3] * planes[:, 3:], planes[:, 3:]], 1)


def _on_backgrounds(planes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Lay (batch, 4, h, w) premultiplied planes on white, or a third on a colour."""
    batch = len(planes)
    colour = torch.rand(batch, 3, 1, 1, generator=generator)
    is_coloured = torch.rand(batch, 1, 1, 1, generator=generator) < 0.33
    colour = torch.where(is_coloured, colour, torch.ones(3, 1, 1))
    return (planes[:, :3] + (1 - planes[:, 3:]) * colour).clamp(0, 1)


def change_style(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Change colours, line weight and filling at random, as another designer might.

    (batch, 3, h, w) float32 in [0, 1], before and after.
    """
    batch = len(images)
    gain = _uniform(batch, 0.75, 1.25, generator)
    lift = _uniform(batch, -0.12, 0.12, generator)
    tint = 1 + 0.25 * (torch.rand(batch, 3, 1, 1, generator=generator) - 0.5)
    images = ((images - 0.5) * gain + 0.5 + lift).mul(tint).clamp(0, 1)
    # A minimum over neighbours makes dark lines thicker.
    thick = -torch.nn.functional.max_pool2d(-images, 3, 1, 1)
    is_thick = torch.rand(batch, 1, 1, 1, generator=generator) < 0.15
    images = torch.where(is_thick, thick, images)
    grey = (images * LUMA).sum(1, keepdim=True)
    lines = _lines(images)
    flat = torch.minimum(images * 0.5 + 0.5, lines)
    styles = (  # up to which draw, and what the picture becomes
        (0.10, grey.expand_as(images)),
        (0.22, lines.expand_as(images)),
        (0.36, torch.minimum(images, lines)),
        (0.44, flat),
        (0.48, 1 - images),
    )
    choice = torch.rand(batch, 1, 1, 1, generator=generator)
    for limit, styled in reversed(styles):
        images = torch.where(choice < limit, styled, images)
    return images


def soften(
    images: torch.Tensor, generator: torch.Generator, share: float = 0.4
) -> torch.Tensor:
    """Blur a share of the pictures, as early samples of a diffusion model are blurred.

    (batch, 3, h, w), before and after; h and w are multiples of 8. Those chosen become
    means over 2, 4 or 8 pixels, as often each.
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


def _lines(images: torch.Tensor) -> torch.Tensor:
    """Return (batch, 1, h, w): dark lines on white where any channel has an edge."""
    batch, channels, h, w = images.shape
    kernels = torch.stack([SOBEL, SOBEL.T])[:, None]
    planes = images.reshape(-1, 1, h, w)  # (batch * channels, 1, h, w)
    padded = torch.nn.functional.pad(planes, (1, 1, 1, 1), "replicate")
    edges = torch.nn.functional.conv2d(padded, kernels)  # (batch * channels, 2, h, w)
    strength = edges.square().sum(1).sqrt().view(batch, channels, h, w)
    return 1 - strength.amax(1, keepdim=True).mul(3).clamp(0, 1)
