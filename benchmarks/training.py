"""The training's ablation at Stable Diffusion 2's size, on made-up works.

    python benchmarks/training.py --scale paper --json FILE

Speed depends on shapes, not on what a picture shows or a weight has learnt: pictures,
words and all weights are drawn by lot, so that a bare GPU machine can run this, without
data and without the Hub. UNet, picture size and caption length are the profile's.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import torch
import yaml
from diffusers import AutoencoderKL
from transformers import CLIPTextConfig, CLIPTextModel

from commoncanvas.core.determinism import make_generator
from commoncanvas.core.errors import CommonCanvasError, ParameterError
from commoncanvas.core.files import write_atomically
from commoncanvas.core.paths import PROFILES
from commoncanvas.latents.buckets import PIXELS_PER_LATENT
from commoncanvas.models.unets import SD2_TEXT_ENCODER, SD2_VAE, make_unet
from commoncanvas.speed import ablation, clocks

SEED, NUM_WORKS = 17, 256


class MadeUpLatents:
    """Works drawn by lot, which read as those of `Latents` do.

    Args:
        vae, text_encoder: untrained models on the device.
        resolution_px: edge of the pictures.
        num_tokens: length of a caption.
        is_online: True encodes pictures and words at every batch, False once.
    """

    def __init__(self, vae, text_encoder, resolution_px, num_tokens, is_online):
        self.vae, self.text_encoder, self.is_online = vae, text_encoder, is_online
        generator = make_generator(SEED, "made-up works")
        side, channels = resolution_px // PIXELS_PER_LATENT, vae.config.latent_channels
        self.latent_shape = (channels, side, side)
        self.images = torch.rand(
            8, 3, resolution_px, resolution_px, generator=generator
        )
        self.mean = torch.randn(NUM_WORKS, *self.latent_shape, generator=generator)
        config = text_encoder.config
        size = (NUM_WORKS, num_tokens)
        self.ids = torch.randint(config.vocab_size, size, generator=generator)
        self.states = torch.randn(*size, config.hidden_size, generator=generator).half()

        self.buckets = [torch.arange(NUM_WORKS)]

    def __len__(self):
        return NUM_WORKS

    def shape_of(self, places):
        """Return (channels, h/8, w/8), the same for all works."""
        return self.latent_shape

    @torch.no_grad()
    def posterior(self, places):
        """Return (mean, std) as `Latents.posterior` does."""
        if self.is_online:
            images = self.images[places % len(self.images)].to(clocks.DEVICE)
            found = self.vae.encode(images * 2 - 1).latent_dist
            return found.mean.float().cpu(), found.std.float().cpu()
        return self.mean[places], torch.ones_like(self.mean[places])

    @torch.no_grad()
    def prompt_embeds(self, places, is_dropped, draws=None):
        """Return text states as `Latents.prompt_embeds` does."""
        if self.is_online:
            return self.text_encoder(self.ids[places].to(clocks.DEVICE))[0]
        return self.states[places].float()


def bench(unet_config, resolution_px, num_tokens, **options):
    """Measure every row that this device can run.

    Args:
        unet_config: arguments for `UNet2DConditionModel`.
        resolution_px, num_tokens: of the made-up works.
        **options: num_repeats, steps_per_repeat and batch_size of `measure_training`.

    Returns:
        dict for JSON: hardware, what was measured, and the rows of `summarise`.
    """
    vae = AutoencoderKL(**SD2_VAE).to(clocks.DEVICE).eval()
    text_encoder = (
        CLIPTextModel(CLIPTextConfig(**SD2_TEXT_ENCODER)).to(clocks.DEVICE).eval()
    )
    stored, online = (
        MadeUpLatents(vae, text_encoder, resolution_px, num_tokens, is_online)
        for is_online in (False, True)
    )
    channels, side, _ = stored.latent_shape
    width = text_encoder.config.hidden_size
    make = partial(make_unet, unet_config, channels, side, width, SEED)
    with torch.device("meta"):  # arithmetic is counted without doing it
        flops = clocks.flops_per_image(make(), (num_tokens, width))
    rates = ablation.measure_training(
        make, stored, online, seed=SEED, scaling_factor=1.0, **options
    )
    peak, peak_from = clocks.peak_flops()
    return {
        "hardware": clocks.hardware(),
        "resolution_px": resolution_px,
        **options,
        "num_parameters": sum(p.numel() for p in make().parameters()),
        "flops_per_image": flops,
        "peak_flops": peak,
        "peak_from": peak_from,
        "rows": ablation.summarise(rates, flops, peak),
    }


def as_lines(found):
    """Write measured rows as lines of text, for a terminal."""
    for row in found["rows"]:
        if row["ratio"]:
            low, high = row["ratio"]["interval"]
            said = f"{row['images_per_second']['value']:8.1f} images/s"
            said += f" {row['ratio']['value']:6.2f} [{low:.2f}, {high:.2f}]"
            said += f"  MFU {row['mfu']:.1%}"
        else:
            said = f"    {row['note']}"
        yield f"{row['row']:26} {said}"


def main(argv=None):
    """Time every speed-up of training at a profile's size, on made-up works."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/training.py", description=main.__doc__
    )
    parser.add_argument("--scale", default="paper", help="a profile (default: paper)")
    parser.add_argument("--unet", default="small", help="its UNet (default: small)")
    parser.add_argument("--batch-size", type=int, default=32, help="works a step")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each row")
    parser.add_argument("--steps", type=int, default=4, help="steps a turn")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args(argv)
    try:
        file = PROFILES / f"{options.scale}.yaml"
        if not file.is_file():
            known = ", ".join(sorted(path.stem for path in PROFILES.glob("*.yaml")))
            raise ParameterError(
                f"there is no scale {options.scale!r}; expected one of {known}."
            )
        profile = yaml.safe_load(file.read_text(encoding="utf-8"))
        unets = profile["unets"]
        if options.unet not in unets:
            raise ParameterError(
                f"scale {options.scale} has no UNet {options.unet!r}; expected one of "
                f"{', '.join(unets)}."
            )
        found = bench(
            unets[options.unet],
            profile["latents"]["resolution_px"],
            profile["latents"]["max_tokens"],
            num_repeats=options.repeats,
            steps_per_repeat=options.steps,
            batch_size=options.batch_size,
        )
    except CommonCanvasError as error:
        sys.exit(str(error))
    found = {"scale": options.scale, "unet": options.unet, **found}
    print(*as_lines(found), sep="\n")
    if options.json:
        text = json.dumps(found, indent=1) + "\n"
        write_atomically(options.json, lambda part: part.write_text(text))


if __name__ == "__main__":
    main()
