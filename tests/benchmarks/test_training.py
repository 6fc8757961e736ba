"""The ablation at Stable Diffusion 2's size runs on made-up works."""

import json

import pytest
import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextConfig, CLIPTextModel

from benchmarks import training
from commoncanvas.core.draws import Draws
from commoncanvas.models.pipelines import make_noise_scheduler
from commoncanvas.models.unets import SD2_TEXT_ENCODER, SD2_VAE, make_unet
from commoncanvas.speed import ablation
from commoncanvas.train import denoising

SMALL_VAE = {"block_out_channels": [8] * 4, "layers_per_block": 1, "norm_num_groups": 4}
SMALL_TEXT = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


@pytest.fixture
def small(monkeypatch):
    """Shrink both encoders, so that a CPU can run them."""
    for name, change in (("SD2_VAE", SMALL_VAE), ("SD2_TEXT_ENCODER", SMALL_TEXT)):
        monkeypatch.setattr(training, name, {**getattr(training, name), **change})


def test_the_encoders_are_as_large_as_sd2_s():
    with torch.device("meta"):
        vae = AutoencoderKL(**SD2_VAE)
        text_encoder = CLIPTextModel(CLIPTextConfig(**SD2_TEXT_ENCODER))
    sizes = [sum(p.numel() for p in m.parameters()) for m in (vae, text_encoder)]
    assert sizes == [83_653_863, 340_387_840]


def test_rows_of_a_cpu_are_measured_and_written(small, tmp_path, capsys):
    file = tmp_path / "found.json"
    words = ["--scale", "tiny", "--batch-size", "2", "--repeats", "2", "--steps", "1"]
    training.main([*words, "--json", str(file)])
    found = json.loads(file.read_text())
    rows = {row["row"]: row for row in found["rows"]}
    assert list(rows) == [recipe.name for recipe in ablation.RECIPES]
    shown = capsys.readouterr().out.splitlines()
    for line, (name, row) in zip(shown, rows.items(), strict=True):
        assert line.startswith(name)
        assert ("images/s" in line) == (row["note"] == "")
    assert found["hardware"]["device"] and found["batch_size"] == 2
    assert found["scale"] == "tiny" and found["flops_per_image"] > 1e6


@pytest.mark.slow
def test_made_up_works_are_encoded_only_online(small):
    vae = AutoencoderKL(**training.SD2_VAE).eval()
    words = CLIPTextConfig(**training.SD2_TEXT_ENCODER)
    text_encoder = CLIPTextModel(words).eval()
    calls = []
    vae.encoder.register_forward_hook(lambda *_: calls.append("picture"))
    text_encoder.register_forward_hook(lambda *_: calls.append("words"))
    unet_config = {
        "down_block_types": ["CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D"],
        "block_out_channels": [8],
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    unet = make_unet(unet_config, 4, 2, 16, 0)
    schedule = make_noise_scheduler()
    for is_online, expected in ((False, []), (True, ["picture", "words"])):
        data = training.MadeUpLatents(vae, text_encoder, 16, 5, is_online)
        places, draws = torch.tensor([3, 255, 9]), Draws(0, "test")
        loss = denoising.diffusion_loss(unet, schedule, data, places, 1.0, 0.1, draws)
        assert torch.isfinite(loss) and sorted(calls) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scale", "huge"], "no scale 'huge'; expected one of `full`, `mini`"),
        (
            ["--scale", "mini", "--unet", "xl"],
            "no UNet of mini 'xl'; expected one of `large`, `small`",
        ),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(words, message):
    with pytest.raises(SystemExit, match=message):
        training.main(words)
