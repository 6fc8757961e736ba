"""Encoders give every picture and text the same tensors, whatever stands beside it."""

import math

import numpy as np
import pytest
import torch

from commoncanvas import encoders
from commoncanvas.errors import PictureError
from commoncanvas.features import NUM_FEATURES
from commoncanvas.images import encode_png
from commoncanvas.latents import _tensor


class FakeVae:
    """Answers with a latent that is one number a picture."""

    dtype = torch.float32

    def __init__(self, numbers, place="mean"):
        self.numbers, self.place = torch.tensor(numbers), place

    def encode(self, images):
        shape = (len(images), 4, images.shape[2] // 8, images.shape[3] // 8)
        values = {"mean": torch.zeros(shape), "logvar": torch.zeros(shape)}
        values[self.place] = self.numbers.view(-1, 1, 1, 1).expand(shape)
        posterior = type("Posterior", (), values)
        return type("Output", (), {"latent_dist": posterior})


PIXELS = np.zeros((3, 16, 16, 3), np.uint8)


@pytest.mark.parametrize("place", ["mean", "logvar"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, 70_000.0])
def test_a_latent_that_cannot_be_kept_names_its_picture(place, bad):
    vae = FakeVae([0.0, bad, 0.0], place)
    with pytest.raises(PictureError, match="latent of toy/b is not finite") as caught:
        encoders.encode_images(vae, PIXELS, ["toy/a", "toy/b", "toy/c"])
    assert "\n" not in str(caught.value)


def test_latents_are_an_eighth_of_the_picture():
    mean, logvar = encoders.encode_images(FakeVae([0.0, 1.0, 2.0]), PIXELS, list("abc"))
    assert mean.shape == logvar.shape == (3, 4, 2, 2)
    assert mean[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_a_shard_of_latents_is_read_back_as_it_was_encoded(monkeypatch):
    features = np.ones((3, NUM_FEATURES))
    monkeypatch.setattr(encoders, "image_features", lambda pixels: features)
    rows = [(key, encode_png(PIXELS[0])) for key in "abc"]
    monkeypatch.setattr(encoders, "load_vae", lambda folder: FakeVae([0.5, 1.0, 2.0]))
    table = encoders.latent_table("folder", 16, rows)
    assert table["key"].to_pylist() == ["a", "b", "c"]
    mean = _tensor(table["mean"], (4, 2, 2))
    assert mean.dtype == torch.float16 and mean[:, 0, 0, 0].tolist() == [0.5, 1, 2]


def test_texts_are_encoded_alike_alone_and_together():
    together = encoders.encode_texts(["", "a red cat", "dog"], 8)
    assert together.shape == (3, 8, 384)
    alone = encoders.encode_texts(["a red cat"], 8)[0]
    assert torch.allclose(alone, together[1], atol=1e-5)


def test_the_text_encoder_is_frozen_and_masks_its_padding():
    tokenizer, text_encoder = encoders.load_text_encoder(8)
    assert tokenizer.model_max_length == 8
    assert text_encoder.config.use_attention_mask is True
    assert not any(p.requires_grad for p in text_encoder.parameters())
