"""Stage 00: the VAE, an `AutoencoderKL` whose encoder computes principal components.

A deep encoder needs more than an hour on two cores. The best linear code of 8-pixel
patches is known in closed form, so it is written into the encoder's weights and frozen,
and only the decoder is trained. Stage 03 loads the result like any VAE.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D

from commoncanvas.core.determinism import make_generator
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.images import images_to_pixels, pixels_to_images
from commoncanvas.core.keys import key_of
from commoncanvas.pretrain.augment import sharp_views
from commoncanvas.pretrain.training import History, fit, write_part_manifest

SIZE = 64  # edge of the pictures it is trained on [pixels]
ANCHOR = 10.0  # a constant beside the codes, so large that their norm hardly varies
POSTERIOR_STD = 0.05  # of a latent of unit variance
# A latent's standard deviation is its component's variance to this power: at 0 fine
# detail weighs as much in the UNet's loss as colour, at 1/2 next to nothing.
SPREAD = 0.25


def make_vae(latent_channels: int, widths: Sequence[int], groups: int = 8) -> Any:
    """Return an untrained `AutoencoderKL`.

    Args:
        latent_channels: numbers a place of the grid.
        widths: channels of its levels, each of which after the first halves the grid.
        groups: of the group norms; must divide every width and `latent_channels`.
    """
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * len(widths),
        up_block_types=["UpDecoderBlock2D"] * len(widths),
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=groups,
        sample_size=SIZE,
    )


def principal_directions(
    values: torch.Tensor, num: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the directions of most variance of (n, channels, h, w) values.

    Returns:
        (num, channels) orthonormal rows and (num,) variances, largest first.
    """
    # (n * h * w, channels)
    rows = values.permute(0, 2, 3, 1).reshape(-1, values.shape[1]).double()
    rows = rows - rows.mean(0)
    # In ascending order, the directions as columns.
    variances, directions = torch.linalg.eigh(rows.T @ rows / len(rows))
    return directions[:, -num:].flip(1).T.float(), variances[-num:].flip(0).float()


@torch.no_grad()
def start_from_components(vae: Any, images: torch.Tensor) -> torch.Tensor:
    """Write the principal components of patches into the encoder and freeze it.

    Residual branches are set to zero, so every block passes its input on; each
    downsampling projects 2 x 2 places to as many components as its width holds. The
    last norm and SiLU are not linear. So each code has its negative beside it, since
    silu(x) - silu(-x) = x, and each group a pair of large constants that keep the
    norm's divisor nearly the same for every picture.

    Args:
        vae: from `make_vae`.
        images: (n, 3, h, w) in [−1, 1], the pictures whose components are taken.

    Returns:
        (latent_channels,) variances that the codes had before each was given unit
        variance, largest first.

    Raises:
        ParameterError: the VAE has too few channels for so many codes.
    """
    encoder, num = vae.encoder, vae.config.latent_channels
    for module in encoder.modules():
        if isinstance(module, ResnetBlock2D):
            _empty(module.conv2)
            if module.conv_shortcut is not None:
                _pass_on(module.conv_shortcut)
    for attention in encoder.mid_block.attentions:
        _empty(attention.to_out[0])
    _pass_on(encoder.conv_in)
    values = images
    for block in encoder.down_blocks[:-1]:
        conv, channels = block.downsamplers[0].conv, values.shape[1]
        # (n, 4 * channels, h / 2, w / 2): a square's four places become its channels.
        squares = torch.nn.functional.pixel_unshuffle(values, 2)
        kept = min(conv.out_channels, squares.shape[1])
        directions, _ = principal_directions(squares, kept)
        _empty(conv)
        conv.weight[:kept, :channels, :2, :2] = directions.view(kept, channels, 2, 2)
        values = torch.einsum("kc,nchw->nkhw", directions, squares)
    directions, variances = principal_directions(values, num)
    whiten = directions / variances.sqrt()[:, None]
    _write_code(vae, whiten, -(whiten @ values.mean((0, 2, 3))))
    encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    return variances


@torch.no_grad()
def stretch(vae: Any, factors: torch.Tensor) -> None:
    """Scale latents by (latent_channels,) positive factors, which the decoder undoes.

    The VAE's last encoder layer is the identity, as `start_from_components` leaves it.
    """
    num = len(factors)
    vae.quant_conv.weight[:num] *= factors.view(-1, 1, 1, 1)
    vae.quant_conv.bias[:num] *= factors
    vae.quant_conv.bias[num:] += 2 * factors.log()
    vae.post_quant_conv.weight /= factors.view(1, -1, 1, 1)


def _empty(layer: Any) -> None:
    """Set a layer's weights and biases to zero."""
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)


def _pass_on(conv: Any) -> None:
    """Let a convolution return its first channels unchanged."""
    _empty(conv)
    middle = conv.kernel_size[0] // 2
    for i in range(min(conv.in_channels, conv.out_channels)):
        conv.weight[i, i, middle, middle] = 1


