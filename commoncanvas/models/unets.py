"""UNets: made from a configuration, or started from trained weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from commoncanvas.core.errors import ParameterError
from commoncanvas.core.paths import ROOT
from commoncanvas.models.weights import check_folder

# The configurations of Stable Diffusion 2's other parts, which only speed and plans
# need: its AutoencoderKL, of 83,653,863 parameters, and its text encoder (OpenCLIP
# ViT-H less its last layer), of 340,387,840.
SD2_VAE = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
}
SD2_TEXT_ENCODER = {
    "vocab_size": 49408,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "max_position_embeddings": 77,
    "hidden_act": "gelu",
}


def make_unet(
    unet_config: Mapping[str, Any],
    latent_channels: int,
    sample_size: int,
    text_width: int,
    seed: int,
) -> UNet2DConditionModel:
    """Build an untrained UNet; the same seed, the same weights."""
    torch.manual_seed(seed)
    return UNet2DConditionModel(
        in_channels=latent_channels,
        out_channels=latent_channels,
        sample_size=sample_size,
        cross_attention_dim=text_width,
        **unet_config,
    )


def unet_file(folder: Path | str) -> Path:
    """Return the weights of a diffusers pipeline's UNet, or of a bare one.

    Raises:
        ParameterError: there are none.
    """
    for place in (ROOT / folder / "unet", ROOT / folder):
        if (file := place / "diffusion_pytorch_model.safetensors").is_file():
            check_folder(place)
            return file
    raise ParameterError(
        f"init_from is {folder!r}, which holds no UNet; expected the folder of a "
        "pipeline; run the training it names first."
    )


def start_unet(unet: torch.nn.Module, folder: Path | str) -> None:
    """Give a UNet, in place, the weights of a trained one, of any picture size.

    So the paper's stage at 512 pixels begins where the one at 256 ended. Source:
    mosaicml-diffusion, SD-2-base-512.yaml.

    Raises:
        ParameterError: there is no UNet, or one of another configuration.
    """
    state, wanted = load_file(unet_file(folder)), unet.state_dict()
    differ = sorted(
        name
        for name in state.keys() | wanted
        if name not in state
        or name not in wanted
        or state[name].shape != wanted[name].shape
    )
    if differ:
        raise ParameterError(
            f"the UNet of init_from {folder!r} differs in {len(differ)} tensors, "
            f"{differ[0]} first; expected the same configuration; name another."
        )
    unet.load_state_dict(state)
