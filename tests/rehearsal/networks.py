"""Tiny networks of the paper's classes and formats, as `save_pretrained` writes them.

BLIP-2 and both CLIPs have random weights, and so has Inception: what they say means
nothing, and that they are asked as the published ones are is the point. The VAE is
trained for seconds, so that stage 03 finds its pictures again.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from commoncanvas.evaluate.inception import make_inception
from commoncanvas.pretrain import autoencoder
from tests.rehearsal.photographs import NUM_CROPS, Photograph
from tests.support.toys import save_blip2, save_clip, save_tokenizer

SEED = 17
VAE_SIZE = 96  # edge of the pictures that the VAE learns from [pixels]
WORDS = """a photo of the on in with and is sitting standing next to over under flower
bird bridge mountain sunset water sea sky tree leaf wood garden green red blue yellow
large small two three man woman dog road field grass cloud rain wine glass bowl brush
dragonfly sand clock wing insect snow rock house window stream meadow""".split()


def opaque(photographs: Sequence[Photograph]) -> np.ndarray:
    """Return (n, 96, 96, 4) uint8 crops for the VAE to learn from."""
    crops = [p.crop(i, 128) for p in photographs for i in range(0, NUM_CROPS, 2)]
    pixels = np.stack([np.asarray(crop.resize((VAE_SIZE,) * 2)) for crop in crops])
    full = np.full((*pixels.shape[:3], 1), 255, np.uint8)
    return np.concatenate([pixels, full], 3)


def save_pipeline(folder: Path, photographs: Sequence[Photograph]) -> None:
    """Save a pipeline with the parts of CommonCanvas-S-C: CLIP, VAE, UNet and PNDM.

    The VAE is of its layout, f8 and 4 channels, and learns for about ten seconds.
    """
    words = save_tokenizer(folder / "tokenizer")
    torch.manual_seed(SEED)
    text = CLIPTextConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, vocab_size=len(words), hidden_act="gelu",
        bos_token_id=len(words) - 2, eos_token_id=len(words) - 1, pad_token_id=0,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=16, cross_attention_dim=64, layers_per_block=1,
        block_out_channels=[32, 64, 64, 64], attention_head_dim=[1, 2, 2, 2],
        down_block_types=["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        use_linear_projection=True,
    )  # fmt: skip
    scheduler = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        skip_prk_steps=True, steps_offset=1, prediction_type="epsilon",
    )  # fmt: skip
    rgba = opaque(photographs)
    vae, _ = autoencoder.train_vae(rgba, SEED, 60, 8, 5e-3, 4, [16, 16, 16, 32], 4)
    StableDiffusionPipeline(
        vae, CLIPTextModel(text), CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet, scheduler, None, None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    autoencoder.save_vae(vae, rgba[..., :3], folder / "vae", SEED)


def save_inception(file: Path) -> None:
    """Save FID's Inception of random weights, the same bytes on every machine.

    Drawn as whole numbers: what a generator makes of them differs in its last bits.
    """
    rng, state = np.random.default_rng(SEED), make_inception().state_dict()
    for name, weight in state.items():
        if name.endswith(("conv.weight", "fc.weight")):
            drawn = rng.integers(-127, 128, weight.shape, np.int8)
            # A variance of 2 over the width lets pictures through every layer.
            width = int(np.prod(weight.shape[1:]))
            weight.copy_(torch.from_numpy(drawn) / (52 * width**0.5))
        elif name.endswith(("running_var", "bn.weight")):
            weight.fill_(1)
        else:
            weight.zero_()
    torch.save(state, file)


def save_all(folder: Path, photographs: Sequence[Photograph]) -> None:
    """Save every network that the profiles `rehearsal` and `rehearsal-512` name."""
    save_pipeline(folder / "CommonCanvas-S-C", photographs)
    save_blip2(folder / "blip2-opt-2.7b", WORDS)
    save_clip(folder / "clip-vit-base-patch32", 1)
    save_clip(folder / "clip-vit-base-patch16", 2)
    save_inception(folder / "inception-random.pth")