def _write_code(vae: Any, rows: torch.Tensor, offsets: torch.Tensor) -> None:
    """Write (codes, channels) rows and offsets into the encoder's last layers."""
    encoder = vae.encoder
    num, channels = rows.shape
    spread = encoder.down_blocks[-1].resnets[0].conv_shortcut
    groups = vae.config.norm_num_groups
    width, share = spread.out_channels // groups, num // groups
    if 2 * share + 2 > width or share * groups != num:
        raise ParameterError(
            f"{num} codes in {groups} groups of {width} channels; expected a multiple "
            f"of {groups} and room for each code twice and two constants; change "
            "vae_widths, vae_groups or latent_channels."
        )
    _empty(spread)
    _empty(encoder.conv_out)
    divisor = math.sqrt((2 * ANCHOR**2 + 2 * share) / width)
    for code in range(num):
        first = code // share * width + 2 * (code % share)
        for place, sign in ((first, 1), (first + 1, -1)):
            spread.weight[place, :channels, 0, 0] = sign * rows[code]
            spread.bias[place] = sign * offsets[code]
            encoder.conv_out.weight[code, place, 1, 1] = sign * divisor
    for group in range(groups):
        spread.bias[group * width + 2 * share] = ANCHOR
        spread.bias[group * width + 2 * share + 1] = -ANCHOR
    encoder.conv_out.bias[num:] = 2 * math.log(POSTERIOR_STD)
    _pass_on(vae.quant_conv)


@torch.no_grad()
def start_decoder(vae: Any) -> None:
    """Give the decoder orthogonal weights and empty residual branches."""
    for module in vae.decoder.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.orthogonal_(module.weight)
    for module in vae.decoder.modules():
        if isinstance(module, ResnetBlock2D):
            _empty(module.conv2)


def train_vae(
    rgba: np.ndarray,
    seed: int,
    num_steps: int,
    batch_size: int,
    learning_rate: float,
    latent_channels: int,
    widths: Sequence[int],
    groups: int,
    score: Callable[[Any], float] | None = None,
) -> tuple[Any, History]:
    """Train the decoder at 64 px on the root of each picture's mean squared error.

    The root is a compromise between error and decibels, so that photographic pictures
    do not outweigh line drawings. Source: ldm, §3.1, without adversarial and perceptual
    terms.

    Args:
        rgba: (n, h, w, 4) uint8 drawings.
        score: vae -> number on a style that is not in `rgba`; see `fit`.
    """
    torch.manual_seed(seed)
    vae = make_vae(latent_channels, widths, groups)
    start_decoder(vae)
    drawings = torch.from_numpy(rgba)
    order = torch.randperm(len(rgba), generator=make_generator(seed, "components"))
    views = sharp_views(drawings[order[:2048]], SIZE, make_generator(seed, "views"))
    variances = start_from_components(vae, views * 2 - 1)

    def loss_at(step: int) -> torch.Tensor:
        generator = make_generator(seed, "vae", step)
        chosen = torch.randint(len(rgba), (batch_size,), generator=generator)
        images = sharp_views(drawings[chosen], SIZE, generator) * 2 - 1
        with torch.no_grad():
            posterior = vae.encode(images).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        decoded = vae.decode(posterior.mean + posterior.std * noise).sample
        error = (decoded - images).square().mean((1, 2, 3))
        return (error + 1e-5).sqrt().mean()

    facts = {"part": "vae", "seed": seed, "steps": num_steps, "batch": batch_size}
    facts |= {"lr": learning_rate, "channels": latent_channels, "groups": groups}
    key = key_of(**facts, widths=list(widths), pictures=len(rgba))
    history = fit(key, vae, loss_at, num_steps, learning_rate, "vae", score, rgba)
    stretch(vae, variances**SPREAD)
    return vae, history


def save_vae(vae: Any, pixels: np.ndarray, folder: Path, seed: int) -> None:
    """Save the VAE with the scaling factor that gives its latents unit variance.

    The factor is measured on 512 of the (n, h, w, 3) uint8 training pixels, at random.
    Source: ldm, §3.3 and Appendix G (rescaling by the latents' standard deviation).
    """
    order = torch.randperm(len(pixels), generator=make_generator(seed, "scaling"))
    with torch.no_grad():
        images = pixels_to_images(pixels[order[:512].numpy()], SIZE)
        spread = torch.cat([vae.encode(b).latent_dist.mean for b in images.split(64)])
    vae.register_to_config(scaling_factor=round(1 / spread.std().item(), 6))
    vae.save_pretrained(folder)
    write_part_manifest(folder)


@torch.no_grad()
def reconstruct(vae: Any, pixels: np.ndarray) -> np.ndarray:
    """Encode and decode (n, h, w, 3) uint8 pixels through the posterior's mean."""
    batches = pixels_to_images(pixels).to(vae.device, vae.dtype).split(64)
    means = [vae.encode(batch).latent_dist.mean for batch in batches]
    return np.concatenate([images_to_pixels(vae.decode(m).sample) for m in means])


def psnr(decoded: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return (n,) peak signal-to-noise ratios of uint8 pixels [dB], at most 68."""
    error = (decoded.astype(np.float64) - pixels) ** 2
    return 10 * np.log10(255**2 / np.maximum(error.mean((1, 2, 3)), 0.01))


def linear_psnr(
    train: np.ndarray, test: np.ndarray, factor: int, channels: int
) -> np.ndarray:
    """Measure what the best linear code of patches keeps, a baseline for a VAE.

    It is fitted on (n, h, w, 3) uint8 `train` pixels. Patches are `factor` pixels wide,
    as the VAE's downsampling, and coded in `channels` numbers.

    Returns:
        (n,) decibels of the `test` pixels.
    """
    # (n, 3 * factor², h / factor, w / factor): a patch is one place.
    known = torch.nn.functional.pixel_unshuffle(pixels_to_images(train), factor)
    patches = torch.nn.functional.pixel_unshuffle(pixels_to_images(test), factor)
    rows, _ = principal_directions(known, channels)
    mean = known.mean((0, 2, 3)).view(1, -1, 1, 1)
    code = torch.einsum("kc,nchw->nkhw", rows, patches - mean)
    back = torch.einsum("kc,nkhw->nchw", rows, code) + mean
    decoded = torch.nn.functional.pixel_shuffle(back, factor)
    return psnr(images_to_pixels(decoded), test)
