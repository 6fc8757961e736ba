"""The training's ablation at Stable Diffusion 2's size, on made-up works.

    python benchmarks/training.py --scale paper --json FILE

Speed depends on shapes, not on what a picture shows or a weight was trained to do:
pictures, words and all weights are random, so that a bare GPU machine can run this,
without data and without the Hub. UNet, picture size and caption length are the
profile's.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextConfig, CLIPTextModel

from commoncanvas.analysis.estimates import Estimate
from commoncanvas.core.determinism import make_generator
from commoncanvas.core.errors import CommonCanvasError, ParameterError
from commoncanvas.core.files import write_json
from commoncanvas.core.paths import PROFILES
from commoncanvas.core.settings import load_yaml, names_of
from commoncanvas.latents.buckets import PIXELS_PER_LATENT
from commoncanvas.models.unets import SD2_TEXT_ENCODER, SD2_VAE, make_unet
from commoncanvas.speed import ablation, clocks

SEED, NUM_WORKS = 17, 256


class MadeUpLatents:
    """Random works, read as those of `Latents` are.

    Args:
        vae, text_encoder: untrained models on the device.
        num_tokens: length of a caption.
        is_online: True encodes pictures and words at every batch, False once.
    """

    def __init__(
        self,
        vae: Any,
        text_encoder: Any,
        resolution_px: int,
        num_tokens: int,
        is_online: bool,
    ) -> None:
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
        self.keys = [f"made-up/{number}" for number in range(NUM_WORKS)]

    def __len__(self) -> int:
        return NUM_WORKS

    def shape_of(self, places: torch.Tensor) -> tuple[int, int, int]:
        """Return (channels, h/8, w/8), the same for all works."""
        return self.latent_shape

    @torch.no_grad()
    def posterior(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (mean, std) as `Latents.posterior` does."""
        if self.is_online:
            images = self.images[places % len(self.images)].to(clocks.DEVICE)
            found = self.vae.encode(images * 2 - 1).latent_dist
            return found.mean.float().cpu(), found.std.float().cpu()
        return self.mean[places], torch.ones_like(self.mean[places])

    @torch.no_grad()
    def prompt_embeds(
        self, places: torch.Tensor, is_dropped: torch.Tensor, draws: object = None
    ) -> torch.Tensor:
        """Return text states as `Latents.prompt_embeds` does."""
        if self.is_online:
            return self.text_encoder(self.ids[places].to(clocks.DEVICE))[0]
        return self.states[places].float()


def make_encoders(vae: Mapping[str, Any], text: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return an untrained VAE and text encoder of these configs, on the device."""
    models: tuple[Any, Any] = (
        AutoencoderKL(**vae),
        CLIPTextModel(CLIPTextConfig.from_dict(dict(text))),
    )
    return models[0].to(clocks.DEVICE).eval(), models[1].to(clocks.DEVICE).eval()


def bench(
    unet_config: Mapping[str, Any],
    resolution_px: int,
    num_tokens: int,
    *,
    recipes: Sequence[ablation.Recipe] = ablation.RECIPES,
    encoders: tuple[Any, Any] | None = None,
    save: Callable[[dict[str, Any]], object] = lambda found: None,
    **options: Any,
) -> dict[str, Any]:
    """Measure every row that this device can run.

    Args:
        recipes: rows to time, of those that this device can run.
        encoders: of `make_encoders`; None for Stable Diffusion 2's.
        save: called with what is known, after each group of rows.
        **options: num_repeats, steps_per_repeat and batch_size of `ablation.Timing`.

    Returns:
        dict for JSON: hardware, what was measured, and the rows of `summarise`.
    """
    vae, text_encoder = encoders or make_encoders(SD2_VAE, SD2_TEXT_ENCODER)
    stored, online = (
        MadeUpLatents(vae, text_encoder, resolution_px, num_tokens, is_online)
        for is_online in (False, True)
    )
    channels, side, _ = stored.latent_shape
    width = text_encoder.config.hidden_size

    def make() -> Any:
        with torch.device(clocks.DEVICE):  # 866 million numbers take a CPU ten seconds
            return make_unet(unet_config, channels, side, width, SEED)

    with torch.device("meta"):  # arithmetic is counted without doing it
        unet: Any = make_unet(unet_config, channels, side, width, SEED)
        flops = clocks.flops_per_image(unet, (num_tokens, width))
        size = sum(p.numel() for p in unet.parameters())
    peak, peak_from = clocks.peak_flops()
    found = {
        "hardware": clocks.hardware(),
        "resolution_px": resolution_px,
        **options,
        "num_parameters": size,
        "flops_per_image": flops,
        "peak_flops": peak,
        "peak_from": peak_from,
    }
    rates: dict[str, Any] = {}
    failures: dict[str, str] = {}
    timing = ablation.Timing(SEED, scaling_factor=1.0, **options)
    for group in ablation.in_groups([r for r in recipes if not r.lacking()]):
        rates |= ablation.measure_training(
            make, stored, online, timing, group, failures
        )
        found["rows"] = ablation.summarise(rates, flops, peak, failures)
        save(found)
    return found


def as_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Write measured rows as lines of text, for a terminal."""
    for row in found["rows"]:
        text = f"    {row['note']}"
        if row["images_per_second"]:
            text = f"{row['images_per_second']['value']:8.1f} images/s"
            if row["ratio"]:
                text += f" {Estimate.from_dict(row['ratio']):.2f}"
            text += f"  MFU {row['mfu']:.1%}"
        yield f"{row['row']:26} {text}"


def choose(kind: str, name: str, known: Mapping[str, Any]) -> Any:
    """Return an entry by its name, or name the right ones."""
    if name not in known:
        raise ParameterError(
            f"there is no {kind} {name!r}; expected one of {names_of(known)}."
        )
    return known[name]


def report(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what the command line asks for."""
    files = {path.stem: path for path in PROFILES.glob("*.yaml")}
    profile = load_yaml(choose("scale", options.scale, files))
    found = bench(
        choose(f"UNet of {options.scale}", options.unet, profile["unets"]),
        profile["latents"]["resolution_px"],
        profile["latents"]["max_tokens"],
        num_repeats=options.repeats,
        steps_per_repeat=options.steps,
        batch_size=options.batch_size,
    )
    return {"scale": options.scale, "unet": options.unet, **found}


def main(argv: Sequence[str] | None = None) -> None:
    """Time every speed-up of training at a profile's size, on made-up works."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/training.py", description=main.__doc__
    )
    parser.add_argument("--scale", default="paper", help="a profile (default: paper)")
    parser.add_argument("--unet", default="small", help="its UNet (default: small)")
    parser.add_argument("--batch-size", type=int, default=32, help="works a step")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each row")
    parser.add_argument("--steps", type=int, default=4, help="steps a turn")
    parser.add_argument("--json", type=Path, help="file to write the values to")
    options = parser.parse_args(argv)
    try:
        found = report(options)
    except CommonCanvasError as error:
        sys.exit(str(error))
    print(*as_lines(found), sep="\n")
    if options.json:
        write_json(options.json, found)


if __name__ == "__main__":
    main()
