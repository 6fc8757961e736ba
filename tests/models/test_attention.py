"""Every kind of attention computes the same, and the one that runs has a name."""

import sys
from types import ModuleType

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch.nn import functional
from toys import UNET

from commoncanvas.core.errors import ParameterError
from commoncanvas.models import attention
from commoncanvas.models.unets import make_unet


def drawn(unet):
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(2, 4, 4, 4, generator=generator)
    states = torch.randn(2, 3, 8, generator=generator)
    return unet(noisy, torch.tensor([3, 900]), states).sample


def processors(unet):
    return {
        type(module.processor).__name__
        for module in unet.modules()
        if isinstance(module, Attention)
    }


@pytest.mark.parametrize(
    ("kind", "name", "processor"),
    [
        ("sdpa", "SDPA", "AttnProcessor2_0"),
        ("flash", "SDPA, flash kernel", "FlashProcessor"),
        ("plain", "plain", "AttnProcessor"),
    ],
)
def test_every_kind_computes_the_same_and_says_what_it_is(kind, name, processor):
    unet = make_unet(UNET, 4, 4, 8, seed=0)
    wanted = drawn(unet)
    assert attention.set_attention(unet, kind) == name
    assert processors(unet) == {processor}
    found = drawn(unet)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    found.sum().backward()
    assert all(p.grad is not None for p in unet.parameters())


def test_flash_lets_no_other_kernel_compute(monkeypatch):
    unet = make_unet(UNET, 4, 4, 8, seed=0)
    attention.set_attention(unet, "flash")
    seen = []

    def spy(*args, whole=AttnProcessor2_0.__call__, **words):
        kernels = torch.backends.cuda  # the switches of a CPU, too
        seen.append((kernels.flash_sdp_enabled(), kernels.math_sdp_enabled()))
        return whole(*args, **words)

    monkeypatch.setattr(AttnProcessor2_0, "__call__", spy)
    drawn(unet)
    assert set(seen) == {(True, False)}


def test_flash_attn_s_function_is_given_what_it_takes(monkeypatch):
    """On a GPU; here torch stands for the package, whose layout is another."""
    asked = []

    def attend(query, key, value):  # (batch, tokens, heads, width/heads)
        asked.append(query.shape)
        moved = (tensor.transpose(1, 2) for tensor in (query, key, value))
        return functional.scaled_dot_product_attention(*moved).transpose(1, 2)

    package = ModuleType("flash_attn")
    package.flash_attn_func = attend
    monkeypatch.setitem(sys.modules, "flash_attn", package)
    unet = make_unet(UNET, 4, 4, 8, seed=0)
    wanted = drawn(unet)
    for module in unet.modules():
        if isinstance(module, Attention):
            module.set_processor(attention.FlashAttnProcessor())
    torch.testing.assert_close(drawn(unet), wanted, atol=1e-6, rtol=1e-6)
    heads = UNET["attention_head_dim"]  # heads, in spite of its name
    assert set(asked) == {(2, 16, heads, 8 // heads)}


def test_another_kind_is_one_line():
    with pytest.raises(ParameterError, match="'fast'; expected one of sdpa, flash"):
        attention.set_attention(make_unet(UNET, 4, 4, 8, seed=0), "fast")
