"""Which kernel computes a UNet's attention; `attention` of a profile names it.

Stage 04 trains with one kind, and stage 07 times them side by side.
Source: commoncanvas-cvpr, §5.1 (FlashAttention).
"""

import importlib.metadata
import importlib.util
from typing import Any

import torch
from diffusers.models.attention_processor import (
    Attention,
    AttnProcessor,
    AttnProcessor2_0,
)
from torch.nn.attention import SDPBackend, sdpa_kernel

from commoncanvas.core.errors import ParameterError

KINDS = ("sdpa", "flash", "plain")


class FlashProcessor(AttnProcessor2_0):
    """Attention by torch's own flash kernel and no other."""

    def __call__(self, *args: Any, **words: Any) -> torch.Tensor:
        """Compute attention as `AttnProcessor2_0` does."""
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return super().__call__(*args, **words)


class FlashAttnProcessor:
    """Attention by the package flash-attn, in a UNet's transformer blocks.

    They neither mask nor normalise what they attend to, and add their input themselves.
    """

    def __init__(self) -> None:
        from flash_attn import flash_attn_func

        self.attend = flash_attn_func

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        *_: Any,
        **__: Any,
    ) -> torch.Tensor:
        """Return (batch, tokens, width) in half precision, of the same shape."""
        states = encoder_hidden_states
        states = hidden_states if states is None else states
        # (batch, tokens, heads, width/heads) each, as flash-attn takes them.
        query, key, value = (
            project(tensor).unflatten(-1, (attn.heads, -1))
            for project, tensor in (
                (attn.to_q, hidden_states),
                (attn.to_k, states),
                (attn.to_v, states),
            )
        )
        found = self.attend(query, key, value).flatten(2)
        return attn.to_out[1](attn.to_out[0](found))  # projected, then dropout


def has_flash_attn() -> bool:
    """Tell whether the package flash-attn is installed."""
    return importlib.util.find_spec("flash_attn") is not None


def set_attention(unet: torch.nn.Module, kind: str) -> str:
    """Choose the kernel of a UNet's attention, in place, and return its name.

    Args:
        unet: on the device that it will compute on.
        kind: "sdpa" leaves the kernel to torch; "flash" takes flash-attn's on a GPU
            where that is installed, else torch's own flash kernel, and both compute in
            half precision on a GPU; "plain" multiplies matrices, for comparison.

    Raises:
        ParameterError: there is no such kind.
    """
    if kind not in KINDS:
        raise ParameterError(
            f"attention is {kind!r}; expected one of {', '.join(KINDS)}; edit the "
            "train section of the profile."
        )
    name, processor = "SDPA", AttnProcessor2_0()
    if kind == "plain":
        name, processor = "plain", AttnProcessor()
    elif kind == "flash" and next(unet.parameters()).is_cuda and has_flash_attn():
        name = f"flash-attn {importlib.metadata.version('flash_attn')}"
        processor = FlashAttnProcessor()
    elif kind == "flash":
        name, processor = "SDPA, flash kernel", FlashProcessor()
    for module in unet.modules():
        if isinstance(module, Attention):
            module.set_processor(processor)
    return name
